"""CPU seconds that one proposal costs in this program's own space, after 30 to 220 results.

usage: python -m benchmarks.asks [--told 30 60 120 220] [--pending 2 64] [--asks 10]
"""

import argparse
import statistics
import time

import numpy as np

from automl_cli.families import find_families
from automl_cli.families.family import Shape
from automl_cli.optimizer import Bandit, Optimizer, RandomSearch, Smac, family_optimizer, load_smac
from automl_cli.space import build_space, to_configuration, to_pipeline
from automl_cli.task import TaskKind

SHAPE = Shape(TaskKind.BINARY, n_rows=5000, n_columns=20, n_categorical=5, n_outputs=2)


def optimizers() -> dict[str, Optimizer]:
    families = find_families()
    arms = {
        name: family_optimizer(build_space({name: family}, SHAPE), to_pipeline, to_configuration, seed=0)
        for name, family in families.items()
    }
    whole = build_space(families, SHAPE)
    return {
        "joint": Smac(whole, to_pipeline, to_configuration, seed=0),
        "bandit": Bandit(arms),
    }


def measure(optimizer: Optimizer, n_told: int, n_pending: int, n_asks: int) -> list[float]:
    """Return seconds of asks with ``n_pending`` running, each after a result."""
    rng = np.random.default_rng(0)
    draws = RandomSearch(build_space(find_families(), SHAPE), to_pipeline, seed=1)
    for _ in range(n_told):
        optimizer.tell(draws.ask()[0], float(rng.uniform(0.1, 0.4)), 1.0)
    waiting = [optimizer.ask()[0] for _ in range(n_pending)]
    seconds = []
    for _ in range(n_asks):
        optimizer.tell(waiting.pop(0), float(rng.uniform(0.1, 0.4)), 1.0)
        began = time.process_time()
        waiting.append(optimizer.ask()[0])
        seconds.append(time.process_time() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--told", type=int, nargs="+", default=[30, 60, 120, 220])
    parser.add_argument("--pending", type=int, nargs="+", default=[2, 64])
    parser.add_argument("--asks", type=int, default=10)
    args = parser.parse_args()
    load_smac()
    n_hyperparameters = len(build_space(find_families(), SHAPE))
    print(f"{len(find_families())} families, {n_hyperparameters} hyperparameters; mean (worst)\n")
    print("| optimizer | running | " + " | ".join(f"{n} told" for n in args.told) + " |")
    print("|---" * (2 + len(args.told)) + "|")
    for name in optimizers():
        for n_pending in args.pending:
            cells = []
            for n_told in args.told:
                seconds = measure(optimizers()[name], n_told, n_pending, args.asks)
                cells.append(f"{statistics.fmean(seconds):.3f} ({max(seconds):.3f})")
            print(f"| {name} | {n_pending} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
