"""How members are weighed where few rows judge them: rules compared on the same trials, scored on new rows.

python -m benchmarks.selection record FOLDER --group meta --names abalone spambase --rows 100 400 --out RECORDS
python -m benchmarks.selection replay RECORDS

`record` draws rows of each table, fits them for some seconds, and keeps of every candidate for the ensemble its
out-of-fold predictions and those of other rows (figures only; what is there is not done again). `replay` weighs the
candidates by each rule on the first and scores the mix on the second: the ratio to the loss of one greedy selection.
"""

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd

from automl_cli.artifact import open_artifact
from automl_cli.ensemble import combine, greedy_weights, measure_gain
from automl_cli.families import find_families
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import frame_from_table
from automl_cli.labels import read_truth
from automl_cli.members import OofCache, candidates, parts_of
from automl_cli.metrics import METRICS, Array
from automl_cli.rundata import open_rundata
from automl_cli.table import read_with_schema
from automl_cli.trial import read_journal
from automl_cli.trialfiles import trial_folder
from automl_cli.weighing import BY_FOLD, steadied
from benchmarks.tables import Dataset, find_datasets

SCORED = 1_500
COLUMNS = ("oof", "y", "folds", "fresh", "truth")


def draw(dataset: Dataset, n_rows: int, seed: int, folder: Path) -> tuple[Path, Path]:
    """Write as many rows to learn from, and others to score on."""
    table = pd.read_csv(dataset.source, dtype=str, keep_default_na=False)
    table = table[table[dataset.target] != ""].sample(frac=1.0, random_state=seed)
    train, test = folder / "train.csv", folder / "test.csv"
    table[:n_rows].to_csv(train, index=False)
    table[n_rows : n_rows + SCORED].to_csv(test, index=False)
    return train, test


def record(dataset: Dataset, n_rows: int, seed: int, seconds: float, out: Path) -> str:
    """Fit a draw and keep the predictions of its candidates."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = draw(dataset, n_rows, seed, folder)
        run, model = folder / "run", folder / "m.automl"
        command = [sys.executable, "-m", "automl_cli", "fit", str(train), "--target", dataset.target]
        command += ["--task", dataset.task, "--metric", dataset.metric, "--time", f"{seconds:g}s", "--seed", str(seed)]
        command += ["--workers", "1", "--run-dir", str(run), "--out", str(model), "--quiet"]
        settings = {**os.environ, "AUTOML_EXPERIENCE": "off", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=settings)
        if done.returncode:
            return done.stderr.strip()[-200:]
        np.savez_compressed(out, allow_pickle=False, **_predictions(run, model, test))
    return "recorded"


def _predictions(run: Path, model: Path, test: Path) -> dict[str, Array]:
    data = open_rundata(run / "data")
    with open_artifact(model) as artifact:
        manifest = artifact.manifest
    table = read_with_schema(str(test), manifest.schema, verbatim=(manifest.target,))
    truth, kept = read_truth(table.strings(manifest.target), manifest.target, manifest.classes)
    fresh = frame_from_table(table, manifest.frame_schema).take(kept)
    cache = OofCache(run, data)
    among = [trial for trial in candidates(read_journal(run / "journal.jsonl"), cache) if trial.complete]
    answers = []
    for trial in among:
        pipeline, own = trial.proposal.pipeline, []
        for k in range(len(data.folds)):
            files = trial_folder(run, trial.proposal.number) / f"fold_{k}"
            matrix = ENCODINGS[pipeline.encoding].load(files / "encoder").transform(fresh)
            own.append(find_families()[pipeline.family].load(files / "model").predict(matrix, 1))
        answers.append(np.mean(own, axis=0))
    y, _ = data.validated()
    folds = np.repeat(np.arange(len(data.folds)), [len(valid) for _, valid in data.folds])
    found = {"oof": cache.stack(among), "y": y, "folds": folds, "fresh": np.stack(answers), "truth": truth}
    return {**found, "metric": np.array(data.metric.name)}


class Case:
    """One draw: predictions of its candidates and what is true."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as kept:
            self.oof, self.y, self.folds, self.fresh, self.truth = (kept[name] for name in COLUMNS)
            self.metric = METRICS[str(kept["metric"])]
        self.name = path.stem
        self.parts = parts_of(self.y, self.folds)
        self.scales = self.folds if self.metric.name in BY_FOLD else None

    def greedy(self, rows: Array | None = None, models: Array | None = None) -> Array:
        """Weigh some of the models on some of the rows, which may repeat."""
        models = np.arange(len(self.oof)) if models is None else models
        rows = np.arange(len(self.y)) if rows is None else rows
        scales = None if self.scales is None else self.scales[rows]
        weights = np.zeros(len(self.oof))
        weights[models] = greedy_weights(self.oof[np.ix_(models, rows)], self.y[rows], self.metric, folds=scales)
        return weights

    def score(self, weights: Array) -> float:
        """Return the loss on the new rows."""
        return float(self.metric.loss(self.truth, combine(self.fresh, weights), None))


def one_selection(case: Case) -> Array:
    """Greedy selection on all rows."""
    return case.greedy()


def best_alone(case: Case) -> Array:
    """The best candidate by itself."""
    weights = np.zeros(len(case.oof))
    weights[int(np.argmin([case.metric.loss(case.y, oof, None) for oof in case.oof]))] = 1.0
    return weights


