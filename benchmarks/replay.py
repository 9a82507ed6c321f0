"""Replay rules for stopping early on recorded curves: what is saved, and what does it cost?

usage: python -m benchmarks.replay CURVES [--orders 20] [--ensembles 6] [--families lightgbm xgboost]

CURVES is what curves.py recorded. Every table's configurations arrive in random orders, one after another, as a search
would propose them; the first of each family is not raced, as in a search. Prints Markdown tables: rules between folds,
rules inside the boosting rounds of a fold, and the patience of boosting. All means are over tables of equal weight.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.ensemble import combine, greedy_weights
from automl_cli.families.boosting import least_patience
from automl_cli.metrics import METRICS
from automl_cli.racing import RULES, Rule, never, reachable, should_stop

INSIDE = ("forgiving", "robust 1", "robust 2", "paired 1", "paired 2")
FIRST_RUNG = 64  # rounds; then 128, 256, ...
# Boosting waits max(least, share * best round + 20) rounds for a gain. The others are held against the first.
PATIENCES = ((300, 0.3), (150, 0.3), (100, 0.3), (50, 0.3), (20, 0.3), (100, 0.2), (50, 0.2), (50, 0.1), (20, 0.1))


@dataclass(frozen=True)
class Recorded:
    """One configuration on one table.

    Attributes
    ----------
    losses, seconds : ndarray (n_folds,)
        Of the user's metric; processor time.
    curves : tuple of ndarray (n_rounds,)
        What boosting watches, round by round and fold by fold; empty for other families.
    """

    number: int
    family: str
    losses: np.ndarray
    seconds: np.ndarray
    oof: np.ndarray
    curves: tuple[np.ndarray, ...]
    rate: float

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    def watched(self) -> tuple[float, ...]:
        return tuple(float(curve.min()) for curve in self.curves)


@dataclass(frozen=True)
class Table:
    name: str
    y: np.ndarray
    metric: str
    kind: str
    n_rows: int
    runs: tuple[Recorded, ...]


@dataclass(frozen=True)
class Race:
    """What came of one order of configurations under one rule.

    Attributes
    ----------
    finished : tuple of (place in the order, Recorded)
        Those that were not stopped.
    spent : ndarray (n_configurations,)
        Seconds used when each configuration was done with.
    """

    finished: tuple[tuple[int, Recorded], ...]
    spent: np.ndarray


Inside = Callable[[Recorded, Recorded, int], int | None]
"""``inside(challenger, incumbent, fold) -> round`` at which the fold is given up, or None."""


def load(folder: Path, families: Sequence[str] | None) -> list[Table]:
    return [table for place in sorted(folder.iterdir()) if (table := _load(place, families)) and len(table.runs) > 2]


def _load(place: Path, families: Sequence[str] | None) -> Table:
    with np.load(place / "table.npz") as arrays:
        facts, y = json.loads(str(arrays["facts"])), arrays["y"]
    runs = []
    for path in sorted(place.glob("[0-9]*.npz")):
        with np.load(path) as arrays:
            about = json.loads(str(arrays["facts"]))
            if families is not None and about["family"] not in families:
                continue
            curves = tuple(arrays[key] for key in sorted(arrays) if key.startswith("curve_"))
            whole = len(curves) in (0, len(arrays["losses"]))
            runs.append(
                Recorded(about["number"], about["family"], arrays["losses"],
                         arrays["seconds"], arrays["oof"], curves if whole else (),
                         about["hyperparameters"].get("learning_rate", 0.0))
            )  # fmt: skip
    return Table(place.name, y, facts["metric"], facts["kind"], facts["n_rows"], tuple(runs))


def ends(curve: np.ndarray, floor: float, least: float, share: float = 0.3) -> int:
    """Return the round at which boosting ends that waits ``max(least, share * best + 20)`` rounds, as `Stopping`."""
    loss = curve.astype(float)
    rounds = np.arange(1, len(loss) + 1)
    low = np.minimum.accumulate(loss)
    best = np.maximum.accumulate(np.where(np.r_[True, loss[1:] < low[:-1]], rounds, 0))
    gained, reference = np.ones(len(loss), dtype=int), loss[0]
    step = floor * abs(loss[0])
    for k in np.flatnonzero(best == rounds):  # a gain is a new lowest loss at least
        if loss[k] < reference - max(1e-4 * abs(reference), step):
            reference = loss[k]
            gained[k] = k + 1
    gained = np.maximum.accumulate(gained)
    late = np.flatnonzero(rounds - gained >= np.maximum(least, share * best + 20))
    return int(late[0]) + 1 if len(late) else len(loss)


def as_fitted(table: Table) -> Table:
    """Shorten curves and seconds to what boosting does today: stop after its patience."""
    floor = 0.0 if table.kind == "regression" else 1e-5
    least = least_patience(table.n_rows)
    runs = []
    for run in table.runs:
        if not run.curves:
            runs.append(run)
            continue
        last = [ends(curve, floor, least) for curve in run.curves]
        curves = tuple(curve[:n] for curve, n in zip(run.curves, last, strict=True))
        share = np.array([n / len(curve) for curve, n in zip(run.curves, last, strict=True)])
        runs.append(Recorded(run.number, run.family, run.losses, run.seconds * share, run.oof, curves, run.rate))
    return Table(table.name, table.y, table.metric, table.kind, table.n_rows, tuple(runs))


def race(order: Sequence[Recorded], rule: Rule, inside: Inside | None = None, *, quirk: bool = False) -> Race:
    """Let configurations arrive one after another.

    ``quirk`` replaces the incumbent by every survivor, as the published code of the forgiving rule does.
    """
    incumbent: Recorded | None = None
    seen: set[str] = set()
    finished: list[tuple[int, Recorded]] = []
    spent: list[float] = []
    total, lowest = 0.0, math.inf
    for run in order:
        raced = incumbent is not None and run.family in seen
        seen.add(run.family)
        used, stopped = _one(run, incumbent if raced else None, rule, inside)
        total += used
        if not stopped:
            finished.append((len(spent), run))
            if incumbent is None or run.loss < lowest or quirk:
                incumbent = run
            lowest = min(lowest, run.loss)
        spent.append(total)
    return Race(tuple(finished), np.array(spent))


def _one(run: Recorded, incumbent: Recorded | None, rule: Rule, inside: Inside | None) -> tuple[float, bool]:
    """Return the seconds of one configuration and whether it was stopped."""
    used = 0.0
    n_folds = len(run.losses)
    if incumbent is None:
        return float(run.seconds.sum()), False
    for fold in range(n_folds):
        if inside is not None and run.curves and incumbent.curves:
            at = inside(run, incumbent, fold)
            if at is not None:
                return used + run.seconds[fold] * at / len(run.curves[fold]), True
        used += run.seconds[fold]
        if fold + 1 < n_folds and rule(run.losses[: fold + 1].tolist(), incumbent.losses.tolist()).stop:
            return used, True
    return used, False


def rungs(curve: np.ndarray, first: int = FIRST_RUNG) -> Iterator[tuple[int, float]]:
    """Yield (round, lowest loss so far) at rounds that double."""
    while first < len(curve):
        yield first, float(curve[:first].min())
        first *= 2


def by_power_law(rule: Rule) -> Inside:
    """Hold where the power law through the last three rungs ends against what the incumbent's folds reached."""

    def inside(run: Recorded, incumbent: Recorded, fold: int) -> int | None:
        points: list[float] = []
        for rung, low in rungs(run.curves[fold], FIRST_RUNG // 4):
            points.append(low)
            losses = [*run.watched()[:fold], reachable(points)]
            if rung >= FIRST_RUNG and rule(losses, incumbent.watched()).stop:
                return rung
        return None

    return inside


def at_same_round(slack: float) -> Inside:
    """Give up where the lowest loss is above the incumbent's after as many rounds: unfair to small rates."""

    def inside(run: Recorded, incumbent: Recorded, fold: int) -> int | None:
        theirs = incumbent.curves[fold]
        return next((at for at, low in rungs(run.curves[fold]) if low >= (1 + slack) * theirs[:at].min()), None)

    return inside


def at_same_progress(slack: float) -> Inside:
    """Give up where the lowest loss is above the incumbent's after as much learning: rounds times rate."""

    def inside(run: Recorded, incumbent: Recorded, fold: int) -> int | None:
        theirs, faster = incumbent.curves[fold], run.rate / incumbent.rate
        bounds = ((at, low, theirs[: max(1, round(at * faster))].min()) for at, low in rungs(run.curves[fold]))
        return next((at for at, low, bound in bounds if low >= (1 + slack) * bound), None)

    return inside


@dataclass(frozen=True)
class Ensembles:
    """Losses of the greedy ensembles of one table's configurations, each weighed once."""

    table: Table
    known: dict[tuple[int, ...], float] = field(default_factory=dict)

    def loss(self, runs: Sequence[Recorded]) -> float:
        """Return the loss of the greedy ensemble of the 40 best."""
        chosen = sorted(runs, key=lambda run: run.loss)[:40]
        key = tuple(run.number for run in chosen)
        if key not in self.known:
            metric = METRICS[self.table.metric]
            oof = np.stack([run.oof for run in chosen])
            weights = greedy_weights(oof, self.table.y, metric)
            self.known[key] = float(metric.loss(self.table.y, combine(oof, weights), None))
        return self.known[key]


def until(outcome: Race, seconds: float) -> list[Recorded]:
    """Return what was validated completely after so many seconds, the first in any case."""
    return [run for place, run in outcome.finished if outcome.spent[place] <= seconds or place == 0]


def against(full: Race, raced: Race, ensembles: Ensembles | None) -> tuple[float, ...]:
    """Return the figures of one order: shares and ratios, NaN for ensembles that are not to be weighed."""
    every, kept = [run for _, run in full.finished], [run for _, run in raced.finished]
    winner = min(every, key=lambda run: run.loss)
    half = full.spent[-1] / 2
    by_half = until(full, half), until(raced, half)
    return (
        1 - len(kept) / len(every),
        1 - raced.spent[-1] / full.spent[-1],
        float(all(run.number != winner.number for run in kept)),
        _ratio(min(run.loss for run in kept), winner.loss),
        _ratio(min(run.loss for run in by_half[1]), min(run.loss for run in by_half[0])),
        _ratio(ensembles.loss(kept), ensembles.loss(every)) if ensembles else math.nan,
        _ratio(ensembles.loss(by_half[1]), ensembles.loss(by_half[0])) if ensembles else math.nan,
    )


def compare(tables: Sequence[Table], contenders: dict[str, dict[str, Any]], orders: int, weighed: int) -> None:
    """Print one line per rule."""
    print("| rule | stopped | seconds saved | winner stopped | final loss | largest "
          "| at half time | ensemble | at half time |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|")
    every = [(table, Ensembles(table), np.random.default_rng(0)) for table in tables]
    plans = [
        (table, ensembles, [[table.runs[i] for i in rng.permutation(len(table.runs))] for _ in range(orders)])
        for table, ensembles, rng in every
    ]
    for name, settings in contenders.items():
        rows = []
        for _, ensembles, some in plans:
            per_order = [
                against(race(order, never), race(order, **settings), ensembles if k < weighed else None)
                for k, order in enumerate(some)
            ]
            rows.append((_mean(per_order), max(figures[3] for figures in per_order)))
        mean = np.mean([row[0] for row in rows], axis=0)
        largest = max(row[1] for row in rows)
        print(
            f"| {name} | {mean[0]:.0%} | {mean[1]:.0%} | {mean[2]:.1%} | {mean[3]:+.3%} | {largest:+.2%} "
            f"| {mean[4]:+.2%} | {mean[5]:+.3%} | {mean[6]:+.3%} |"
        )


def _mean(rows: Sequence[Sequence[float]]) -> np.ndarray:
    """Return the mean over rows; the ensemble was weighed in the first ones only."""
    return np.array([np.mean([value for value in column if not math.isnan(value)] or [math.nan])
                     for column in zip(*rows, strict=True)])  # fmt: skip


def _ratio(loss: float, reference: float) -> float:
    return loss / reference - 1 if reference > 0 else 0.0


def patience(tables: Sequence[Table]) -> None:
    """Print what shorter patience saves and loses on the curves that boosting watches."""
    print("| patience | rounds saved | seconds saved | folds that lose | watched loss | largest | best on a table |")
    print("|---|---|---|---|---|---|---|")
    for least, share in PATIENCES:
        rows = [_patience(table, least, share) for table in tables if any(run.curves for run in table.runs)]
        mean, largest = np.mean(rows, axis=0), max(row[4] for row in rows)
        print(
            f"| max({least}, {share:g} best + 20) | {mean[0]:.0%} | {mean[1]:.0%} | {mean[2]:.1%} | {mean[3]:+.3%} "
            f"| {largest:+.2%} | {mean[5]:+.3%} |"
        )


def _patience(table: Table, least: float, share: float) -> tuple[float, ...]:
    """Return rounds and seconds saved, folds that lose, the mean and the largest loss, and that of the table's best."""
    floor = 0.0 if table.kind == "regression" else 1e-5
    runs = [run for run in table.runs if run.curves]
    short = np.array([[ends(curve, floor, least, share) for curve in run.curves] for run in runs])
    full = np.array([[ends(curve, floor, *PATIENCES[0]) for curve in run.curves] for run in runs])
    lowest, reference = (
        np.array([[float(curve[:n].min()) for curve, n in zip(run.curves, row, strict=True)]
                  for run, row in zip(runs, rounds, strict=True)])
        for rounds in (short, full)
    )  # fmt: skip
    per_round = np.array([run.seconds / [len(curve) for curve in run.curves] for run in runs])
    lost = lowest / reference - 1
    return (
        1 - float(np.mean(short / full)),
        1 - float((per_round * short).sum() / (per_round * full).sum()),
        float(np.mean(lost > 1e-4)),
        float(lost.mean()),
        float(lost.max()),
        _ratio(float(lowest.mean(axis=1).min()), float(reference.mean(axis=1).min())),
    )


def extract(tables: Sequence[Table], path: Path) -> None:
    """Write families and fold losses alone, to four digits: enough to replay rules between folds."""
    rows = [
        [[run.family, *(float(f"{loss:.4g}") for loss in run.losses)] for run in table.runs if np.isfinite(run.loss)]
        for table in tables
    ]
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("curves", type=Path)
    parser.add_argument("--orders", type=int, default=20)
    parser.add_argument("--ensembles", type=int, default=6, help="orders of which the ensemble is weighed")
    parser.add_argument("--families", nargs="*")
    parser.add_argument("--extract", type=Path, help="write the losses of folds to this file and leave")
    args = parser.parse_args()
    tables = load(args.curves, args.families)
    if args.extract:
        extract(tables, args.extract)
        return
    n = sum(len(table.runs) for table in tables)
    boosted = sum(bool(run.curves) for table in tables for run in table.runs)
    print(f"{n} recordings on {len(tables)} tables, {boosted} of them boosted\n\n## Between folds\n")
    fitted = [as_fitted(table) for table in tables]
    contenders: dict[str, dict[str, Any]] = {name: {"rule": rule} for name, rule in RULES.items()}
    contenders["forgiving, every survivor"] = {"rule": RULES["forgiving"], "quirk": True}
    compare(fitted, contenders, args.orders, args.ensembles)
    print("\n## Inside the rounds of a fold, with paired 1 between folds\n")
    insides = {f"power law, {name}": by_power_law(RULES[name]) for name in INSIDE}
    for slack in (0.0, 0.1, 0.2):
        insides[f"same round, slack {slack:.0%}"] = at_same_round(slack)
        insides[f"same rounds x rate, slack {slack:.0%}"] = at_same_progress(slack)
    compare(fitted, {"folds only": {"rule": should_stop}} | {
        name: {"rule": should_stop, "inside": inside} for name, inside in insides.items()
    }, args.orders, args.ensembles)  # fmt: skip
    print("\n## Patience of boosting\n")
    patience(tables)


if __name__ == "__main__":
    main()
