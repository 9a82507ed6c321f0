"""What leaving out dear members costs and saves: the model of a run with and without it, on rows that none has seen.

Each table is cut into a training and a test part (seeded). After one fit the members are chosen from its trials as they
are, and trimmed; both models predict the test part. Prints errors, seconds a row (one thread, encoders included) and
bytes, and their geometric mean ratios.

usage: python -m benchmarks.trimming TABLES [--names A B] [--time 60s] [--seeds 0]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import pandas as pd

from automl_cli.artifact import open_artifact, write_artifact
from automl_cli.members import Chosen, OofCache, choose_members
from automl_cli.metrics import METRICS
from automl_cli.prediction import evaluate_model
from automl_cli.rundata import open_rundata
from automl_cli.summary import artifact_members
from automl_cli.trial import Success, read_journal
from automl_cli.trimming import trimmed
from benchmarks.warm import index_of

Judged = tuple[float, float, int]
"""The error, seconds a row and bytes."""


def price(trial: Success) -> float:
    return sum(trial.row_seconds or ()) * len(trial.losses)


def written(chosen: Chosen, model: Path, run: Path, place: Path) -> Path:
    with open_artifact(model) as artifact:
        known = artifact.manifest.data
    own = {"decision": chosen.decision.to_json(), "mixing": chosen.mixing.to_json(), "rows": None, "reference": None}
    write_artifact(place, {**known, **own}, artifact_members(run, chosen, {}))
    return place


def judged(model: Path, test: Path, n_rows: int) -> Judged:
    scores = evaluate_model(model, str(test), metric=None, threads=1)
    began = time.process_time()
    evaluate_model(model, str(test), metric=None, threads=1)
    seconds = (time.process_time() - began) / n_rows
    metric = METRICS[scores.metric]
    natural = scores.scores[scores.metric]
    return (1.0 - natural if metric.greater_is_better else natural), seconds, model.stat().st_size


def one(table: Path, about: dict[str, Any], limit: str, seed: int, folder: Path) -> tuple[Judged, Judged]:
    rows = pd.read_csv(table, low_memory=False).sample(frac=1, random_state=seed)
    n = int(0.7 * len(rows))
    rows[:n].to_csv(folder / "train.csv", index=False)
    rows[n:].to_csv(folder / "test.csv", index=False)
    run, model = folder / "run", folder / "m.automl"
    fit = [sys.executable, "-m", "automl_cli", "fit", str(folder / "train.csv"), "-t", about["target"], "--task"]
    fit += [about["task"], "--time", limit, "--seed", str(seed), "--run-dir", str(run), "-q", "-o", str(model)]
    subprocess.run(fit, check=True)
    trials = sorted(read_journal(run / "journal.jsonl"), key=lambda trial: trial.proposal.number)
    cache = OofCache(run, open_rundata(run / "data"))
    chosen = choose_members(trials, cache)
    assert chosen is not None
    after = trimmed(chosen, cache, price)
    untrimmed, without = (
        judged(written(found, model, run, folder / f"{name}.automl"), folder / "test.csv", len(rows) - n)
        for name, found in (("before", chosen), ("after", after))
    )
    return untrimmed, without


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", type=Path)
    parser.add_argument("--names", nargs="+")
    parser.add_argument("--time", default="60s")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    index = index_of(arguments.tables)
    print("| table | error | trimmed | ratio | us a row | trimmed | ratio | MB | trimmed |\n" + "|---" * 9 + "|")
    ratios = []
    for name in arguments.names or index:
        for seed in arguments.seeds:
            with tempfile.TemporaryDirectory() as place:
                table = arguments.tables / f"{name}.csv.gz"
                before, after = one(table, dict(index[name]), arguments.time, seed, Path(place))
            ratio = np.array(after) / np.array(before)
            ratios.append(ratio)
            cells = [f"{before[0]:.5g}", f"{after[0]:.5g}", f"{ratio[0]:.4f}"]
            cells += [f"{before[1] * 1e6:.0f}", f"{after[1] * 1e6:.0f}", f"{ratio[1]:.2f}"]
            cells += [f"{before[2] / 1e6:.2f}", f"{after[2] / 1e6:.2f}"]
            print(f"| {name} ({seed}) | " + " | ".join(cells) + " |", flush=True)
    error, seconds, size = (geometric_mean(map(float, column)) for column in np.transpose(ratios))
    print(f"\ngeometric means: error {error:.4f}, seconds a row {seconds:.2f}, bytes {size:.2f}")


if __name__ == "__main__":
    main()
