"""How long until something happens? `automl --help`, the first trial, the first complete model, one prediction.

usage: python -m benchmarks.startup [--runs 5]

Whole processes, the median and the range of several runs, on sample_data/churn.csv (2,500 rows).
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
AUTOML = [str(Path(sys.executable).with_name("automl"))]
HEAVY = ("numpy", "pandas", "pyarrow", "scipy", "sklearn", "lightgbm", "xgboost", "catboost", "smac", "ConfigSpace")


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begin


def told(name: str, values: list[float]) -> None:
    print(f"{name:24} {statistics.median(values):.2f} s ({min(values):.2f} to {max(values):.2f})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    seconds([*AUTOML, "--help"])
    told("automl --help", [seconds([*AUTOML, "--help"]) for _ in range(args.runs)])
    code = "import sys; from automl_cli.cli import run; run(['--help']); print([m for m in %r if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code % (HEAVY,)], capture_output=True, text=True, check=True)
    print(f"{'heavy imports of --help':24} {loaded.stdout.strip().splitlines()[-1]}")
    churn = ROOT / "sample_data" / "churn.csv"
    with tempfile.TemporaryDirectory() as scratch:
        model = str(Path(scratch) / "m.automl")
        fit = [*AUTOML, "fit", str(churn), "--target", "churned", "--time", "10s", "--out", model, "--json", "-q"]
        runs = [json.loads(subprocess.run(fit, check=True, capture_output=True).stdout) for _ in range(args.runs)]
        for name in ("first_trial", "first_model"):
            told(name.replace("_", " "), [run["milestones"][name] for run in runs])
        predict = [*AUTOML, "predict", model, str(churn), "-o", str(Path(scratch) / "p.csv"), "-q"]
        told("automl predict", [seconds(predict) for _ in range(args.runs)])
        told(
            "import pandas, lightgbm",
            [seconds([sys.executable, "-c", "import pandas, lightgbm"]) for _ in range(args.runs)],
        )


if __name__ == "__main__":
    main()
