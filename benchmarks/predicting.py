"""What `automl predict` takes of a large file, against the same models without the program around them.

A table of 20 columns (14 numbers, 5 categories, a date) is made from a seed; a model is fitted on its first rows; then
turn about: `automl predict` as a whole process (seconds, peak memory of its tree), and "bare": in this process, with
everything loaded, each fold model's own `predict` on ready arrays, after pyarrow has read the same file and before it
writes the same predictions. Prints medians and throughput as a share of bare; and for one row the whole process against
`python -c "import pandas, lightgbm"`.

usage: python -m benchmarks.predicting [--rows 1000000] [--time 60s] [--repeats 3] [--compact] [--quoted] [--threads N]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from automl_cli.artifact import Artifact, open_artifact
from automl_cli.artifact.read import group_by_encoder
from automl_cli.features.frame import frame_from_table
from automl_cli.machine import usable_cores
from automl_cli.prediction import schema_of_features
from automl_cli.table import read_with_schema
from benchmarks.timed import run_timed

FIT_ROWS = 20_000


def make_table(path: Path, n_rows: int, *, quoted: bool) -> None:
    rng = np.random.default_rng(5)
    numbers = rng.normal(size=(n_rows, 10)).round(4)
    counts = rng.poisson([1, 5, 50, 500], size=(n_rows, 4))
    levels = [rng.integers(0, n, n_rows) for n in (2, 3, 8, 30, 200)]
    days = np.datetime64("2022-01-01") + rng.integers(0, 900, n_rows)
    y = numbers[:, 0] * (levels[1] - 1) + np.sin(2 * numbers[:, 1]) + 0.4 * (levels[3] % 5) + numbers[:, 2] ** 2
    y = (y + 0.01 * counts[:, 2] + rng.normal(size=n_rows) > 1.8).astype(int)
    columns: dict[str, object] = {f"number_{i}": numbers[:, i] for i in range(10)}
    columns |= {f"count_{i}": counts[:, i] for i in range(4)}
    for i, codes in enumerate(levels):
        names = pa.array([f"level {k}" for k in range(int(codes.max()) + 1)])
        columns[f"category_{i}"] = names.take(pa.array(codes))
    columns |= {"day": days.astype("datetime64[D]"), "y": y}
    style = "needed" if quoted else "none"
    pyarrow.csv.write_csv(pa.table(columns), path, pyarrow.csv.WriteOptions(quoting_style=style))


def bare(artifact: Artifact, path: Path, threads: int, scratch: Path) -> dict[str, float]:
    """Return seconds of reading, of all models' predictions on ready arrays, and of writing."""
    began = time.perf_counter()
    pyarrow.csv.read_csv(path)
    reading = time.perf_counter() - began
    table = read_with_schema(str(path), schema_of_features(artifact.manifest))
    frame = frame_from_table(table, artifact.manifest.frame_schema)
    del table
    predicting, answer = 0.0, np.zeros(0)
    for k, group in enumerate(group_by_encoder(artifact.manifest)):
        loaded = artifact._load(k, group)
        matrix = loaded.encoder.transform(frame)
        for _, model in loaded.models:
            began = time.perf_counter()
            answer = model.predict(matrix, threads)
            predicting += time.perf_counter() - began
    began = time.perf_counter()
    labels = pa.array(["0", "1"]).take(pa.array((answer[:, -1] > 0.5).astype(np.int64)))
    pyarrow.csv.write_csv(pa.table({"prediction": labels}), scratch / "bare.csv")
    return {"read": reading, "predict": predicting, "write": time.perf_counter() - began}


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--time", default="60s")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--compact", action="store_true", help="one model")
    parser.add_argument("--quoted", action="store_true", help="texts of the table stand in quotes")
    parser.add_argument("--model", type=Path, help="a model that was fitted before by this script, not a new one")
    parser.add_argument("--keep", type=Path, help="where to keep the model")
    options = parser.parse_args()
    automl = [sys.executable, "-m", "automl_cli"]
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        big, small, one = scratch / "big.csv", scratch / "small.csv", scratch / "one.csv"
        make_table(big, options.rows, quoted=options.quoted)
        with big.open() as lines:
            head = [next(lines) for _ in range(min(FIT_ROWS, options.rows) + 1)]
        small.write_text("".join(head))
        one.write_text("".join(head[:2]))
        model = options.model or options.keep or scratch / "m.automl"
        if options.model is None:
            compact = ["--compact"] if options.compact else []
            subprocess.run(
                [*automl, "fit", str(small), "-t", "y", "--time", options.time, "-o", str(model), "-q", *compact],
                check=True,
            )
        whole, peaks, parts = [], [], []
        predict = [*automl, "predict", str(model), str(big), "-o", str(scratch / "p.csv"), "-q"]
        for _ in range(options.repeats):
            timed = run_timed([*predict, "--threads", str(options.threads)], cwd=scratch, timeout_s=900)
            if timed.rc:
                raise SystemExit(timed.err)
            whole.append(timed.wall_s)
            peaks.append(timed.peak_bytes / 2**20)
            with open_artifact(model) as artifact:
                parts.append(bare(artifact, big, options.threads, scratch))
        least = {key: statistics.median(part[key] for part in parts) for key in parts[0]}
        row = [*automl, "predict", str(model), str(one), "-o", str(scratch / "o.csv"), "-q"]
        imports = [sys.executable, "-c", "import pandas, lightgbm"]
        pairs = [(seconds(row), seconds(imports)) for _ in range(max(5, options.repeats))]
        with open_artifact(model) as artifact:
            n_models = sum(len(member.folds) for member in artifact.manifest.members)
        told = {
            "rows": options.rows,
            "table_megabytes": round(big.stat().st_size / 1e6, 1),
            "model_megabytes": round(model.stat().st_size / 1e6, 2),
            "models": n_models,
            "predict_seconds": round(statistics.median(whole), 2),
            "peak_mebibytes": round(max(peaks)),
            "bare_seconds": {key: round(value, 2) for key, value in least.items()},
            "throughput_share_of_bare": round(sum(least.values()) / statistics.median(whole), 3),
            "one_row_seconds": round(statistics.median(a for a, _ in pairs), 3),
            "one_row_over_imports": round(statistics.median(a / b for a, b in pairs), 3),
        }
        print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
