"""Label shift: the classes have other shares in the target, while rows of one class look as they did.

All of it needs a source model's probabilities alone: out-of-fold for source rows, plain for target rows.
"""

from dataclasses import dataclass

import numpy as np

from automl_cli.calibration import softmax
from automl_cli.features.matrix import Array

TINY = 1e-15
EM_ROUNDS = 1_000
MOST_BINS = 10  # of scores, by class, in the test
LEAST_EXPECTED = 5.0
ILL_CONDITIONED = 1e-3


@dataclass(frozen=True, eq=False)
class Offsets:
    """Calibration by ``softmax(log p / temperature + offsets)``."""

    inverse: float
    offsets: Array

    def apply(self, probabilities: Array) -> Array:
        """Return calibrated probabilities."""
        return softmax(self.inverse * np.log(np.clip(probabilities, TINY, 1)) + self.offsets)


@dataclass(frozen=True, eq=False)
class LabelShift:
    """Shares of the classes in both domains.

    Attributes
    ----------
    before, after : ndarray of shape (n_classes,)
        p_S(y) and the estimate of p_T(y).
    calibration : Offsets or None
        What the probabilities go through before they are corrected.
    """

    before: Array
    after: Array
    calibration: Offsets | None = None

    @property
    def weights(self) -> Array:
        """p_T(y) / p_S(y), shape (n_classes,); 1 for a class that the source lacks."""
        return np.where(self.before > 0, self.after / np.where(self.before > 0, self.before, 1.0), 1.0)

    def reversed(self) -> "LabelShift":
        """Return the way back, for true probabilities of the target."""
        return LabelShift(self.after, self.before)

    def correct(self, probabilities: Array) -> Array:
        """Return the probabilities that a source model would give, had it met the target's shares: p w, normalised."""
        true = probabilities if self.calibration is None else self.calibration.apply(probabilities)
        moved = true * self.weights
        return np.asarray(moved / np.maximum(moved.sum(axis=1, keepdims=True), TINY))


def class_shares(y: Array, n_classes: int) -> Array:
    """Return the shares of the classes."""
    return np.bincount(y, minlength=n_classes) / max(1, len(y))


def fit_bbse(source: Array, y: Array, target: Array) -> LabelShift:
    """Estimate the target's shares from a confusion matrix: w = C^-1 m [1]_, by mean probabilities instead of labels.

    C[i, j] is the mean, over the source rows, of p_i where the class is j and of 0 elsewhere; m is the mean of p over
    the target rows. Right for any model, calibrated or not; the noise grows as C comes near to being singular.

    Parameters
    ----------
    source, target : ndarray of shape (n_source, n_classes), (n_target, n_classes)
        Probabilities.
    y : ndarray of shape (n_source,), class indices

    References
    ----------
    .. [1] Lipton, Wang and Smola, Detecting and correcting for label shift with black box predictors, ICML 2018.

    Examples
    --------
    A model that is right in four of five cases says "1" for half of the target; 0.2 + 0.6 q = 0.5.

    >>> right, wrong = np.array([[0.0, 1.0]] * 4), np.array([[1.0, 0.0]])
    >>> source = np.concatenate([1 - right, 1 - wrong, right, wrong])
    >>> fit_bbse(source, np.repeat([0, 1], 5), np.array([[1.0, 0.0], [0.0, 1.0]])).after.round(2)
    array([0.5, 0.5])
    """
    n_classes = source.shape[1]
    joint = np.zeros((n_classes, n_classes))
    np.add.at(joint.T, y, source)
    return bbse_of(class_shares(y, n_classes), joint / len(y), target)


def bbse_of(before: Array, joint: Array, target: Array) -> LabelShift:
    """Estimate the target's shares as `fit_bbse` does, from the source's shares and C alone."""
    there = before > 0
    weights = np.ones(len(before))
    # small singular values carry noise alone: what they would say stays at "no shift"
    away = target.mean(axis=0) - joint.sum(axis=1)
    weights[there] += np.linalg.pinv(joint[:, there], rcond=ILL_CONDITIONED) @ away
    after = np.clip(weights, 0, None) * before
    after = after / after.sum() if after.sum() > 0 else before
    return LabelShift(before, _with_one_more(after, before, len(target)))


