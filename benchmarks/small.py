"""What limits on a model cost: one search for each table, then the model that each limit leaves, scored on new rows.

python -m benchmarks.small sample_data/diabetes.csv progression sample_data/churn.csv churned --trials 12

A third of the rows, drawn at random, plays no part in the fit. All limits of a table are kept with the trials of one
run: `--max-size` as a share of the file without limits, then `--compact`.
"""

import argparse
import csv
import json
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SHARES = (0.5, 0.2, 0.05)
NO_MODEL = 4
HEAD = ("table", "limit", "file, kB", "models", "us a row", "validated", "test")


def split(table: Path, folder: Path, seed: int) -> None:
    """Write two thirds of the rows to ``train.csv`` and the others to ``test.csv``."""
    with table.open(newline="", encoding="utf-8") as lines:
        head, *rows = list(csv.reader(lines))
    random.Random(seed).shuffle(rows)
    third = len(rows) // 3
    for name, part in (("test", rows[:third]), ("train", rows[third:])):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *part])


def automl(folder: Path, *arguments: object) -> dict[str, Any] | None:
    """Run the command in a folder; return what it answers as JSON, None where no model keeps the limit."""
    line = [sys.executable, "-m", "automl_cli", *map(str, arguments), "--json"]
    answer = subprocess.run(line, cwd=folder, check=False, capture_output=True, text=True)
    if answer.returncode == NO_MODEL:
        return None
    answer.check_returncode()
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def rows_of(table: Path, target: str, *, trials: int, seed: int, more: list[str]) -> list[list[str]]:
    """Fit once, make a model under each limit, and return the lines of the table."""
    lines = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        split(table, folder, seed)
        job = ("fit", "train.csv", "-t", target, "--trials", trials, "-o", "m.automl", "--no-experience", *more)
        whole = automl(folder, *job, "--run-dir", "run", "--max-size", "1GB")
        if whole is None:
            raise SystemExit(f"no model of {table}")
        lines.append([table.stem, "none", *figures(folder, whole)])
        limits: list[tuple[str, tuple[object, ...]]] = [
            (f"{share:.0%}", ("--max-size", int(share * whole["n_bytes"]))) for share in SHARES
        ]
        for title, limit in (*limits, ("--compact", ("--compact",))):
            shutil.copytree(folder / "run", folder / "again")
            found = automl(folder, *job, "--run-dir", "again", "--resume", *limit)
            shutil.rmtree(folder / "again")
            lines.append([table.stem, title, *(["-"] * 5 if found is None else figures(folder, found))])
    return lines


def figures(folder: Path, found: dict[str, Any]) -> list[str]:
    """Return what a fit says of its model, and its score on the rows it has not seen."""
    scored, size = automl(folder, "evaluate", "m.automl", "test.csv"), found["footprint"]
    test = "-" if scored is None else f"{scored['scores'][found['metric']]:.5g}"
    return [f"{found['n_bytes'] / 1e3:.0f}", str(size["n_models"]), f"{1e6 * size['row_seconds']:.3g}",
            f"{found['score']:.5g}", test]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="TABLE TARGET", help="a table and the column to predict")
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    args, more = parser.parse_known_args()
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    for table, target in zip(args.paths[::2], args.paths[1::2], strict=True):
        for line in rows_of(Path(table), target, trials=args.trials, seed=args.seed, more=more):
            print("| " + " | ".join(line) + " |", flush=True)


if __name__ == "__main__":
    main()
