"""How long `automl profile` takes on 100,000 rows of 50 columns, as a whole process.

usage: python -m benchmarks.profiling [--rows 100000] [--columns 50] [--runs 5]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv


def make_table(path: Path, n_rows: int, n_columns: int) -> None:
    rng = np.random.default_rng(1)
    kinds: list[Callable[[int], Any]] = [
        lambda i: np.round(rng.normal(size=n_rows) * 10 ** (i % 5), 3),
        lambda i: rng.integers(0, 10 ** (1 + i % 4), n_rows),
        lambda i: pa.array([f"value {v}" for v in range(3 + 7 * i)]).take(pa.array(rng.integers(0, 3 + 7 * i, n_rows))),
        lambda i: (np.datetime64("2020-01-01") + rng.integers(0, 1000, n_rows)).astype("datetime64[D]"),
    ]
    columns = {f"c{i}": kinds[(0, 0, 1, 2, 3)[i % 5]](i) for i in range(n_columns - 1)}
    columns["y"] = pa.array(["no", "yes"]).take(pa.array(rng.integers(0, 2, n_rows)))
    pyarrow.csv.write_csv(pa.table(columns), path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "table.csv"
        make_table(path, args.rows, args.columns)
        command = [str(Path(sys.executable).with_name("automl")), "profile", str(path), "--target", "y"]
        times = []
        for _ in range(args.runs):
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - begin)
    size = f"{args.rows:,} rows x {args.columns} columns"
    print(f"automl profile, {size}: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f})")


if __name__ == "__main__":
    main()
