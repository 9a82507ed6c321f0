"""What defaults of families reach within seconds per fold.

usage: python -m benchmarks.within_seconds FOLDER --names A B [--families catboost:0 lightgbm:0] [--seconds 1 2]

FOLDER holds tables as for the other benchmarks; the training part of their split is used. Losses are of the validation
rows, on which the fit stopped too: root mean squared error, or log loss. Seconds are processor time of one thread:
other programs do not disturb them. A ``c`` stands beside a fit that was cut or made coarser for its limit.
"""

import argparse
import contextlib
import importlib
import pkgutil
import tempfile
import time
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from automl_cli import families
from automl_cli.clock import Deadline
from automl_cli.evaluate import open_run as open_data
from automl_cli.families.family import FoldData, Limits
from automl_cli.job import Job, choose_families, prepare
from automl_cli.metrics import METRICS
from automl_cli.options import FitOptions
from automl_cli.runs import open_run
from automl_cli.table import read_table
from automl_cli.task import TaskKind
from benchmarks.tables import SEED, Dataset, find_datasets, lay_out


class ProcessorSeconds:
    """Makes deadlines of processor time."""

    @staticmethod
    def after(seconds: float | None) -> Deadline:
        return Deadline.after(seconds, clock=time.process_time)


def watch_the_processor() -> None:
    """Give all families deadlines of processor time; the two forests make theirs in a module that they share."""
    for found in pkgutil.iter_modules(families.__path__):
        module = importlib.import_module(f"{families.__name__}.{found.name}")
        if hasattr(module, "Deadline"):
            module.Deadline = ProcessorSeconds  # type: ignore[attr-defined]


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
    return prepare(options, read_table(options.data, target=options.target), choose_families((), ()), run)


def measure(job: Job, chosen: str, seconds: float) -> str:
    """Fit one default on every fold and say what it reached."""
    name, number = chosen.split(":")
    family, data = job.families[name], job.data
    loss = METRICS["rmse" if data.kind is TaskKind.REGRESSION else "log_loss"].loss
    run = open_data(str(job.run.folder))
    losses, spent, cut = [], [], False
    for fold, (train_rows, valid_rows) in enumerate(data.folds):
        encoded = run.encode(family.encodings[0], fold)
        fold_data = FoldData(
            kind=data.kind, n_outputs=data.n_outputs,
            train=encoded.train, y=data.y[train_rows], weight=None,
            valid=encoded.valid, y_valid=data.y[valid_rows], weight_valid=None,
            loss=loss,
        )  # fmt: skip
        began = time.process_time()
        model = family.fit(fold_data, family.defaults(job.shape)[int(number)], Limits(1, SEED, seconds))
        spent.append(time.process_time() - began)
        cut |= model.cut
        losses.append(loss(fold_data.y_valid, model.predict(encoded.valid, 1), None))
    n = len(losses)
    return f"{chosen} {sum(losses) / n:.4g} ({sum(spent) / n:.2f} s{', c' if cut else ''})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="+", required=True)
    parser.add_argument("--families", nargs="+", default=["catboost:0", "lightgbm:0"], help="NAME:NUMBER of a default")
    parser.add_argument("--seconds", nargs="+", type=float, default=[1.0, 2.0], help="per fold")
    parser.add_argument("--group", default="dev")
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--splits", type=Path, default=Path(tempfile.gettempdir()) / "automl-splits")
    args = parser.parse_args()
    watch_the_processor()
    datasets = find_datasets(args.folder, args.group)
    with contextlib.ExitStack() as stack, threadpool_limits(1):
        for name in args.names:
            job = open_table(stack, datasets[name], args)
            for seconds in args.seconds:
                reached = [measure(job, chosen, seconds) for chosen in args.families]
                print(f"{name} {seconds:g} s: {', '.join(reached)}", flush=True)


if __name__ == "__main__":
    main()
