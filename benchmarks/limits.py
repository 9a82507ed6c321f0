"""Fit every table of a folder at given limits: is the promise kept, how good is the model, what does it cost?

usage: python -m benchmarks.limits FOLDER --limits 15 30 60 [--names A B] [--out results.jsonl] [--peers peers.json]

FOLDER holds index.json ({NAME: {task, target}} or groups of such, of which --group names one) and NAME.csv.gz, or a
subfolder of the group's name with them. Each table is split 75/25 (seed 20261122, stratified by class). Each line of
the output file is one finished run; runs that are there already are not repeated. The whole process is timed, from
its start to its end, and its process tree's memory is polled (pages shared between processes counted once).
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.csv

from benchmarks.tables import Dataset, error_of, find_datasets, lay_out
from benchmarks.timed import run_timed


def measure(dataset: Dataset, folder: Path, limit: float, options: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        cwd = Path(scratch)
        automl = [sys.executable, "-m", "automl_cli"]
        command = [
            *automl, "fit", str(folder / "train.csv"), "--target", dataset.target, "--task", dataset.task,
            "--time", f"{limit:g}s", "--out", "model.automl", "--run-dir", "run", "--json", *options,
        ]  # fmt: skip
        run = run_timed(command, cwd=cwd, timeout_s=3 * limit + 60, watched=cwd / "run" / "model.automl")
        row: dict[str, Any] = {"rc": run.rc, "wall_s": run.wall_s, "first_s": run.first_s}
        row |= {"peak": run.peak_bytes, "err": run.err}
        row |= {"name": dataset.name, "limit_s": limit, "options": options, "error": None}
        summary = json.loads(run.out) if run.rc == 0 and run.out.strip() else {}
        row |= {key: summary.get(key) for key in ("n_trials", "n_failed", "score", "phases", "failures", "milestones")}
        if run.rc == 0:
            row["size"] = (cwd / "model.automl").stat().st_size
            begin = time.perf_counter()
            predict = [*automl, "predict", "model.automl", str(folder / "test.csv"), "-o", "p.csv"]
            predict += ["--proba"] if dataset.task != "regression" else []
            answer = subprocess.run(predict, check=False, cwd=cwd, capture_output=True, text=True)
            row["predict_s"] = time.perf_counter() - begin
            if answer.returncode == 0:
                row["error"] = error_of(dataset, cwd / "p.csv", folder / "test.csv")
            else:
                row["err"] = answer.stderr[-2000:]
    table = pyarrow.csv.read_csv(folder / "train.csv")
    row["table_bytes"] = table.nbytes
    row["members"] = len(summary.get("members") or [])
    return row


def report(rows: list[dict[str, Any]], peers: dict[tuple[str, str], float]) -> None:
    """Print one line per run, then what holds over all of them."""
    systems = sorted({system for _, system in peers})
    print("set limit wall first peak_MB allowed_MB trials failed error " + " ".join(systems))
    for row in rows:
        allowed = 3 * row["table_bytes"] + 1e9
        first = f"{row['first_s']:.1f}" if row["first_s"] else "-"
        error = "none" if row["error"] is None else f"{row['error']:.6g}"
        others = [peers.get((row["name"], s)) for s in systems]
        beside = " ".join("-" if e is None or row["error"] is None else f"{row['error'] / e:.3f}" for e in others)
        print(
            f"{row['name']} {row['limit_s']:g} {row['wall_s']:.2f} {first} {row['peak'] / 1e6:.0f} {allowed / 1e6:.0f} "
            f"{row['n_trials']} {row['n_failed']} {error} {beside}"
        )
    for limit in sorted({row["limit_s"] for row in rows}):
        some = [row for row in rows if row["limit_s"] == limit]
        kept = sum(row["wall_s"] <= limit for row in some)
        models = sum(row["error"] is not None for row in some)
        memory = sum(row["peak"] <= 3 * row["table_bytes"] + 1e9 for row in some)
        print(f"limit {limit:g} s: {kept} of {len(some)} in time (longest {max(r['wall_s'] for r in some):.2f} s), "
              f"{models} models, {memory} within memory")  # fmt: skip
        for system in systems:
            ratios = [
                r["error"] / peers[r["name"], system] for r in some if r["error"] and (r["name"], system) in peers
            ]
            if ratios:
                mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
                lower = sum(q < 1 for q in ratios)
                print(f"  against {system}: lower on {lower} of {len(ratios)}, geometric mean of ratios {mean:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--group", default="dev")
    parser.add_argument("--limits", type=float, nargs="+", default=[60.0])
    parser.add_argument("--names", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("limits.jsonl"))
    parser.add_argument("--splits", type=Path, default=Path(tempfile.gettempdir()) / "automl-splits")
    parser.add_argument("--peers", type=Path, help="rows of {dataset, system, error}")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="passed on to automl fit")
    args = parser.parse_args()
    datasets = find_datasets(args.folder, args.group)
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(row["name"], row["limit_s"], tuple(row["options"])) for row in rows}
    for limit in args.limits:
        for name in args.names or datasets:
            if (name, limit, tuple(args.options)) in done:
                continue
            row = measure(datasets[name], lay_out(datasets[name], args.splits), limit, args.options)
            rows.append(row)
            with args.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
            print(f"{name} {limit:g} s: rc {row['rc']}, {row['wall_s']:.2f} s, error {row['error']}", flush=True)
    peers = {}
    if args.peers:
        data = json.loads(args.peers.read_text())
        data = data if isinstance(data, list) else data["rows"]
        peers = {(r["dataset"], r["system"]): r["error"] for r in data if r.get("error") is not None}
    report(rows, peers)


if __name__ == "__main__":
    main()
