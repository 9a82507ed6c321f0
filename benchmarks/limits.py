"""Fit every table of a folder at given limits: is the promise kept, how good is the model, what does it cost?

usage: python benchmarks/limits.py FOLDER --limits 15 30 60 [--names A B] [--out results.jsonl] [--peers peers.json]

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
import threading
import time
from pathlib import Path

import pandas as pd
import pyarrow.csv
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import train_test_split

from automl_cli.machine import tree_memory

SEED = 20261122


def lay_out(source: Path, entry: dict, folder: Path) -> None:
    """Write train.csv and test.csv; the same split whoever asks."""
    if (folder / "test.csv").exists():
        return
    df = pd.read_csv(source, low_memory=False).dropna(subset=[entry["target"]])
    stratify = None if entry["task"] == "regression" else df[entry["target"]]
    train, test = train_test_split(df, test_size=0.25, random_state=SEED, stratify=stratify)
    folder.mkdir(parents=True, exist_ok=True)
    train.to_csv(folder / "train.csv", index=False)
    test.to_csv(folder / "test.csv", index=False)


def timed(command: list[str], cwd: Path, limit: float) -> dict:
    """Run a command; return its exit code, seconds, peak memory of the tree and the time of the first model."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak, first, done = 0, None, threading.Event()

    def watch() -> None:
        nonlocal peak, first
        while not done.wait(0.1 if first is None else 0.3):
            if first is None and (cwd / "run" / "model.automl").exists():
                first = time.perf_counter() - begin
            peak = max(peak, tree_memory(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        out, err = process.communicate(timeout=3 * limit + 60)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
    wall = time.perf_counter() - begin
    done.set()
    watcher.join()
    return {"rc": process.returncode, "wall_s": wall, "first_s": first, "peak": peak, "out": out, "err": err[-2000:]}


def error_of(entry: dict, predictions: Path, test: Path) -> float:
    """Return 1 - ROC AUC, log loss or root mean squared error, as the peers are measured."""
    truth = pd.read_csv(test, dtype={entry["target"]: str}, keep_default_na=False, usecols=[entry["target"]])
    truth = truth[entry["target"]]
    answer = pd.read_csv(predictions)
    if entry["task"] == "regression":
        return float(root_mean_squared_error(truth.astype(float), answer["prediction"]))
    labels = [c.removeprefix("proba_") for c in answer.columns if c.startswith("proba_")]
    if entry["task"] == "binary":
        return 1 - float(roc_auc_score(truth == labels[-1], answer[f"proba_{labels[-1]}"]))
    order = sorted(labels)
    probabilities = answer[[f"proba_{label}" for label in order]].clip(1e-15, 1)
    return float(log_loss(truth, probabilities.to_numpy(), labels=order))


def measure(name: str, entry: dict, folder: Path, limit: float, options: list[str]) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        cwd = Path(scratch)
        automl = [sys.executable, "-m", "automl_cli"]
        command = [
            *automl, "fit", str(folder / "train.csv"), "--target", entry["target"], "--task", entry["task"],
            "--time", f"{limit:g}s", "--out", "model.automl", "--run-dir", "run", "--json", *options,
        ]  # fmt: skip
        row = timed(command, cwd, limit)
        row |= {"name": name, "limit_s": limit, "options": options, "error": None}
        summary = json.loads(row["out"]) if row["rc"] == 0 and row["out"].strip() else {}
        del row["out"]
        row |= {key: summary.get(key) for key in ("n_trials", "n_failed", "score", "phases", "failures", "milestones")}
        if row["rc"] == 0:
            row["size"] = (cwd / "model.automl").stat().st_size
            begin = time.perf_counter()
            predict = [*automl, "predict", "model.automl", str(folder / "test.csv"), "-o", "p.csv"]
            predict += ["--proba"] if entry["task"] != "regression" else []
            answer = subprocess.run(predict, check=False, cwd=cwd, capture_output=True, text=True)
            row["predict_s"] = time.perf_counter() - begin
            if answer.returncode == 0:
                row["error"] = error_of(entry, cwd / "p.csv", folder / "test.csv")
            else:
                row["err"] = answer.stderr[-2000:]
    table = pyarrow.csv.read_csv(folder / "train.csv")
    row["table_bytes"] = table.nbytes
    row["members"] = len(summary.get("members") or [])
    return row


def report(rows: list[dict], peers: dict[tuple[str, str], float]) -> None:
    """Print one line per run, then what holds over all of them."""
    systems = sorted({system for _, system in peers})
    print("set limit wall first peak_MB allowed_MB trials failed error " + " ".join(systems))
    for row in rows:
        allowed = 3 * row["table_bytes"] + 1.5e9
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
        memory = sum(row["peak"] <= 3 * row["table_bytes"] + 1.5e9 for row in some)
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
    index = json.loads((args.folder / "index.json").read_text())
    index = index.get(args.group, index)
    place = args.folder / args.group if (args.folder / args.group).is_dir() else args.folder
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    done = {(row["name"], row["limit_s"], tuple(row["options"])) for row in rows}
    for limit in args.limits:
        for name in args.names or index:
            if (name, limit, tuple(args.options)) in done:
                continue
            lay_out(place / f"{name}.csv.gz", index[name], args.splits / name)
            row = measure(name, index[name], args.splits / name, limit, args.options)
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
