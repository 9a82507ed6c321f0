"""Weights of source rows by kernels: KLIEP and kernel mean matching, on few rows or through random features."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.transfer.density import mean_one
from automl_cli.transfer.domain import BLOCK_ROWS, Standard

MOST_ROWS = 2_000
"""Up to so many source rows a kernel matrix is held; beyond it random features stand in for it."""
N_FEATURES = 500
N_CENTRES = 100
WIDTHS = (0.25, 0.5, 1.0, 2.0)
"""Of a kernel, in units of the median distance between rows."""
LARGEST = 50.0
"""Weight of a row in kernel mean matching."""
EM_ROUNDS = 300
DESCENT_ROUNDS = 500


@dataclass(frozen=True, eq=False)
class Kliep:
    """A ratio of densities as a mixture of kernels around target rows.

    Attributes
    ----------
    centres : ndarray of shape (n_centres, n_features)
        Standardised.
    heights : ndarray of shape (n_centres,)
        Not negative.
    """

    standard: Standard
    centres: Array
    width: float
    heights: Array

    def ratio(self, X: Array) -> Array:
        """Return p_T(x) / p_S(x) of rows, in blocks."""
        found = np.empty(len(X))
        for at in range(0, len(X), BLOCK_ROWS):
            rows = slice(at, at + BLOCK_ROWS)
            found[rows] = gaussian(self.standard.apply(X[rows]), self.centres, self.width) @ self.heights
        return found


def fit_kliep(source: Array, target: Array, *, seed: int = 0) -> Kliep:
    """Find the ratio under which the target rows are likeliest, of mean one over the source rows [1]_.

    The constraint makes the heights, scaled by the kernels' means over the source, shares that sum to one. So they are
    found as those of a mixture, by expectation and maximisation, which needs no step size and keeps the constraint
    exactly. The width is chosen by the likelihood of target rows that were left out.

    References
    ----------
    .. [1] Sugiyama et al., Direct importance estimation for covariate shift adaptation, AISM 2008.
    """
    rng = np.random.default_rng(seed)
    standard = Standard.fit(np.concatenate([_some(source, rng), _some(target, rng)]))
    old, new = standard.apply(_some(source, rng)), standard.apply(_some(target, rng))
    centres = new[rng.permutation(len(new))[:N_CENTRES]]
    widths = median_distance(np.concatenate([old, new]), rng) * np.array(WIDTHS)
    part = rng.permutation(len(new)) % min(5, len(new))
    width = float(max(widths, key=lambda w: _left_out_likelihood(old, new, centres, w, part)))
    return Kliep(standard, centres, width, _heights(old, new, centres, width))


def _left_out_likelihood(old: Array, new: Array, centres: Array, width: float, part: Array) -> float:
    if part.max(initial=0) == 0:
        return 0.0
    total = 0.0
    for k in range(int(part.max()) + 1):
        heights = _heights(old, new[part != k], centres, width)
        total += float(np.log(gaussian(new[part == k], centres, width) @ heights + 1e-300).sum())
    return total


def _heights(old: Array, new: Array, centres: Array, width: float) -> Array:
    means = gaussian(old, centres, width).mean(axis=0)
    # a kernel that no source row is near could be infinitely high
    used = means > 1e-8
    if not used.any():
        return np.ones(len(centres))
    densities = gaussian(new, centres[used], width) / means[used]
    shares = np.full(int(used.sum()), 1 / used.sum())
    for _ in range(EM_ROUNDS):
        mixed = densities @ shares
        step = (densities / np.maximum(mixed, 1e-300)[:, None]).mean(axis=0)
        moved = shares * step / max(float(shares @ step), 1e-300)
        done = np.abs(moved - shares).max() < 1e-7
        shares = moved
        if done:
            break
    heights = np.zeros(len(centres))
    heights[used] = shares / means[used]
    return heights


def kliep_weights(source: Array, target: Array, *, seed: int = 0) -> Array:
    """Return KLIEP's weights of the source rows, of mean one."""
    return mean_one(fit_kliep(source, target, seed=seed).ratio(source))


