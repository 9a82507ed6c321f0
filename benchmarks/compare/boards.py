"""Errors of several systems on several datasets -> who wins, by how much, and what may be chance.

References
----------
.. [1] Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7, 2006.
.. [2] Gijsbers et al., AMLB: an AutoML benchmark, JMLR 25, 2024: failures count as a constant predictor.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.compare.rows import Row

DECIDED = 0.005
LOST = 0.02
CONFIDENCE = 0.95
RESAMPLES = 9999
SEED = 1
# An error of 0 has no ratio: below this share of the guess's error, errors are not told apart.
LEAST_SHARE = 1e-6

Errors = NDArray[np.float64]


@dataclass(frozen=True)
class Board:
    """Errors at one limit, on the datasets that every system has finished.

    Attributes
    ----------
    errors : ndarray of shape (n_datasets, n_systems)
        Mean over the seeds that all systems have. A failed run counts as the guess that ignores all columns, or as the
        worst error of any system on this dataset where that is larger [2]_.
    failed : ndarray of shape (n_datasets, n_systems)
        Failed runs of these seeds.
    unfinished : tuple of str
        Datasets left out because there is no seed with which every system has run.
    """

    limit_s: float
    systems: tuple[str, ...]
    datasets: tuple[str, ...]
    errors: Errors
    failed: NDArray[np.int64]
    n_seeds: tuple[int, ...]
    unfinished: tuple[str, ...]

    def column(self, system: str) -> Errors:
        """Return the errors of one system."""
        return self.errors[:, self.systems.index(system)]


@dataclass(frozen=True)
class Pair:
    """One system against another over datasets.

    Attributes
    ----------
    won, lost, undecided : int
        Datasets; undecided are those whose errors differ by 0.5 % or less.
    win_interval : (float, float)
        95 % interval of the share won of those decided (Wilson).
    ratio : float
        Geometric mean of the first's errors over the second's; below 1 the first is better.
    ratio_interval : (float, float)
        95 % percentile bootstrap over datasets.
    p_value : float
        Wilcoxon's signed-rank test on the logarithms of the ratios [1]_.
    """

    first: str
    second: str
    won: int
    lost: int
    undecided: int
    win_interval: tuple[float, float]
    ratio: float
    ratio_interval: tuple[float, float]
    p_value: float

    @property
    def win_rate(self) -> float:
        """Return the share won of those decided; not a number where none is."""
        return self.won / (self.won + self.lost) if self.won + self.lost else float("nan")


@dataclass(frozen=True)
class Ranks:
    """Average ranks over datasets, 1 is best, equal errors share their ranks.

    Attributes
    ----------
    critical : float
        Nemenyi's critical difference at 5 %: average ranks that differ by less may do so by chance [1]_.
    p_value : float
        Friedman's test that all systems are alike; not a number for fewer than three systems.
    """

    systems: tuple[str, ...]
    average: tuple[float, ...]
    n_datasets: int
    critical: float
    p_value: float


def board_of(rows: Sequence[Row], systems: Sequence[str], limit_s: float) -> Board:
    """Gather the runs of one limit."""
    found = {(row.dataset, row.seed, row.system): row for row in rows if row.limit_s == limit_s}
    datasets = list(dict.fromkeys(row.dataset for row in rows if row.limit_s == limit_s and row.system in systems))
    seeds = {
        dataset: [
            seed
            for seed in sorted({row.seed for row in rows})
            if all((dataset, seed, system) in found for system in systems)
        ]
        for dataset in datasets
    }
    finished = [dataset for dataset in datasets if seeds[dataset]]
    errors = np.empty((len(finished), len(systems)))
    failed = np.zeros((len(finished), len(systems)), dtype=np.int64)
    for i, dataset in enumerate(finished):
        runs = [[found[dataset, seed, system] for seed in seeds[dataset]] for system in systems]
        errors[i] = _counted(runs)
        failed[i] = [sum(run.error is None for run in column) for column in runs]
    return Board(
        limit_s=limit_s,
        systems=tuple(systems),
        datasets=tuple(finished),
        errors=errors,
        failed=failed,
        n_seeds=tuple(len(seeds[dataset]) for dataset in finished),
        unfinished=tuple(dataset for dataset in datasets if not seeds[dataset]),
    )


def _counted(runs: list[list[Row]]) -> Errors:
    """Return each system's mean error on one dataset, failures and errors of 0 counted as described above."""
    every = [run for column in runs for run in column]
    guess = max(run.guess for run in every)
    worst = max([guess, *(run.error for run in every if run.error is not None)])
    least = LEAST_SHARE * guess
    return np.array([np.mean([max(worst if run.error is None else run.error, least) for run in col]) for col in runs])


def pair_of(board: Board, first: str, second: str, *, decided: float = DECIDED) -> Pair:
    """Compare two systems on the datasets of a board, of which there is at least one."""
    ratios = board.column(first) / board.column(second)
    won, lost = int((ratios * (1 + decided) < 1).sum()), int((ratios > 1 + decided).sum())
    share = stats.binomtest(won, won + lost).proportion_ci(CONFIDENCE, method="wilson") if won + lost else (0.0, 1.0)
    logs = np.log(ratios)
    return Pair(
        first=first,
        second=second,
        won=won,
        lost=lost,
        undecided=len(ratios) - won - lost,
        win_interval=(float(share[0]), float(share[1])),
        ratio=float(stats.gmean(ratios)),
        ratio_interval=ratio_interval(logs),
        p_value=float(stats.wilcoxon(logs).pvalue) if logs.any() else 1.0,
    )


def ratio_interval(logs: Errors) -> tuple[float, float]:
    """Return the interval of a geometric mean of ratios from their logarithms; not a number for fewer than two."""
    if len(logs) < 2:
        return float("nan"), float("nan")
    found: Any = stats.bootstrap(
        (logs,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(SEED)
    ).confidence_interval
    return float(np.exp(found.low)), float(np.exp(found.high))


def lost_of(board: Board, system: str, *, by: float = LOST) -> list[tuple[str, str, float]]:
    """Return the datasets on which another system is better by more than a share, the worst first.

    Returns
    -------
    list of (dataset, best system, ratio of the errors, above 1)
    """
    found = []
    for i, dataset in enumerate(board.datasets):
        best = int(board.errors[i].argmin())
        ratio = float(board.column(system)[i] / board.errors[i, best])
        if ratio > 1 + by:
            found.append((dataset, board.systems[best], ratio))
    return sorted(found, key=lambda each: -each[2])


def ranks_of(board: Board) -> Ranks:
    """Rank the systems of a board, of which there are at least two, on each dataset."""
    n_datasets, n_systems = board.errors.shape
    ranked = stats.rankdata(board.errors, axis=1)
    q = stats.studentized_range.ppf(CONFIDENCE, n_systems, np.inf) / np.sqrt(2)
    alike = (ranked == ranked[:, :1]).all()
    friedman = stats.friedmanchisquare(*board.errors.T).pvalue if n_systems > 2 and not alike else float("nan")
    return Ranks(
        systems=board.systems,
        average=tuple(float(rank) for rank in ranked.mean(axis=0)),
        n_datasets=n_datasets,
        critical=float(q * np.sqrt(n_systems * (n_systems + 1) / (6 * n_datasets))),
        p_value=float(friedman),
    )
