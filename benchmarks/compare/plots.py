"""The report's three plots, as SVG files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, ScalarFormatter

from benchmarks.compare.boards import Board, Ranks, ranks_of
from benchmarks.compare.report import Report, curves

SETTINGS: dict[Any, Any] = {"svg.hashsalt": "compare", "svg.fonttype": "none", "font.size": 9}


def draw_all(report: Report, folder: Path) -> list[Path]:
    """Draw what the runs allow: ranks and ratios for each limit, and errors over limits where there are several."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for board in report.boards:
        if len(board.datasets) and len(board.systems) > 1:
            limit = f"{board.limit_s:g}s"
            drawn.append(draw_ranks(ranks_of(board), folder / f"ranks-{limit}.svg"))
            drawn.append(draw_ratios(board, report.baseline, folder / f"ratios-{limit}.svg"))
    if len(report.boards) > 1:
        drawn.append(draw_curves(report, folder / "limits.svg"))
    return drawn


@contextmanager
def _axes(path: Path, width: float, height: float) -> Iterator[Axes]:
    """Give axes to draw on; the same figure gives the same file."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure.subplots()
        figure.savefig(path, metadata={"Date": None})


def _style(number: int) -> dict[str, Any]:
    """Return the look of the n-th system, the same in every plot."""
    return {"marker": "osD^vP*X"[number % 8], "color": f"C{number % 10}"}


def cliques(ranks: Ranks) -> list[tuple[float, float]]:
    """Return the largest groups of systems within the critical difference, as their first and last average rank.

    >>> cliques(Ranks(("a", "b", "c"), (1.2, 1.9, 2.9), 20, 0.74, 0.001))
    [(1.2, 1.9)]
    """
    average = sorted(ranks.average)
    reach = [(low, max(rank for rank in average if rank - low < ranks.critical)) for low in average]
    return [
        (low, high)
        for i, (low, high) in enumerate(reach)
        if high > low and not any(before[1] >= high for before in reach[:i])
    ]


def draw_ranks(ranks: Ranks, path: Path) -> Path:
    """Draw a critical-difference diagram: bars join systems whose average ranks may differ by chance."""
    order = sorted(zip(ranks.average, ranks.systems, strict=True))
    bars = cliques(ranks)
    names_from = -0.6 - 0.25 * len(bars)
    half = (len(order) + 1) // 2
    depth = names_from - 0.45 * half
    with _axes(path, 7, 1.2 - 0.55 * depth) as axes:
        n = len(order)
        axes.set(xlim=(n + 1.2, -0.2), ylim=(depth, 1.0))  # the best is on the right
        axes.axis("off")
        axes.hlines(0, 1, n, color="black", linewidth=1)
        for tick in range(1, n + 1):
            axes.vlines(tick, 0, 0.12, color="black", linewidth=1)
            axes.text(tick, 0.18, str(tick), ha="center", va="bottom")
        axes.hlines(0.75, 1, 1 + ranks.critical, color="black", linewidth=2)
        axes.text(1 + ranks.critical, 0.75, f"critical difference {ranks.critical:.2f}  ", ha="right", va="center")
        for i, (low, high) in enumerate(bars):
            axes.hlines(-0.3 - 0.25 * i, low - 0.04, high + 0.04, color="black", linewidth=4)
        for i, (rank, name) in enumerate(order):
            best = i < half
            y = names_from - 0.45 * (i if best else n - 1 - i)
            end = 0.7 if best else n + 0.3
            axes.plot([rank, rank, end], [0, y, y], color="tab:gray", linewidth=1)
            side = "left" if best else "right"
            axes.text(end, y, f" {name} ({rank:.2f}) ", ha=side, va="center")
    return path


def draw_ratios(board: Board, baseline: str, path: Path) -> Path:
    """Draw each system's error over the baseline's by dataset, sorted by the first system's ratio."""
    against = board.column(baseline)
    others = [system for system in board.systems if system != baseline]
    order = np.argsort(board.column(others[0]) / against)[::-1]
    with _axes(path, 7, 1.2 + 0.22 * len(order)) as axes:
        axes.axvline(1, color="black", linewidth=1, label=baseline)
        for system in others:
            ratios = (board.column(system) / against)[order]
            style = _style(board.systems.index(system))
            axes.plot(ratios, range(len(order)), linestyle="", markersize=5, label=system, alpha=0.8, **style)
        axes.set_xscale("log")
        axes.set_yticks(range(len(order)), [board.datasets[i] for i in order])
        axes.set(xlabel=f"error / error of {baseline} at {board.limit_s:g} s (left is better)")
        axes.xaxis.set_major_locator(MaxNLocator(8))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(axis="both", alpha=0.3)
        axes.legend(loc="best")
    return path


def draw_curves(report: Report, path: Path) -> Path:
    """Draw error over time: geometric means over datasets at each limit."""
    shared, lines = curves(report)
    with _axes(path, 6, 4) as axes:
        for number, (system, line) in enumerate(lines.items()):
            if line:
                limits, ratios = zip(*line, strict=True)
                axes.plot(limits, ratios, label=system, **_style(number))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([board.limit_s for board in report.boards]))
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_minor_locator(NullLocator())
        last = report.boards[-1].limit_s
        axes.set(
            xlabel="limit in seconds",
            ylabel=f"error / error of {report.baseline} at {last:g} s\n(geometric mean over {len(shared)} sets)",
        )
        axes.grid(alpha=0.3)
        axes.legend(loc="best")
    return path
