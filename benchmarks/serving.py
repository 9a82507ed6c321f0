"""Models of automl and of AutoGluon fitted in the same time on the same table: size, start to first prediction, speed.

Each system fits the training part of a table (turn about, the same limit and cores), then, in fresh processes, predicts
one row and many: the seconds of the whole process for one row, and the further seconds for the others, per row.
AutoGluon loads with `TabularPredictor.load` and predicts a frame of pandas.

usage: python -m benchmarks.serving TABLES --venvs FOLDER --out rows.jsonl [--names A B] [--limit 60] [--rows 20000]
       python -m benchmarks.serving --report rows.jsonl

TABLES is a folder of NAME.csv.gz beside an index.json; FOLDER holds the environments of `benchmarks.compare`.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

import pandas as pd

from benchmarks.compare.environments import make_environment, python_of
from benchmarks.warm import index_of

FIT = """
import sys, pandas as pd
from autogluon.tabular import TabularPredictor
train, target, out, limit, preset, task = sys.argv[1:]
predictor = TabularPredictor(label=target, path=out, problem_type=task)
predictor.fit(pd.read_csv(train), presets=preset, time_limit=float(limit), num_cpus=2)
"""
PREDICT = """
import sys, pandas as pd
from autogluon.tabular import TabularPredictor
model, rows, out = sys.argv[1:]
predictor = TabularPredictor.load(model)
predictor.predict(pd.read_csv(rows)).to_csv(out, index=False)
"""
ONE_ROW_RUNS = 3


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-500:])
    return time.perf_counter() - began


def served(fit: list[str], predict: list[str], model: Path, files: tuple[Path, Path], n_rows: int) -> dict[str, Any]:
    """Fit and predict in whole processes; `predict` lacks the table and the output."""
    fitted = seconds(fit)
    one, many = files
    into = ["-o"] if "predict" in predict else []
    out = str(one.with_name("answer.csv"))
    first = median(seconds([*predict, str(one), *into, out]) for _ in range(ONE_ROW_RUNS))
    all_of_them = seconds([*predict, str(many), *into, out])
    return {
        "fit_s": round(fitted, 1),
        "bytes": size_of(model),
        "first_s": round(first, 3),
        "per_row_us": max(0.0, all_of_them - first) / n_rows * 1e6,
    }


def measure(arguments: argparse.Namespace) -> None:
    make_environment("autogluon", arguments.venvs)
    autogluon = str(python_of("autogluon", arguments.venvs))
    index = index_of(arguments.tables)
    for name in arguments.names or index:
        about = index[name]
        table = pd.read_csv(arguments.tables / f"{name}.csv.gz", low_memory=False).sample(frac=1, random_state=0)
        n_train = int(0.8 * len(table))
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            train, one, many = folder / "train.csv", folder / "one.csv", folder / "many.csv"
            table[:n_train].to_csv(train, index=False)
            rest = table[n_train:].drop(columns=about["target"])
            rest[:1].to_csv(one, index=False)
            repeated = pd.concat([rest] * (arguments.rows // len(rest) + 1))[: arguments.rows]
            repeated.to_csv(many, index=False)
            ours, theirs = folder / "m.automl", folder / "autogluon"
            program = [sys.executable, "-m", "automl_cli"]
            limit, target, task = f"{arguments.limit:g}", about["target"], about["task"]
            fit = [*program, "fit", str(train), "-t", target, "--time", f"{limit}s", "--task", task, "-o", str(ours)]
            runs = {
                "automl": ([*fit, "-q"], [*program, "predict", str(ours)], ours),
                arguments.preset: (
                    [autogluon, "-c", FIT, str(train), target, str(theirs), limit, arguments.preset, task],
                    [autogluon, "-c", PREDICT, str(theirs)],
                    theirs,
                ),
            }
            for system, (fit, predict, model) in runs.items():
                row = {"name": name, "system": system, "limit": arguments.limit, "rows": arguments.rows}
                row |= served(fit, predict, model, (one, many), arguments.rows)
                with arguments.out.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)


def report(path: Path) -> None:
    by_table: dict[str, dict[str, dict[str, Any]]] = {}
    for row in map(json.loads, path.read_text().splitlines()):
        by_table.setdefault(row["name"], {})["automl" if row["system"] == "automl" else "other"] = row
    print("| table | MB | AutoGluon | ratio | s to the first | AutoGluon | ratio | us per row | AutoGluon | ratio |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    ratios: dict[str, list[float]] = {"bytes": [], "first_s": [], "per_row_us": []}
    for name, pair in by_table.items():
        if len(pair) < 2:
            continue
        cells = [name]
        for key, scale in (("bytes", 1e-6), ("first_s", 1.0), ("per_row_us", 1.0)):
            mine, other = pair["automl"][key] * scale, pair["other"][key] * scale
            ratios[key].append(other / mine)
            cells += [f"{mine:.3g}", f"{other:.3g}", f"{other / mine:.1f}"]
        print("| " + " | ".join(cells) + " |")
    means = {key: f"{geometric_mean(found):.1f} (least {min(found):.1f})" for key, found in ratios.items() if found}
    print(f"\nAutoGluon over automl, geometric means: {means}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="?")
    parser.add_argument("--venvs", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--names", nargs="+")
    parser.add_argument("--limit", type=float, default=60.0)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--preset", default="best_quality")
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    if arguments.report is not None:
        report(arguments.report)
    elif None in (arguments.tables, arguments.venvs, arguments.out):
        parser.error("name the tables, --venvs and --out, or --report")
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
