"""Every tensor of a network, without torch: their shapes, how many numbers they hold, what a row costs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from automl_cli.neural.architecture import Architecture, Block

N_WAVES = 16
"""Cosines of each number, before they are mixed (RealMLP's)."""
TOKEN = 16
"""Dimensions in which a column is looked at by attention blocks."""
N_LOOKS = 4
"""Weighted means of the columns that an attention block takes."""


@dataclass(frozen=True)
class InputShape:
    """What a network is given for a row, and what it is to answer.

    Attributes
    ----------
    n_numbers : int
        Scaled numbers, which the architecture may embed.
    n_flags : int
        Zeros and ones that stay as they are, such as indicators of missing values.
    levels : tuple of int
        Of each category the rows of its table: code 0 stands for missing and unknown values.
    n_outputs : int
        Classes, or 1 for a regression.
    """

    n_numbers: int
    levels: tuple[int, ...]
    n_outputs: int
    n_flags: int = 0


@dataclass(frozen=True)
class Tensor:
    """One tensor.

    Attributes
    ----------
    role : str
        ``weight``, ``project`` (a weight without activation behind it), ``head``, ``bias``, ``output`` (the last bias),
        ``scale`` (of the inputs), ``sign`` and ``one`` (factors of the members), ``gain``, ``shift``, ``frequency``,
        ``phase``, ``table`` (of categories); ``mean``, ``variance`` and ``edges`` are not learned by the gradient.
    fan_in : int
        Inputs that are summed up.
    uses : int
        How often a row multiplies each of its numbers.
    """

    shape: tuple[int, ...]
    role: str
    fan_in: int = 1
    uses: int = 0

    @property
    def size(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    @property
    def learned(self) -> bool:
        """Whether the gradient changes it."""
        return self.role not in ("mean", "variance", "edges")


Tensors = dict[str, Tensor]


def parameters(architecture: Architecture, shape: InputShape) -> int:
    """Count what training changes.

    >>> parameters(Architecture((Block("dense", 4),)), InputShape(n_numbers=3, levels=(), n_outputs=2))
    29
    """
    return sum(tensor.size for tensor in tensors(architecture, shape).values() if tensor.learned)


def cost(architecture: Architecture, shape: InputShape) -> int:
    """Count multiply-adds of one row's prediction.

    >>> cost(Architecture((Block("dense", 4),)), InputShape(n_numbers=3, levels=(), n_outputs=2))
    23
    """
    looking = 2 * N_LOOKS * TOKEN * (shape.n_numbers + len(shape.levels)) * architecture.members
    looks = sum(block.kind == "attention" for block in architecture.blocks)
    return sum(tensor.size * tensor.uses for tensor in tensors(architecture, shape).values()) + looks * looking


def category_sizes(architecture: Architecture, shape: InputShape) -> tuple[int, ...]:
    """Return the dimensions of each category's embedding: no more than it has values.

    >>> category_sizes(Architecture((Block("dense", 4),), category_size=8), InputShape(0, (3, 100), 1))
    (2, 8)
    """
    return tuple(max(1, min(architecture.category_size, levels - 1)) for levels in shape.levels)


def input_width(architecture: Architecture, shape: InputShape) -> int:
    """Return what the first block sees: each number with its embedding beside it, flags, embedded categories."""
    numbers = shape.n_numbers * (1 + architecture.number_size)
    return numbers + shape.n_flags + sum(category_sizes(architecture, shape))


def widest(architecture: Architecture, shape: InputShape) -> int:
    """Count the numbers of about the largest array that a prediction makes of one row.

    >>> widest(Architecture((Block("dense", 4),), members=8), InputShape(n_numbers=3, levels=(), n_outputs=2))
    32
    """
    of_a_member = [input_width(architecture, shape), shape.n_outputs, *(block.width for block in architecture.blocks)]
    of_all = [N_WAVES * shape.n_numbers] if architecture.numbers == "pbld" else []
    if any(block.kind == "attention" for block in architecture.blocks):
        n_columns = shape.n_numbers + len(shape.levels)
        of_a_member.append(N_LOOKS * max(TOKEN, n_columns))
        of_all.append(TOKEN * n_columns)
    return max([architecture.members * max(of_a_member), *of_all])


def tensors(architecture: Architecture, shape: InputShape) -> Tensors:
    """Return all tensors by name, in a fixed order."""
    width = input_width(architecture, shape)
    found = {**_embeddings(architecture, shape), "scale": Tensor((width,), "scale", uses=1)}
    widths = [width]
    for number, block in enumerate(architecture.blocks, 1):
        if block.skip and widths[block.skip] != widths[-1]:
            found[f"block{number}/skip"] = _projection(widths[block.skip], widths[-1], architecture.members)
        for name, tensor in _block(block, widths[-1], width, architecture.members):
            found[f"block{number}/{name}"] = tensor
        widths.append(block.width)
    k, last = architecture.members, widths[-1]
    found["head/weight"] = Tensor((k, last, shape.n_outputs), "head", last, uses=1)
    found["head/bias"] = Tensor((k, shape.n_outputs), "output", last)
    first = next((name for name, tensor in found.items() if tensor.role == "one" and name.endswith("inputs")), None)
    if first:  # what makes the members differ from the start
        found[first] = replace(found[first], role="sign")
    return found


def _embeddings(architecture: Architecture, shape: InputShape) -> Tensors:
    n, size = shape.n_numbers, architecture.number_size
    found: Tensors = {}
    if n and architecture.numbers == "pbld":
        found["numbers/frequency"] = Tensor((n, N_WAVES), "frequency", uses=1)
        found["numbers/phase"] = Tensor((n, N_WAVES), "phase")
        found["numbers/mix"] = Tensor((n, N_WAVES, size), "project", N_WAVES, uses=1)
        found["numbers/shift"] = Tensor((n, size), "shift")
    elif n and architecture.numbers == "pwl":
        found["numbers/edges"] = Tensor((n, size + 1), "edges")
    sizes = category_sizes(architecture, shape)
    if shape.levels:
        n_cells = sum(levels * dims for levels, dims in zip(shape.levels, sizes, strict=True))
        found["categories/table"] = Tensor((n_cells,), "table")
    if any(block.kind == "attention" for block in architecture.blocks):
        if n:
            found["tokens/weight"] = Tensor((n, 1 + size, TOKEN), "project", 1 + size, uses=1)
            found["tokens/bias"] = Tensor((n, TOKEN), "table")
        if shape.levels:
            found["tokens/table"] = Tensor((sum(shape.levels), TOKEN), "table")
    return found


def _block(block: Block, n_in: int, n_network: int, k: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a block."""
    width = block.width
    if block.kind == "attention":
        yield from _linear("query", n_in, N_LOOKS * TOKEN, k)
        n_in += N_LOOKS * TOKEN
    yield from _linear("first", n_in, width, k)
    yield from _norm("first", block.norm, width, k)
    if block.kind == "residual":
        yield from _linear("second", width, width, k)
        yield from _norm("second", block.norm, width, k)
    if block.kind == "gated":
        yield from _linear("gate", n_in, width, k)
    if block.kind == "cross" and n_network != width:
        yield "crossed", _projection(n_network, width, 1)
    if block.kind in ("cross", "residual") and n_in != width:
        yield "past", _projection(n_in, width, k)


def _linear(name: str, n_in: int, n_out: int, k: int) -> Iterator[tuple[str, Tensor]]:
    """Yield a linear map; of several members each has factors of its own, and a bias."""
    yield f"{name}/weight", Tensor((n_out, n_in), "weight", n_in, uses=k)
    yield f"{name}/bias", Tensor((k, n_out), "bias", n_in)
    if k > 1:
        yield f"{name}/inputs", Tensor((k, n_in), "one", uses=1)
        yield f"{name}/outputs", Tensor((k, n_out), "one", uses=1)


def _norm(name: str, kind: str, width: int, k: int) -> Iterator[tuple[str, Tensor]]:
    if kind == "none":
        return
    yield f"{name}/gain", Tensor((k, width), "gain", uses=1)
    yield f"{name}/shift", Tensor((k, width), "shift")
    if kind == "batch":
        yield f"{name}/mean", Tensor((k, width), "mean")
        yield f"{name}/variance", Tensor((k, width), "variance")


def _projection(n_in: int, n_out: int, k: int) -> Tensor:
    return Tensor((n_out, n_in), "project", n_in, uses=k)
