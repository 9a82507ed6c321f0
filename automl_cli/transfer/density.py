"""Weights of source rows: how much more likely a row is in the target than in the source, p_T(x) / p_S(x)."""

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.transfer.domain import Domain

CLIP = 0.99
"""Weights above this quantile are pulled down to it: few rows would speak for all others."""
LEAST_SHARE, LEAST_ROWS = 0.05, 50
"""Weights that leave fewer effective rows than this share of the source, or than these, are not worth their noise."""


def ratio_weights(domain: Domain, *, gamma: float = 1.0, clip: float = CLIP) -> Array:
    """Return the weights of the source rows, of mean one.

    Parameters
    ----------
    gamma : float
        Weights are raised to this power [1]_: 1 removes the bias of a covariate shift, 0 leaves all rows alike, and
        what lies between pays a little bias for much less variance.

    References
    ----------
    .. [1] Shimodaira, Improving predictive inference under covariate shift by weighting the log-likelihood, 2000.
    """
    return finished(np.exp(np.clip(domain.source, -50, 50)), gamma=gamma, clip=clip)


def finished(ratios: Array, *, gamma: float = 1.0, clip: float = CLIP) -> Array:
    """Clip ratios at a quantile, flatten them, and give them mean one.

    >>> finished(np.array([1.0, 4.0, 4.0]), gamma=0.5, clip=1.0)
    array([0.6, 1.2, 1.2])
    """
    if not len(ratios):
        return np.ones(0)
    cut = np.minimum(ratios, np.quantile(ratios, clip))
    return mean_one(cut**gamma)


def mean_one(weights: Array) -> Array:
    """Scale weights to mean one; where none is positive, all become one."""
    largest = float(weights.max(initial=0.0))
    if not largest > 0 or not np.isfinite(largest):
        return np.ones(len(weights))
    shares = weights / largest  # a sum of tiny weights would vanish
    return np.asarray(shares / shares.mean())


def effective_size(weights: Array) -> float:
    """Return (sum w)^2 / sum w^2: how many rows of equal weight have as little noise (Kish 1965).

    >>> effective_size(np.ones(7)), effective_size(np.array([1.0, 0.0, 0.0]))
    (7.0, 1.0)
    """
    total = float((weights**2).sum())
    return float(weights.sum()) ** 2 / total if total > 0 else 0.0


def worth_weighting(weights: Array) -> bool:
    """Whether enough effective rows are left."""
    return effective_size(weights) >= max(LEAST_ROWS, LEAST_SHARE * len(weights))


def drawn_by_weight(weights: Array, n_drawn: int, *, seed: int = 0) -> Array:
    """Draw rows without replacement, each in proportion to its weight, in one pass (Gumbel's trick) [1]_.

    Returns
    -------
    ndarray of int64, ascending
        Fewer than ``n_drawn`` where fewer have a positive weight.

    References
    ----------
    .. [1] Kool, van Hoof and Welling, Stochastic beams and where to find them, ICML 2019.
    """
    with np.errstate(divide="ignore"):
        keys = np.log(weights) + np.random.default_rng(seed).gumbel(size=len(weights))
    n_drawn = min(n_drawn, int((weights > 0).sum()))
    if n_drawn == 0:
        return np.zeros(0, dtype=np.int64)
    return np.sort(np.argpartition(-keys, n_drawn - 1)[:n_drawn])
