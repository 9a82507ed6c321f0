"""Which networks should be tried first: drawn recipes on many tables, alone and beside other families.

usage: python -m benchmarks.network_list measure FOLDER --out ROWS [--minutes 30] [--most-rows 2000] [--recipes 0 1 2]
       python -m benchmarks.network_list choose ROWS... [--members 4]

FOLDER holds NAME.csv.gz, and index.json in or beside it says each table's target. Three tenths of a table's rows judge,
two tenths tell when to stop and weigh, the rest is learned from. Each recipe (an architecture and how it is trained)
is fitted once, without a limit and on one thread, as are defaults of the other families. ROWS is a folder with one
file for each table, written when the table is done. `choose` prints for each recipe the loss over that of the first
default, and a list in which each recipe adds most to an ensemble of the other families and of those before it; the
list is chosen on one half of the tables and judged on the other as well.
"""

import argparse
import contextlib
import itertools
import math
import multiprocessing
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.archive import find_tables
from automl_cli.ensemble import combine, greedy_weights
from automl_cli.families.family import FoldData, Limits
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.matrix import Array
from automl_cli.job import Job
from automl_cli.metrics import METRICS
from automl_cli.task import TaskKind
from benchmarks.networks import open_table

OTHERS = (
    ("lightgbm", 0), ("lightgbm", 1), ("catboost", 0), ("xgboost", 1), ("mlp", 0), ("mlp", 2), ("kernel", 0),
    ("extra_trees", 0), ("linear", 0),
)  # fmt: skip
FEWEST_ROWS, MOST_COLUMNS = 400, 100
N_PICKS = 30


def _blocks(kind: str, width: int, activation: str, norm: str, dropout: float, depth: int) -> str:
    return " | ".join([f"{kind}{width} {activation} {norm} d{dropout:g}"] * depth)


def recipes(n: int) -> list[dict[str, Any]]:
    """Return two former defaults, published recipes of RealMLP and TabM, and drawn ones; rows, epochs are factors."""
    base = {"learning_rate": 0.04, "weight_decay": 0.02, "dropout": 1.0, "rows": 1.0, "schedule": "coslog4",
            "label_smoothing": 0.0, "epochs": 1.0}  # fmt: skip
    plain = f"pbld3 cat8 k1 | {_blocks('dense', 256, 'selu', 'none', 0.3, 3)}"
    shared = f"pwl16 cat8 k16 | {_blocks('dense', 128, 'relu', 'none', 0.1, 2)}"
    mish = f"pbld3 cat8 k1 | {_blocks('dense', 256, 'mish', 'none', 0.15, 3)}"
    small = f"pwl8 cat8 k8 | {_blocks('dense', 64, 'relu', 'none', 0.1, 2)}"
    found: list[dict[str, Any]] = [
        {**base, "architecture": plain},
        {**base, "architecture": shared, "schedule": "cosine"},
        {**base, "architecture": mish, "learning_rate": 0.2},
        {**base, "architecture": mish, "learning_rate": 0.1, "epochs": 2.0},
        {**base, "architecture": plain.replace("selu", "mish"), "learning_rate": 0.1, "rows": 2.0},
        {**base, "architecture": small, "schedule": "cosine"},
    ]  # fmt: skip
    rng = np.random.default_rng(0)
    while len(found) < n:
        member = bool(rng.random() < 0.4)
        k = int(rng.choice([8, 8, 16, 32])) if member else 1
        kind = str(rng.choice(["dense", "dense", "dense", "residual", "gated"]))
        width = int(rng.choice([w for w in (32, 64, 128) if k * w <= 1024] if member else [64, 128, 256]))
        depth = int(rng.choice([1, 2, 3])) if member or kind == "residual" else int(rng.choice([2, 3, 4]))
        numbers = str(rng.choice(["none", "pbld3", "pbld7", "pbld15", "pwl8", "pwl16"]))
        activation, norm = (
            str(rng.choice(["relu", "selu", "silu", "mish"])),
            str(rng.choice(["none", "none", "batch", "layer"])),
        )
        blocks = _blocks(kind, width, activation, norm, float(rng.choice([0.0, 0.1, 0.2, 0.3, 0.5])), depth)
        found.append({
            "architecture": f"{numbers} cat8 k{k} | {blocks}",
            "learning_rate": float(np.exp(rng.uniform(math.log(0.02), math.log(0.3)))),
            "weight_decay": float(np.exp(rng.uniform(math.log(1e-3), math.log(0.3)))),
            "dropout": 1.0,
            "rows": float(rng.choice([1.0, 2.0, 4.0])),
            "schedule": str(rng.choice(["coslog4", "cosine", "constant"])),
            "label_smoothing": float(rng.choice([0.0, 0.0, 0.1])),
            "epochs": float(rng.choice([0.5, 1.0, 2.0])),
        })  # fmt: skip
    return found[:n]


