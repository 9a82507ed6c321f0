"""What a bag of forests loses and saves where each keeps only as many trees as the bag needs.

usage: python -m benchmarks.forests FOLDER --names A B [--families extra_trees random_forest] [--folds 5 8]

FOLDER is laid out as for limits.py. The default forest is fitted on every fold of the training part, and all models of
the bag predict the test part, once with all of their trees and once with those that `Family.thinned` keeps: loss of the
test rows (log loss or root mean squared error), bytes on disk, and processor seconds of predicting, each as a ratio.
"""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.evaluate import open_run
from automl_cli.families.family import FoldData, Limits
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import frame_from_table
from automl_cli.features.matrix import Array
from automl_cli.job import Job
from automl_cli.labels import read_truth
from automl_cli.metrics import METRICS
from automl_cli.table import read_with_schema
from automl_cli.task import TaskKind
from benchmarks.curves import open_table
from benchmarks.tables import SEED, find_datasets, lay_out

HEAD = ("table", "family", "folds", "one forest / bag", "loss", "bytes", "seconds")


def compare(job: Job, test: Path, name: str) -> list[str]:
    """Return one row of the table."""
    family, data, run = job.families[name], job.data, open_run(str(job.run.folder))
    assert family.thinned is not None, f"{name} has no trees to leave out"
    loss = METRICS["rmse" if data.kind is TaskKind.REGRESSION else "log_loss"]
    table = read_with_schema(str(test), job.table.schema, verbatim=(job.task.target,))
    truth, kept = read_truth(table.strings(job.task.target), job.task.target, job.task.classes)
    frame = frame_from_table(table, job.frame_schema).take(kept)
    answers: tuple[list[Array], list[Array]] = ([], [])
    n_bytes, seconds = [0, 0], [0.0, 0.0]
    for fold, (train, valid) in enumerate(data.folds):
        encoded = run.encode(family.encodings[0], fold)
        fold_data = FoldData(
            kind=data.kind, n_outputs=data.n_outputs, train=encoded.train, y=data.y[train], weight=None,
            valid=encoded.valid, y_valid=data.y[valid], weight_valid=None, loss=loss.loss, metric=loss.name,
        )  # fmt: skip
        whole = family.fit(fold_data, family.defaults(job.shape)[0], Limits(threads=1, seed=SEED + fold))
        matrix = ENCODINGS[family.encodings[0]].load(encoded.encoder).transform(frame)
        for k, model in enumerate((whole, family.thinned(whole, len(data.folds)))):
            began = time.process_time()
            answers[k].append(model.predict(matrix, 1))
            seconds[k] += time.process_time() - began
            with tempfile.TemporaryDirectory() as place:
                family.save(model, Path(place))
                n_bytes[k] += sum(file.stat().st_size for file in Path(place).iterdir())
    bags = [loss.loss(truth, np.mean(said, axis=0), None) for said in answers]
    one = float(np.mean([loss.loss(truth, said, None) for said in answers[0]]))
    figures = (one / bags[0], bags[1] / bags[0], n_bytes[1] / n_bytes[0], seconds[1] / seconds[0])
    return [name, str(len(data.folds)), *(f"{figure:.4f}" for figure in figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--group", default="dev")
    parser.add_argument("--names", nargs="*")
    parser.add_argument("--families", nargs="+", default=["extra_trees", "random_forest"])
    parser.add_argument("--folds", dest="many", nargs="+", type=int, default=[5, 8])
    parser.add_argument("--rows", type=int, default=3000)
    parser.add_argument("--splits", type=Path, default=Path(tempfile.gettempdir()) / "automl-splits")
    parser.set_defaults(exclude=[])
    args = parser.parse_args()
    datasets = find_datasets(args.folder, args.group)
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    for name in args.names or datasets:
        for n_folds in args.many:
            args.folds = n_folds
            with contextlib.ExitStack() as stack, threadpool_limits(1):
                job = open_table(stack, datasets[name], args)
                for family in args.families:
                    row = compare(job, lay_out(datasets[name], args.splits) / "test.csv", family)
                    print("| " + " | ".join([name, *row]) + " |", flush=True)


if __name__ == "__main__":
    main()
