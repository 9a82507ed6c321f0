"""What an encoding is worth: out-of-fold loss of the same configuration with each, at the same folds.

usage: python -m benchmarks.encodings FOLDER --targets index.json [--names A B] [--family lightgbm] [--default 0]
                                      [--encodings native generated] [--folds 3] [--out results.jsonl]

FOLDER holds NAME.csv, NAME.csv.gz or NAME/train.csv; index.json is {NAME: {"target": ..., "task": ...}} or groups of
such. Everything runs on one thread and is seeded; nothing is timed out, so the losses are the same on any machine.
Seconds are those of the process, which other load hardly changes. Loss is that of the task's usual metric: 1 - ROC AUC,
log loss or RMSE, as the mean over folds; ratios below 1 are gains over the first encoding.
"""

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.families import find_families
from automl_cli.families.family import FoldData, Limits, Shape
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, frame_from_table, frame_schema
from automl_cli.splits import plan_folds
from automl_cli.table import read_table
from automl_cli.task import Task, TaskKind, make_task


def entries(index: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the tables of an index, of all its groups."""
    flat: dict[str, dict[str, Any]] = {}
    for name, value in index.items():
        if isinstance(value, dict):
            flat |= {name: value} if "target" in value else entries(value)
    return flat


def path_of(folder: Path, name: str) -> Path | None:
    candidates = (folder / name / "train.csv", folder / f"{name}.csv", folder / f"{name}.csv.gz")
    return next((path for path in candidates if path.exists()), None)


def load(path: Path, entry: dict[str, Any]) -> tuple[Frame, Task]:
    target = entry["target"]
    table = read_table(path, target=target, verbatim=(target,))
    task, kept = make_task(table.strings(target), target=target, kind=TaskKind(entry["task"]))
    return frame_from_table(table, frame_schema(table.schema, exclude=(target,))).take(kept), task


def measure(frame: Frame, task: Task, encoding: str, options: argparse.Namespace) -> dict[str, Any]:
    """Fit fold by fold; return the mean loss, the seconds and the width."""
    schema = frame.schema
    family = find_families()[options.family]
    n_columns = len(schema.names)
    plan = plan_folds(task, folds=options.folds, seconds=None, n_columns=n_columns, seed=options.seed)
    shape = Shape(task.kind, frame.n_rows, n_columns, len(schema.categorical), task.n_outputs, len(schema.numeric))
    hyperparameters = family.defaults(shape)[options.default]
    losses, encoding_seconds, fit_seconds, width = [], 0.0, 0.0, 0
    for fold, (train_rows, valid_rows) in enumerate(plan.folds):
        train_frame, valid_frame = frame.take(train_rows), frame.take(valid_rows)
        y, y_valid = task.y[train_rows], task.y[valid_rows]
        began = time.process_time()
        encoder, train = ENCODINGS[encoding].fit(train_frame, y, task.kind, task.n_outputs, fold)
        valid = encoder.transform(valid_frame)
        encoded = time.process_time()
        loss = task.metric.loss
        data = FoldData(task.kind, task.n_outputs, train, y, None, valid, y_valid, None, loss, task.metric.name)
        model = family.fit(data, hyperparameters, Limits(threads=1, seed=options.seed))
        losses.append(float(loss(y_valid, model.predict(valid, 1), None)))
        encoding_seconds += encoded - began
        fit_seconds += time.process_time() - encoded
        width = train.X.shape[1]
    n = len(losses)
    return {
        "encoding": encoding,
        "loss": float(np.mean(losses)),
        "encoding_s": encoding_seconds / n,
        "fit_s": fit_seconds / n,
        "width": width,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--targets", type=Path, required=True)
    parser.add_argument("--names", nargs="*")
    parser.add_argument("--family", default="lightgbm")
    parser.add_argument("--default", type=int, default=0, help="number of the family's default configuration")
    parser.add_argument("--encodings", nargs="+", default=["native", "generated"], choices=list(ENCODINGS))
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    known = entries(json.loads(options.targets.read_text()))
    print(
        "| set | encoding | columns | loss | ratio | encoding s a fold | fit s a fold |\n|---|---|---|---|---|---|---|"
    )
    ratios: dict[str, list[float]] = {encoding: [] for encoding in options.encodings}
    for name in options.names or known:
        path = path_of(options.folder, name)
        if path is None:
            continue
        frame, task = load(path, known[name])
        first = None
        for encoding in options.encodings:
            row = {"name": name, **measure(frame, task, encoding, options)}
            first = first or row["loss"]
            ratios[encoding].append(row["loss"] / first)
            cells = (name, encoding, row["width"], f"{row['loss']:.5g}", f"{row['loss'] / first:.4f}")
            print("|", " | ".join(map(str, cells)), f"| {row['encoding_s']:.2f} | {row['fit_s']:.1f} |", flush=True)
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps({**row, "family": options.family, "default": options.default}) + "\n")
    for encoding, values in ratios.items():
        mean = math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan
        print(f"\n{encoding}: geometric mean of the ratios {mean:.4f} over {len(values)} tables", end="")
    print()


if __name__ == "__main__":
    main()
