"""How long reading a table and deciding its kinds takes, against pyarrow.csv alone on the same file.

    python -m benchmarks.reading [--rows 1000000] [--repeats 5]

A table of 20 columns (10 doubles, 4 integers, 3 categories, a boolean, a date, an order number) is made from a seed in
a temporary folder; both read it turn about in this process; the medians and their ratio are printed as JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from automl_cli.table import read_table


def make_table(path: Path, n_rows: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {"order_number": [f"A{i:08d}" for i in rng.permutation(n_rows)]}
    for i in range(10):
        columns[f"number_{i}"] = np.round(rng.normal(size=n_rows) * 10**i, 4)
    for i in range(4):
        columns[f"integer_{i}"] = rng.integers(0, 10 ** (2 * i + 1), n_rows)
    for i, n_values in enumerate((5, 40, 500)):
        columns[f"category_{i}"] = pa.array([f"value {v}" for v in range(n_values)]).take(
            pa.array(rng.integers(0, n_values, n_rows))
        )
    columns["member"] = pa.array(["no", "yes"]).take(pa.array(rng.integers(0, 2, n_rows)))
    columns["day"] = (np.datetime64("2020-01-01") + rng.integers(0, 1000, n_rows)).astype("datetime64[D]")
    options = pyarrow.csv.WriteOptions(quoting_style="needed")
    pyarrow.csv.write_csv(pa.table(columns), path, options)


def seconds(call: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        make_table(path, options.rows, options.seed)
        arrow: list[float] = []
        ours: list[float] = []
        for _ in range(options.repeats):
            arrow.append(seconds(pyarrow.csv.read_csv, path))
            ours.append(seconds(read_table, path))
        result = {
            "rows": options.rows,
            "megabytes": round(path.stat().st_size / 1e6, 1),
            "pyarrow_seconds": round(statistics.median(arrow), 3),
            "read_table_seconds": round(statistics.median(ours), 3),
            "ratio": round(statistics.median(ours) / statistics.median(arrow), 2),
        }
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
