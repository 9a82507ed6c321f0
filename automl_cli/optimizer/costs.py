"""From losses to what a surrogate is trained on, and from its predictions to what is worth a trial."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]

_ROUNDING = 1e-12  # of a loss: what is less is no difference


def log_costs(losses: Sequence[float | None]) -> Vector:
    """Scale losses to at most 1 and take logarithms, so that the forest resolves the good ones best.

    As SMAC's log-scaled encoder does, the distance between the best loss and the 5th percentile is added to all; where
    that is next to nothing, a thousandth of the distance to the median (or to the worst). Failures (None) cost a tenth
    of the range more than the worst loss.

    Parameters
    ----------
    losses : sequence of float or None
        Finite; None is a failure.

    Returns
    -------
    ndarray of shape (n_losses,), finite, at most 0

    Examples
    --------
    >>> log_costs([0.1, 0.2, 0.3, None]).round(2)
    array([-2.75, -0.71, -0.09,  0.  ])
    >>> log_costs([None, None])
    array([0., 0.])
    """
    known = np.array([loss for loss in losses if loss is not None], dtype=np.float64)
    if not len(known) or (known.min() == known.max() and len(known) == len(losses)):
        return np.zeros(len(losses))
    low, worst = known.min(), known.max()
    failed = worst + (0.1 * (worst - low) or 0.1 * abs(worst) or 1.0)
    costs = np.array([failed if loss is None else loss for loss in losses])
    fifth, middle = np.percentile(costs, [5, 50]) - low
    offset, spread = max(fifth, 1e-3 * middle), costs.max() - low
    if offset <= _ROUNDING * max(abs(low), abs(low + middle)):
        offset = 1e-3 * spread
    return np.asarray(np.log((costs - low + offset) / (spread + offset)), dtype=np.float64)


def expected_improvement(mean: Vector, variance: Vector, best: float) -> Vector:
    """Expect how far below ``exp(best)`` a cost falls whose logarithm is normal [1]_.

    SMAC's own function raises where rounding makes the difference a little negative; here it is zero.

    Parameters
    ----------
    mean, variance : ndarray of shape (n,)
        Of the logarithm of the cost; the variance is positive.
    best : float
        Logarithm of the lowest cost known.

    Returns
    -------
    ndarray of shape (n,), not negative

    References
    ----------
    .. [1] Watanabe, Derivation of closed form of expected improvement for a Gaussian process trained on
       log-transformed objective, arXiv 2411.18095.
    """
    from scipy.special import ndtr  # noqa: PLC0415

    deviation = np.sqrt(variance)
    z = (best - mean) / deviation
    gain = np.exp(best) * ndtr(z) - np.exp(mean + variance / 2) * ndtr(z - deviation)
    return np.asarray(np.maximum(gain, 0.0), dtype=np.float64)
