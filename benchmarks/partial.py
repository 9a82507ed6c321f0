"""What trials that end early are worth as members: complete trials of kept runs are cut, mixed, and scored on new rows.

automl fit train.csv -t y --time 60s --run-dir runs/churn -o churn.automl
python -m benchmarks.partial runs/churn churn.automl test.csv

Bags are cut after a random fold, or where racing would give them up. The rows show by how many per cent the loss is
above that of a mix of the complete trials alone: on the test rows, by the means of the fold models that are left, and
cross-fitted, with weights chosen without each fold in turn. *As chosen* is a member's weight among those with a
prediction for a row, *by share* the same times its share of finished folds.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automl_cli.artifact import open_artifact
from automl_cli.ensemble import combine, greedy_weights
from automl_cli.families import find_families
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import frame_from_table
from automl_cli.labels import read_truth
from automl_cli.members import OofCache, candidates
from automl_cli.metrics import Array, Metric
from automl_cli.racing import should_stop
from automl_cli.rundata import open_rundata
from automl_cli.table import read_with_schema
from automl_cli.trial import Success, read_journal
from automl_cli.trialfiles import trial_folder
from automl_cli.weighing import BY_FOLD

WAYS = ("any fold, as chosen", "any fold, by share", "half the folds, as chosen", "half the folds, by share")


@dataclass(frozen=True)
class Bags:
    """Complete trials: out-of-fold predictions, and those of every fold's model for the rows of a test.

    Attributes
    ----------
    oof : ndarray of shape (n_models, n_rows, n_outputs)
    fresh : ndarray of shape (n_models, n_folds, n_test_rows, n_outputs)
    spared : ndarray of shape (n_models,)
        The first trial of each family, which is not raced.
    """

    metric: Metric
    oof: Array
    y: Array
    folds: Array
    fresh: Array
    y_fresh: Array
    spared: Array

    def weights(self, oof: Array, pool: Array, rows: Array) -> Array:
        """Weigh the models of ``pool`` on some rows; the others get 0."""
        chosen, scales = np.zeros(len(oof)), self.folds[rows] if self.metric.name in BY_FOLD else None
        some = oof[np.ix_(np.flatnonzero(pool), rows)]
        chosen[pool] = greedy_weights(some, self.y[rows], self.metric, folds=scales)
        return chosen

    def test_loss(self, weights: Array, n_kept: Array) -> float:
        """Return the loss of the fold models that are left, as a saved model would mix them."""
        bags = np.stack([folds[:n].mean(axis=0) for folds, n in zip(self.fresh, n_kept, strict=True)])
        return float(self.metric.loss(self.y_fresh, combine(bags, weights), None))

    def losses(self, n_kept: Array, *, crossed: bool) -> list[list[float]]:
        """Return losses on the test and cross-fitted, each of complete models alone and then of `WAYS`."""
        n_folds = self.fresh.shape[1]
        pools = [n_kept == n_folds, n_kept > 0, 2 * n_kept >= n_folds]
        oof = np.where((self.folds >= n_kept[:, None])[:, :, None], np.nan, self.oof)
        by_pool = [self.weights(oof, pool, np.arange(len(self.y))) for pool in pools]
        found = [[self.test_loss(w, n_kept) for w in _both(by_pool, n_kept / n_folds)], []]
        if crossed:
            held = []
            for fold in range(n_folds):
                seen, rows = np.flatnonzero(self.folds != fold), np.flatnonzero(self.folds == fold)
                share = (n_kept - (fold < n_kept)) / (n_folds - 1)
                ways = _both([self.weights(oof, pool, seen) for pool in pools], share)
                # the whole bags: a member of a model predicts all rows
                held.append([self.metric.loss(self.y[rows], combine(self.oof[:, rows], w), None) for w in ways])
            found[1] = np.mean(held, axis=0).tolist()
        return found


def _both(by_pool: list[Array], share: Array) -> list[Array]:
    alone, *others = by_pool
    return [alone, *(w for chosen in others for w in (chosen, chosen * share / (chosen * share).sum()))]


def read_bags(run: Path, model: Path, test: str) -> Bags:
    """Load the complete trials of a kept run and predict the test rows with each of their models."""
    data = open_rundata(run / "data")
    cache = OofCache(run, data)
    trials = read_journal(run / "journal.jsonl")
    pool = candidates([t for t in trials if isinstance(t, Success) and t.complete], cache)
    with open_artifact(model) as artifact:
        manifest = artifact.manifest
    table = read_with_schema(test, manifest.schema, verbatim=(manifest.target,))
    y, kept = read_truth(table.strings(manifest.target), manifest.target, manifest.classes)
    frame = frame_from_table(table, manifest.frame_schema)
    encoded, fresh = {}, []
    for trial in pool:
        pipeline, folder = trial.proposal.pipeline, trial_folder(run, trial.proposal.number)
        for fold in range(len(data.folds)):
            key, files = (pipeline.encoding, fold), folder / f"fold_{fold}"
            if key not in encoded:
                encoded[key] = ENCODINGS[pipeline.encoding].load(files / "encoder").transform(frame)
            loaded = find_families()[pipeline.family].load(files / "model")
            fresh.append(loaded.predict(encoded[key], 1)[kept])
    folds = np.repeat(np.arange(len(data.folds)), [len(valid) for _, valid in data.folds])
    shaped = np.stack(fresh).reshape(len(pool), len(data.folds), len(y), data.n_outputs)
    oof = cache.stack(pool).astype(np.float64)
    families = [trial.proposal.pipeline.family for trial in pool]
    spared = np.array([family not in families[:k] for k, family in enumerate(families)])
    return Bags(data.metric, oof, data.validated()[0], folds, shaped.astype(np.float64), y, spared)


def raced(bags: Bags) -> Array:
    """Return after how many folds racing would give each model up, were the best one known from the beginning."""
    n_folds = bags.fresh.shape[1]
    parts = [bags.folds == fold for fold in range(n_folds)]
    losses = [[float(bags.metric.loss(bags.y[part], member[part], None)) for part in parts] for member in bags.oof]
    best = min(losses, key=sum)
    stops = [[n for n in range(1, n_folds) if should_stop(mine[:n], best).stop] for mine in losses]
    lost = np.array([min(of_model, default=n_folds) for of_model in stops])
    lost[bags.spared] = n_folds
    lost[losses.index(best)] = n_folds
    return lost


def cuts(n_models: int, n_folds: int, n_cut: int, n_draws: int) -> Iterator[Array]:
    """Yield how many folds each model has finished, ``n_cut`` of them not all."""
    for draw in range(n_draws):
        rng = np.random.default_rng(draw)
        n_kept = np.full(n_models, n_folds)
        n_kept[rng.choice(n_models, n_cut, replace=False)] = rng.integers(1, n_folds, n_cut)
        yield n_kept


def main() -> None:
    """Print the changes, in per cent of the loss; below 0 is better."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="RUN MODEL TEST", help="run folder, its model file, labelled rows")
    parser.add_argument("--draws", type=int, default=16)
    parser.add_argument("--crossed", type=int, default=4, help="draws that are cross-fitted as well")
    options = parser.parse_args()
    print("| run | models | cut | judged on | " + " | ".join(WAYS) + " |")
    print("|---" * (4 + len(WAYS)) + "|")
    for run, model, test in zip(options.paths[::3], options.paths[1::3], options.paths[2::3], strict=True):
        bags = read_bags(Path(run), Path(model), test)
        n_models, n_folds = bags.fresh.shape[:2]
        ways = {str(n): list(cuts(n_models, n_folds, n, options.draws)) for n in (2, n_models // 2)}
        lost = raced(bags)
        for cut, drawn in {**ways, f"{(lost < n_folds).sum()} by racing": [lost]}.items():
            found = [bags.losses(n_kept, crossed=draw < options.crossed) for draw, n_kept in enumerate(drawn)]
            for k, judged in enumerate(("test", "cross-fit")):
                losses = np.array([each[k] for each in found if each[k]])
                # of the mean losses: a draw that is nearly without one would decide a mean of ratios alone
                changes = 100 * (losses.mean(axis=0)[1:] / losses.mean(axis=0)[0] - 1)
                cells = " | ".join(f"{change:+.2f}" for change in changes)
                print(f"| {Path(run).name} | {n_models} | {cut} | {judged} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
