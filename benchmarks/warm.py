"""What remembering is worth in time: cold runs against the shipped prior, and against a second run of the same table.

A table is cut by row into two halves and a test part (seeded). On the second half three runs of the same limit, one
after the other: cold (`--no-experience`), with the shipped prior and an empty store of one's own, and with a store
that a run on the first half has left. A line of JSON for each says the error on the test part, and when a trial first
reached the validation loss of the cold run's best trial. Lines that are there are not measured again.

The best of many validation losses is a lucky one, which a warm run does not repeat however good its models are. So two
more runs say what the error is with the prior after a third, and for the second run after a fifth of the cold run's
limit (kinds `prior_third` and `second_fifth`).

usage: python -m benchmarks.warm TABLES --out rows.jsonl [--names A B] [--time 60] [--seeds 0] [--kinds cold prior]
       python -m benchmarks.warm --report rows.jsonl

TABLES is a folder of NAME.csv.gz beside an index.json that says each table's target.
"""

import argparse
import csv
import gzip
import json
import os
import random
import shutil
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
SHARES = {"cold": 1, "prior": 1, "first": 1, "prior_third": 1 / 3, "second_fifth": 1 / 5, "second": 1}
"""Of the limit that each kind of run gets, in the order in which they are run: a second one writes into the store."""
JUDGED = ("prior", "prior_third", "second", "second_fifth")
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


def fit(kind: str, folder: Path, about: Mapping[str, Any], limit: float, seed: int) -> dict[str, Any]:
    """Run one fit and return what it reached, and when."""
    own, mine = folder / "own.sqlite", folder / f"{kind}.sqlite"
    if kind.startswith("second") and own.exists():  # it sees what the first has left, and nothing of the runs between
        shutil.copy(own, mine)
    store = {"cold": "off", "first": own}.get(kind, mine)
    table = folder / ("a.csv" if kind == "first" else "b.csv")
    log, model = folder / f"{kind}.jsonl", folder / f"{kind}.automl"
    environment = {**os.environ, "AUTOML_EXPERIENCE": str(store), "XDG_STATE_HOME": str(folder / "state")}
    program = [sys.executable, "-m", "automl_cli"]
    line = ["fit", str(table), "-t", about["target"], "--time", f"{SHARES[kind] * limit:g}"]
    line += ["--seed", str(seed), "-q", "-o", str(model)]
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
            kinds = [kind for kind in SHARES if kind in arguments.kinds and (name, seed, kind) not in known]
            if not kinds:
                continue
            if any(kind.startswith("second") for kind in kinds) and "first" not in kinds:
                kinds = ["first", *kinds]  # for its store, which is gone
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
            found: Mapping[str, Mapping[str, Any]] = data if key is None else data[key]
            return found
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
    found = [kind for kind in JUDGED if any(kind in runs for runs in by_set.values())]
    timed = ", ".join(["cold", *(kind for kind in ("prior", "second") if kind in found)])
    print("| table | cold | " + " | ".join(found) + f" | seconds to the cold loss: {timed} |")
    print("|---" * (len(found) + 3) + "|")
    ratios: dict[str, list[float]] = {kind: [] for kind in found}
    shares: dict[str, list[float]] = {kind: [] for kind in ("prior", "second")}
    for (name, seed), runs in sorted(by_set.items()):
        cold = runs.get("cold", {})
        if not cold.get("curve"):
            continue
        cells = [f"{name} ({seed})", f"{cold['error']:.5g}"]
        for kind in found:
            if "error" not in runs.get(kind, {}):
                cells.append("-")
                continue
            ratios[kind].append(runs[kind]["error"] / cold["error"] if cold["error"] else 1.0)
            cells.append(f"{ratios[kind][-1]:.3f}")
        loss = min(loss for _, loss in cold["curve"])
        curves = {kind: runs[kind]["curve"] for kind in ("cold", *shares) if "error" in runs.get(kind, {})}
        times = {kind: reached(curve, loss) for kind, curve in curves.items()}
        for kind, so_far in shares.items():
            so_far.extend([times[kind] / times["cold"]] if kind in times else [])
        print("| " + " | ".join([*cells, ", ".join(f"{at:.1f}" for at in times.values())]) + " |")
    for kind, of in ratios.items():
        decided = [ratio for ratio in of if abs(ratio - 1) > DECIDED]
        lower = sum(ratio < 1 for ratio in decided)
        within = sum(ratio <= 1 + DECIDED for ratio in of)
        print(
            f"\n{kind}: error {geometric_mean(of):.4f} of the cold run's (geometric mean), lower on {lower} of "
            f"{len(decided)} decided by more than {DECIDED:.1%}, no higher than that on {within} of {len(of)}"
        )
        if shares.get(kind):
            never = sum(share == float("inf") for share in shares[kind])
            print(
                f"time to the cold loss: median {median(shares[kind]):.2f} of the cold run's, "
                f"never reached on {never} of {len(shares[kind])}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path, nargs="?")
    parser.add_argument("--out")
    parser.add_argument("--names", nargs="+")
    parser.add_argument("--time", type=float, default=60.0, help="seconds")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--kinds", nargs="+", choices=list(SHARES), default=list(SHARES))
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
