"""Finished runs on pairs of tables -> what another table is worth, in Markdown."""

import itertools
import json
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_cli.errors import BadData
from benchmarks.compare.boards import LEAST_SHARE, ratio_interval
from benchmarks.compare.report import table
from benchmarks.compare.rows import whole_lines

NO_SOURCE, POOLED = "target_only", "pooled"
UNLABELLED, WITHOUT_TARGET = "adapt", "source_only"
LOWER, WORSE = 1.0, 2.0  # standard errors
Curve = list[tuple[int, float]]


@dataclass(frozen=True)
class Run:
    """What one system did on one pair with one seed.

    Attributes
    ----------
    labels : int or None
        The number of labelled rows that was asked for; None: as many as the pair comes with.
    n_labels, n_source, n_scored : int
        Rows of the target that keep their label, rows of the source, rows that the error is of.
    limit_s, trials : float or None, int or None
        One of them: the limit of each fit.
    error : float or None
        1 - ROC AUC, log loss or root mean squared error on the scored rows; None: it failed.
    failure : str or None
        Why it failed.
    naive : float
        The error of a guess that ignores all columns, from the labelled rows.
    fit_s, predict_s : float or None
        Wall clock of the whole process.
    position : int
        Which in the turn of systems it was, from 0.
    source : str
        Digest of the program's code.
    transfer : any
        What ``automl fit --json`` says under this key.
    details : mapping
        What else it says; ``fitted_before``: the model, which has seen no label of the target, was fitted by an earlier
        run, of which the seconds are.
    """

    name: str
    task: str
    metric: str
    seed: int
    system: str
    labels: int | None
    n_labels: int
    n_source: int
    n_scored: int
    limit_s: float | None
    trials: int | None
    error: float | None
    failure: str | None
    naive: float
    fit_s: float | None
    predict_s: float | None
    peak_bytes: int = 0
    position: int = 0
    begun: str = ""
    load: float = 0.0
    source: str = ""
    commit: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    machine: str = ""
    transfer: Any = None
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int, int | None, str, float | None, int | None]:
        """Return what is run once."""
        return self.name, self.seed, self.labels, self.system, self.limit_s, self.trials


def read_runs(paths: Iterable[Path]) -> list[Run]:
    """Read the finished runs of files; one that is not there has none, and a last line cut by a kill is none."""
    runs = []
    for path in paths:
        for number, line in enumerate(whole_lines(path), start=1):
            try:
                runs.append(Run(**json.loads(line)))
            except (ValueError, TypeError) as error:
                raise BadData(
                    f"{path}, line {number} is no run: {error}", hint="name a file that `run` wrote"
                ) from error
    return runs


@dataclass(frozen=True)
class Errors:
    """The errors on one pair, draw by draw.

    Attributes
    ----------
    by_draw : ndarray of shape (n_draws, n_systems)
        Of the draws that all systems of this pair have run. A failed run counts as the guess that ignores all columns,
        or as the worst error of any system on this draw where that is larger.
    failed : tuple of int
        Failed runs of each system.
    naive : float
        The mean error of the guess.
    """

    name: str
    task: str
    n_labels: int
    n_source: int
    systems: tuple[str, ...]
    by_draw: NDArray[np.float64]
    failed: tuple[int, ...]
    naive: float

    def column(self, system: str) -> NDArray[np.float64]:
        """Return one system's errors."""
        return self.by_draw[:, self.systems.index(system)]

    def mean(self, system: str) -> float:
        """Return one system's mean error, which is not 0: that has no ratio."""
        return max(float(self.column(system).mean()), LEAST_SHARE * self.naive)