def fit_mlls(source: Array, y: Array, target: Array) -> LabelShift:
    """Estimate the target's shares as those under which its rows are likeliest.

    Its noise is less than that of `fit_bbse` where the probabilities are true, and its bias large where they are not.
    So they are first calibrated on the source's rows, with a temperature and one offset per class [1]_.

    References
    ----------
    .. [1] Alexandari, Kundaje and Shrikumar, Maximum likelihood with bias-corrected calibration is hard-to-beat at
       label shift adaptation, ICML 2020.
    """
    calibration = fit_offsets(source, y)
    before = class_shares(y, source.shape[1])
    after = likeliest_shares(calibration.apply(target), before)
    return LabelShift(before, _with_one_more(after, before, len(target)), calibration)


def _with_one_more(after: Array, before: Array, n_rows: int) -> Array:
    """Count one more row, in the source's shares: no class is held to be impossible."""
    return np.asarray((n_rows * after + before) / (n_rows + 1))


def likeliest_shares(probabilities: Array, before: Array) -> Array:
    """Return the shares under which the target's rows are likeliest, by expectation and maximisation [1]_.

    Parameters
    ----------
    probabilities : ndarray of shape (n_target, n_classes)
        True ones, where the classes have the shares ``before``.

    References
    ----------
    .. [1] Saerens, Latinne and Decaestecker, Adjusting the outputs of a classifier to new a priori probabilities,
       Neural Computation 2002.
    """
    ratios = np.where(before > 0, probabilities / np.where(before > 0, before, 1.0), 0.0)
    after = before
    for _ in range(EM_ROUNDS):
        mixed = np.maximum(ratios @ after, TINY)
        moved = after * (ratios / mixed[:, None]).mean(axis=0)
        moved /= max(float(moved.sum()), TINY)
        done = np.abs(moved - after).max() < 1e-9
        after = moved
        if done:
            break
    return after


def fit_offsets(probabilities: Array, y: Array) -> Offsets:
    """Minimise the log loss by Newton's steps: it is convex in the inverse temperature and the offsets.

    A weak pull towards "as they are" keeps them finite where classes are never confused.
    """
    logs = np.log(np.clip(probabilities, TINY, 1))
    n, n_classes = logs.shape
    truth = np.eye(n_classes)[y]
    at = np.concatenate([[1.0], np.zeros(n_classes)])
    pull = np.full(n_classes + 1, 1.0 / n)

    def loss(at: Array) -> float:
        p = softmax(at[0] * logs + at[1:])
        there = np.maximum(p[np.arange(n), y], TINY)
        return float(-np.log(there).mean() + 0.5 * pull @ (at - start) ** 2)

    start = at
    for _ in range(50):
        p = softmax(at[0] * logs + at[1:])
        off = p - truth
        slope = np.concatenate([[(off * logs).sum() / n], off.mean(axis=0)]) + pull * (at - start)
        mean = (p * logs).sum(axis=1, keepdims=True)
        cross = (p * (logs - mean)).mean(axis=0)
        curve = np.empty((n_classes + 1, n_classes + 1))
        curve[0, 0] = (p * (logs - mean) ** 2).sum() / n
        curve[0, 1:] = curve[1:, 0] = cross
        curve[1:, 1:] = np.diag(p.mean(axis=0)) - p.T @ p / n
        step = np.linalg.solve(curve + np.diag(pull), slope)
        size, here = 1.0, loss(at)
        while size > 1e-4 and loss(at - size * step) > here:
            size /= 2
        at = at - size * step
        if np.abs(size * step).max() < 1e-8:
            break
    return Offsets(float(at[0]), at[1:])


@dataclass(frozen=True)
class Plausibility:
    """Whether a mixture of the source's classes explains the target's predictions.

    Attributes
    ----------
    p : float
        Of the hypothesis that it does: label shift is implausible where it is small.
    moved_p : float
        Of the hypothesis that the shares have not changed.
    """

    p: float
    moved_p: float