VARIANTS: tuple[tuple[int, dict[str, Any]], ...] = (
    (26, {"learning_rate": 0.2, "weight_decay": 0.1}),
    (26, {"learning_rate": 0.2, "weight_decay": 0.1, "epochs": 1.0}),
    (26, {"learning_rate": 0.2, "weight_decay": 0.1, "schedule": "cosine"}),
    (26, {"learning_rate": 0.08, "weight_decay": 0.1}),
    (26, {"learning_rate": 0.2, "weight_decay": 0.1, "widths": "64"}),
    (26, {"learning_rate": 0.2, "weight_decay": 0.5, "widths": "64", "epochs": 1.0}),
    (30, {"learning_rate": 0.02, "weight_decay": 0.1, "rows": 2.0}),
    (30, {"learning_rate": 0.02, "weight_decay": 0.1, "members": "k8"}),
    (30, {"learning_rate": 0.04, "weight_decay": 0.1, "members": "k8", "rows": 2.0, "dropout": 2.0}),
    (0, {"activation": "mish", "weight_decay": 0.1}),
    (0, {"norm": "batch", "weight_decay": 0.1, "rows": 2.0}),
)
"""What was tried around the best of the drawn ones, from number 48 on."""
FIRST_VARIANT = 48


def recipe(number: int) -> dict[str, Any]:
    """Return a recipe by its number."""
    if number < FIRST_VARIANT:
        return recipes(number + 1)[number]
    of, changes = VARIANTS[number - FIRST_VARIANT]
    found = {**recipe(of), **changes}
    text = str(found["architecture"])
    if width := found.pop("widths", None):
        text = re.sub(r"(dense|gated|residual)\d+", rf"\g<1>{width}", text)
    if members := found.pop("members", None):
        text = re.sub(r" k\d+ ", f" {members} ", text)
    if activation := found.pop("activation", None):
        text = re.sub(r"(?<=\d )(relu|selu|silu|mish)", activation, text)
    if norm := found.pop("norm", None):
        text = re.sub(r"(?<=lu |sh )none", norm, text)
    return {**found, "architecture": text}


