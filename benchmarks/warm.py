"""What remembering is worth in time: cold runs against the shipped prior, and against a second run of the same table.

A table is cut by row into two halves and a test part (seeded). On the second half three runs of the same limit, one
after the other: cold (`--no-experience`), with the shipped prior and an empty store of one's own, and with a store
that a run on the first half has left. A line of JSON for each says the error on the test part, and when a trial first
reached the validation loss of the cold run's best trial. Lines that are there are not measured again.

usage: python benchmarks/warm.py TABLES --out rows.jsonl [--names A B] [--time 60s] [--seeds 0] [--without second]
       python benchmarks/warm.py --report rows.jsonl

TABLES is a folder of NAME.csv.gz beside an index.json that says each table's target.
"""

import argparse
import csv
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from automl_cli.metrics import METRICS

HALF = 0.4
KINDS = ("cold", "prior", "first", "second")
DECIDED = 0.005


def halves(path: Path, folder: Path, seed: int) -> None:
    """Write a.csv, b.csv and test.csv."""
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    random.Random(seed).shuffle(rows)
    n = int(HALF * len(rows))
    for name, part in (("a", rows[:n]), ("b", rows[n : 2 * n]), ("test", rows[2 * n :])):
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *part])


def fit(kind: str, folder: Path, about: Mapping[str, Any], limit: str, seed: int) -> dict[str, Any]:
    """Run one fit and return what it reached, and when."""
    store = {"cold": "off", "prior": folder / "empty.sqlite"}.get(kind, folder / "own.sqlite")
    table = folder / ("a.csv" if kind == "first" else "b.csv")
    log, model = folder / f"{kind}.jsonl", folder / f"{kind}.automl"
    environment = {**os.environ, "AUTOML_EXPERIENCE": str(store), "XDG_STATE_HOME": str(folder / "state")}
    program = [sys.executable, "-m", "automl_cli"]
    line = ["fit", str(table), "-t", about["target"], "--time", limit, "--seed", str(seed), "-q", "-o", str(model)]
    if about.get("task") in ("binary", "multiclass", "regression"):
        line += ["--task", about["task"]]
    began = time.perf_counter()
    done = subprocess.run(
        [*program, *line, "--log-file", str(log)], env=environment, capture_output=True, text=True, check=False
    )
    wall = time.perf_counter() - began
    if done.returncode:
        return {"failure": done.stderr[-300:], "wall_s": wall}
    events = [json.loads(text) for text in log.read_text().splitlines()]
    curve = [
        (event["elapsed"], event["loss"]) for event in events if event["event"] == "finished" and event.get("complete")
    ]
    judged = subprocess.run(
        [*program, "evaluate", str(model), str(folder / "test.csv"), "--json", "-q"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if judged.returncode:
        return {"failure": judged.stderr[-300:], "wall_s": wall}
    scores = json.loads(judged.stdout)
    metric = METRICS[scores["metric"]]
    natural = scores["scores"][scores["metric"]]
    n_trials = sum(event["event"] == "finished" for event in events)
    error = 1.0 - natural if metric.greater_is_better else natural
    return {"error": error, "curve": curve, "trials": n_trials, "wall_s": wall}


def measure(arguments: argparse.Namespace) -> None:
    index = index_of(arguments.tables)
    out = Path(arguments.out)
    known = {(row["name"], row["seed"], row["kind"]) for row in rows_of(out)} if out.exists() else set()
    for name in arguments.names or index:
        for seed in arguments.seeds:
            kinds = [kind for kind in KINDS if not (arguments.without == "second" and kind in ("first", "second"))]
            kinds = [kind for kind in kinds if (name, seed, kind) not in known]
            if not kinds:
                continue
            with tempfile.TemporaryDirectory() as place:
                halves(arguments.tables / f"{name}.csv.gz", Path(place), seed)
                for kind in kinds:
                    found = fit(kind, Path(place), index[name], arguments.time, seed)
                    row = {"name": name, "seed": seed, "kind": kind, "time": arguments.time, **found}
                    with out.open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(name, seed, kind, found.get("error", found.get("failure")), flush=True)


def index_of(tables: Path) -> Mapping[str, Mapping[str, Any]]:
    for path, key in ((tables / "index.json", None), (tables.parent / "index.json", tables.name)):
        if path.is_file():
            data = json.loads(path.read_text())
            return data if key is None else data[key]
    raise SystemExit(f"no index.json in or beside {tables}")


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, path.read_text().splitlines())


def reached(curve: Sequence[Sequence[float]], loss: float) -> float:
    """Return when a curve first comes to a loss; infinite where it never does."""
    return next((at for at, value in curve if value <= loss), float("inf"))


def report(path: Path) -> None:
    by_set: dict[tuple[str, int], dict[str, dict[str, Any]]] = {}
    for row in rows_of(path):
        by_set.setdefault((row["name"], row["seed"]), {})[row["kind"]] = row
    print("| table | cold | prior | ratio | second run | ratio | time to the cold loss: cold | prior | second |")
    print("|---|---|---|---|---|---|---|---|---|")
    ratios: dict[str, list[float]] = {"prior": [], "second": []}
    shares: dict[str, list[float]] = {"prior": [], "second": []}
    for (name, seed), runs in sorted(by_set.items()):
        cold = runs.get("cold", {})
        if not cold.get("curve"):
            continue
        loss = min(loss for _, loss in cold["curve"])
        own = reached(cold["curve"], loss)
        cells = [f"{name} ({seed})", f"{cold['error']:.5g}"]
        times = [f"{own:.1f}"]
        for kind in ("prior", "second"):
            run = runs.get(kind, {})
            if "error" not in run:
                cells += ["-", "-"]
                times.append("-")
                continue
            ratio, at = run["error"] / cold["error"] if cold["error"] else 1.0, reached(run["curve"], loss)
            ratios[kind].append(ratio)
            shares[kind].append(at / own)
            cells += [f"{run['error']:.5g}", f"{ratio:.3f}"]
            times.append(f"{at:.1f}")
        print("| " + " | ".join([*cells, *times]) + " |")
    for kind in ("prior", "second"):
        if ratios[kind]:
            decided = [ratio for ratio in ratios[kind] if abs(ratio - 1) > DECIDED]
            lower, never = sum(ratio < 1 for ratio in decided), sum(share == float("inf") for share in shares[kind])
            print(
                f"\n{kind}: error {geometric_mean(ratios[kind]):.4f} of the cold run's (geometric mean), lower on "
                f"{lower} of {len(decided)} decided by more than {DECIDED:.1%}; time to the cold loss: median "
                f"{median(shares[kind]):.2f} of the cold run's, never reached on {never} of {len(shares[kind])}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="?")
    parser.add_argument("--out")
    parser.add_argument("--names", nargs="+")
    parser.add_argument("--time", default="60s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--without", choices=["second"])
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    if arguments.report is not None:
        report(arguments.report)
    elif arguments.tables is None or arguments.out is None:
        parser.error("name the tables and --out, or --report")
    else:
        measure(arguments)


if __name__ == "__main__":
    main()
