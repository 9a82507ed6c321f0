"""How far optimizers are from a known optimum, by evaluations, dimensions and workers, on a simulated clock.

A problem has families of different quality and price, each with conditional hyperparameters of which few matter. Its
trials take simulated seconds: an event queue keeps the workers busy, and nothing waits. Rows are appended to a file of
JSON lines as they are made; what is in the file is not run again.

usage: python -m benchmarks.optimizers [--out optimizers.jsonl] [--seeds 5] [--first-seed 0] [--trials 100]
           [--dimensions 20 60 200] [--workers 1 4 16 64] [--systems random joint bandit ...] [--table]
"""

import argparse
import heapq
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ConfigSpace import Categorical, Configuration, ConfigurationSpace, EqualsCondition, Float, Integer
from ConfigSpace.hyperparameters import Hyperparameter

from automl_cli.optimizer import Bandit, Optimizer, Portfolio, RandomSearch, Smac, SpaceExhausted, load_smac
from automl_cli.trial import Pipeline, Value

CHECKPOINTS = (25, 50, 100, 150, 200, 300)
FAILED = 1.0  # the regret of a search that has nothing
Row = dict[str, Any]  # what `simulate` returns, and the case that it is of


@dataclass(frozen=True)
class Hidden:
    """One hyperparameter, its best value and what a miss costs."""

    name: str
    kind: str  # float, integer or choice
    best: float  # from 0 to 1, or the number of the best choice
    weight: float
    under_switch: bool


@dataclass(frozen=True)
class Problem:
    """Families with a known optimum: loss 0, in the first of them."""

    families: dict[str, tuple[Hidden, ...]]
    offsets: dict[str, float]
    prices: dict[str, float]
    noise: float = 0.004

    def space(self, names: tuple[str, ...]) -> ConfigurationSpace:
        space = ConfigurationSpace()
        family = Categorical("family", list(names))
        space.add(family)
        for name in names:
            parts = [_parameter(name, hidden) for hidden in self.families[name]]
            switch = Categorical(f"{name}:switch", [True, False])
            space.add(switch, *parts)
            space.add(EqualsCondition(switch, family, name))
            for part, hidden in zip(parts, self.families[name], strict=True):
                space.add(EqualsCondition(part, *((switch, True) if hidden.under_switch else (family, name))))
        return space

    def regret(self, pipeline: Pipeline) -> float | None:
        """Return the distance to the optimum; None where the pipeline fails."""
        values, loss = pipeline.hyperparameters, self.offsets[pipeline.family]
        misses = []
        for hidden in self.families[pipeline.family]:
            if hidden.name not in values:
                misses.append((hidden, 0.7))  # a switch that is off: neither the best nor the worst
                continue
            misses.append((hidden, _miss(hidden, values[hidden.name])))
        if misses[-1][1] > 0.9 and misses[-1][0].kind != "choice":
            return None
        loss += sum(hidden.weight * miss for hidden, miss in misses)
        # two that matter depend on each other
        return loss + 0.5 * math.sqrt(misses[0][0].weight * misses[1][0].weight) * misses[0][1] * misses[1][1]

    def seconds(self, pipeline: Pipeline) -> float:
        hidden = self.families[pipeline.family][1]
        return self.prices[pipeline.family] * math.exp(
            1.5 * (_place(hidden, pipeline.hyperparameters[hidden.name]) - 0.5)
        )

    def defaults(self) -> list[Pipeline]:
        """Return one pipeline of each family, as good as a published default: the middle of every range."""
        middle: dict[str, Value] = {"float": 0.1, "integer": 50, "choice": "a"}
        return [
            Pipeline(
                name,
                "codes",
                {h.name: middle[h.kind] for h in hidden if not h.under_switch} | {"switch": False},
            )
            for name, hidden in self.families.items()
        ]