def kmm_weights(source: Array, target: Array, *, largest: float = LARGEST, seed: int = 0) -> Array:
    """Return weights under which the source's mean in the kernel's space is nearest to the target's [1]_.

    The distance is least among weights between 0 and ``largest`` of mean one. Beyond `MOST_ROWS` source rows the kernel
    is that of random Fourier features [2]_, which makes it linear in the rows.

    References
    ----------
    .. [1] Huang et al., Correcting sample selection bias by unlabeled data, NeurIPS 2006.
    .. [2] Rahimi and Recht, Random features for large-scale kernel machines, NeurIPS 2007.
    """
    rng = np.random.default_rng(seed)
    standard = Standard.fit(np.concatenate([_some(source, rng), _some(target, rng)]))
    old, new = standard.apply(source), standard.apply(target)
    width = median_distance(np.concatenate([_some(old, rng), _some(new, rng)]), rng)
    if len(old) <= MOST_ROWS:
        kernel = gaussian(old, old, width)
        towards = gaussian(old, _some(new, rng), width).mean(axis=1)
        return matched(lambda w: kernel @ w, towards, largest)
    features = fourier_features(old.shape[1], width, rng)
    Z = features(old)
    mean = np.mean([features(new[at : at + BLOCK_ROWS]).mean(axis=0) for at in range(0, len(new), BLOCK_ROWS)], axis=0)
    return matched(lambda w: Z @ (Z.T @ w), Z @ mean, largest)


def matched(apply_kernel: Callable[[Array], Array], towards: Array, largest: float) -> Array:
    """Minimise w'Kw / 2n - w'k over weights in [0, largest] of mean one, by accelerated projected gradients [1]_.

    Parameters
    ----------
    apply_kernel : callable
        ``w -> K w``, shape (n_source,).
    towards : ndarray of shape (n_source,)
        Each source row's mean kernel with the target rows.

    References
    ----------
    .. [1] Beck and Teboulle, A fast iterative shrinkage-thresholding algorithm, SIAM J. Imaging Sciences 2009.
    """
    n = len(towards)
    steep = np.ones(n)
    for _ in range(20):  # the largest eigenvalue, by powers
        steep = apply_kernel(steep)
        steep /= np.linalg.norm(steep)
    step = n / (1.05 * float(steep @ apply_kernel(steep)))
    w = ahead = np.ones(n)
    momentum = 1.0
    for _ in range(DESCENT_ROUNDS):
        moved = onto_weights(ahead - step * (apply_kernel(ahead) / n - towards), largest)
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        change = moved - w
        if (ahead - moved) @ change > 0:  # momentum points uphill: begin it anew, from here and without this change
            momentum = following = 1.0
        ahead = moved + (momentum - 1) / following * change
        w, momentum = moved, following
        if np.abs(change).max() < 1e-6:
            break
    return w


def onto_weights(values: Array, largest: float) -> Array:
    """Return the nearest weights in [0, largest] of mean one.

    >>> onto_weights(np.array([3.0, 0.0]), 10.0).round(6)
    array([2., 0.])
    """
    low, high = float(values.min()) - largest, float(values.max())
    for _ in range(100):
        shift = (low + high) / 2
        low, high = (shift, high) if np.clip(values - shift, 0, largest).mean() > 1 else (low, shift)
    return np.asarray(np.clip(values - high, 0, largest))


def gaussian(X: Array, Y: Array, width: float) -> Array:
    """Return exp(-|x - y|^2 / 2 width^2), shape (len(X), len(Y))."""
    squared = (X**2).sum(axis=1)[:, None] + (Y**2).sum(axis=1) - 2 * X @ Y.T
    return np.asarray(np.exp(-np.maximum(squared, 0) / (2 * width**2)))


def fourier_features(n_columns: int, width: float, rng: np.random.Generator) -> Callable[[Array], Array]:
    """Return a map to `N_FEATURES` numbers whose products approach the Gaussian kernel."""
    frequencies = rng.normal(size=(n_columns, N_FEATURES // 2)) / width

    def features(X: Array) -> Array:
        angles = X @ frequencies
        return np.asarray(np.hstack([np.cos(angles), np.sin(angles)]) / np.sqrt(N_FEATURES // 2))

    return features


def median_distance(X: Array, rng: np.random.Generator) -> float:
    """Return the median distance between rows, of some pairs; 1 where all rows are the same."""
    a, b = (X[rng.integers(0, len(X), 2_000)] for _ in range(2))
    distances = np.sqrt(((a - b) ** 2).sum(axis=1))
    apart = distances[distances > 0]
    return float(np.median(apart)) if len(apart) else 1.0


def mean_discrepancy(source: Array, target: Array, weights: Array, width: float) -> float:
    """Return the squared distance of both means in the kernel's space (MMD), the source's under weights."""
    shares = weights / weights.sum()
    of_source = float(shares @ gaussian(source, source, width) @ shares)
    between = float(shares @ gaussian(source, target, width).mean(axis=1))
    return of_source - 2 * between + float(gaussian(target, target, width).mean())


def _some(X: Array, rng: np.random.Generator) -> Array:
    if len(X) <= MOST_ROWS:
        return X
    return np.asarray(X[np.sort(rng.choice(len(X), MOST_ROWS, replace=False))])
