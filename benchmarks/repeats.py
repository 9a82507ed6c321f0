"""What repeated folds of the members are worth: each is fitted on other folds as well, and scored on new rows.

automl fit train.csv -t y --time 60s --without repeats --run-dir runs/churn -o churn.automl
python -m benchmarks.repeats runs/churn churn.automl test.csv [--repeats 1]

Weights stay as the model has them; a member's answer becomes the mean over the models of all its folds. The rows show
the loss on the test rows with the folds of the run and with those of the repeats too, and the processor seconds that
the repeats took as a share of the seconds that all trials of the run took.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.artifact import open_artifact
from automl_cli.families import find_families
from automl_cli.families.family import FoldData, Limits
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, frame_from_table
from automl_cli.labels import read_truth
from automl_cli.metrics import Array
from automl_cli.rundata import RunData, open_rundata
from automl_cli.table import read_with_schema
from automl_cli.trial import Pipeline, read_journal
from automl_cli.trialfiles import trial_folder

HEAD = ("run", "rows", "members", "loss", "with repeats", "ratio", "share of seconds")


def other_folds(data: RunData, seed: int) -> list[tuple[Array, Array]]:
    """Deal the validated rows out again, each class (or run of the sorted target) evenly."""
    y, n_folds = np.asarray(data.y), len(data.folds)
    order = np.lexsort((np.random.default_rng(seed).random(len(y)), y))
    fold = np.empty(len(y), dtype=np.int64)
    fold[order] = np.arange(len(y)) % n_folds
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)]


def answers(data: RunData, pipeline: Pipeline, folds: list[tuple[Array, Array]], fresh: Frame, seed: int) -> Array:
    """Fit a pipeline on every fold and predict the new rows, shape (n_folds, n_rows, n_outputs)."""
    y, family, encoding = np.asarray(data.y), find_families()[pipeline.family], ENCODINGS[pipeline.encoding]
    found = []
    for k, (train, valid) in enumerate(folds):
        encoder, matrix = encoding.fit(data.frame.take(train), y[train], data.kind, data.n_outputs, k)
        fold = FoldData(
            kind=data.kind, n_outputs=data.n_outputs, train=matrix, y=y[train], weight=None,
            valid=encoder.transform(data.frame.take(valid)), y_valid=y[valid], weight_valid=None,
            loss=data.metric.loss, metric=data.metric.name,
        )  # fmt: skip
        model = family.fit(fold, pipeline.hyperparameters, Limits(threads=1, seed=seed + k))
        found.append(model.predict(encoder.transform(fresh), 1))
    return np.stack(found)


def compare(run: Path, model: Path, test: str, repeats: int) -> list[str]:
    """Return one row of the table."""
    data = open_rundata(run / "data")
    with open_artifact(model) as artifact:
        manifest = artifact.manifest
    table = read_with_schema(test, manifest.schema, verbatim=(manifest.target,))
    truth, kept = read_truth(table.strings(manifest.target), manifest.target, manifest.classes)
    fresh = frame_from_table(table, manifest.frame_schema).take(kept)
    mixing, seconds = manifest.mixing, 0.0
    totals: list[Any] = [0.0, 0.0]  # arrays, as soon as a member has said something
    for member in manifest.members:
        folder, family = trial_folder(run, member.number), find_families()[member.pipeline.family]
        own = []
        for k in range(len(data.folds)):
            files = folder / f"fold_{k}"
            matrix = ENCODINGS[member.pipeline.encoding].load(files / "encoder").transform(fresh)
            own.append(family.load(files / "model").predict(matrix, 1))
        began = time.process_time()
        more = [
            answers(data, member.pipeline, other_folds(data, seed), fresh, 100 * seed) for seed in range(1, repeats + 1)
        ]
        seconds += time.process_time() - began
        for i, models in enumerate((np.stack(own), np.concatenate([own, *more]))):
            totals[i] = totals[i] + member.weight * mixing.terms(models.mean(axis=0))
    losses = [data.metric.loss(truth, manifest.decision.calibrated(mixing.joined(total)), None) for total in totals]
    spent = sum(trial.seconds for trial in read_journal(run / "journal.jsonl"))
    return [run.name, f"{data.n_rows:,}", str(len(manifest.members)), *(f"{loss:.5g}" for loss in losses),
            f"{losses[1] / losses[0]:.4f}", f"{seconds / spent:.2f}"]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="RUN MODEL TEST", help="run folder, its model file, labelled rows")
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    for run, model, test in zip(args.paths[::3], args.paths[1::3], args.paths[2::3], strict=True):
        print("| " + " | ".join(compare(Path(run), Path(model), test, args.repeats)) + " |", flush=True)


if __name__ == "__main__":
    main()