def make_problem(n_dimensions: int, seed: int) -> Problem:
    """Draw a problem with about ``n_dimensions`` hyperparameters, the choice of the family included."""
    rng = np.random.default_rng([seed, n_dimensions])
    n_families = 4 if n_dimensions < 40 else 8
    n_own = (n_dimensions - 1) // n_families - 1  # besides the switch
    names = [f"f{i}" for i in range(n_families)]
    order = [str(name) for name in rng.permutation(names)]
    families = {}
    for name in names:
        weights = np.full(n_own, 0.004)  # together less than one that matters
        n_matter = min(n_own, 2 + round(0.15 * n_own))
        weights[:n_matter] = rng.dirichlet(np.full(n_matter, 3.0)) * rng.uniform(0.4, 0.8)
        kinds = ["float", "float", *rng.choice(["float", "integer", "choice"], size=n_own)][:n_own]
        families[name] = tuple(
            Hidden(
                f"h{i}",
                kind,
                float(rng.integers(4)) if kind == "choice" else float(rng.uniform(0.1, 0.9)),
                float(weights[i]),
                under_switch=i >= 2 and i % 4 == 3,
            )
            for i, kind in enumerate(kinds)
        )
    offsets = dict(zip(order, [0.0, *np.sort(rng.uniform(0.02, 0.4, n_families - 1))], strict=True))
    prices = {name: float(np.exp(rng.uniform(np.log(0.5), np.log(10.0)))) for name in names}
    return Problem(families, {name: float(offset) for name, offset in offsets.items()}, prices)


def _parameter(family: str, hidden: Hidden) -> Hyperparameter[Any, Any]:
    name = f"{family}:{hidden.name}"
    if hidden.kind == "float":
        return Float(name, (0.001, 10.0), log=True)
    if hidden.kind == "integer":
        return Integer(name, (1, 100))
    return Categorical(name, ["a", "b", "c", "d"])


def _place(hidden: Hidden, value: Value) -> float:
    return math.log10(float(value) / 0.001) / 4 if hidden.kind == "float" else (float(value) - 1) / 99


def _miss(hidden: Hidden, value: Value) -> float:
    """Return 0 for the best value, and 1 for the farthest that is possible in any problem."""
    if hidden.kind == "choice":
        return float("abcd".index(str(value)) != int(hidden.best))
    return float(min(1.0, 1.4 * abs(_place(hidden, value) - hidden.best)) ** 1.5)


def to_pipeline(configuration: Configuration) -> Pipeline:
    values = {k: v.item() if hasattr(v, "item") else v for k, v in dict(configuration).items()}
    family = str(values.pop("family"))
    return Pipeline(family, "codes", {name.partition(":")[2]: value for name, value in values.items()})


def to_configuration(space: ConfigurationSpace, pipeline: Pipeline) -> Configuration:
    values = {f"{pipeline.family}:{name}": value for name, value in pipeline.hyperparameters.items()}
    return Configuration(space, {"family": pipeline.family, **values})


def joint(problem: Problem, seed: int, *, local: bool = False, believe: bool = True) -> Optimizer:
    space = problem.space(tuple(problem.families))
    return Smac(space, to_pipeline, to_configuration, seed=seed, local=local, believe=believe)


def bandit(problem: Problem, seed: int, *, timed: bool = False, local: bool = True, min_told: int = 3) -> Optimizer:
    arms = {
        name: Smac(problem.space((name,)), to_pipeline, to_configuration, seed=seed, local=local, min_told=min_told)
        for name in problem.families
    }
    return Bandit(arms, timed=timed)


SYSTEMS: dict[str, Callable[[Problem, int], Optimizer]] = {
    "random": lambda p, seed: RandomSearch(p.space(tuple(p.families)), to_pipeline, seed=seed),
    # as SMAC's facade: no account of what is running; on one worker the same as "joint", so it is not run there
    "plain": lambda p, seed: joint(p, seed, believe=False),
    "joint": joint,
    "joint-local": lambda p, seed: joint(p, seed, local=True),
    "bandit": bandit,
    "bandit-timed": lambda p, seed: bandit(p, seed, timed=True),
    "bandit-not-local": lambda p, seed: bandit(p, seed, local=False),
    "bandit-5-told": lambda p, seed: bandit(p, seed, min_told=5),
}
DEFAULT_SYSTEMS = ("random", "plain", "joint", "bandit")


