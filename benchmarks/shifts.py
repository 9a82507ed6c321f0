"""What each way of transfer gains on simulated shifts whose answer is known, beside what labels in the target would.

    python -m benchmarks.shifts [--seeds 5] [--sizes 1000x5 400x10] [--learners linear trees]

Tables of two classes are drawn from a seed: a source with labels, a target of half as many rows, and 2,000 target rows
that are scored by log loss. The oracle is fitted on as many labelled target rows as the source has. For each kind of
shift, learner and method this prints how much less the mean loss is than without it, the share of the oracle's gain,
and the 5th percentile of the gain over all draws: negative is harm.

without labels in the target ("none" is a model of the source)
  covariate   rows from another part of the space, which means the same there
  label       the classes have other shares
  map         the columns are measured otherwise: mixed, scaled and moved
with 40 labels in the target ("none" is a model of these)
  concept     two of the columns count otherwise
  same        no shift at all, but few labels
"""

import argparse
import functools
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from automl_cli.metrics import METRICS, Array, TaskKind
from automl_cli.transfer.align import fit_coral, fit_quantile_map, fit_subspace
from automl_cli.transfer.boost import tradaboost
from automl_cli.transfer.density import mean_one, ratio_weights, worth_weighting
from automl_cli.transfer.domain import tell_apart
from automl_cli.transfer.judge import (
    circular_losses,
    fold_losses,
    judge_label_shift,
    judge_with_labels,
    judge_without_labels,
    repeated_folds,
    row_losses,
    weighted_gain,
)
from automl_cli.transfer.kernels import kliep_weights, kmm_weights
from automl_cli.transfer.labels import fit_bbse, fit_mlls
from automl_cli.transfer.learner import Fit
from automl_cli.transfer.probabilities import raw_outputs
from automl_cli.transfer.selftrain import self_train
from automl_cli.transfer.shift import FAR, Shift, Side, find_shift
from automl_cli.transfer.source import cross_fitted, cross_fitted_with, fit_recalibration

KIND = TaskKind.BINARY
N_TEST = 2_000
N_LABELLED = 40
loss = METRICS["log_loss"].loss


Model = Callable[[Array], Array]
Learner = Callable[[Array, Array, Array | None], Model]


@dataclass(frozen=True)
class Way:
    """A candidate without labels: how source rows are moved and weighted, and what is done to the probabilities."""

    X: Array
    weights: Array | None = None
    correct: Callable[[Array], Array] = lambda p: p
    undo: Callable[[Array], Array] | None = None
    scored_by: Array | None = None  # weights of the source rows when they stand for the target's


@dataclass(frozen=True)
class Draw:
    """A source (X, y), a target (Z, z) whose labels are mostly unseen, rows to score, and what the oracle has."""

    X: Array
    y: Array
    Z: Array
    z: Array
    test: Array
    truth: Array
    more: Array
    more_truth: Array

    @functools.cached_property
    def told(self) -> dict[str, Shift]:
        """Which shift it is held to be, by learner."""
        return {name: self.shift_by(learner) for name, learner in LEARNERS.items()}

    def shift_by(self, learner: Learner) -> Shift:
        home, away = both_sides(self, learner)
        names = [str(j) for j in range(self.X.shape[1])]
        return find_shift(Side(self.X, self.y, home), Side(self.Z, outputs=away), kind=KIND, names=names)

    @functools.cached_property
    def moves(self) -> dict[str, Way]:
        """What does not depend on a learner."""
        apart = tell_apart(self.X, self.Z)
        full = ratio_weights(apart)
        return {
            "weights, boosted": Way(self.X, full, scored_by=full),
            "weights, boosted, flattened by 0.5": Way(self.X, ratio_weights(apart, gamma=0.5), scored_by=full),
            "weights, logistic": Way(self.X, ratio_weights(tell_apart(self.X, self.Z, learner="logistic"))),
            "weights, KLIEP": Way(self.X, kliep_weights(self.X, self.Z)),
            "weights, KMM": Way(self.X, kmm_weights(self.X, self.Z)),
            "CORAL": Way(fit_coral(self.X, self.Z).move(self.X)),
            "quantile map": Way(fit_quantile_map(self.X, self.Z).move(self.X)),
        }