def errors_of(runs: Sequence[Run]) -> Errors | None:
    """Gather the runs on one pair with one number of labels; None: there is no draw that all systems have run."""
    found = {(run.seed, run.labels, run.system): run for run in runs}
    systems = tuple(dict.fromkeys(run.system for run in runs))
    draws = list(dict.fromkeys((run.seed, run.labels) for run in runs))
    whole = [[found[*draw, s] for s in systems] for draw in draws if all((*draw, s) in found for s in systems)]
    if not whole:
        return None
    by_draw = np.empty((len(whole), len(systems)))
    for i, line in enumerate(whole):
        worst = max([line[0].naive, *(run.error for run in line if run.error is not None)])
        by_draw[i] = [worst if run.error is None else run.error for run in line]
    failed = tuple(sum(line[j].error is None for line in whole) for j in range(len(systems)))
    first, naive = runs[0], statistics.mean(line[0].naive for line in whole)
    return Errors(first.name, first.task, first.n_labels, first.n_source, systems, by_draw, failed, naive)


def grouped(runs: Sequence[Run], key: Callable[[Run], Any]) -> list[Errors]:
    """Return the errors of each pair, or of each pair and number of labels."""
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key(run)].append(run)
    return [errors for group in groups.values() if (errors := errors_of(group)) is not None]


@dataclass(frozen=True)
class Against:
    """A system and a base on one pair.

    Attributes
    ----------
    difference, se : float
        The mean over draws of the error minus the base's, and its standard error; of one draw there is none.
    below : bool
        The mean error is below those of `target_only` and of `pooled`.
    """

    difference: float
    se: float
    ratio: float
    below: bool

    @property
    def lower(self) -> bool:
        """Whether it is lower by more than one standard error."""
        return self.difference < -LOWER * self.se

    @property
    def worse(self) -> bool:
        """Whether it is worse by more than two."""
        return self.difference > WORSE * self.se


def against(errors: Errors, system: str, base: str) -> Against | None:
    """Compare on one pair; None where not both were run."""
    if system not in errors.systems or base not in errors.systems:
        return None
    differences = errors.column(system) - errors.column(base)
    n = len(differences)
    se = float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else math.nan
    simple = [name for name in (NO_SOURCE, POOLED) if name in errors.systems]
    below = len(simple) == 2 and errors.mean(system) < min(errors.mean(name) for name in simple)
    ratio = errors.mean(system) / errors.mean(base)
    return Against(float(differences.mean()), se, ratio, below)


def labels_for(curve: Curve, error: float) -> tuple[str, float]:
    """Return how many labels a learning curve needs for an error: linear in it, over the logarithm of the labels.

    Parameters
    ----------
    curve : list of (int, float)
        Labels and mean error, by labels.

    Returns
    -------
    (``""``, labels), or (``">="``, the most of the curve) where it never comes so low, or (``"<"``, the least of it)
    where it begins lower.

    >>> labels_for([(10, 4.0), (40, 2.0), (160, 1.0)], 3.0)
    ('', 20.0)
    """
    if error > curve[0][1]:
        return "<", float(curve[0][0])
    if error == curve[0][1]:
        return "", float(curve[0][0])
    for (few, high), (many, low) in itertools.pairwise(curve):
        if low <= error:
            share = (high - error) / (high - low)
            return "", round(few * (many / few) ** share, 9)
    return ">=", float(curve[-1][0])


def markdown(runs: Sequence[Run], *, base: str = NO_SOURCE, system: str = "transfer") -> str:
    """Return the whole report."""
    parts = [_head(runs)]
    for limit_s, trials in dict.fromkeys((run.limit_s, run.trials) for run in runs):
        alike = [run for run in runs if (run.limit_s, run.trials) == (limit_s, trials)]
        parts.append(f"## {f'{trials} trials' if limit_s is None else f'{limit_s:g} s'} for each fit\n")
        for labels in sorted({run.labels for run in alike}, key=lambda n: n or 0):
            pairs = grouped([run for run in alike if run.labels == labels], lambda run: run.name)
            parts.append(f"### {'As many labels as the pair comes with' if labels is None else f'{labels} labels'}\n")
            parts.append(_pairs(pairs, system, base))
            if (system, base) != (UNLABELLED, WITHOUT_TARGET) and any(UNLABELLED in each.systems for each in pairs):
                parts.append(_versus(pairs, UNLABELLED, WITHOUT_TARGET))
            parts.append(_ratios(pairs, base))
        parts += [_curves(_points(alike)), _keeping(alike)]
    return "\n".join(part for part in parts if part)


