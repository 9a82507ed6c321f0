"""What a source of many rows takes: seconds and memory of reading, drawing and a whole fit.

usage: python -m benchmarks.large_source [--rows 10000 100000 1000000 10000000] [--columns 20] [--time 60]

The target has 300 labelled rows; the source is written as Parquet, so that writing and parsing text are not what is
measured. For each size: seconds until the search begins, seconds of the whole command, peak memory of its processes'
proportional set, and the bytes of the table in memory, one run each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

BLOCK = 500_000


def rows_of(rng: np.random.Generator, n: int, n_columns: int, *, moved: float, factor: float) -> pa.Table:
    """Return rows of a regression whose first columns count, the last one a category."""
    x = rng.normal(moved, 1, size=(n, n_columns - 1)).astype(np.float64)
    group = rng.integers(0, 8, n)
    y = factor * (x[:, 0] + np.sin(2 * x[:, 1]) + x[:, 2] * x[:, 3] + 0.3 * group) + rng.normal(0, 0.3, n)
    columns = {f"x{k}": x[:, k] for k in range(n_columns - 1)}
    return pa.table({**columns, "group": pa.array([f"g{k}" for k in group]), "y": y})


def write_source(path: Path, n: int, n_columns: int) -> None:
    """Write the source block by block."""
    rng = np.random.default_rng(n)
    writer = None
    for start in range(0, n, BLOCK):
        part = rows_of(rng, min(BLOCK, n - start), n_columns, moved=0.0, factor=1.0)
        writer = writer or pyarrow.parquet.ParquetWriter(path, part.schema)
        writer.write_table(part)
    if writer is not None:
        writer.close()


def memory_of(pid: int) -> int:
    """Return the proportional set size of a process and its children, in bytes."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += 1024 * int(line.split()[1])
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # gone by now
            continue
    return total


def measure(folder: Path, limit: float) -> dict[str, float]:
    """Fit with the source, and watch it."""
    command = [
        sys.executable, "-m", "automl_cli", "fit", "target.csv", "--target", "y", "--source", "source.parquet",
        "--time", f"{limit:g}s", "--no-experience", "--json", "-q", "-o", "m.automl",
    ]  # fmt: skip
    began = time.monotonic()
    child = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, env=os.environ)
    peak = [0]

    def watch() -> None:
        while child.poll() is None:
            peak[0] = max(peak[0], memory_of(child.pid))
            time.sleep(0.2)

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, _ = child.communicate()
    watcher.join()
    if child.returncode:
        raise SystemExit(f"the fit ended with {child.returncode}")
    said = json.loads(out)
    prepared = said["phases"]["read"] + said["phases"]["frame"]
    return {
        "prepared": prepared,
        "whole": time.monotonic() - began,
        "peak": peak[0],
        "used": said["transfer"]["n_source"],
        "trials": said["n_trials"],
    }


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000, 10_000_000])
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--time", type=float, default=60.0)
    args = parser.parse_args()
    print("| source rows | of them used | s until the search | s in all | peak MB | table MB | trials |")
    print("|---|---|---|---|---|---|---|")
    for n in args.rows:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            few = rows_of(np.random.default_rng(1), 300, args.columns, moved=0.5, factor=1.4)
            few.to_pandas().to_csv(folder / "target.csv", index=False)
            write_source(folder / "source.parquet", n, args.columns)
            found = measure(folder, args.time)
        table = 8 * n * (args.columns + 1) / 1e6
        print(
            f"| {n:,} | {found['used']:,} | {found['prepared']:.1f} | {found['whole']:.1f} "
            f"| {found['peak'] / 1e6:,.0f} | {table:,.0f} | {found['trials']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