def over_parts(case: Case) -> Array:
    """The mean of what is chosen without each part of the rows: what the program does up to 2,000 of them."""
    gain = measure_gain(case.oof, case.y, case.metric, parts=case.parts, folds=case.scales)
    if gain is None:
        return case.greedy()
    return steadied(case.greedy(), gain, case.oof, case.y, case.metric, None, folds=case.scales)


def over_draws(case: Case, n: int = 20) -> Array:
    """The mean of what is chosen on draws of the rows with replacement, fold by fold."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        rows = np.concatenate([rng.choice(r, len(r)) for r in _by_fold(case)])
        try:
            found.append(case.greedy(np.sort(rows) if case.scales is None else rows))
        except ValueError:  # a draw of one class
            continue
    return np.asarray(np.mean(found, axis=0)) if found else case.greedy()


def parts_and_all(case: Case) -> Array:
    """The mean of what is chosen without each part, and on all rows."""
    n_parts = len(np.unique(case.parts))
    return np.asarray((n_parts * over_parts(case) + case.greedy()) / (n_parts + 1))


def over_halves(case: Case, n: int = 20) -> Array:
    """The mean of what is chosen on random halves of the rows of each fold."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        rows = np.concatenate([np.sort(rng.choice(r, max(1, len(r) // 2), replace=False)) for r in _by_fold(case)])
        try:
            found.append(case.greedy(rows))
        except ValueError:  # a draw of one class
            continue
    return np.asarray(np.mean(found, axis=0)) if found else case.greedy()


def draws_and_all(case: Case) -> Array:
    """Half by one selection, half the mean over draws of rows."""
    return np.asarray(0.5 * over_draws(case) + 0.5 * case.greedy())


def over_models(case: Case, n: int = 20, share: float = 0.5) -> Array:
    """The mean of what is chosen among draws of the models (Caruana 2006)."""
    rng = np.random.default_rng(0)
    n_models = len(case.oof)
    picks = [np.sort(rng.choice(n_models, max(1, int(share * n_models)), replace=False)) for _ in range(n)]
    return np.asarray(np.mean([case.greedy(models=models) for models in picks], axis=0))


def half_equal(case: Case) -> Array:
    """Half of the weight by one selection, half spread evenly over the best ten."""
    losses = np.array([case.metric.loss(case.y, oof, None) for oof in case.oof])
    even = np.zeros(len(losses))
    even[np.argsort(losses)[:10]] = 1 / min(10, len(losses))
    return np.asarray(0.5 * case.greedy() + 0.5 * even)


def _by_fold(case: Case) -> list[Array]:
    return [np.flatnonzero(case.folds == fold) for fold in np.unique(case.folds)]


RULES: dict[str, Callable[[Case], Array]] = {
    "one selection": one_selection,
    "best alone": best_alone,
    "over parts": over_parts,
    "parts and all": parts_and_all,
    "over draws": over_draws,
    "draws and all": draws_and_all,
    "over halves": over_halves,
    "over models": over_models,
    "half equal": half_equal,
}


def replay(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the rows of a table: per rule the geometric mean of ratios, its error, wins, losses, members."""
    cases = [Case(path) for path in paths]
    losses, sizes = {}, {}
    for name, rule in RULES.items():
        weights = [rule(case) for case in cases]
        losses[name] = np.array([case.score(w) for case, w in zip(cases, weights, strict=True)])
        sizes[name] = np.mean([(w > 0).sum() for w in weights])
    yield "| rule | ratio of losses | standard error of its logarithm | better, worse by 0.5 % | members |"
    yield "|---|---|---|---|---|"
    for name, found in losses.items():
        logs = np.log(found / losses["one selection"])
        error = logs.std(ddof=1) / np.sqrt(len(logs)) if len(logs) > 1 else np.nan
        counts = f"{(logs < -0.005).sum()}, {(logs > 0.005).sum()}"
        yield f"| {name} | {np.exp(logs.mean()):.4f} | {error:.4f} | {counts} | {sizes[name]:.1f} |"


def main() -> None:
    """Record, or replay what was recorded."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    recording = commands.add_parser("record")
    recording.add_argument("folder", type=Path)
    recording.add_argument("--group", default="dev")
    recording.add_argument("--names", nargs="+")
    recording.add_argument("--rows", nargs="+", type=int, default=[100, 400])
    recording.add_argument("--seeds", nargs="+", type=int, default=[0])
    recording.add_argument("--time", type=float, default=20.0)
    recording.add_argument("--out", type=Path, required=True)
    recording.add_argument("--jobs", type=int, default=2, help="fits at once, each with one worker")
    replaying = commands.add_parser("replay")
    replaying.add_argument("records", type=Path)
    args = parser.parse_args()
    if args.command == "replay":
        for row in replay(sorted(args.records.glob("*.npz"))):
            print(row, flush=True)
        return
    args.out.mkdir(parents=True, exist_ok=True)
    datasets = find_datasets(args.folder, args.group)
    cases = itertools.product(args.seeds, args.rows, args.names or datasets)
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = {}
        for seed, n_rows, name in cases:
            path = args.out / f"{name}-{n_rows}-{seed}.npz"
            if not path.exists():
                jobs[path.stem] = pool.submit(record, datasets[name], n_rows, seed, args.time, path)
        for stem, job in jobs.items():
            print(stem, job.result(), flush=True)


if __name__ == "__main__":
    main()