def _hyperparameters(given: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    batch = int(default["batch_size"] * given["rows"])
    epochs = max(4, round(default["epochs"] * given["epochs"]))
    return {**{k: v for k, v in given.items() if k != "rows"}, "batch_size": batch, "epochs": epochs}


def _folds(job: Job, most_rows: int) -> tuple[Array, Array, Array]:
    order = np.random.default_rng(0).permutation(len(job.data.y))[:most_rows]
    a, b = round(0.3 * len(order)), round(0.5 * len(order))
    return np.sort(order[b:]), np.sort(order[a:b]), np.sort(order[:a])


def fits(job: Job, most_rows: int, numbers: Sequence[int]) -> Iterator[tuple[str, float, Array, Array]]:
    """Give the name of each fit, its seconds, and what it says of the rows that weigh and of those that judge."""
    data, y = job.data, np.asarray(job.data.y)
    train, valid, test = _folds(job, most_rows)
    loss = METRICS["rmse" if data.kind is TaskKind.REGRESSION else "log_loss"].loss
    shape = replace(job.shape, n_rows=len(train) + len(valid))
    neural = job.families["neural"]
    default = neural.defaults(shape)[1]  # with the rows in a batch that recipes multiply
    wanted = [(f"neural/{i}", neural, _hyperparameters(recipe(i), default)) for i in numbers]
    for other, number in OTHERS:
        if other in job.families and number < len(job.families[other].defaults(shape)):
            chosen = job.families[other]
            wanted.append((f"{other}/{number}", chosen, dict(chosen.defaults(shape)[number])))
    folds: dict[str, tuple[FoldData, Any]] = {}
    for name, family, hyperparameters in wanted:
        encoding = family.encodings[0]
        if encoding not in folds:
            encoder, matrix = ENCODINGS[encoding].fit(data.frame.take(train), y[train], data.kind, data.n_outputs, 0)
            folds[encoding] = FoldData(
                kind=data.kind, n_outputs=data.n_outputs, train=matrix, y=y[train], weight=None,
                valid=encoder.transform(data.frame.take(valid)), y_valid=y[valid], weight_valid=None, loss=loss,
            ), encoder.transform(data.frame.take(test))  # fmt: skip
        fold, judging = folds[encoding]
        began = time.process_time()
        try:
            model = family.fit(fold, hyperparameters, Limits(1, 0, None))
        except (ValueError, ArithmeticError) as error:
            print(f"{name}: {error}", flush=True)
            yield name, math.inf, np.zeros(0), np.zeros(0)
            continue
        yield name, time.process_time() - began, model.predict(fold.valid, 1), model.predict(judging, 1)


def _measured(arguments: tuple[str, argparse.Namespace, float]) -> str:
    name, args, until = arguments
    out = args.out / f"{name}.npz"
    if out.exists() or time.time() > until:
        return ""
    began = time.perf_counter()
    with contextlib.ExitStack() as stack, threadpool_limits(1):
        job = open_table(stack, name, args.folder)
        if len(job.data.y) < FEWEST_ROWS or job.shape.n_columns > MOST_COLUMNS or "neural" not in job.families:
            return f"{name}: left out"
        arrays: dict[str, Array] = {}
        for fit, seconds, weighing, judging in fits(job, args.most_rows, args.recipes):
            arrays.update({f"{fit}/seconds": np.array(seconds), f"{fit}/valid": weighing, f"{fit}/test": judging})
        _, valid, test = _folds(job, args.most_rows)
        y = np.asarray(job.data.y)
        arrays |= {"y_valid": y[valid], "y_test": y[test], "kind": np.array(job.data.kind.value)}
        np.savez_compressed(out, allow_pickle=False, **arrays)
    return f"{name}: {time.perf_counter() - began:.0f} s"


def measure(args: argparse.Namespace) -> None:
    """Fit all recipes on as many tables as the minutes hold, the kinds of tasks by turns."""
    args.out.mkdir(parents=True, exist_ok=True)
    tables = {table.name: table for table in find_tables(args.folder)}
    turns: dict[str, list[str]] = {}
    for name in np.random.default_rng(0).permutation(sorted(tables)):
        turns.setdefault(str(tables[name].task), []).append(str(name))
    names = [name for _, name in sorted((i, n) for group in turns.values() for i, n in enumerate(group))]
    until = time.time() + 60 * args.minutes
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        for line in pool.imap_unordered(_measured, [(name, args, until) for name in names]):
            if line:
                print(line, flush=True)


class Table:
    """What all fits said of one table.

    Attributes
    ----------
    alone : Mapping of name to float
        Loss on the rows that judge; infinite for a fit that failed.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        arrays: dict[str, Array] = {}
        for path in paths:
            with np.load(path) as read:
                arrays.update(read)
        names = [name.removesuffix("/seconds") for name in arrays if name.endswith("/seconds")]
        self.name, self.kind = paths[0].stem, str(arrays["kind"])
        self.y_valid, self.y_test = arrays["y_valid"], arrays["y_test"]
        self.seconds = {name: float(arrays[f"{name}/seconds"]) for name in names}
        failed = [name for name in names if math.isinf(self.seconds[name])]
        self.valid = {name: arrays[f"{name}/valid"] for name in names if name not in failed}
        self.test = {name: arrays[f"{name}/test"] for name in names if name not in failed}
        self.metric = METRICS["rmse" if self.kind == TaskKind.REGRESSION.value else "log_loss"]
        self.alone = {name: self.metric.loss(self.y_test, said, None) for name, said in self.test.items()}
        self.alone |= dict.fromkeys(failed, math.inf)
        self.others = [name for name in self.valid if not name.startswith("neural/")]

    def together(self, networks: Sequence[str]) -> float:
        """Return the loss of an ensemble of the other families and some networks."""
        members = [*self.others, *(name for name in networks if name in self.valid)]
        weights = greedy_weights(
            np.stack([self.valid[m] for m in members]), self.y_valid, self.metric, None, n_picks=N_PICKS
        )
        return self.metric.loss(self.y_test, combine(np.stack([self.test[m] for m in members]), weights), None)


def _log_ratios(tables: Sequence[Table], networks: Sequence[str], before: Sequence[float]) -> Array:
    return np.array([math.log(t.together(networks) / b) for t, b in zip(tables, before, strict=True)])


def chosen_list(tables: Sequence[Table], names: Sequence[str], n: int, price: float) -> list[str]:
    """Return the networks that an ensemble of the other families gains most by, each after those before it.

    Those that were measured on all tables; a table counts as a change of a fifth at most, or one would decide.

    Parameters
    ----------
    price : float
        Logarithm of the loss that a second of a fit must be worth.
    """
    before = [t.together(()) for t in tables]
    names = [name for name in names if all(name in t.alone for t in tables)]
    cost = {name: float(np.mean([t.seconds[name] for t in tables if name in t.valid])) for name in names}
    found: list[str] = []
    while len(found) < min(n, len(names)):
        scores = {
            name: float(np.clip(_log_ratios(tables, [*found, name], before), -0.2, 0.2).mean()) + price * cost[name]
            for name in names
            if name not in found
        }
        found.append(min(scores, key=lambda name: scores[name]))
    return found


def _summary(gains: Array) -> str:
    """Return the mean, its standard error, and the mean without the two highest and the two lowest."""
    trimmed = f" ({math.exp(np.sort(gains)[2:-2].mean()):.4f})" if len(gains) > 4 else ""
    return f"{math.exp(gains.mean()):.4f} +- {gains.std() / math.sqrt(len(gains)):.4f}{trimmed}"


def _print_each(tables: Sequence[Table], names: Sequence[str], before: Sequence[float]) -> None:
    """Print how each fit did alone, and what it adds to the others."""
    print(
        f"{len(tables)} tables; loss alone over that of neural/0 (at most e), and of the ensemble with it over without"
    )
    for name in (*names, *sorted({n for t in tables for n in t.others})):
        places = [place for place, t in enumerate(tables) if name in t.alone and "neural/0" in t.alone]
        having = [tables[place] for place in places]
        ratios = np.clip([math.log(t.alone[name] / t.alone["neural/0"]) for t in having], -1, 1)
        added = _log_ratios(having, [name], [before[place] for place in places])
        its = recipe(int(name.split("/")[1])) if name.startswith("neural/") else {}
        text = " ".join(f"{value:.3g}" if isinstance(value, float) else str(value) for value in its.values())
        seconds = np.mean([t.seconds[name] for t in having if name in t.valid])
        print(f"{name:14} {len(having)} tables  {_summary(ratios)}  {_summary(added)}  {seconds:.1f} s  {text}")


def choose(args: argparse.Namespace) -> None:
    """Print how the recipes did, and lists of them."""
    found = sorted((path for folder in args.rows for path in folder.glob("*.npz")), key=lambda path: path.stem)
    tables = [Table(list(paths)) for _, paths in itertools.groupby(found, key=lambda path: path.stem)]
    if args.kind:
        tables = [t for t in tables if (t.kind == TaskKind.REGRESSION.value) == (args.kind == "regression")]
    names = sorted({n for t in tables for n in t.valid if n.startswith("neural/")}, key=lambda n: int(n.split("/")[1]))
    before = [t.together(()) for t in tables]
    _print_each(tables, names, before)
    first: Array | None = None
    for text in args.lists:
        given = [f"neural/{number}" for number in text.split(",")]
        seconds = sum(float(np.mean([t.seconds[name] for t in tables if name in t.valid])) for name in given)
        gains = _log_ratios(tables, given, before)
        first = gains if first is None else first
        print(f"{text}: {_summary(gains)}, {seconds:.1f} s; over the first list {_summary(gains - first)}")
    halves = tables[0::2], tables[1::2]
    for chosen_on, judged_on in (halves, halves[::-1], (tables, tables)):
        chosen = chosen_list(chosen_on, names, args.members, args.price)
        base = [t.together(()) for t in judged_on]
        steps = [_summary(_log_ratios(judged_on, chosen[: i + 1], base)) for i in range(len(chosen))]
        whose = "the same" if chosen_on is judged_on else "the others"
        numbers = [name.removeprefix("neural/") for name in chosen]
        listed = ", ".join(f"{number} {step}" for number, step in zip(numbers, steps, strict=True))
        print(f"chosen on {len(chosen_on)}, judged on {whose}: {listed}")


def main() -> None:
    """Measure or choose."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("measure")
    one.add_argument("folder", type=Path)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--minutes", type=float, default=30)
    one.add_argument("--most-rows", type=int, default=2_000)
    one.add_argument("--recipes", type=int, nargs="+", default=range(40), help="their numbers")
    one.add_argument("--processes", type=int, default=2)
    one.set_defaults(run=measure)
    two = commands.add_parser("choose")
    two.add_argument("rows", type=Path, nargs="+", help="folders of the same fits on the same rows count as one")
    two.add_argument("--members", type=int, default=5)
    two.add_argument("--price", type=float, default=0.0, help="logarithm of loss per second of a fit")
    two.add_argument("--lists", nargs="+", default=["0,1"], help="numbers of recipes whose ensemble is judged, as 0,1")
    two.add_argument("--kind", choices=("regression", "classes"))
    two.set_defaults(run=choose)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
