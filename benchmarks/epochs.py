"""Which epoch of a network to keep: rules replayed on recorded trainings, alone and in an ensemble beside boosters.

usage: python -m benchmarks.epochs FOLDER --names concrete titanic [--seeds 0 1]

FOLDER holds NAME.csv.gz, and index.json in or beside it says each table's target. A third of the rows judges; on the
others two defaults of `neural`, two of LightGBM, one of XGBoost and one of CatBoost are fitted in eight folds, without
a limit and on one thread. All epochs of the networks are kept, and each rule chooses one per fold by the losses on its
validation rows. Printed are, for each rule, the loss out of fold, that of single folds' networks and of their mean on
the rows that judge; then that of a greedy ensemble, the last of them without networks.
"""

import argparse
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.ensemble import combine, greedy_weights
from automl_cli.families.family import FoldData, Limits
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.matrix import Array
from automl_cli.job import Job
from automl_cli.neural import training
from benchmarks.networks import open_table

N_FOLDS = 8
BOOSTERS = (("lightgbm", 0), ("catboost", 0), ("lightgbm", 1), ("xgboost", 0))
NETWORKS = (("neural", 0), ("neural", 1))


def trailing(losses: Array, n: int) -> int:
    """Return the end of the ``n`` losses in a row with the lowest mean."""
    return int(np.argmin([losses[max(0, end - n) : end].mean() for end in range(1, len(losses) + 1)]))


def spread(losses: Array, n: int) -> int:
    """Return the best of ``n`` epochs that are evenly spread."""
    some = np.unique(np.linspace(0, len(losses) - 1, n + 1).astype(int)[1:])
    return int(some[losses[some].argmin()])


RULES: dict[str, Callable[[Array], int]] = {
    "the lowest": lambda losses: int(losses.argmin()),
    "mean of 5": lambda losses: trailing(losses, 5),
    "mean of 11": lambda losses: trailing(losses, 11),
    "best of 10": lambda losses: spread(losses, 10),
    "the last": lambda losses: len(losses) - 1,
}
ONLY: dict[str, Callable[[Array], int]] = {"": lambda losses: 0}  # of a booster


@contextlib.contextmanager
def recorded() -> Iterator[list[tuple[float, dict[str, Array]]]]:
    """Give the loss and the weights after each epoch of whatever is trained inside."""
    curve: list[tuple[float, dict[str, Array]]] = []
    usual = training._Training

    class Recording(usual):  # type: ignore[valid-type, misc]
        def _validation(self) -> float:
            loss: float = super()._validation()
            curve.append((loss, self.network.weights()))
            return loss

    training._Training = Recording  # type: ignore[misc]
    try:
        yield curve
    finally:
        training._Training = usual  # type: ignore[misc]


def with_weights(model: Any, weights: dict[str, Array]) -> Any:
    """Return a network, or one behind a scaled target, with the weights of another epoch."""
    return (
        replace(model, weights=weights)
        if hasattr(model, "weights")
        else replace(model, model=with_weights(model.model, weights))
    )


def fitted(
    job: Job, family: str, number: int, rows: tuple[Array, Array, Array]
) -> tuple[Array, list[Array], list[Array]]:
    """Fit one fold; return for each epoch (one, for a booster) its loss and what it says of both kinds of rows."""
    train, valid, test = rows
    data, y, chosen = job.data, np.asarray(job.data.y), job.families[family]
    encoder, matrix = ENCODINGS[chosen.encodings[0]].fit(data.frame.take(train), y[train], data.kind, data.n_outputs, 0)
    fold = FoldData(
        kind=data.kind, n_outputs=data.n_outputs, train=matrix, y=y[train], weight=None,
        valid=encoder.transform(data.frame.take(valid)), y_valid=y[valid], weight_valid=None, loss=data.metric.loss,
    )  # fmt: skip
    judging = encoder.transform(data.frame.take(test))
    with recorded() as curve:
        model = chosen.fit(fold, chosen.defaults(job.shape)[number], Limits(1, 0, None))
    models = [with_weights(model, weights) for _, weights in curve] or [model]
    losses = np.array([loss for loss, _ in curve] or [0.0])
    return losses, [m.predict(fold.valid, 1) for m in models], [m.predict(judging, 1) for m in models]


def replay(job: Job, seed: int) -> None:
    """Print what each rule gives on one table."""
    data, y = job.data, np.asarray(job.data.y)
    order = np.random.default_rng(seed).permutation(len(y))
    test, rest = np.sort(order[: len(y) // 3]), np.sort(order[len(y) // 3 :])
    folds = np.random.default_rng(seed + 1).permutation(len(rest)) % N_FOLDS
    said: dict[tuple[str, int, str], tuple[Array, Array]] = {}
    for family, number in (*BOOSTERS, *NETWORKS):
        found = [fitted(job, family, number, (rest[folds != k], rest[folds == k], test)) for k in range(N_FOLDS)]
        for rule, choose in (RULES if family == "neural" else ONLY).items():
            epochs = [choose(losses) for losses, _, _ in found]
            out = np.empty((len(rest), data.n_outputs))
            for k, (_, valid, _) in enumerate(found):
                out[folds == k] = valid[epochs[k]]
            single = [new[epoch] for (_, _, new), epoch in zip(found, epochs, strict=True)]
            said[family, number, rule] = out, np.mean(single, axis=0)
            alone = np.mean([data.metric.loss(y[test], answer, None) for answer in single])
            both = (
                data.metric.loss(y[rest], out, None),
                data.metric.loss(y[test], said[family, number, rule][1], None),
            )
            print(
                f"  {family}:{number} {rule:11} out of fold {both[0]:.5g}, single {alone:.5g}, mean {both[1]:.5g}",
                flush=True,
            )
    for kept in (*RULES, None):
        members = [answers for (family, _, of), answers in said.items() if family != "neural" or of == kept]
        outs, news = np.stack([out for out, _ in members]), np.stack([new for _, new in members])
        weights = greedy_weights(outs, y[rest], data.metric, None, n_picks=40)
        loss = data.metric.loss(y[test], combine(news, weights), None)
        print(
            f"  ensemble, {kept or 'no networks'}: {loss:.5g}, networks weigh {weights[len(BOOSTERS) :].sum():.2f}",
            flush=True,
        )


def main() -> None:
    """Replay the rules on each table and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--names", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    with contextlib.ExitStack() as stack, threadpool_limits(1):
        for name in args.names:
            job = open_table(stack, name, args.folder)
            for seed in args.seeds:
                print(f"{name}, seed {seed}", flush=True)
                replay(job, seed)


if __name__ == "__main__":
    main()
