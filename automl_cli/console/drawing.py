"""A network drawn with letters, from its inputs down to its outputs."""

from rich.text import Text

from automl_cli.artifact import Manifest
from automl_cli.console.streams import make_console
from automl_cli.errors import BadArtifact, UsageError
from automl_cli.harmless import harmless
from automl_cli.neural import NEURAL
from automl_cli.neural.architecture import Architecture, Block, parse_architecture
from automl_cli.neural.counts import InputShape, cost, parameters

NUMBERS = {
    "none": "scaled",
    "pbld": "as waves, {size} dimensions each",
    "pwl": "piecewise linear, {size} dimensions each",
}


def drawing(architecture: Architecture, shape: InputShape) -> str:
    """Draw a network: a box for each block, arrows where data flows, skips named beside them.

    >>> print(drawing(Architecture((Block("dense", 64, "silu"), Block("dense", 32, skip=1))), InputShape(3, (5,), 2)))
    3 numbers, scaled; 1 category in up to 8 dimensions
                    │
    ┌───────────────┴───────────────┐
    │ 1  dense, 64 wide, silu       │
    └───────────────┬───────────────┘
                    │
    ┌───────────────┴───────────────┐
    │ 2  dense, 32 wide, relu       │  + output of 1
    └───────────────┬───────────────┘
                    │
                2 classes
    2,685 parameters, 2,567 multiply-adds a row
    """
    texts = [f"{number}  {_words(block)}" for number, block in enumerate(architecture.blocks, 1)]
    width = max(29, *(len(text) for text in texts))
    middle = (width + 2) // 2
    edge = "─" * (width + 2)
    lines = [_inputs(architecture, shape)]
    for text, block in zip(texts, architecture.blocks, strict=True):
        skip = f"  + output of {block.skip}" if block.skip else ""
        lines += [
            f"{' ' * (middle + 1)}│",
            f"┌{edge[:middle]}┴{edge[middle + 1 :]}┐",
            f"│ {text:{width}} │{skip}",
            f"└{edge[:middle]}┬{edge[middle + 1 :]}┘",
        ]
    outputs = "1 value" if shape.n_outputs == 1 else f"{shape.n_outputs:,} classes"
    if architecture.members > 1:
        outputs += f", mean of {architecture.members} members that share their weights"
    lines += [f"{' ' * (middle + 1)}│", f"{' ' * max(0, middle + 1 - len(outputs) // 2)}{outputs}"]
    counts = f"{parameters(architecture, shape):,} parameters, {cost(architecture, shape):,} multiply-adds a row"
    return "\n".join([*lines, counts])


def tell_networks(manifest: Manifest, *, most: int | None = None) -> None:
    """Print a model's networks, the heaviest first.

    Raises
    ------
    UsageError
        It has none.
    BadArtifact
        One reads like none.
    """
    networks = [member for member in manifest.members if member.pipeline.family == NEURAL]
    if not networks:
        raise UsageError("this model holds no network", hint="automl nas finds one")
    schema = manifest.frame_schema
    console = make_console(answer=True)
    for member in sorted(networks, key=lambda member: -abs(member.weight))[:most]:
        text = str(member.pipeline.hyperparameters.get("architecture"))
        try:
            architecture = parse_architecture(text)
        except ValueError as error:
            raise BadArtifact(f"the model's network {text[:80]!r} cannot be read", hint="fit again") from error
        levels = tuple(n + 1 for n in schema.n_categories)
        shape = InputShape(len(schema.numeric) + len(schema.datetime), levels, manifest.n_outputs)
        console.print(
            Text(f"\n#{member.number}, {member.weight:.1%} of the model, {len(member.folds)} fitted", style="bold")
        )
        console.print(Text(harmless(drawing(architecture, shape))))
        console.print(Text(str(architecture), style="dim"))


def _inputs(architecture: Architecture, shape: InputShape) -> str:
    numbers = NUMBERS[architecture.numbers].format(size=architecture.number_size)
    parts = []
    if shape.n_numbers:
        parts.append(f"{_counted(shape.n_numbers, 'number', 'numbers')}, {numbers}")
    if shape.levels:
        categories = _counted(len(shape.levels), "category", "categories")
        parts.append(f"{categories} in up to {architecture.category_size} dimensions")
    return "; ".join(parts)


def _words(block: Block) -> str:
    words = [f"{block.kind}, {block.width:,} wide", block.activation]
    if block.norm != "none":
        words.append(f"{block.norm} norm")
    if block.dropout:
        words.append(f"dropout {block.dropout:g}")
    return ", ".join(words)


def _counted(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"
