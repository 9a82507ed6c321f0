"""Does one column give the answer away? Each is scored alone on kept-back rows."""

from collections.abc import Iterator
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_cli.profile.columns import Cells, ColumnProfile, class_codes, positions, renamed
from automl_cli.table import Notice

Array = NDArray[Any]

LEAK_ROWS = 10_000
N_BINS = 64
LEAK_AUC = 0.99
LEAK_R2 = 0.999


def leaks(cells: list[Cells], described: list[ColumnProfile], target: str | None) -> Iterator[Notice]:
    """Find columns that predict the target almost perfectly: what is known too late, or the target's twin."""
    own = next((c for c in cells if c.column.name == target), None)
    if own is None:
        return
    rows = positions(len(own.values), LEAK_ROWS)
    rows = rows[~np.isnan(own.values[rows])]
    classes = class_codes(cells, target)
    if len(rows) < 40:
        return
    for cell in cells:
        if cell is own:
            continue
        x = cell.values[rows]
        if classes is not None and (renamed(x) == renamed(own.values[rows])).all():
            yield Notice("leaks", f"column {cell.column.name!r} is a copy of the target {target!r} under other names")
            continue
        if classes is not None:
            score = held_out_auc(x, classes[0][rows], coded=cell.coded)
            found, shown = score > LEAK_AUC, f"AUC {score:.4f}"
        else:
            score = held_out_r2(x, own.values[rows], coded=cell.coded)
            found, shown = score > LEAK_R2, f"R2 {score:.5f}"
        if found:
            message = f"column {cell.column.name!r} alone predicts {target!r} almost perfectly ({shown})"
            yield Notice("leaks", f"{message}: if it is not known in time, add --ignore {quote(cell.column.name)}")


def held_out_auc(x: Array, codes: Array, *, coded: bool) -> float:
    """Score one column alone: class rates per bin of every other row, AUC on the rest, averaged over the classes.

    Parameters
    ----------
    x : ndarray of shape (n,), NaN where missing
    codes : ndarray of shape (n,), class indices from 0
    coded : bool
        Whether ``x`` holds codes, each a bin of its own; numbers are cut at quantiles.
    """
    bins, n_bins = _bins(x, coded=coded)
    learn, judge = slice(0, None, 2), slice(1, None, 2)
    # Halves by a shuffle of fixed chance: every other row may be a pattern of the data.
    order = np.random.default_rng(0).permutation(len(x))
    bins, codes = bins[order], codes[order]
    scores: list[float] = []
    for label in np.unique(codes)[:10]:
        hits = codes == label
        totals = np.bincount(bins[learn], minlength=n_bins)
        rates = np.bincount(bins[learn], weights=hits[learn], minlength=n_bins) + hits[learn].mean()
        judged = hits[judge]
        if judged.sum() < 5 or (~judged).sum() < 5:
            continue
        scores.append(_auc((rates / (totals + 1))[bins[judge]], judged))
    return float(np.mean(scores)) if scores else 0.5


def _bins(x: Array, *, coded: bool) -> tuple[Array, int]:
    if coded:
        n_codes = int(np.nanmax(x)) + 1 if (~np.isnan(x)).any() else 0
        return np.where(np.isnan(x), n_codes, x).astype(np.int64), n_codes + 1
    filled = x[~np.isnan(x)]
    if not len(filled):
        return np.zeros(len(x), dtype=np.int64), 1
    edges = np.unique(np.quantile(filled, np.linspace(0, 1, N_BINS)))
    # Both sides of an edge: a value that fills many rows, such as 0, gets a bin of its own.
    bins = np.searchsorted(edges, x, side="left") + np.searchsorted(edges, x, side="right")
    return np.where(np.isnan(x), 2 * len(edges) + 1, bins), 2 * len(edges) + 2


def _auc(scores: Array, hits: Array) -> float:
    _, place = np.unique(scores, return_inverse=True)
    positives = np.bincount(place[hits], minlength=place.max() + 1)
    negatives = np.bincount(place[~hits], minlength=place.max() + 1)
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / (positives.sum() * negatives.sum()))


def held_out_r2(x: Array, y: Array, *, coded: bool) -> float:
    """Score one column alone: means per code or a line through neighbours on half of the rows, R2 on the rest."""
    order = np.random.default_rng(0).permutation(len(x))
    order = order[~np.isnan(x[order])]
    learn, judge = order[0::2], order[1::2]
    if len(judge) < 0.2 * len(x):  # mostly missing: it cannot give much away
        return 0.0
    values, place = np.unique(x[learn], return_inverse=True)
    # Beyond what was learned there are no neighbours to go by.
    judge = judge[(x[judge] >= values[0]) & (x[judge] <= values[-1])]
    if len(judge) < 10:
        return 0.0
    means = np.bincount(place, weights=y[learn]) / np.bincount(place)
    if coded:
        at = np.searchsorted(values, x[judge]).clip(0, len(values) - 1)
        guess = np.where(values[at] == x[judge], means[at], y[learn].mean())
    else:
        guess = np.interp(x[judge], values, means)
    spread = float(((y[judge] - y[judge].mean()) ** 2).sum())
    return 1 - float(((y[judge] - guess) ** 2).sum()) / spread if spread > 0 else 0.0
