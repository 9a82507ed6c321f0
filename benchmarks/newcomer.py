"""What a family adds to ensembles that were chosen without it, on the trials that `benchmarks.selection` recorded.

python -m benchmarks.newcomer FOLDER RECORDS --family kernel [--defaults 0 1] [--group meta] [--rows 400 1500]

Each draw of RECORDS is drawn again from its table of FOLDER, and the family's defaults are fitted on the same folds.
Their out-of-fold predictions join those of the recorded candidates, the ensemble is chosen again as the program chooses
it, and both are scored on the new rows. The seconds that the family takes from the others in a fit are not counted.
"""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.families import find_families
from automl_cli.families.family import Family, FoldData, Hyperparameters, Limits
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, frame_from_table
from automl_cli.job import Job, choose_families, prepare
from automl_cli.metrics import Array
from automl_cli.options import FitOptions
from automl_cli.runs import open_run
from automl_cli.table import read_table, read_with_schema
from automl_cli.task import TaskKind
from benchmarks.selection import Case, draw, over_parts
from benchmarks.tables import Dataset, find_datasets

SECONDS = 20.0
"""Limit of the recorded fits: it decides how many folds there are."""


def again(dataset: Dataset, case: Case, place: Path, stack: contextlib.ExitStack) -> tuple[Job, Frame]:
    """Lay the draw of a record out as its fit did; return the new rows too.

    Raises
    ------
    ValueError
        The rows are not those of the record: the table has changed, or the limit was another one.
    """
    _, n_rows, seed = case.name.rsplit("-", 2)
    train, test = draw(dataset, int(n_rows), int(seed), place)
    options = FitOptions(
        str(train), dataset.target, place / "never.automl", seconds=SECONDS, task=TaskKind(dataset.task),
        metric=dataset.metric, seed=int(seed),
    )  # fmt: skip
    run = stack.enter_context(open_run(place / "run", stem=case.name, identity=options.identity(), resume=False))
    table = read_table(options.data, target=options.target)
    job = prepare(options, table, choose_families((), ()), run)
    fresh = read_with_schema(str(test), table.schema, verbatim=(dataset.target,))
    if not np.array_equal(job.data.validated()[0], case.y):
        raise ValueError(f"{case.name}: other rows or folds than were recorded")
    return job, frame_from_table(fresh, job.frame_schema)


def fitted(family: Family, hyperparameters: Hyperparameters, job: Job, case: Case, fresh: Frame) -> tuple[Array, Array]:
    """Return out-of-fold predictions, and the mean of the folds' models for the new rows."""
    data, encoding = job.data, ENCODINGS[family.encodings[0]]
    out_of_fold, answers = [], []
    for train, valid in data.folds:
        encoder, matrix = encoding.fit(data.frame.take(train), data.y[train], data.kind, data.n_outputs, 0)
        held_out = encoder.transform(data.frame.take(valid))
        fold = FoldData(
            data.kind, data.n_outputs, matrix, data.y[train], None, held_out, data.y[valid], None, case.metric.loss,
            case.metric.name,
        )  # fmt: skip
        model = family.fit(fold, hyperparameters, Limits(threads=1, seed=0))
        out_of_fold.append(model.predict(held_out, 1))
        answers.append(model.predict(encoder.transform(fresh), 1))
    return np.concatenate(out_of_fold), np.asarray(np.mean(answers, axis=0))


def compare(dataset: Dataset, path: Path, family: Family, defaults: list[int]) -> str:
    """Return a row of the table, and the ratio of losses at its end."""
    case, began = Case(path), time.process_time()
    before = case.score(over_parts(case))
    with contextlib.ExitStack() as stack:
        job, fresh = again(dataset, case, Path(stack.enter_context(tempfile.TemporaryDirectory())), stack)
        choices = family.defaults(job.shape)
        found = [fitted(family, choices[number], job, case, fresh) for number in defaults]
    spent = time.process_time() - began
    alone = min(case.metric.loss(case.truth, answers, None) for _, answers in found)
    best = case.metric.loss(case.truth, case.fresh[int(np.argmin(_losses(case)))], None)
    case.oof = np.concatenate([case.oof, np.stack([oof for oof, _ in found])])
    case.fresh = np.concatenate([case.fresh, np.stack([answers for _, answers in found])])
    weights = over_parts(case)
    share, after = weights[-len(found) :].sum(), case.score(weights)
    return (
        f"| {case.name} | {best:.4g} | {alone:.4g} | {before:.4g} | {share:.2f} | {spent:.1f} | {after / before:.4f} |"
    )


def _losses(case: Case) -> list[float]:
    return [case.metric.loss(case.y, oof, None) for oof in case.oof]


def rows(args: argparse.Namespace) -> Iterator[str]:
    """Yield the table, and what it comes to."""
    datasets, family = find_datasets(args.folder, args.group), find_families()[args.family]
    yield "| draw | best candidate | the family's best | ensemble | weight of the family | seconds | ratio |"
    yield "|---|---|---|---|---|---|---|"
    logs = []
    for path in sorted(args.records.glob("*.npz")):
        name, n_rows, _ = path.stem.rsplit("-", 2)
        if name in datasets and (not args.rows or int(n_rows) in args.rows):
            row = compare(datasets[name], path, family, args.defaults)
            logs.append(np.log(float(row.split("|")[-2])))
            yield row
    n, found = len(logs), np.array(logs)
    error = found.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    yield (
        f"\nratio {np.exp(found.mean()):.4f}, standard error of its logarithm {error:.4f}; better, worse by 0.5 %: "
        f"{(found < -0.005).sum()}, {(found > 0.005).sum()} of {n}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("records", type=Path)
    parser.add_argument("--family", required=True)
    parser.add_argument("--defaults", nargs="+", type=int, default=[0])
    parser.add_argument("--group", default="dev")
    parser.add_argument("--rows", nargs="+", type=int)
    with threadpool_limits(1):
        for row in rows(parser.parse_args()):
            print(row, flush=True)


if __name__ == "__main__":
    main()