def _head(runs: Sequence[Run]) -> str:
    days = sorted({run.begun[:10] for run in runs})
    versions = {name: v for run in runs for name, v in run.versions.items()}
    codes = sorted({f"{run.commit} ({run.source})" for run in runs})
    machines = sorted({run.machine for run in runs})
    return (
        "# Transfer\n\n"
        f"{' to '.join(sorted({days[0], days[-1]})) if days else 'no runs'}. {'; '.join(machines)}. "
        f"Code: {', '.join(codes)}; {', '.join(f'{name} {v}' for name, v in versions.items())}.\n\n"
        "Error is 1 - ROC AUC (binary), log loss (multiclass) or root mean squared error (regression) on the target's "
        "rows that were not labelled, the mean over the draws that all systems have run; lower is better. Standard "
        "errors are over draws, which share rows. A failed run counts as a guess that ignores all columns, or as the "
        "worst system on that draw where that is worse.\n"
    )


def _pairs(pairs: Sequence[Errors], system: str, base: str) -> str:
    systems = _systems(pairs)
    lines = []
    for each in pairs:
        cells = [_mean(each, name) for name in systems]
        lines.append([each.name, each.task, str(each.n_labels), f"{each.n_source:,}", str(len(each.by_draw)),
                      f"{each.naive:.5g}", *cells])  # fmt: skip
    head = ["pair", "task", "labels", "source rows", "draws", "guess", *systems]
    return table(head, lines) + "\n" + _versus(pairs, system, base)


def _systems(pairs: Sequence[Errors]) -> list[str]:
    return list(dict.fromkeys(name for each in pairs for name in each.systems))


def _mean(errors: Errors, system: str) -> str:
    if system not in errors.systems:
        return "-"
    n_failed = errors.failed[errors.systems.index(system)]
    return f"{errors.mean(system):.5g}" + (f" ({n_failed} failed)" if n_failed else "")


def _versus(pairs: Sequence[Errors], system: str, base: str) -> str:
    found = {each.name: (each, a) for each in pairs if (a := against(each, system, base)) is not None}
    if not found:
        return f"No pair has runs of both {system} and {base}.\n"
    lines = []
    for name, (_, a) in found.items():
        said = "lower" if a.lower else "worse" if a.worse else ""
        lines.append([name, f"{a.difference:+.4g}", "-" if math.isnan(a.se) else f"{a.se:.2g}", f"{a.ratio:.4f}", said])
    n = len(found)
    simple = [a for each, a in found.values() if {NO_SOURCE, POOLED} <= set(each.systems)]
    told = (
        f"{system} against {base}: lower by more than one standard error on {sum(a.lower for _, a in found.values())} "
        f"of {n}, worse by more than two on {sum(a.worse for _, a in found.values())}"
    )
    if simple and system not in (NO_SOURCE, POOLED, UNLABELLED):
        told += f", below the better of {NO_SOURCE} and {POOLED} on {sum(a.below for a in simple)} of {len(simple)}"
    head = ["pair", f"{system} - {base}", "standard error", "ratio", ""]
    return f"{table(head, lines)}\n{told}.\n"


def _ratios(pairs: Sequence[Errors], base: str) -> str:
    versus = [(system, base) for system in _systems(pairs) if system != base]
    if base != WITHOUT_TARGET:
        versus += [(system, WITHOUT_TARGET) for system in _systems(pairs) if system == UNLABELLED]
    lines = []
    for system, to in versus:
        ratios = np.array([a.ratio for each in pairs if (a := against(each, system, to)) is not None])
        if len(ratios):
            low, high = ratio_interval(np.log(ratios))
            span = "" if math.isnan(low) else f" ({low:.4f} to {high:.4f})"
            lines.append([system, to, str(len(ratios)), f"{statistics.geometric_mean(ratios):.4f}{span}"])
    if not lines:
        return ""
    return "Geometric mean of error ratios over pairs, below 1 the system is better; bootstrap over pairs.\n\n" + table(
        ["system", "against", "pairs", "error ratio (95 %)"], lines
    )