def label_shift_test(source: Array, y: Array, target: Array) -> Plausibility:
    """Test whether the target's predictions are a mixture of those of the source's classes.

    Under a label shift the target's scores have the distribution sum_j q_j p_S(score | y = j) for some shares q. Scores
    are put into more bins than there are classes, so that not every target fits: the least weighted distance over q
    follows a chi-squared distribution with bins - classes degrees of freedom (the J-test of [1]_, with the noise of
    both samples). How much larger the distance is at the source's shares says whether they have moved.

    References
    ----------
    .. [1] Hansen, Large sample properties of generalized method of moments estimators, Econometrica 1982.
    """
    from scipy.stats import chi2  # noqa: PLC0415  (loads slowly)

    present, y = np.unique(y, return_inverse=True)
    bins_source, bins_target, n_bins = _score_bins(source, target)
    n_classes = len(present)
    if n_bins <= n_classes or n_classes < 2:
        return Plausibility(1.0, 1.0)
    counts = np.zeros((n_bins, n_classes))
    np.add.at(counts, (bins_source, y), 1.0)
    by_class = counts / counts.sum(axis=0)
    seen = np.bincount(bins_target, minlength=n_bins) / len(target)
    before = counts.sum(axis=0) / len(y)
    after, distance = before, 0.0
    for _ in range(5):  # the noise depends on the shares
        after, distance = _least_distance(by_class, seen, after, counts.sum(axis=0), len(target))
    unmoved = _distance(by_class, seen, before, _noise(by_class, before, counts.sum(axis=0), len(target)))
    p = float(chi2.sf(distance, n_bins - n_classes))
    return Plausibility(p, float(chi2.sf(max(0.0, unmoved - distance), n_classes - 1)))


def _score_bins(source: Array, target: Array) -> tuple[Array, Array, int]:
    """Cut each likeliest class at quantiles of its probability; bins of few rows join the one before them."""
    labels = [p.argmax(axis=1) for p in (source, target)]
    tops = [p.max(axis=1) for p in (source, target)]
    bins = [np.zeros(len(p), dtype=np.int64) for p in (source, target)]
    n_bins = 0
    for label in range(source.shape[1]):
        rows = [found == label for found in labels]
        n = min(int(rows[0].sum()) / 2, int(rows[1].sum()))
        cuts = int(np.clip(n / (2 * LEAST_EXPECTED), 1, MOST_BINS)) - 1
        pooled = np.concatenate([top[at] for top, at in zip(tops, rows, strict=True)])
        edges = np.unique(np.quantile(pooled, np.linspace(0, 1, cuts + 2)[1:-1])) if cuts else np.zeros(0)
        for found, top, at in zip(bins, tops, rows, strict=True):
            found[at] = n_bins + np.searchsorted(edges, top[at], side="left")
        n_bins += len(edges) + 1
    totals = sum(np.bincount(found, minlength=n_bins) for found in bins)
    place = np.maximum(np.cumsum(totals >= LEAST_EXPECTED) - 1, 0)
    return place[bins[0]], place[bins[1]], int(place.max()) + 1


def _noise(by_class: Array, shares: Array, n_by_class: Array, n_target: int) -> Array:
    """Covariance of seen - by_class @ shares, without its last bin, which the others settle."""

    def multinomial(p: Array, n: float) -> Array:
        return np.asarray((np.diag(p) - np.outer(p, p)) / n)

    total = multinomial(by_class @ shares, n_target)
    for j, share in enumerate(shares):
        total = total + share**2 * multinomial(by_class[:, j], n_by_class[j])
    return np.asarray(total[:-1, :-1] + 1e-12 * np.eye(len(total) - 1))


def _distance(by_class: Array, seen: Array, shares: Array, noise: Array) -> float:
    off = (seen - by_class @ shares)[:-1]
    return float(off @ np.linalg.solve(noise, off))


def _least_distance(by_class: Array, seen: Array, at: Array, n_by_class: Array, n_target: int) -> tuple[Array, float]:
    """Return the shares of the least distance, with the noise at ``at``, and that distance."""
    noise = _noise(by_class, at, n_by_class, n_target)
    # the last share is what the others leave: by_class @ q = last + (others - last) q'
    design = (by_class[:, :-1] - by_class[:, -1:])[:-1]
    gap = (seen - by_class[:, -1])[:-1]
    weighted = np.linalg.solve(noise, design)
    others = np.linalg.lstsq(weighted.T @ design, weighted.T @ gap, rcond=None)[0]
    shares = np.append(others, 1 - others.sum())
    distance = _distance(by_class, seen, shares, noise)
    # a little outside is noise; the noise itself needs shares
    inside = np.clip(shares, 1e-6, None)
    return np.asarray(inside / inside.sum()), distance
