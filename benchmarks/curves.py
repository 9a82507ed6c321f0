"""Record full learning curves once, so that rules for stopping early can be replayed on them in seconds.

usage: python -m benchmarks.curves FOLDER --out CURVES [--names A B] [--configurations 60] [--rows 2000] [--folds 5]

FOLDER is laid out as for limits.py: index.json and NAME.csv.gz, of which the training part of the same split is used.
Each configuration (the portfolio, then draws from the search space) is fitted on every fold of every table, and never
stopped early: boosting goes on for 300 rounds without a gain, at least half of the best round. CURVES/TABLE/NUMBER.npz
holds one configuration on one table; what is there already is not recorded again. Tables take turns, so that a
recording that is stopped is balanced. Seconds are processor time of one thread: other programs do not disturb them.
"""

import argparse
import contextlib
import importlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from automl_cli.clock import Deadline
from automl_cli.evaluate import open_run as open_data
from automl_cli.families import find_families
from automl_cli.families.boosting import Stopping
from automl_cli.families.family import FoldData, Limits
from automl_cli.job import Job, choose_families, prepare
from automl_cli.options import FitOptions
from automl_cli.runs import open_run
from automl_cli.space import build_space, default_pipelines, to_pipeline
from automl_cli.table import read_table
from automl_cli.task import TaskKind
from automl_cli.trial import Pipeline
from benchmarks.tables import SEED, Dataset, find_datasets, lay_out

LONGEST_WAIT = 300  # rounds without a gain: the longest patience that can be replayed
BOOSTERS = ("lightgbm", "xgboost", "catboost")


@dataclass
class Recorder(Stopping):
    """Writes every round's loss down and waits longer than any rule that is to be replayed."""

    most: int = 3000
    losses: list[float] = field(default_factory=list)

    def should_stop(self, loss: float) -> bool:
        super().should_stop(loss)
        self.losses.append(loss)
        waited = self.rounds - self.best_round
        return self.rounds >= self.most or waited >= max(LONGEST_WAIT, 0.5 * self.best_round + 20)


@contextlib.contextmanager
def recorded(most: int) -> Iterator[list[Recorder]]:
    """Give the boosters a stopping rule that only writes down; yields one Recorder per fit."""
    recorders: list[Recorder] = []

    def recorder_for(data: FoldData, deadline: Deadline, limits: Limits) -> Recorder:
        recorders.append(Recorder(len(data.y), deadline, most=most))
        return recorders[-1]

    modules = [importlib.import_module(f"automl_cli.families.{name}") for name in BOOSTERS if name in find_families()]
    originals = [module.stopping_for for module in modules]
    for module in modules:
        module.stopping_for = recorder_for  # type: ignore[attr-defined]
    try:
        yield recorders
    finally:
        for module, original in zip(modules, originals, strict=True):
            module.stopping_for = original  # type: ignore[attr-defined]


def open_table(stack: contextlib.ExitStack, dataset: Dataset, args: argparse.Namespace) -> Job:
    """Cap the rows, make the folds and lay the data out as a fit does."""
    df = pd.read_csv(lay_out(dataset, args.splits) / "train.csv", low_memory=False)
    place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    df.sample(min(len(df), args.rows), random_state=SEED).to_csv(place / "capped.csv", index=False)
    options = FitOptions(
        str(place / "capped.csv"), dataset.target, place / "never.automl", n_trials=1, folds=args.folds,
        task=TaskKind(dataset.task),
    )  # fmt: skip
    run = stack.enter_context(open_run(place / "run", stem=dataset.name, identity=options.identity(), resume=False))
    table = read_table(options.data, target=options.target)
    return prepare(options, table, choose_families((), args.exclude), run)


def configurations(job: Job, n: int) -> list[Pipeline]:
    """Return the portfolio and draws from the search space by turns, then draws only."""
    space = build_space(job.families, job.shape)
    space.seed(SEED)
    known = default_pipelines(job.families, job.shape)
    drawn = [to_pipeline(configuration) for configuration in space.sample_configuration(2 * n)]
    mixed = [pipeline for pair in zip(known, drawn, strict=False) for pipeline in pair]
    return list(dict.fromkeys([*mixed, *known, *drawn]))[:n]


def record(job: Job, pipeline: Pipeline, most: int) -> dict[str, np.ndarray]:
    """Fit one configuration on every fold."""
    data, family = job.data, job.families[pipeline.family]
    run = open_data(str(job.run.folder))
    arrays: dict[str, np.ndarray] = {}
    losses, seconds, oof = [], [], []
    with recorded(most) as recorders, threadpool_limits(1):
        for fold, (train_rows, valid_rows) in enumerate(data.folds):
            encoded = run.encode(pipeline.encoding, fold)
            fold_data = FoldData(
                kind=data.kind, n_outputs=data.n_outputs,
                train=encoded.train, y=data.y[train_rows], weight=None,
                valid=encoded.valid, y_valid=data.y[valid_rows], weight_valid=None,
                loss=data.metric.loss, metric=data.metric.name,
            )  # fmt: skip
            began = time.process_time()
            model = family.fit(fold_data, pipeline.hyperparameters, Limits(threads=1, seed=SEED))
            predictions = model.predict(encoded.valid, 1)
            seconds.append(time.process_time() - began)
            losses.append(data.metric.loss(fold_data.y_valid, predictions, None))
            oof.append(predictions.astype(np.float32))
    for fold, recorder in enumerate(recorders):
        arrays[f"curve_{fold}"] = np.asarray(recorder.losses, dtype=np.float32)
    return {**arrays, "losses": np.array(losses), "seconds": np.array(seconds), "oof": np.concatenate(oof)}


def keep(path: Path, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
    """Write a file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    with draft.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays, facts=np.array(json.dumps(facts)))
        os.fsync(file.fileno())
    draft.rename(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--group", default="dev")
    parser.add_argument("--names", nargs="*")
    parser.add_argument("--configurations", type=int, default=60)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--most-rounds", type=int, default=2000)
    parser.add_argument("--exclude", nargs="*", default=["catboost"])
    parser.add_argument("--minutes", type=float, default=25.0, help="of processor time")
    parser.add_argument("--splits", type=Path, default=Path(tempfile.gettempdir()) / "automl-splits")
    args = parser.parse_args()
    datasets = find_datasets(args.folder, args.group)
    with contextlib.ExitStack() as stack:
        jobs = {name: open_table(stack, datasets[name], args) for name in args.names or datasets}
        plans = {name: configurations(job, args.configurations) for name, job in jobs.items()}
        for name, job in jobs.items():
            y, _ = job.data.validated()
            ends = np.cumsum([len(valid) for _, valid in job.data.folds])
            facts = {"metric": job.data.metric.name, "kind": str(job.data.kind), "n_rows": job.data.n_rows}
            keep(args.out / name / "table.npz", {"y": y, "ends": ends}, facts)
        for number in range(args.configurations):
            for name, job in jobs.items():
                path = args.out / name / f"{number:05d}.npz"
                if path.exists() or number >= len(plans[name]):
                    continue
                if time.process_time() > 60 * args.minutes:
                    return
                pipeline = plans[name][number]
                arrays = record(job, pipeline, args.most_rounds)
                keep(path, arrays, {"number": number, **pipeline.to_json()})
                print(f"{name} {number} {pipeline.family}: {arrays['seconds'].sum():.1f} s", flush=True)


if __name__ == "__main__":
    main()
