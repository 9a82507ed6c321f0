"""What training eight networks in one pass could save at most: rows per second at a batch against those at eight.

usage: python -m benchmarks.network_steps [--batches 32 64 128 256] [--repeats 5]

Networks of several folds (or several candidates) trained together do the work of a batch as many times as large, on
weights that differ: at best they are as fast as one network on the larger batch. Processor time on one thread, of the
family's defaults on twenty numbers and four categories; the median of runs that take turns.
"""

import argparse
import statistics
import time

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.families import neural
from automl_cli.families.family import Shape
from automl_cli.neural.architecture import parse_architecture
from automl_cli.neural.counts import InputShape
from automl_cli.neural.recipe import Columns, Means, Recipe, examples
from automl_cli.neural.training import train
from automl_cli.task import TaskKind

TOGETHER = 8
N_NUMBERS, LEVELS = 20, (10, 10, 10, 10)


def seconds_per_row(text: str, n_rows: int, batch_size: int) -> float:
    """Return processor seconds of training on a row once."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(n_rows, N_NUMBERS)).astype(np.float32)
    codes = rng.integers(0, 10, size=(n_rows, len(LEVELS)))
    columns = Columns(numbers, np.zeros((n_rows, 0), dtype=np.float32), codes)
    rows = examples(columns, (numbers[:, 0] > 0).astype(np.int64), None)
    shape, recipe = InputShape(N_NUMBERS, LEVELS, 2), Recipe(epochs=50, batch_size=batch_size)
    spent = []
    for epochs in (1, 3):  # what comes before the first epoch is in both
        began = time.process_time()
        train(parse_architecture(text), shape, recipe, rows, None, Means(0, exactly=epochs))
        spent.append(time.process_time() - began)
    return (spent[1] - spent[0]) / (2 * n_rows)


def main() -> None:
    """Print a row per network and batch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", nargs="+", type=int, default=[32, 64, 128, 256])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    shape = Shape(TaskKind.BINARY, 2_000, N_NUMBERS + len(LEVELS), len(LEVELS), 2)
    print("| network | batch | us a row | us a row at eight times the batch | at most so much faster |")
    print("|---|---|---|---|---|")
    with threadpool_limits(1):
        for text in (str(default["architecture"]) for default in neural.defaults(shape)):
            for batch in args.batches:
                n_rows = 4 * TOGETHER * batch
                found = [
                    (seconds_per_row(text, n_rows, batch), seconds_per_row(text, n_rows, TOGETHER * batch))
                    for _ in range(args.repeats)
                ]
                one, many = (1e6 * statistics.median(each) for each in zip(*found, strict=True))
                print(f"| `{text}` | {batch} | {one:.1f} | {many:.1f} | {one / many:.2f} |", flush=True)


if __name__ == "__main__":
    main()
