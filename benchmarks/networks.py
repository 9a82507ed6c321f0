"""What defaults of families reach on small tables: three folds, bagged, on a quarter of the rows that is held out.

usage: python -m benchmarks.networks [--tables wine diabetes] [--families mlp:0 neural:0 neural:1] [--seeds 0 1]
       [--seconds 5] [--set neural:0:learning_rate=0.02] [--folder FOLDER]

FOLDER holds NAME.csv.gz, and index.json in or beside it says each table's target; its tables then stand in for those of
scikit-learn.

The epoch that is kept is chosen on a fold's validation rows; the loss is that of the held-out rows, which no fit has
seen: root mean squared error, or log loss. Seconds are processor time of one fold's fit, on one thread.
"""

import argparse
import contextlib
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from automl_cli.archive import find_tables
from automl_cli.families.family import Family, FoldData, Hyperparameters, Limits
from automl_cli.features.encodings import ENCODINGS
from automl_cli.job import Job, choose_families, prepare
from automl_cli.metrics import METRICS
from automl_cli.options import FitOptions
from automl_cli.runs import open_run
from automl_cli.table import read_table
from automl_cli.task import TaskKind

TABLES = ("breast_cancer", "wine", "diabetes", "waves", "groups")
N_FOLDS = 3


def make_table(name: str) -> tuple[pd.DataFrame, TaskKind]:
    """Return a table whose target is ``y``: one of scikit-learn's, or made up."""
    from sklearn import datasets

    if name == "diabetes":
        return datasets.load_diabetes(as_frame=True).frame.rename(columns={"target": "y"}), TaskKind.REGRESSION
    if name in ("breast_cancer", "wine"):
        df = getattr(datasets, f"load_{name}")(as_frame=True).frame
        df["y"] = "c" + df.pop("target").astype(str)
        return df, TaskKind.BINARY if name == "breast_cancer" else TaskKind.MULTICLASS
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2_000, 10))
    df = pd.DataFrame(X, columns=[f"x{i}" for i in range(10)])
    if name == "waves":  # a curve, a product and noise
        df["y"] = np.sin(3 * X[:, 0]) + X[:, 1] * X[:, 2] + 0.5 * X[:, 3] + 0.5 * rng.normal(size=2_000)
        return df, TaskKind.REGRESSION
    # categories that matter together with a number, and missing values
    group, kind = rng.integers(0, 30, 2_000), rng.integers(0, 4, 2_000)
    effect = rng.normal(size=30)
    score = effect[group] + np.where(kind == 1, -1, 1) * X[:, 0] + np.abs(X[:, 1]) + rng.logistic(size=2_000)
    df["group"], df["kind"] = [f"g{i}" for i in group], [f"k{i}" for i in kind]
    df.loc[rng.random(2_000) < 0.1, "x0"] = np.nan
    df["y"] = np.where(score > np.median(score), "yes", "no")
    return df, TaskKind.BINARY


def open_table(stack: contextlib.ExitStack, name: str, folder: Path | None) -> Job:
    """Lay a table out as a fit does."""
    place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if folder is not None:
        (table,) = find_tables(folder, names=[name])
        path, target, kind = table.path, table.target, table.task
    else:
        df, kind = make_table(name)
        path, target = place / f"{name}.csv", "y"
        df.to_csv(path, index=False)
    options = FitOptions(str(path), target, place / "never.automl", n_trials=1, folds=N_FOLDS, task=kind)
    run = stack.enter_context(open_run(place / "run", stem=name, identity=options.identity(), resume=False))
    return prepare(options, read_table(options.data, target=target), choose_families((), ()), run)


def measure(
    job: Job, family: Family, hyperparameters: Hyperparameters, seed: int, seconds: float | None
) -> tuple[float, float]:
    """Return the held-out loss of three bagged folds, and the mean seconds of a fit."""
    data = job.data
    y, order = np.asarray(data.y), np.random.default_rng(seed).permutation(len(data.y))
    test, rest = np.sort(order[: len(y) // 4]), order[len(y) // 4 :]
    loss = METRICS["rmse" if data.kind is TaskKind.REGRESSION else "log_loss"].loss
    spent, answers = [], []
    for fold in range(N_FOLDS):
        chosen = np.arange(len(rest)) % N_FOLDS == fold
        train, valid = np.sort(rest[~chosen]), np.sort(rest[chosen])
        encoding = ENCODINGS[family.encodings[0]]
        encoder, matrix = encoding.fit(data.frame.take(train), y[train], data.kind, data.n_outputs, fold)
        fold_data = FoldData(
            kind=data.kind, n_outputs=data.n_outputs, train=matrix, y=y[train], weight=None,
            valid=encoder.transform(data.frame.take(valid)), y_valid=y[valid], weight_valid=None, loss=loss,
        )  # fmt: skip
        began = time.process_time()
        model = family.fit(fold_data, hyperparameters, Limits(1, seed, seconds))
        spent.append(time.process_time() - began)
        answers.append(model.predict(encoder.transform(data.frame.take(test)), 1))
    return float(loss(y[test], np.mean(answers, axis=0), None)), float(np.mean(spent))


def settings_of(chosen: str, given: list[str]) -> dict[str, Any]:
    """Return what ``--set FAMILY:NUMBER:NAME=VALUE`` says about a default."""
    found = {}
    for text in given:
        if text.startswith(f"{chosen}:"):
            name, _, value = text.removeprefix(f"{chosen}:").partition("=")
            with contextlib.suppress(ValueError):
                value = json.loads(value)
            found[name] = value
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=TABLES)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--families", nargs="+", default=["mlp:0", "neural:0", "neural:1"], help="NAME:NUMBER")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--seconds", type=float, help="limit of one fit; none: all epochs")
    parser.add_argument("--set", action="append", default=[], help="FAMILY:NUMBER:NAME=VALUE")
    args = parser.parse_args()
    first: dict[str, list[float]] = {chosen: [] for chosen in args.families}
    with contextlib.ExitStack() as stack, threadpool_limits(1):
        for name in args.tables:
            job, line, reference = open_table(stack, name, args.folder), [], 0.0
            for chosen in args.families:
                family, number = job.families[chosen.split(":")[0]], int(chosen.split(":")[1])
                hyperparameters = {**family.defaults(job.shape)[number], **settings_of(chosen, args.set)}
                found = [measure(job, family, hyperparameters, seed, args.seconds) for seed in args.seeds]
                loss, seconds = np.mean(found, axis=0)
                reference = reference or loss
                first[chosen].append(math.log(loss / reference))
                line.append(f"{chosen} {loss:.4g} ({seconds:.2f} s)")
            print(f"{name} ({job.shape.n_rows} x {job.shape.n_columns}): {', '.join(line)}", flush=True)
    if len(args.families) > 1:
        means = [f"{chosen} {math.exp(np.mean(ratios)):.3f}" for chosen, ratios in first.items()]
        print(f"geometric mean, relative to the first: {', '.join(means)}")


if __name__ == "__main__":
    main()
