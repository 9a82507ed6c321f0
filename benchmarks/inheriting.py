"""What inherited weights are worth to a network that is one mutation away from another.

usage: python -m benchmarks.inheriting FOLDER --names A B C [--pairs 10]

A parent is drawn from the space of `nas_table` and trained in full, then a mutation of it for shares of the epochs,
each time from the beginning and from the parent's weights. FOLDER as for limits.py; of a table's rows the first fold of
three is held out: one half of it says when to stop, the other is the test. A cell is the geometric mean of the test
losses over those of whole trainings from the beginning, the standard error of its logarithm, and how much of their
processor time it takes.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.families.family import FoldData, spread
from automl_cli.families.neural import Prepared, prepare, recipe_of
from automl_cli.features.matrix import Array, Matrix
from automl_cli.job import Job
from automl_cli.nas import Candidate
from automl_cli.neural.recipe import Means, Trained
from automl_cli.task import TaskKind
from benchmarks.nas_table import SPACE

SHARES = (1.0, 1 / 2, 1 / 4, 1 / 8)
Losses = dict[tuple[bool, float], tuple[float, float]]
"""Test loss and processor seconds, by whether weights were inherited and the share of the epochs."""


@dataclass(frozen=True)
class Divided:
    """A table's first fold, its held-out half to stop on in ``data``, the other one beside it."""

    data: FoldData
    test: Matrix
    y_test: Array
    defaults: dict[str, Any]

    def loss(self, fold: Prepared, candidate: Candidate, trained: Trained) -> float:
        """Return the test loss of a trained network."""
        from automl_cli.neural.training import predict

        classify = len(fold.classes) > 0
        columns = fold.inputs.transform(self.test)
        answers = predict(candidate.architecture, fold.shape, trained.weights, columns, classify=classify)
        if classify:
            answers = spread(answers, fold.classes, self.data.n_outputs)
        return float(self.data.loss(self.y_test, answers, None))


def divide(job: Job, train: Matrix, held: Matrix) -> Divided:
    """Divide an encoded fold; a regression's target is standardised."""
    data = job.data
    train_rows, held_rows = data.folds[0]
    valid, test = np.array_split(np.random.default_rng(0).permutation(len(held_rows)), 2)
    y, y_held = data.y[train_rows], data.y[held_rows]
    if data.kind is TaskKind.REGRESSION:
        centre, scale = y.mean(), y.std()
        y, y_held = (y - centre) / scale, (y_held - centre) / scale

    def part(rows: Array) -> Matrix:
        return replace(held, X=np.ascontiguousarray(held.X[rows]))

    fold = FoldData(
        kind=data.kind, n_outputs=data.n_outputs, train=train, y=y, weight=None,
        valid=part(valid), y_valid=y_held[valid], weight_valid=None, loss=data.metric.loss, metric=data.metric.name,
    )  # fmt: skip
    return Divided(fold, part(test), y_held[test], dict(job.families["neural"].defaults(job.shape)[0]))


def train_pair(table: Divided, parent: Candidate, child: Candidate, seed: int) -> Losses:
    """Train a parent, and its child in every way."""
    from automl_cli.neural.training import train

    def trained(candidate: Candidate, share: float, seed: int, initial: Any = None) -> tuple[Prepared, Trained]:
        asked = {**table.defaults, **candidate.hyperparameters()}
        asked["epochs"] = max(1, round(share * int(asked["epochs"])))
        fold = prepare(table.data, seed)
        recipe = recipe_of(table.data, asked)
        network = candidate.architecture
        return fold, train(network, fold.shape, recipe, fold.train, fold.valid, Means(seed), initial=initial)

    weights = trained(parent, 1.0, seed)[1].weights
    found = {}
    for share in SHARES:
        for inherited in (False, True):
            began = time.process_time()
            fold, network = trained(child, share, seed + 1, weights if inherited else None)
            found[inherited, share] = table.loss(fold, child, network), time.process_time() - began
    return found


def pairs(n: int) -> Iterator[tuple[Candidate, Candidate, int]]:
    """Yield parents, mutations of them, and seeds."""
    every = list(SPACE.every())
    for seed in range(n):
        rng = np.random.default_rng(seed)
        parent = every[int(rng.integers(len(every)))]
        yield SPACE.decode(parent), SPACE.decode(SPACE.mutate(parent, rng)), seed


def report(found: Sequence[Losses]) -> Iterator[str]:
    """Yield Markdown."""
    yield "| share of the epochs | from the beginning | inherited |"
    yield "|---|---|---|"
    whole = np.log(np.array([losses[False, 1.0] for losses in found]))
    for share in SHARES:
        cells = []
        for inherited in (False, True):
            logs = np.log(np.array([losses[inherited, share] for losses in found])) - whole
            loss, seconds = np.exp(logs.mean(axis=0))
            error = logs[:, 0].std(ddof=1) / np.sqrt(len(logs))
            cells.append(f"{loss:.3f} ({error:.3f}), {seconds:.2f} of the time")
        yield f"| {share:g} | {cells[0]} | {cells[1]} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Train and report."""
    from automl_cli.evaluate import open_run
    from benchmarks.curves import open_table
    from benchmarks.tables import find_datasets

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="+", required=True)
    parser.add_argument("--group", default="dev")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--splits", type=Path, default=Path(tempfile.gettempdir()) / "automl-splits")
    parser.set_defaults(exclude=[])
    args = parser.parse_args(arguments)
    datasets = find_datasets(args.folder, args.group)
    found = []
    with contextlib.ExitStack() as stack:
        for name in args.names:
            job = open_table(stack, datasets[name], args)
            encoded = open_run(str(job.run.folder)).encode(job.families["neural"].encodings[0], 0)
            table = divide(job, encoded.train, encoded.valid)
            for parent, child, seed in pairs(args.pairs):
                found.append(train_pair(table, parent, child, seed))
                print(name, seed, {k: round(v[0], 4) for k, v in found[-1].items()}, flush=True)
    for line in report(found):
        print(line)


if __name__ == "__main__":
    main()
