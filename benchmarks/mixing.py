"""Ways to weigh trials, judged nested: weights and thresholds on all folds but one, the loss on that one.

automl fit train.csv -t y --metric f1 --trials 12 --run-dir runs/churn
python -m benchmarks.mixing runs/churn --metrics f1 mcc roc_auc
"""

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from automl_cli.calibration import learn_decision
from automl_cli.ensemble import combine, greedy_weights
from automl_cli.members import OofCache, candidates
from automl_cli.metrics import METRICS, Array, Metric
from automl_cli.rundata import open_rundata
from automl_cli.trial import read_journal
from automl_cli.weighing import BY_FOLD

CAPS = (1, 2, 3)


def capped(singles: Array, families: list[str], most: int) -> list[int]:
    """Return the best models of each family, in order."""
    kept: list[int] = []
    for i in np.argsort(singles, kind="stable"):
        if sum(families[j] == families[i] for j in kept) < most:
            kept.append(int(i))
    return sorted(kept)


def recipes(
    metric: Metric, folds: Array, singles: Array, families: list[str]
) -> Iterator[tuple[str, Metric, Array | None, list[int]]]:
    """Yield name, metric that the weights are chosen by, folds to take the mean over, models to choose from."""
    every = list(range(len(singles)))
    usual = folds if metric.name in BY_FOLD else None
    yield "greedy, pooled rows", metric, None, every
    if usual is not None:
        yield "greedy, mean over folds", metric, usual, every
    if metric.needs == "labels":
        yield "greedy by log loss", METRICS["log_loss"], None, every
    for most in CAPS:
        yield f"at most {most} of a family", metric, usual, capped(singles, families, most)


def _without(oof: Array, y: Array, metric: Metric, folds: Array, left_out: tuple[int, int]) -> Array:
    rows = np.flatnonzero(~np.isin(folds, left_out))
    return greedy_weights(oof[:, rows], y[rows], metric, folds=folds[rows] if metric.name in BY_FOLD else None)


def nested(oof: Array, y: Array, metric: Metric, folds: Array, families: list[str]) -> Mapping[str, float]:
    """Return the mean loss over held-out folds of each way."""
    losses: dict[str, list[float]] = {}
    for fold in range(int(folds.max()) + 1):
        seen, held_out = folds != fold, folds == fold
        parts = np.unique(folds[seen], return_inverse=True)[1]
        singles = np.array([metric.loss(y[seen], member[seen], None) for member in oof])
        best = oof[int(np.argmin(singles))]
        losses.setdefault("best alone", []).append(metric.loss(y[held_out], best[held_out], None))
        steady = np.mean([_without(oof, y, metric, folds, (fold, other)) for other in np.unique(folds[seen])], axis=0)
        losses.setdefault("greedy, mean of choices without a fold", []).append(
            metric.loss(y[held_out], combine(oof[:, held_out], steady), None)
        )
        for name, by, scales, pool in recipes(metric, folds[seen], singles, families):
            weights = greedy_weights(oof[pool][:, seen], y[seen], by, folds=scales)
            fresh = combine(oof[pool][:, held_out], weights)
            losses.setdefault(name, []).append(metric.loss(y[held_out], fresh, None))
            if metric.needs != "values" and len(pool) == len(oof):
                mixed = combine(oof[pool][:, seen], weights)
                decision = learn_decision(mixed, y[seen], metric, parts=parts).decision
                decided = decision.judged(decision.calibrated(fresh), metric)
                losses.setdefault(name + ", decided", []).append(metric.loss(y[held_out], decided, None))
    return {name: float(np.mean(of_folds)) for name, of_folds in losses.items()}


def main() -> None:
    """Print mean losses, lower is better."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a kept run folder")
    parser.add_argument("--metrics", nargs="+", default=[], help="default: that of the run")
    options = parser.parse_args()
    data = open_rundata(options.run / "data")
    cache = OofCache(options.run, data)
    pool = [trial for trial in candidates(read_journal(options.run / "journal.jsonl"), cache) if trial.complete]
    families = [trial.proposal.pipeline.family for trial in pool]
    folds = np.repeat(np.arange(len(data.folds)), [len(valid) for _, valid in data.folds])
    oof, y = cache.stack(pool).astype(np.float64), data.validated()[0]
    print(f"{options.run.name}: {len(pool)} models, {len(y):,} rows, {len(data.folds)} folds")
    for name in options.metrics or [data.metric.name]:
        for way, loss in nested(oof, y, METRICS[name], folds, families).items():
            print(f"  {name:18} {way:40} {loss:.5f}")


if __name__ == "__main__":
    main()