def linear(X: Array, y: Array, weights: Array | None = None) -> Model:
    model = make_pipeline(StandardScaler(), LogisticRegression())
    predict: Model = model.fit(X, y, logisticregression__sample_weight=weights).predict_proba
    return predict


def trees(X: Array, y: Array, weights: Array | None = None) -> Model:
    model = HistGradientBoostingClassifier(
        max_iter=40, max_leaf_nodes=6, min_samples_leaf=10, max_bins=31, early_stopping=False
    )
    predict: Model = model.fit(X, y, sample_weight=weights).predict_proba
    return predict


LEARNERS: dict[str, Learner] = {"linear": linear, "trees": trees}


def drawn_labels(logits: Array, rng: np.random.Generator) -> Array:
    return (rng.random(len(logits)) < 1 / (1 + np.exp(-logits))).astype(np.int64)


def draw(kind: str, n: int, d: int, seed: int) -> Draw:
    """Draw tables of one kind of shift; how strong it is varies with the seed."""
    rng = np.random.default_rng([seed, n, d])
    strength = rng.uniform(0.5, 1.5)
    slopes = rng.normal(size=d) / np.sqrt(d)
    others = slopes.copy()
    others[:2] *= -1
    mix = np.eye(d) + 0.4 * strength * rng.normal(size=(d, d)) / np.sqrt(d)
    scale, move = np.exp(0.5 * strength * rng.normal(size=d)), strength * rng.normal(size=d)
    share = 0.5 + 0.3 * strength * rng.choice([-1, 1])

    def rows(m: int, there: bool) -> tuple[Array, Array]:
        if kind == "label":
            y = (rng.random(m) < (share if there else 0.5)).astype(np.int64)
            return rng.normal(size=(m, d)) + 1.5 * y[:, None] * slopes / np.linalg.norm(slopes), y
        X = rng.normal(size=(m, d))
        if kind == "covariate":
            if there:
                X[:, 0] = 0.6 * X[:, 0] + strength
            return X, drawn_labels(1.5 * X[:, 0] ** 2 - 1.5 + 2 * X @ slopes, rng)
        if kind == "map":
            y = drawn_labels(4 * X @ slopes + X[:, 0] * X[:, 1], rng)
            return (X @ mix * scale + move if there else X), y
        count = others if there and kind == "concept" else slopes
        return X, drawn_labels(4 * X @ count, rng)

    parts = [rows(n, False), rows(n // 2, True), rows(N_TEST, True), rows(n, True)]
    return Draw(*(array for part in parts for array in part))


def ways(d: Draw, learner: Learner) -> dict[str, Way]:
    home, away = both_sides(d, learner)
    bbse, mlls = fit_bbse(home, d.y, away), fit_mlls(home, d.y, away)
    by_label = mean_one(mlls.weights[d.y] + 1e-9)
    return {
        **d.moves,
        "label shares, BBSE": Way(d.X, correct=bbse.correct),
        "label shares, MLLS": Way(d.X, correct=mlls.correct, undo=mlls.reversed().correct, scored_by=by_label),
    }


def both_sides(d: Draw, learner: Learner) -> tuple[Array, Array]:
    """Return probabilities of source and target rows, by the same models, none of which has seen the row."""
    table = np.concatenate([d.X, d.Z])
    source, target = np.arange(len(d.X)), np.arange(len(d.X), len(table))
    return cross_fitted_with(fit_of(table, d.y, learner), source, target)


JUDGED = {"label": ("label shares, MLLS",), "covariate": ("weights, boosted, flattened by 0.5",)}
"""What a fit chooses from, see `automl_cli.shifted`."""


def judged(d: Draw, learner: Learner, found: dict[str, Way]) -> Way:
    """Return the way, of those that suit the kind of shift, that both scores find better than none; or none."""
    n, n_target = len(d.X), len(d.Z)
    shift = d.told[learner.__name__]
    suitable = [name for kind in shift.kinds for name in JUDGED[kind]]
    full = found["weights, boosted"].weights
    if shift.domain_auc[0] > FAR or (full is not None and not worth_weighting(full)):
        suitable = [name for name in suitable if not name.startswith("weights")]
    none = Way(d.X)
    labels = np.concatenate([d.y, np.zeros(n_target, dtype=np.int64)])

    def scores(way: Way) -> tuple[Array, Array]:
        table = np.concatenate([way.X, d.Z])

        def fit(at: Array, y: Array, w: Array) -> Model:
            if len(np.unique(y)) < 2:
                return lambda to: np.tile(np.eye(2)[y[0]] * 0.98 + 0.01, (len(to), 1))
            model = learner(table[at], y, w)
            return lambda to: model(table[to])

        source, target = np.arange(n), np.arange(n, n + n_target)
        weights = np.ones(n) if way.weights is None else way.weights
        home = way.correct(cross_fitted(lambda at, w: fit(at, labels[at], w), source, weights))
        away = way.correct(fit(source, d.y, weights)(target))
        circle = circular_losses(away, d.y, fit, source=source, target=target, kind=KIND, undo=way.undo)
        return row_losses(d.y, home, KIND), circle

    before, circle = scores(none)
    best, gain = none, 0.0
    for name in suitable:
        way = found[name]
        own, own_circle = scores(way)
        assert way.scored_by is not None
        weighted = weighted_gain(before, own, way.scored_by)
        circular = weighted_gain(circle, own_circle, way.scored_by)
        by_label = name == "label shares, MLLS"
        verdict = judge_label_shift(shift.kinds, weighted) if by_label else judge_without_labels(circular, weighted)
        if verdict.accepted and weighted.mean > gain:
            best, gain = way, weighted.mean
    return best


def without_labels(d: Draw, learner: Learner) -> Iterator[tuple[str, Array]]:
    found = ways(d, learner)
    yield "none", learner(d.X, d.y, None)(d.test)
    for name, way in [*found.items(), ("judged", judged(d, learner, found))]:
        yield name, way.correct(learner(way.X, d.y, way.weights)(d.test))
    subspace = fit_subspace(d.X, d.Z)
    yield "subspace alignment", learner(subspace.of_source(d.X), d.y, None)(subspace.of_target(d.test))
    yield "oracle", learner(d.more, d.more_truth, None)(d.test)


Few = Callable[[Array, Array, Array], Array]  # target rows, their labels, rows to predict -> probabilities


def few_label_ways(d: Draw, learner: Learner) -> dict[str, Few]:
    source = learner(d.X, d.y, None)
    home = raw_outputs(cross_fitted(fit_of(d.X, d.y, learner), np.arange(len(d.X))), KIND)

    def raw(rows: Array) -> Array:
        return raw_outputs(source(rows), KIND)

    def with_raw(rows: Array) -> Array:
        return np.hstack([rows, raw(rows)])

    def pooled(X: Array, view: Callable[[Array], Array], weight: float) -> Few:
        def way(Z: Array, z: Array, rows: Array) -> Array:
            weights = mean_one(np.repeat([1.0, weight], [len(X), len(Z)]))
            return learner(np.concatenate([X, view(Z)]), np.concatenate([d.y, z]), weights)(view(rows))

        return way

    def boosted(Z: Array, z: Array, rows: Array) -> Array:
        table, y = np.concatenate([d.X, Z, rows]), np.concatenate([d.y, z])
        found = tradaboost(fit_of(table, y, learner), y, np.arange(len(y)) < len(d.X))
        return found.predict(np.arange(len(y), len(table)))

    return {
        "none": lambda Z, z, rows: learner(Z, z, None)(rows),
        "source alone": lambda Z, z, rows: source(rows),
        "pooled": pooled(d.X, lambda rows: rows, 1.0),
        "pooled, target rows count tenfold": pooled(d.X, lambda rows: rows, 10.0),
        "source recalibrated": lambda Z, z, rows: fit_recalibration(raw(Z), z, KIND).predict(raw(rows)),
        "source as a feature": lambda Z, z, rows: learner(with_raw(Z), z, None)(with_raw(rows)),
        "pooled, source as a feature": pooled(np.hstack([d.X, home]), with_raw, 1.0),
        "TrAdaBoost": boosted,
    }


JUDGED_FEW = ("pooled", "pooled, target rows count tenfold", "source recalibrated", "source as a feature")


def with_few_labels(d: Draw, learner: Learner) -> Iterator[tuple[str, Array]]:
    Z, z = d.Z[:N_LABELLED], d.z[:N_LABELLED]
    found = few_label_ways(d, learner)
    outputs = {name: way(Z, z, d.test) for name, way in found.items()}
    yield from outputs.items()
    folds = repeated_folds(z, KIND, folds=5, repeats=2)

    def losses(name: str) -> list[float]:
        made = [found[name](Z[train], z[train], Z[valid]) for train, valid in folds]
        return fold_losses(z, made, folds, loss)

    before = losses("none")
    best, gain = "none", 0.0
    for name in JUDGED_FEW:
        verdict = judge_with_labels(before, losses(name), folds)
        if verdict.accepted and verdict.gains["folds"].mean > gain:
            best, gain = name, verdict.gains["folds"].mean
    yield "judged", outputs[best]

    def fit(at: Array, y: Array, w: Array) -> Model:
        model = learner(table[at], y, w)
        return lambda to: model(table[to])

    table = np.concatenate([d.Z, d.test])
    predict = self_train(fit, np.arange(N_LABELLED), z, np.arange(N_LABELLED, len(d.Z)))
    yield "self-training, no source", predict(np.arange(len(d.Z), len(table)))
    yield "oracle", learner(d.more, d.more_truth, None)(d.test)


def fit_of(table: Array, y: Array, learner: Learner) -> Fit:
    def fit(at: Array, weights: Array) -> Model:
        model = learner(table[at], y[at], weights)
        return lambda to: model(table[to])

    return fit


SETTINGS = {
    "covariate": without_labels,
    "label": without_labels,
    "map": without_labels,
    "concept": with_few_labels,
    "same": with_few_labels,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", nargs="+", default=["1000x5", "400x10"], help="source rows x columns")
    parser.add_argument("--learners", nargs="+", choices=LEARNERS, default=list(LEARNERS))
    parser.add_argument("--kinds", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    options = parser.parse_args()
    began = time.process_time()
    for kind in options.kinds:
        losses: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in options.learners}
        told: dict[str, Counter[str]] = {name: Counter() for name in options.learners}
        for size, seed in itertools.product(options.sizes, range(options.seeds)):
            n_rows, n_columns = map(int, size.split("x"))
            d = draw(kind, n_rows, n_columns, seed)
            with threadpool_limits(1):
                for name in options.learners:
                    for way, outputs in SETTINGS[kind](d, LEARNERS[name]):
                        losses[name][way].append(loss(d.truth, outputs, None))
                    if SETTINGS[kind] is without_labels:
                        told[name][" and ".join(d.told[name].kinds) or "none"] += 1
        for name in options.learners:
            print_table(kind, name, {way: np.array(values) for way, values in losses[name].items()})
            if told[name]:
                print(f"\nheld to be: {', '.join(f'{kind} {n}' for kind, n in told[name].most_common())}")
    print(f"\n{time.process_time() - began:.0f} seconds of one core")


def print_table(kind: str, learner: str, losses: dict[str, Array]) -> None:
    none, oracle = losses.pop("none"), losses["oracle"]
    print(
        f"\n{kind}, {learner}: loss without {none.mean():.3f}, of the oracle {oracle.mean():.3f}, {len(none)} draws\n"
    )
    print("| method | loss less by | of the oracle's gain | 5th percentile |\n|---|---|---|---|")
    for way, values in losses.items():
        worst = np.percentile((none - values) / none, 5)
        share = (none - values).mean() / (none - oracle).mean()
        print(f"| {way} | {1 - values.mean() / none.mean():+.1%} | {share:+.2f} | {worst:+.1%} |")


if __name__ == "__main__":
    main()
