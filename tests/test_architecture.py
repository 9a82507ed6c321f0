"""The order of the layers, the owners of heavy libraries, and what a command may load."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "automl_cli"

# A module imports only what stands above it; a package is one layer. The same list is docs/architecture.md.
LAYERS = (
    "errors",
    "harmless",
    "clock",
    "files",
    "machine",
    "lean",
    "kept",
    "parts",
    "trial",
    "table",
    "confusion",
    "metrics",
    "thresholds",
    "calibration",
    "labels",
    "task",
    "profile",
    "splits",
    "racing",
    "patience",
    "features",
    "seen",
    "reference",
    "outputs",
    "transfer",
    "metafeatures",
    "neural",
    "families",
    "shared",
    "sourced",
    "space",
    "candidates",
    "plan",
    "rundata",
    "rowtime",
    "comparing",
    "adapting",
    "shifted",
    "unlabelled",
    "encoded",
    "trialfiles",
    "evaluate",
    "refitting",
    "executors",
    "experience",
    "optimizer",
    "search",
    "ensemble",
    "lending",
    "newshares",
    "stacking",
    "weighing",
    "members",
    "trimming",
    "asking",
    "teaching",
    "repeats",
    "bags",
    "importance",
    "worker",
    "nas",
    "artifact",
    "sourcemodel",
    "sources",
    "attached",
    "report",
    "runs",
    "small",
    "summary",
    "worth",
    "options",
    "named",
    "job",
    "adaptto",
    "events",
    "remembering",
    "background",
    "warmstart",
    "anytime",
    "ending",
    "reasons",
    "delivery",
    "correcting",
    "prediction",
    "embedding",
    "champion",
    "readapting",
    "drift",
    "archive",
    "proposing",
    "workflow",
    "retraining",
    "console",
    "cli",
    "__main__",
)

# library -> the files or packages that may import it, at any depth
OWNERS = {
    "pyarrow": ("table", "labels.py", "task", "features", "artifact/probe.py", "lean.py", "families/lightgbm_text.py"),
    "pandas": ("table",),
    "lightgbm": ("families/lightgbm.py",),
    "xgboost": ("families/xgboost.py",),
    "catboost": ("families/catboost.py",),
    "torch": ("neural",),
    "safetensors": ("families/neural.py",),
    "ConfigSpace": ("families", "space", "optimizer"),
    "smac": ("optimizer",),
    "pebble": ("executors",),
    "loky": ("executors",),
    "dask": ("executors",),
    "distributed": ("executors",),
    "sqlalchemy": ("experience",),
    "cryptography": ("artifact/signing.py",),
    "rich": ("console",),
    "typer": ("cli",),
    "click": ("cli",),
}

HEAVY = (
    "numpy",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "lightgbm",
    "xgboost",
    "catboost",
    "smac",
    "ConfigSpace",
    "torch",
)
SILENT_EXCEPT = ("console", "cli")
LONGEST_FUNCTION = 60
LONGEST_FILE = 450

FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = [path for path in FILES if path != PACKAGE / "__init__.py"]


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_names(path: Path) -> Iterator[tuple[str, int]]:
    """Every dotted name that a file imports, inside functions too, with its line."""
    inside = ["automl_cli", *path.relative_to(PACKAGE).parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = [*inside[: -node.level]] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)


def owned_by(path: Path, owner: str) -> bool:
    return name_of(path) == owner or layer_of(path) == owner


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function with its number of lines, the signature and the docstring left out: commands are mostly options."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def loaded_by(statement: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter holds after ``statement``."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


def test_every_module_has_a_layer() -> None:
    unknown = {layer_of(path) for path in MODULES} - set(LAYERS)
    assert not unknown, f"give these modules a place in LAYERS and in docs/architecture.md: {sorted(unknown)}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_imports_only_what_stands_above_it(path: Path) -> None:
    here = layer_of(path)
    allowed = set(LAYERS[: LAYERS.index(here)] if here in LAYERS else LAYERS) | {here}
    ours = [(name.split("."), line) for name, line in imported_names(path) if name.startswith("automl_cli.")]
    wrong = [
        f"{name_of(path)}:{line} imports {parts[1]}"
        for parts, line in ours
        if (parts[1] in LAYERS or (PACKAGE / parts[1]).exists() or (PACKAGE / f"{parts[1]}.py").exists())
        and parts[1] not in allowed
    ]
    assert not wrong


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_heavy_libraries_have_one_owner(path: Path) -> None:
    wrong = [
        f"{name_of(path)}:{line} imports {name}; it belongs to {', '.join(owners)}"
        for name, line in imported_names(path)
        if (owners := OWNERS.get(name.partition(".")[0])) and not any(owned_by(path, owner) for owner in owners)
    ]
    assert not wrong


def test_the_layers_are_documented_in_their_order() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    _, *lines = text.split("## Layers", 1)[1].split("```")[1].strip().splitlines()
    documented = [line.split()[0].removesuffix(".py").rstrip("/") for line in lines]
    present = {layer_of(path) for path in MODULES}
    assert documented == [layer for layer in LAYERS if layer in present]


def test_the_command_line_loads_no_heavy_library() -> None:
    assert not loaded_by("import automl_cli.cli") & set(HEAVY)


def test_help_loads_no_heavy_library() -> None:
    statement = (
        "import contextlib, automl_cli.cli\nwith contextlib.suppress(SystemExit): automl_cli.cli.app(['--help'])"
    )
    assert not loaded_by(statement) & set(HEAVY)


@pytest.mark.parametrize(
    "module", ["errors", "clock", "trial", "table", "metrics", "task", "splits", "racing", "patience"]
)
def test_the_lower_layers_load_numpy_and_pyarrow_at_most(module: str) -> None:
    loaded = loaded_by(f"import automl_cli.{module}")
    assert not loaded & (set(HEAVY) - {"numpy", "pyarrow"})


def test_opening_a_model_does_not_load_the_optimizer() -> None:
    assert not loaded_by("import automl_cli.artifact") & {"smac", "ConfigSpace", "pebble"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_readable(path: Path) -> None:
    n_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert n_lines <= LONGEST_FILE, f"{name_of(path)} has {n_lines} lines"
    long = [f"{name_of(path)}: {name} has {n} lines" for name, n in functions(path) if n > LONGEST_FUNCTION]
    assert not long


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_is_a_drawer_for_everything(path: Path) -> None:
    assert path.stem not in {"utils", "util", "common", "base", "manager", "helpers", "misc"}


@pytest.mark.parametrize("path", [path for path in FILES if layer_of(path) not in SILENT_EXCEPT], ids=name_of)
def test_the_library_is_silent(path: Path) -> None:
    prints = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not prints, f"{name_of(path)} prints on lines {prints}"


def test_errors_a_user_can_meet_live_in_one_file() -> None:
    from automl_cli import errors

    names = {name for name, value in vars(errors).items() if isinstance(value, type)}
    elsewhere = [
        f"{name_of(path)}: {node.name}"
        for path in MODULES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and layer_of(path) != "errors"
        if any(isinstance(base, ast.Name) and base.id in names for base in node.bases)
    ]
    assert not elsewhere
