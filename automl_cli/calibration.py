"""What is made of mixed predictions: calibrated probabilities, and labels that serve the metric."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from automl_cli.metrics import Array, Metric
from automl_cli.thresholds import class_multipliers, prior_multipliers

__all__ = [
    "PLAIN",
    "Decision",
    "Learned",
    "Moved",
    "at_thresholds",
    "decision_of_one",
    "fit_temperature",
    "gains_surely",
    "learn_decision",
    "shares_of",
    "softmax",
    "spread_rows",
]

# Metrics that a change of temperature serves: they are best where the probabilities are the true ones.
PROPER = ("log_loss", "brier")
# of the rows in a search for thresholds, times the classes; a temperature needs a quarter, both at least so many rows
_MAX_CELLS = 100_000
_FEWEST_ROWS = 5_000
_MAX_JUDGED_CELLS = 1_000_000
# with more, one multiplier for each of them would need more time, and more rows of each, than there are
_MOST_TUNED_CLASSES = 12
_HOTTEST = 10.0
_FEW_CLASSES = 32
_TINY = 1e-15


@dataclass(frozen=True)
class Moved:
    """Other shares of the classes than in training: ``softmax(inverse * log p + offsets)``.

    Attributes
    ----------
    inverse : float
        Of a temperature, learned with the offsets.
    offsets : tuple of float
        Of the classes: logarithms of the new shares over the old ones, and what calibration takes.

    Examples
    --------
    >>> Moved(1.0, (0.0, float(np.log(3.0)))).applied(np.array([[0.75, 0.25]]))
    array([[0.5, 0.5]])
    """

    inverse: float
    offsets: tuple[float, ...]

    def applied(self, probabilities: Array) -> Array:
        """Return probabilities under the new shares, of the same shape."""
        return softmax(self.inverse * _logs(probabilities) + np.asarray(self.offsets))

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {"inverse": self.inverse, "offsets": list(self.offsets)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Moved":
        """Return what `to_json` was given."""
        return cls(float(data["inverse"]), tuple(float(value) for value in data["offsets"]))


@dataclass(frozen=True)
class Decision:
    """How probabilities are calibrated, and which class they speak for.

    Attributes
    ----------
    temperature : float
        Logarithms of the probabilities are divided by it: above 1 they become less sure [1]_.
    multipliers : tuple of float
        The label is the class whose probability times its multiplier is largest; empty: the likeliest class. Of two
        classes it is a threshold: positive above ``multipliers[0] / sum(multipliers)``.
    moved : Moved or None
        Follows the temperature, where the model is for rows in which the classes have other shares.

    References
    ----------
    .. [1] Guo et al., On calibration of modern neural networks, ICML 2017.

    Examples
    --------
    >>> Decision(temperature=2.0).calibrated(np.array([[0.9, 0.1]])).round(2)
    array([[0.75, 0.25]])
    >>> Decision(multipliers=(0.5, 2.0)).deciding(np.array([[0.7, 0.3]])).argmax(axis=1)
    array([1])
    """

    temperature: float = 1.0
    multipliers: tuple[float, ...] = ()
    moved: Moved | None = None

    def calibrated(self, outputs: Array) -> Array:
        """Return probabilities at this temperature and these shares, shape (n_rows, n_classes) as given."""
        if self.temperature != 1.0:
            outputs = softmax(_logs(outputs) / self.temperature)
        return outputs if self.moved is None else self.moved.applied(outputs)

    def deciding(self, probabilities: Array) -> Array:
        """Return what has its largest value at the label, shape (n_rows, n_classes); no probabilities."""
        return probabilities * np.asarray(self.multipliers) if self.multipliers else probabilities

    def judged(self, probabilities: Array, metric: Metric) -> Array:
        """Return what a metric is to look at: what decides for metrics of labels, else the probabilities."""
        return self.deciding(probabilities) if metric.needs == "labels" else probabilities

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        moved = {} if self.moved is None else {"moved": self.moved.to_json()}
        return {"temperature": self.temperature, "multipliers": list(self.multipliers), **moved}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Decision":
        """Return what `to_json` was given."""
        moved = data.get("moved")
        return cls(
            float(data["temperature"]),
            tuple(float(value) for value in data["multipliers"]),
            None if moved is None else Moved.from_json(moved),
        )


PLAIN = Decision()


@dataclass(frozen=True)
class Learned:
    """A decision, and those that stand in for it where it is to be judged.

    Attributes
    ----------
    by_part : tuple of Decision
        For each part of the rows what was learned on the others.
    """

    decision: Decision
    by_part: tuple[Decision, ...]

    def judged(self, probabilities: Array, metric: Metric, parts: Array) -> Array:
        """Return what the metric is to look at, each row decided by what was learned without its part."""
        if self.decision == PLAIN:
            return probabilities
        judged = np.empty(probabilities.shape)
        for part, decision in enumerate(self.by_part):
            rows = parts == part
            judged[rows] = decision.judged(decision.calibrated(probabilities[rows]), metric)
        return judged


def learn_decision(
    probabilities: Array, y: Array, metric: Metric, weight: Array | None = None, *, parts: Array
) -> Learned:
    """Learn a temperature or multipliers where they gain on rows that they were not learned from.

    Each way is learned on all parts but one and judged on that one. It is taken where its mean gain over the parts is
    larger than its standard error; a way with more parameters must gain so much over the simpler one.
    The decision is the mean of those of the parts, which varies less than one that is learned on all rows.

    Parameters
    ----------
    probabilities : ndarray of shape (n_rows, n_classes)
        Out-of-fold, mixed.
    y : ndarray of shape (n_rows,), class indices
    parts : ndarray of shape (n_rows,)
        The part of each row, from 0 on without a gap: folds, where there are several.

    Notes
    -----
    Log loss and Brier score are given a temperature, metrics of labels multipliers of the classes, all others nothing.
    Accuracy is served best by the likeliest class, and has no part in this.
    Of many rows a sample with all classes in their shares is looked at.
    """
    n_parts, n_classes = int(parts.max()) + 1, probabilities.shape[1]
    plain = Learned(PLAIN, (PLAIN,) * n_parts)
    ways = _ways(metric, n_classes)
    if not ways or n_parts < 2:
        return plain
    rows = spread_rows(y, _MAX_JUDGED_CELLS // n_classes)
    p, y, parts = probabilities[rows], y[rows], parts[rows]
    weight = None if weight is None else weight[rows]
    kept, before = plain, _part_losses(plain, p, y, metric, weight, parts)
    for way, most_rows in ways:
        tried = _cross_fit(way, p, y, metric, weight, parts=parts, rows=spread_rows(y, most_rows))
        losses = _part_losses(tried, p, y, metric, weight, parts)
        if gains_surely(before, losses):
            kept, before = tried, losses
    decided = kept.decision.judged(kept.decision.calibrated(p), metric)
    return kept if metric.loss(y, decided, weight) < metric.loss(y, p, weight) else plain


def at_thresholds(outputs: Array, y: Array, metric: Metric, weight: Array | None = None) -> Array:
    """Return what a metric is to look at where one trial is compared with others, of the same shape.

    A metric of labels sees them at multipliers that were learned on these very rows, with one parameter: a model is
    used at its own, and F1 of a rare class is 0 for whatever never says 0.5. That flatters each trial a little, and all
    alike.

    Parameters
    ----------
    outputs : ndarray of shape (n_rows, n_outputs)
        Probabilities, where the metric is one of classes.
    y : ndarray of shape (n_rows,)
    """
    return decision_of_one(outputs, y, metric, weight).judged(outputs, metric)


def decision_of_one(outputs: Array, y: Array, metric: Metric, weight: Array | None = None) -> Decision:
    """Return the decision of `at_thresholds`, for other predictions of the same model."""
    if metric.of_tables is None:
        return PLAIN
    way, most_rows = _ways(metric, outputs.shape[1])[0]
    rows = spread_rows(y, most_rows)
    return way(outputs[rows], y[rows], metric, None if weight is None else weight[rows])


Way = Callable[[Array, Array, Metric, Array | None], Decision]


def _ways(metric: Metric, n_classes: int) -> tuple[tuple[Way, int], ...]:
    """Return the ways to decide that serve a metric with the rows they need, those with fewer parameters first."""
    if metric.name in PROPER:
        return ((_by_temperature, max(_FEWEST_ROWS, _MAX_CELLS // (4 * n_classes))),)
    if metric.of_tables is None:
        return ()
    n_rows = max(_FEWEST_ROWS, _MAX_CELLS // n_classes)
    if n_classes == 2:
        return ((_by_class, n_rows),)
    return ((_by_prior, n_rows), (_by_class, n_rows))[: 2 if n_classes <= _MOST_TUNED_CLASSES else 1]


def _by_temperature(p: Array, y: Array, metric: Metric, weight: Array | None) -> Decision:
    return Decision(temperature=fit_temperature(p, y, weight))


def _by_prior(p: Array, y: Array, metric: Metric, weight: Array | None) -> Decision:
    return _of_logs(prior_multipliers(_logs(p), y, metric, weight))


def _by_class(p: Array, y: Array, metric: Metric, weight: Array | None) -> Decision:
    return _of_logs(class_multipliers(_logs(p), y, metric, weight))


def _of_logs(logs: Array) -> Decision:
    return Decision(multipliers=tuple(float(value) for value in np.exp(logs - logs.mean())))


def _cross_fit(
    way: Way, p: Array, y: Array, metric: Metric, weight: Array | None, *, parts: Array, rows: Array
) -> Learned:
    """Learn without each part in turn, and take the mean."""
    decisions = []
    for part in range(int(parts.max()) + 1):
        seen = rows[parts[rows] != part]
        decisions.append(way(p[seen], y[seen], metric, None if weight is None else weight[seen]))
    temperature = float(np.exp(np.mean([np.log(d.temperature) for d in decisions])))
    if not decisions[0].multipliers:
        return Learned(Decision(temperature), tuple(decisions))
    return Learned(_of_logs(np.mean([np.log(d.multipliers) for d in decisions], axis=0)), tuple(decisions))


def _part_losses(
    learned: Learned, p: Array, y: Array, metric: Metric, weight: Array | None, parts: Array
) -> tuple[float, ...]:
    """Return the loss of each part, decided by what was learned on the others."""
    judged = learned.judged(p, metric, parts)
    masks = [parts == part for part in range(len(learned.by_part))]
    return tuple(float(metric.loss(y[m], judged[m], None if weight is None else weight[m])) for m in masks)


def gains_surely(before: tuple[float, ...], after: tuple[float, ...]) -> bool:
    """Whether the mean gain is larger than its standard error over the parts, whose losses these are."""
    gains = np.subtract(before, after)
    return bool(gains.mean() > max(0.0, gains.std(ddof=1) / np.sqrt(len(gains))))


def fit_temperature(probabilities: Array, y: Array, weight: Array | None = None) -> float:
    """Return the temperature with the least log loss, between 0.1 and 10, as if one more row were of any class.

    Without that row, classes that were never confused would get probabilities of 1, and the first mistake among new
    rows would cost more than all else gained.

    The log loss is convex in the temperature's inverse, so that Newton's steps, kept between the bounds that the signs
    of the slopes leave, end in a few rounds.

    Parameters
    ----------
    probabilities : ndarray of shape (n_rows, n_classes)
    y : ndarray of shape (n_rows,), class indices

    Examples
    --------
    Probabilities that say 0.9 and are right in three of four cases become 0.75.

    >>> p, y = np.array([[0.9, 0.1]] * 4_000), np.array([0, 0, 0, 1] * 1_000)
    >>> round(fit_temperature(p, y), 2)
    2.0
    """
    logits = _logs(probabilities)
    true = logits[np.arange(len(y)), y]
    true += (logits.mean(axis=1) - true) / (len(y) + 1)  # the one more row
    share = shares_of(weight, len(y))
    low, high, inverse = 1.0 / _HOTTEST, _HOTTEST, 1.0
    for _ in range(30):
        p = softmax(logits * inverse)
        parts = p * logits
        mean = np.einsum("ij->i", parts)
        slope = float(share @ (mean - true))
        curve = float(share @ (np.einsum("ij,ij->i", parts, logits) - mean**2))
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curve if curve > 0 else inverse
        following = step if low < step < high else (low + high) / 2
        if abs(following - inverse) < 1e-6 * inverse:
            break
        inverse = following
    return 1.0 / inverse


def shares_of(weight: Array | None, n_rows: int) -> Array:
    """Return weights that sum to one, the same for all rows where none are given or none is positive."""
    even = weight is None or not weight.sum() > 0
    return np.full(n_rows, 1.0 / n_rows) if even or weight is None else np.asarray(weight / weight.sum())


def spread_rows(y: Array, n_kept: int) -> Array:
    """Return up to ``n_kept`` rows, ascending, with all classes in their shares."""
    if len(y) <= n_kept:
        return np.arange(len(y))
    order = np.lexsort((np.random.default_rng(0).random(len(y)), y))
    return np.sort(order[np.arange(n_kept) * len(y) // n_kept])


def _logs(probabilities: Array) -> Array:
    return np.asarray(np.log(np.clip(probabilities, _TINY, 1.0, dtype=np.float64)))


def softmax(logits: Array) -> Array:
    """Return the probabilities of logits of shape (n_rows, n_classes)."""
    if logits.shape[1] > _FEW_CLASSES:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))
    # Along a short axis NumPy reduces row by row: 174 us for 4,000 rows of two classes, by columns 29.
    powers = np.exp(logits - reduce(np.maximum, logits.T)[:, None])
    return np.asarray(powers / reduce(np.add, powers.T)[:, None])
