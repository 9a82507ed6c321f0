"""Whether an adaptation is taken: with labels in the target by paired folds, without by two scores that must agree."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.metrics import Loss, TaskKind
from automl_cli.transfer.learner import LabelFit

Fold = tuple[Array, Array]


@dataclass(frozen=True)
class Gain:
    """A mean gain in loss over no adaptation, positive where it helps, and its standard error."""

    mean: float
    standard_error: float
    p: float
    """Of the hypothesis that there is no gain, against one."""

    @property
    def sure(self) -> bool:
        """Whether it is larger than one standard error."""
        return self.mean > max(0.0, self.standard_error)


@dataclass(frozen=True)
class Verdict:
    """What was decided, and why in one sentence.

    Attributes
    ----------
    gains : dict of str to Gain
        By the score that found it.
    """

    accepted: bool
    reason: str
    gains: dict[str, Gain]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        gains = {name: vars(gain) for name, gain in self.gains.items()}
        return {"accepted": self.accepted, "reason": self.reason, "gains": gains}


def repeated_folds(y: Array, kind: TaskKind, *, folds: int = 5, repeats: int = 4, seed: int = 0) -> tuple[Fold, ...]:
    """Deal target rows out several times over: few rows make one split a matter of luck.

    Each class is dealt out evenly, or the sorted values of a regression.

    Returns
    -------
    tuple of (training rows, validation rows)
        ``folds`` for each repeat; positions among the target's rows.
    """
    folds = max(2, min(folds, len(y)))
    rng = np.random.default_rng(seed)
    made: list[Fold] = []
    for _ in range(repeats):
        order = np.lexsort((rng.random(len(y)), y))
        if kind is TaskKind.REGRESSION:
            runs = -(-len(y) // folds)
            dealt = rng.permuted(np.tile(np.arange(folds), (runs, 1)), axis=1).ravel()[: len(y)]
        else:
            dealt = rng.permutation(folds)[np.arange(len(y)) % folds]
        part = np.empty(len(y), dtype=np.int64)
        part[order] = dealt
        made += [(np.flatnonzero(part != k), np.flatnonzero(part == k)) for k in range(folds)]
    return tuple(made)


def corrected_gain(before: Sequence[float], after: Sequence[float], *, n_train: float, n_valid: float) -> Gain:
    """Compare losses of the same folds by the corrected resampled t-test [1]_.

    Folds share their training rows, so that their losses are not independent: the variance of the mean of k differences
    is (1/k + n_valid/n_train) s^2, where s^2 / k would be far too sure of itself.

    Parameters
    ----------
    before, after : sequence of float
        Losses by fold, without and with the adaptation.
    n_train, n_valid : float
        Mean rows of a fold: of the target, since the source's rows do not vary.

    References
    ----------
    .. [1] Nadeau and Bengio, Inference for the generalization error, Machine Learning 2003.

    Examples
    --------
    >>> corrected_gain([1.0, 2.0, 3.0], [0.0, 1.0, 2.0], n_train=80, n_valid=20).mean
    1.0
    """
    from scipy.stats import t  # noqa: PLC0415  (loads slowly)

    gains = np.subtract(before, after)
    k = len(gains)
    if k < 2:
        return Gain(float(gains.mean()) if k else 0.0, float("inf"), 1.0)
    error = corrected_error(gains, n_train=n_train, n_valid=n_valid)
    mean = float(gains.mean())
    if error == 0:
        return Gain(mean, 0.0, 0.0 if mean > 0 else 1.0)
    return Gain(mean, error, float(t.sf(mean / error, k - 1)))


def corrected_error(gains: Array, *, n_train: float, n_valid: float) -> float:
    """Return the standard error of a mean over folds that share their training rows; see `corrected_gain`.

    Infinite for a single fold.
    """
    k = len(gains)
    return float(np.sqrt((1 / k + n_valid / n_train) * gains.var(ddof=1))) if k > 1 else float("inf")


def judge_with_labels(before: Sequence[float], after: Sequence[float], folds: Sequence[Fold]) -> Verdict:
    """Take an adaptation whose mean gain over repeated folds of the target is above one standard error."""
    sizes = np.array([[len(train), len(valid)] for train, valid in folds]).mean(axis=0)
    gain = corrected_gain(before, after, n_train=float(sizes[0]), n_valid=float(sizes[1]))
    says = f"{gain.mean:+.4g} with a standard error of {gain.standard_error:.2g} over {len(folds)} folds of the target"
    return Verdict(gain.sure, f"the gain is {says}", {"folds": gain})


def row_losses(y: Array, outputs: Array, kind: TaskKind) -> Array:
    """Return the log loss or squared error of each row: what can be weighted row by row."""
    if kind is TaskKind.REGRESSION:
        return np.asarray((y - outputs[:, 0]) ** 2)
    return np.asarray(-np.log(np.clip(outputs[np.arange(len(y)), y], 1e-15, 1.0)))


def weighted_gain(before: Array, after: Array, weights: Array) -> Gain:
    """Compare losses of source rows as if they were the target's: sum w (before - after) / sum w [1]_.

    Parameters
    ----------
    before, after : ndarray of shape (n_source,)
        Losses by row, out of fold; see `row_losses`.
    weights : ndarray of shape (n_source,)
        p_T(x) / p_S(x), not flattened; p_T(y) / p_S(y) for a label shift.

    Notes
    -----
    The error is that of a ratio of means (by its linear terms). It is right where the weights are, and where what they
    leave of the distribution is the same in both domains. Of moved rows that is what an alignment supposes: their loss
    cannot speak against it.

    References
    ----------
    .. [1] Sugiyama, Krauledat and Müller, Covariate shift adaptation by importance weighted cross validation, JMLR
       2007.
    """
    gains, shares = before - after, weights / weights.sum()
    mean = float(shares @ gains)
    error = float(np.linalg.norm(shares * (gains - mean)))
    return Gain(mean, error, _normal_tail(mean, error))


def circular_losses(
    pseudo: Array,
    y_source: Array,
    fit: LabelFit,
    *,
    source: Array,
    target: Array,
    kind: TaskKind,
    undo: Callable[[Array], Array] | None = None,
) -> Array:
    """Return the loss of each source row by a model that was taught by the target's predicted labels alone [1]_.

    A model of the source labels the target; what those labels teach should lead back to the source's own. The losses
    are to be weighed as those of `weighted_gain`: far from the target its rows can teach nothing.

    Parameters
    ----------
    pseudo : ndarray of shape (n_target, n_outputs)
        Predictions for the target rows by the candidate.
    source, target : ndarray of int64
        Positions in the table; source rows are moved where the candidate moves them.
    undo : callable or None
        From the target's shares of classes back to the source's, for one that corrects them.

    References
    ----------
    .. [1] Bruzzone and Marconcini, Domain adaptation problems, TPAMI 2010.
    """
    made = pseudo[:, 0] if kind is TaskKind.REGRESSION else pseudo.argmax(axis=1)
    outputs = fit(target, made, np.ones(len(target)))(source)
    return row_losses(y_source, outputs if undo is None else undo(outputs), kind)


def paired_gain(before: Array, after: Array) -> Gain:
    """Compare losses of the same rows."""
    return weighted_gain(before, after, np.ones(len(before)))


def judge_without_labels(circular: Gain, weighted: Gain) -> Verdict:
    """Take an adaptation only where both scores gain more than a standard error: either alone is easily fooled."""
    gains = {"circular": circular, "weighted": weighted}
    unsure = [name for name, gain in gains.items() if not gain.sure]
    if not unsure:
        return Verdict(True, "circular validation and importance-weighted losses agree that it gains", gains)
    what = {"circular": "circular validation", "weighted": "the importance-weighted loss"}
    return Verdict(False, f"no gain is seen by {' or '.join(what[name] for name in unsure)}", gains)


def judge_label_shift(kinds: Sequence[str], weighted: Gain) -> Verdict:
    """Take a correction for the classes' shares where nothing but these has moved, and weighted losses gain.

    ``kinds`` are those of `automl_cli.transfer.shift.Shift`. Circular validation is not asked: labels that were made
    with any shares lead back to the source's own nearly as well.
    """
    gains = {"weighted": weighted}
    if tuple(kinds) != ("label",):
        return Verdict(False, "more than the shares of the classes has changed", gains)
    if not weighted.sure:
        return Verdict(False, "no gain is seen by the importance-weighted loss", gains)
    return Verdict(True, "nothing but the shares of the classes has changed, and the weighted loss gains", gains)


def fold_losses(y: Array, outputs: Sequence[Array], folds: Sequence[Fold], loss: Loss) -> list[float]:
    """Return the loss of each fold, of predictions for its validation rows."""
    return [float(loss(y[valid], found, None)) for (_, valid), found in zip(folds, outputs, strict=True)]


def _normal_tail(mean: float, error: float) -> float:
    from scipy.stats import norm  # noqa: PLC0415

    if error == 0:
        return 0.0 if mean > 0 else 1.0
    return float(norm.sf(mean / error))