def simulate(problem: Problem, optimizer: Optimizer, n_trials: int, n_workers: int, seed: int) -> dict[str, object]:
    """Run ``n_trials`` on ``n_workers`` by the clock of an event queue; a proposal takes no time on it."""
    rng = np.random.default_rng([seed, 7])
    events: list[tuple[float, int, Pipeline]] = []
    now, best_noisy, best, n_asked = 0.0, math.inf, FAILED, 0
    curve: list[tuple[float, float]] = []  # seconds and regret after each trial
    asks: list[float] = []
    while len(curve) < n_trials:
        while len(events) < n_workers and n_asked < n_trials:
            began = time.process_time()
            try:
                pipeline, _ = optimizer.ask()
            except SpaceExhausted:
                break
            asks.append(time.process_time() - began)
            heapq.heappush(events, (now + problem.seconds(pipeline), n_asked, pipeline))
            n_asked += 1
        if not events:
            break
        now, _, pipeline = heapq.heappop(events)
        regret = problem.regret(pipeline)
        noisy = None if regret is None else regret + 0.2 + problem.noise * float(rng.standard_normal())
        optimizer.tell(pipeline, noisy, problem.seconds(pipeline))
        if regret is not None and noisy is not None and noisy < best_noisy:
            best_noisy, best = noisy, regret
        curve.append((now, best))
    return {
        "regret": {n: curve[n - 1][1] for n in CHECKPOINTS if n <= len(curve)},
        "regret_at_seconds": {s: _at(curve, s) for s in (15, 60, 240)},
        "seconds": now,
        "mean_ask": statistics.fmean(asks),
        "worst_ask": max(asks),
    }


def _at(curve: list[tuple[float, float]], seconds: float) -> float:
    return next((best for when, best in reversed(curve) if when <= seconds), FAILED)


def cases(args: argparse.Namespace) -> Iterator[tuple[int, int, int, str]]:
    seeds = range(args.first_seed, args.first_seed + args.seeds)
    every = itertools.product(seeds, args.workers, args.dimensions, args.systems)
    return (case for case in every if (case[1], case[3]) != (1, "plain"))


def run(args: argparse.Namespace) -> None:
    path = Path(args.out)
    done = {_key(row) for row in read(path)}
    load_smac()
    with path.open("a", encoding="utf-8") as rows:
        for seed, n_workers, n_dimensions, system in cases(args):
            case = {"system": system, "dimensions": n_dimensions, "workers": n_workers, "seed": seed}
            case["trials"] = args.trials
            if _key(case) in done:
                continue
            problem = make_problem(n_dimensions, seed)
            optimizer = Portfolio(problem.defaults(), SYSTEMS[system](problem, seed))
            case |= simulate(problem, optimizer, args.trials, n_workers, seed)
            rows.write(json.dumps(case) + "\n")
            rows.flush()
            print(json.dumps(case), flush=True)


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _key(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row[name] for name in ("system", "dimensions", "workers", "seed", "trials"))


def _case(row: dict[str, object]) -> tuple[object, ...]:
    return row["system"], row["dimensions"], row["workers"]


def table(rows: list[Row], measure: Callable[[Row], float]) -> str:
    """Return the mean over the seeds that all systems have, one line for each dimension and number of workers."""
    systems = list(dict.fromkeys(row["system"] for row in rows))
    lines = ["| hyperparameters | workers | seeds | " + " | ".join(map(str, systems)) + " |"]
    lines.append("|---" * (3 + len(systems)) + "|")
    for case in sorted({(row["dimensions"], row["workers"]) for row in rows}):
        by_system = {
            system: {row["seed"]: measure(row) for row in rows if (system, *case) == _case(row)} for system in systems
        }
        seeds = set.intersection(*(set(values) for values in by_system.values() if values))
        means = [
            f"{statistics.fmean(values[seed] for seed in seeds):.3f}" if values else "-"
            for values in by_system.values()
        ]
        lines.append(f"| {case[0]} | {case[1]} | {len(seeds)} | " + " | ".join(means) + " |")
    return "\n".join(lines)


def measured_at(measure: str, point: int) -> Callable[[Row], float]:
    return lambda row: row[measure][str(point)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="optimizers.jsonl")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0, help="of problems and searches")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[20, 60, 200])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--systems", nargs="+", default=DEFAULT_SYSTEMS, choices=SYSTEMS)
    parser.add_argument("--table", action="store_true", help="only print what the file holds")
    args = parser.parse_args()
    if not args.table:
        run(args)
    rows = [row for row in read(Path(args.out)) if row["system"] in args.systems and row["trials"] == args.trials]
    for n in (n for n in CHECKPOINTS if n <= args.trials):
        print(f"\nRegret after {n} trials\n\n{table(rows, measured_at('regret', n))}")
    for s in (15, 60, 240):
        print(f"\nRegret after {s} simulated seconds\n\n{table(rows, measured_at('regret_at_seconds', s))}")
    print(f"\nMean seconds of an ask\n\n{table(rows, lambda row: row['mean_ask'])}")
    print(f"\nLongest ask, seconds\n\n{table(rows, lambda row: row['worst_ask'])}")


if __name__ == "__main__":
    main()
