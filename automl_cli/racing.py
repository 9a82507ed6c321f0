"""The one early-stopping rule: for folds, boosting rounds, epochs and sample sizes.

A rule holds the losses of a challenger against those of the incumbent and gives a `Decision`. It keeps nothing between
calls and reads no clock, so that it runs in any worker and a counted run stays the same run. Inside a fit, where the
loss is still falling, the caller puts what the curve can still reach (`reachable`) in the place of the last loss.

`should_stop` is the rule in use. The others are there to be compared with it on recorded curves, see
docs/early-stopping.md.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

__all__ = [
    "RULES",
    "Decision",
    "Rule",
    "aggressive",
    "both",
    "either",
    "forgiving",
    "leads",
    "never",
    "paired",
    "reachable",
    "robust",
    "should_stop",
]


@dataclass(frozen=True)
class Decision:
    """Whether to give up, and why, in one line with its numbers."""

    stop: bool
    reason: str


Rule = Callable[[Sequence[float], Sequence[float]], Decision]


def forgiving(losses: Sequence[float], incumbent: Sequence[float]) -> Decision:
    """Stop where the mean so far is no better than the incumbent's worst fold: the forgiving rule of [1]_.

    Parameters
    ----------
    losses : sequence of float
        The challenger's losses so far, one per finished step: the folds of a validation, or the values of several
        folds at one boosting round, epoch or sample size. Lower is better.
    incumbent : sequence of float
        The losses of the best complete candidate at the same steps, and at those that are to come; empty while there
        is none.

    Returns
    -------
    Decision
        Stop also where a loss is not finite; go on where there is nothing to compare.

    References
    ----------
    .. [1] Bergman, Purucker, Hutter, Don't waste your time: early stopping cross-validation, AutoML 2024.

    Examples
    --------
    >>> forgiving([0.31], incumbent=[0.20, 0.25, 0.30])
    Decision(stop=True, reason='mean 0.31 over 1 step is no better than the incumbent at its worst, 0.3')
    >>> forgiving([0.31, 0.22], incumbent=[0.20, 0.25, 0.30]).stop
    False
    """
    return _compare(losses, incumbent, lambda _, theirs: (max(theirs), "at its worst"))


def aggressive(losses: Sequence[float], incumbent: Sequence[float]) -> Decision:
    """Stop where the mean so far is no better than the incumbent's mean over all its folds ([1]_ of `forgiving`).

    >>> aggressive([0.26], incumbent=[0.20, 0.25, 0.30]).stop
    True
    """
    return _compare(losses, incumbent, lambda _, theirs: (_mean(theirs), "in the mean"))


def robust(sigmas: float) -> Rule:
    """Return a rule that stops where the mean so far is ``sigmas`` standard deviations above the incumbent's mean.

    The deviation is that of the incumbent's folds, after the robust rule of [1]_ of `forgiving`.

    >>> robust(1.0)([0.28], incumbent=[0.20, 0.25, 0.30]).stop
    False
    """

    def rule(losses: Sequence[float], incumbent: Sequence[float]) -> Decision:
        where = f"in the mean plus {sigmas:g} deviations"
        return _compare(losses, incumbent, lambda _, theirs: (_mean(theirs) + sigmas * _deviation(theirs), where))

    return rule


def paired(sigmas: float) -> Rule:
    """Return a rule that stops where the mean is ``sigmas`` standard errors above the incumbent's *on the same folds*.

    All trials share their folds, and much of what makes a fold hard is common to them: differences on the same fold say
    more than means over different ones. The standard error is the deviation of the incumbent's folds over the root of
    the folds compared.

    >>> paired(1.0)([0.23], incumbent=[0.20, 0.20, 0.20]).stop, paired(1.0)([0.31], incumbent=[0.30, 0.25, 0.20]).stop
    (True, False)
    """

    def rule(losses: Sequence[float], incumbent: Sequence[float]) -> Decision:
        def bound(n: int, theirs: Sequence[float]) -> tuple[float, str]:
            margin = sigmas * _deviation(theirs) / math.sqrt(n)
            errors = "1 standard error" if sigmas == 1 else f"{sigmas:g} standard errors"
            return _mean(theirs[:n]) + margin, f"over the same steps plus {errors}"

        return _compare(losses, incumbent, bound)

    return rule


def never(losses: Sequence[float], incumbent: Sequence[float]) -> Decision:
    """Go on whatever the losses are: no racing."""
    return Decision(False, "nobody is stopped")


def either(*rules: Rule) -> Rule:
    """Return a rule that stops where one of ``rules`` does.

    >>> either(forgiving, aggressive)([0.26], [0.20, 0.25, 0.30]).stop
    True
    """

    def rule(losses: Sequence[float], incumbent: Sequence[float]) -> Decision:
        decisions = [each(losses, incumbent) for each in rules]
        return next((decision for decision in decisions if decision.stop), decisions[-1])

    return rule


def both(*rules: Rule) -> Rule:
    """Return a rule that stops where all of ``rules`` do.

    >>> both(forgiving, aggressive)([0.26], [0.20, 0.25, 0.30]).stop
    False
    """

    def rule(losses: Sequence[float], incumbent: Sequence[float]) -> Decision:
        decisions = [each(losses, incumbent) for each in rules]
        return next((decision for decision in decisions if not decision.stop), decisions[-1])

    return rule


def leads(losses: Sequence[float], leader: Sequence[float]) -> bool:
    """Whether a challenger is better so far than the best of its family on the same folds.

    Such a one goes on though it loses the race: it would be the best of its kind, and an ensemble gains from members
    that err differently. They are few, as records are: of n trials in random order about log n.

    >>> leads([0.31], leader=[0.35, 0.30]), leads([0.31, 0.36], leader=[0.35, 0.30]), leads([0.31], leader=[])
    (True, False, False)
    """
    n = len(losses)
    return 0 < n <= len(leader) and _mean(losses) < _mean(leader[:n])


def reachable(curve: Sequence[float]) -> float:
    """Extrapolate a learning curve by a power law: the loss it tends to.

    Parameters
    ----------
    curve : sequence of float
        The lowest loss so far at steps that double: rounds 16, 32, 64 ..., or rows.

    Returns
    -------
    float
        A power law ``c + a * n ** -b`` through the last three points has its limit there. Minus infinity where they do
        not bend, as at the start of a fit with a small learning rate: nothing can be said yet.

    Notes
    -----
    One curve in seven is no power law (LCDB 1.1 [1]_), so this is an argument for stopping, not an estimate.

    References
    ----------
    .. [1] Yan, Mohr, Viering, LCDB 1.1: a database illustrating learning curves are more ill-behaved than previously
       thought, NeurIPS 2025.

    Examples
    --------
    >>> round(reachable([0.9, 0.5, 0.3]), 9)
    0.1
    >>> reachable([0.9, 0.8, 0.6])
    -inf
    """
    if len(curve) < 3:
        return -math.inf
    before, last = curve[-3] - curve[-2], curve[-2] - curve[-1]
    if last <= 0:
        return curve[-1]
    return curve[-1] - last * last / (before - last) if before > last else -math.inf


def should_stop(losses: Sequence[float], incumbent: Sequence[float]) -> Decision:
    """Judge a challenger by its partial losses: `paired` at one standard error, chosen in docs/early-stopping.md.

    Parameters
    ----------
    losses : sequence of float
        The challenger's losses so far, one per finished step: the folds of a validation, or the values of several
        folds at one boosting round, epoch or sample size. Lower is better.
    incumbent : sequence of float
        The losses of the best complete candidate at the same steps, and at those that are to come; empty while there
        is none.

    Returns
    -------
    Decision
        Stop also where a loss is not finite; go on where there is nothing to compare.

    Examples
    --------
    >>> should_stop([0.31], incumbent=[0.20, 0.25, 0.30]).reason
    'mean 0.31 over 1 step is no better than the incumbent over the same steps plus 1 standard error, 0.25'
    >>> should_stop([0.24], incumbent=[0.20, 0.25, 0.30]).stop
    False
    """
    return _SHIPPED(losses, incumbent)


_SHIPPED = paired(1.0)
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "never": never,
        "forgiving": forgiving,
        "aggressive": aggressive,
        "robust 0.5": robust(0.5),
        "robust 1": robust(1.0),
        "robust 2": robust(2.0),
        "paired 0": paired(0.0),
        "paired 0.5": paired(0.5),
        "paired 1": paired(1.0),
        "paired 2": paired(2.0),
        "forgiving or paired 1": either(forgiving, paired(1.0)),
        "forgiving and paired 1": both(forgiving, paired(1.0)),
    }
)


def _compare(
    losses: Sequence[float],
    incumbent: Sequence[float],
    bound_of: Callable[[int, Sequence[float]], tuple[float, str]],
) -> Decision:
    """Stop where the mean reaches the bound; ``bound_of(n_losses, incumbent)`` gives it and where it is."""
    for step, loss in enumerate(losses, start=1):
        if not (math.isfinite(loss) or loss == -math.inf):
            return Decision(True, f"the loss at step {step} is {loss}")
    if not losses or not incumbent or not all(math.isfinite(loss) for loss in incumbent):
        return Decision(False, "nothing to compare with yet")
    mean = _mean(losses)
    bound, where = bound_of(len(losses), incumbent)
    so_far = f"mean {mean:.6g} over {len(losses)} step{'s' if len(losses) > 1 else ''}"
    if mean >= bound:
        return Decision(True, f"{so_far} is no better than the incumbent {where}, {bound:.6g}")
    return Decision(False, f"{so_far} is better than the incumbent {where}, {bound:.6g}")


def _mean(losses: Sequence[float]) -> float:
    return math.fsum(losses) / len(losses)


def _deviation(losses: Sequence[float]) -> float:
    """Return the standard deviation, 0 for a single loss."""
    mean = _mean(losses)
    return math.sqrt(math.fsum((loss - mean) ** 2 for loss in losses) / max(len(losses) - 1, 1))
