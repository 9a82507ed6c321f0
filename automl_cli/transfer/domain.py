"""Telling source rows from target rows: cross-fitted log odds, and how well it works."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.features.numeric import LARGEST
from automl_cli.metrics import roc_auc_losses
from automl_cli.transfer.probabilities import STEEPEST

MOST_ROWS = 50_000
"""Of each domain that a classifier is trained on; all others are only predicted."""
BLOCK_ROWS = 100_000
FOLDS = 5
MOST_LEVELS = 255  # of a category, in scikit-learn's histograms
CUT = 5.0  # standard deviations, for steps of a gradient

LogOdds = Callable[[Array], Array]
"""``log_odds(X)``: float64 of shape (n_rows,), of the target over the source, as if both had as many rows."""

Learner = Callable[[Array, Array, tuple[int, ...], int], LogOdds]
"""``learner(X, is_target, categorical, seed)`` learns to tell rows apart, each domain with half of the weight."""


@dataclass(frozen=True, eq=False)
class Domain:
    """How target-like rows are, each by classifiers that have not seen it.

    Attributes
    ----------
    source, target : ndarray of shape (n_source,), (n_target,), float64
        Calibrated log p_T(x) / p_S(x).
    auc : (float, float, float)
        How well the domains are told apart, with a 95 % interval: 0.5 is not at all.
    """

    source: Array
    target: Array
    auc: tuple[float, float, float]


def tell_apart(
    source: Array,
    target: Array,
    *,
    categorical: tuple[int, ...] = (),
    learner: str = "boosted",
    seed: int = 0,
    most_rows: int = MOST_ROWS,
) -> Domain:
    """Estimate log p_T(x) / p_S(x) by a cross-fitted, calibrated domain classifier [1]_.

    The odds of a classifier that gives both domains the same weight are the ratio of their densities [2]_: target over
    source. Trained on up to ``most_rows`` rows of each; rows beyond are predicted in blocks by the mean of the folds'
    models, so that time and memory are linear in them.

    Parameters
    ----------
    source, target : ndarray of shape (n_source, n_features), (n_target, n_features)
        Of columns that both tables have: a column that one lacks tells all. NaN is missing.
    categorical : tuple of int
        Features that hold codes 0, 1, ...; used by ``boosted`` alone.
    learner : str
        A name in `LEARNERS`.

    Notes
    -----
    With fewer than two rows in a domain, or without a column, nothing is known, and all log ratios are zero.

    References
    ----------
    .. [1] Bickel, Brückner and Scheffer, Discriminative learning under covariate shift, JMLR 2009.
    .. [2] Lopez-Paz and Oquab, Revisiting classifier two-sample tests, ICLR 2017.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> old, new = rng.normal(size=(2000, 1)), rng.normal(1, 1, size=(2000, 1))
    >>> found = tell_apart(old, new, learner="logistic")
    >>> bool(found.source[old[:, 0] > 1].min() > 0 > found.source[old[:, 0] < 0].max())
    True
    """
    folds = min(FOLDS, len(source), len(target))
    if folds < 2 or not source.shape[1]:
        return Domain(np.zeros(len(source)), np.zeros(len(target)), (0.5, 0.0, 1.0))
    source, target = finite(source), finite(target)
    rng = np.random.default_rng(seed)
    kept = [_sampled(len(X), most_rows, rng) for X in (source, target)]
    X = np.concatenate([source[kept[0]], target[kept[1]]])
    is_target = np.repeat([False, True], [len(rows) for rows in kept])
    part = np.concatenate([_dealt(source[kept[0]], folds, seed), _dealt(target[kept[1]], folds, seed)])
    models = [LEARNERS[learner](X[part != k], is_target[part != k], categorical, seed) for k in range(folds)]
    raw = np.empty(len(X))
    for k, model in enumerate(models):
        raw[part == k] = model(X[part == k])
    slope, base = calibrate(raw, is_target)
    auc = 1.0 - float(roc_auc_losses(is_target.astype(np.int64), raw[None])[0])
    ratios = []
    for domain, rows, own in zip((source, target), kept, (raw[~is_target], raw[is_target]), strict=True):
        logs = np.empty(len(domain))
        rest = np.setdiff1d(np.arange(len(domain)), rows, assume_unique=True)
        for block in (rest[at : at + BLOCK_ROWS] for at in range(0, len(rest), BLOCK_ROWS)):
            logs[block] = np.mean([model(domain[block]) for model in models], axis=0)
        logs[rows] = own
        ratios.append(slope * logs + base)
    return Domain(ratios[0], ratios[1], auc_interval(auc, len(kept[0]), len(kept[1])))


def calibrate(log_odds: Array, is_target: Array) -> tuple[float, float]:
    """Return slope and base that make probabilities of the log odds true, each domain with half of the weight [1]_.

    Labels are smoothed by one row, and the slope is not negative: log odds that tell nothing apart become zero.

    References
    ----------
    .. [1] Platt, Probabilistic outputs for support vector machines, 1999; Lin, Lin and Weng, 2007.
    """
    n_target, n_source = int(is_target.sum()), int((~is_target).sum())
    label = np.where(is_target, (n_target + 1) / (n_target + 2), 1 / (n_source + 2))
    weight = np.where(is_target, 0.5 / n_target, 0.5 / n_source)
    z = np.clip(log_odds, -STEEPEST, STEEPEST)
    slope, base = _platt(z, label, weight)
    if slope > 0:
        return slope, base
    return 0.0, float(np.log((weight @ label) / (1 - weight @ label)))


def _platt(z: Array, label: Array, weight: Array) -> tuple[float, float]:
    """Minimise the log loss of slope * z + base by Newton's steps, halved until they gain."""
    design = np.column_stack([z, np.ones(len(z))])

    def loss(at: Array) -> float:
        logits = design @ at
        return float(weight @ (np.logaddexp(0.0, logits) - label * logits))

    at = np.array([1.0, 0.0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-np.clip(design @ at, -500, 500)))
        slope = design.T @ (weight * (p - label))
        curve = (design * (weight * p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        size, here = 1.0, loss(at)
        while size > 1e-4 and loss(at - size * step) > here:
            size /= 2
        at = at - size * step
        if np.abs(size * step).max() < 1e-8:
            break
    return float(at[0]), float(at[1])


def auc_interval(auc: float, n_source: int, n_target: int) -> tuple[float, float, float]:
    """Return an AUC with its 95 % interval by Hanley and McNeil's standard error (Radiology, 1982).

    >>> [round(float(x), 3) for x in auc_interval(0.5, 100, 100)]
    [0.5, 0.42, 0.58]
    """
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (n_target - 1) * (q1 - auc**2) + (n_source - 1) * (q2 - auc**2)
    half = 1.96 * float(np.sqrt(max(0.0, variance) / (n_source * n_target)))
    return auc, max(0.0, auc - half), min(1.0, auc + half)


def boosted(X: Array, is_target: Array, categorical: tuple[int, ...], seed: int) -> LogOdds:
    """Learn by few small trees; see `Learner`."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415  (loads slowly)

    used = np.flatnonzero((~np.isnan(X)).any(axis=0))  # scikit-learn refuses a column without a value
    if not len(used):
        return lambda rows: np.zeros(len(rows))
    X = X[:, used]
    coded = [i for i, j in enumerate(used) if j in categorical and np.nanmax(X[:, i]) < MOST_LEVELS]
    model = HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=8, min_samples_leaf=10, learning_rate=0.1, early_stopping=False, random_state=seed,
        categorical_features=coded or None,
    ).fit(X, is_target)  # fmt: skip
    # not by weights of the rows: with them scikit-learn takes far longer to find its bins than to grow the trees
    prior = float(np.log(is_target.sum() / (~is_target).sum()))
    return lambda rows: np.asarray(model.decision_function(rows[:, used]) - prior)


def logistic(X: Array, is_target: Array, categorical: tuple[int, ...], seed: int) -> LogOdds:
    """Learn a weighted sum of the features; exact for normal densities of one covariance; see `Learner`."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    scale = Standard.fit(X)
    model = LogisticRegression(class_weight="balanced", max_iter=200).fit(scale.apply(X), is_target)
    return lambda rows: np.asarray(model.decision_function(scale.apply(rows)))


LEARNERS: Mapping[str, Learner] = MappingProxyType({"boosted": boosted, "logistic": logistic})


def logistic_in_chunks(chunks: Iterable[Array], target: Array, *, seed: int = 0) -> LogOdds:
    """Learn a weighted sum of the features from a source that is never whole in memory.

    One pass of averaged stochastic gradient steps; each chunk meets as many rows of the target.

    Parameters
    ----------
    chunks : iterable of ndarray of shape (any, n_features)
        Source rows in any order that is not sorted.

    Returns
    -------
    LogOdds
        Not cross-fitted: with so many more rows than features it does not matter.
    """
    from sklearn.linear_model import SGDClassifier  # noqa: PLC0415

    rng = np.random.default_rng(seed)
    model = SGDClassifier(
        loss="log_loss", alpha=1e-5, average=True, random_state=seed, learning_rate="adaptive", eta0=0.1
    )
    scale: Standard | None = None
    for chunk in chunks:
        drawn = target[rng.integers(0, len(target), len(chunk))]
        X = np.concatenate([chunk, drawn])
        scale = scale or Standard.fit(X)
        is_target = np.repeat([False, True], len(chunk))
        mixed = rng.permutation(len(X))
        model.partial_fit(np.clip(scale.apply(X[mixed]), -CUT, CUT), is_target[mixed], classes=[False, True])
    if scale is None:
        raise ValueError("a source without rows")
    fitted = scale
    return lambda rows: np.asarray(model.decision_function(np.clip(fitted.apply(rows), -CUT, CUT)))


@dataclass(frozen=True, eq=False)
class Standard:
    """Columns with mean 0 and variance 1; what is missing becomes the mean, what is constant 0."""

    mean: Array
    scale: Array

    @classmethod
    def fit(cls, X: Array) -> "Standard":
        """Learn from rows of shape (n_rows, n_features), NaN where missing."""
        X = finite(X)
        present = ~np.isnan(X)
        n = np.maximum(present.sum(axis=0), 1)
        mean = np.where(present, X, 0.0).sum(axis=0, dtype=np.float64) / n
        variance = (np.where(present, X - mean, 0.0) ** 2).sum(axis=0, dtype=np.float64) / n
        varies = variance > 1e-20 * mean**2
        return cls(mean, np.where(varies & (variance > 0), 1 / np.sqrt(np.where(variance > 0, variance, 1.0)), 0.0))

    def apply(self, X: Array) -> Array:
        """Return float64 of the same shape, without NaN."""
        return np.asarray(np.nan_to_num((finite(X) - self.mean) * self.scale))


def finite(X: Array) -> Array:
    """Pull infinities in to `LARGEST`; NaN stays, and a copy is made only where there are any."""
    return np.clip(X, -LARGEST, LARGEST) if np.isinf(X).any() else X


def _sampled(n_rows: int, most: int, rng: np.random.Generator) -> Array:
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(rng.choice(n_rows, most, replace=False))


def _dealt(X: Array, folds: int, seed: int) -> Array:
    """Deal rows out in the order of a hash of their content, so that their order in a file plays no part."""
    factors: Array = np.random.default_rng(seed).integers(1, 2**63, size=(X.shape[1],), dtype=np.uint64)
    total = np.zeros(len(X), dtype=np.uint64)
    for j in range(X.shape[1]):
        bits = (np.nan_to_num(X[:, j].astype(np.float64)) + 0.0).view(np.uint64)
        total += (bits ^ (bits >> np.uint64(29))) * (factors[j] | np.uint64(1))
    total = (total ^ (total >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    part = np.empty(len(X), dtype=np.int64)
    part[np.argsort(total ^ (total >> np.uint64(33)), kind="stable")] = np.arange(len(X)) % folds
    return part