def _points(runs: Sequence[Run]) -> list[Errors]:
    """Return the errors of each pair and number of labels."""
    # a number that was asked for and is also what the pair comes with would count twice
    asked = {(run.name, run.n_labels) for run in runs if run.labels is not None}
    kept = [run for run in runs if run.labels is not None or (run.name, run.n_labels) not in asked]
    return grouped(kept, lambda run: (run.name, run.n_labels))


def _curves(points: Sequence[Errors]) -> str:
    by_pair: dict[str, list[Errors]] = defaultdict(list)
    for each in sorted(points, key=lambda each: each.n_labels):
        by_pair[each.name].append(each)
    by_pair = {name: line for name, line in by_pair.items() if len(line) > 1}
    if not by_pair:
        return ""
    systems = _systems(points)
    lines = [
        [each.name, str(each.n_labels), str(len(each.by_draw)), *(_mean(each, name) for name in systems)]
        for line in by_pair.values()
        for each in line
    ]
    said = "### Learning curves\n\n" + table(["pair", "labels", "draws", *systems], lines)
    others = [name for name in systems if name != NO_SOURCE]
    saved = {name: saved_by(by_pair, name) for name in others}
    if not any(saved.values()):
        return said
    lines = [
        [each.name, str(each.n_labels), *(_saved(saved[name].get((each.name, each.n_labels))) for name in others)]
        for line in by_pair.values()
        for each in line
    ]
    medians = [
        f"{name}: {median:.2f} over {len(found)} points"
        for name, found in saved.items()
        if found and not math.isnan(median := at_least([*found.values()]))
    ]
    return (
        f"{said}\nLabels saved: how many labels {NO_SOURCE} needs for the same error, over those that the system had; "
        f"between the points of {NO_SOURCE}'s mean curve linear in the error over the logarithm of the labels. >=: the "
        "curve does not come so low; <: it begins lower.\n\n"
        f"{table(['pair', 'labels', *others], lines)}\n"
        f"Medians, at least (>= counts as no more, < as 0): {'; '.join(medians)}.\n"
    )


def saved_by(by_pair: dict[str, list[Errors]], system: str) -> dict[tuple[str, int], tuple[str, float]]:
    """Return the labels that target_only needs for the system's error over the system's own, by pair and labels."""
    saved = {}
    for name, line in by_pair.items():
        curve = [(each.n_labels, each.mean(NO_SOURCE)) for each in line if NO_SOURCE in each.systems]
        if len(curve) > 1:
            for each in line:
                if system in each.systems:
                    sign, n = labels_for(curve, each.mean(system))
                    saved[name, each.n_labels] = sign, n / each.n_labels
    return saved


def at_least(saved: Sequence[tuple[str, float]]) -> float:
    """Return the least that the median can be."""
    return statistics.median(0.0 if sign == "<" else times for sign, times in saved)


def _saved(found: tuple[str, float] | None) -> str:
    return "-" if found is None else f"{found[0]} {found[1]:.2f}".strip()


def _keeping(runs: Sequence[Run]) -> str:
    head = ["system", "runs", "failed", "fit: median and longest", "over the limit", "predictions", "most memory"]
    lines, failures = [], []
    for system in dict.fromkeys(run.system for run in runs):
        own = [run for run in runs if run.system == system]
        fits = [run.fit_s for run in own if run.error is not None and run.fit_s is not None]
        predict = [run.predict_s for run in own if run.error is not None and run.predict_s is not None]
        over = sum(run.limit_s is not None and run.fit_s is not None and run.fit_s > run.limit_s for run in own)
        lines.append(
            [
                system,
                str(len(own)),
                str(sum(run.error is None for run in own)),
                f"{statistics.median(fits):.1f} s, {max(fits):.1f} s" if fits else "none",
                str(over),
                f"{statistics.median(predict):.1f} s" if predict else "none",
                f"{max(run.peak_bytes for run in own) / 1e6:.0f} MB",
            ]
        )
        failures += [
            [system, run.name, str(run.n_labels), str(run.seed), run.failure or ""] for run in own if run.error is None
        ]
    said = "### Failures and limits\n\n" + table(head, lines)
    return said + ("\n" + table(["system", "pair", "labels", "seed", "reason"], failures) if failures else "")
