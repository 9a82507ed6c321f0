"""What a step after the search is worth: trials of kept run folders, mixed with and without it, scored on new rows.

automl fit train.csv -t y --metric f1 --trials 12 --run-dir runs/churn -o churn.automl
python -m benchmarks.calibration runs/churn churn.automl test.csv [--part stacking]

The part is calibration (temperature, thresholds) or stacking.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from automl_cli.anytime import ModelSoFar
from automl_cli.artifact import open_artifact
from automl_cli.clock import Deadline
from automl_cli.members import OofCache
from automl_cli.metrics import METRICS
from automl_cli.prediction import evaluate_model
from automl_cli.rundata import open_rundata
from automl_cli.trial import read_journal

FLAGS = {"calibration": "calibrate", "stacking": "stacking"}
KEPT = ("task", "schema", "frame")
HEAD = ("run", "metric", "without: validated", "test", "with: validated", "test", "learned")


def compare(run: Path, model: Path, test: str, part: str) -> Iterator[str]:
    """Yield one row of the table: losses, so that lower is better."""
    data = open_rundata(run / "data")
    with open_artifact(model) as artifact:
        manifest = {key: artifact.manifest.data[key] for key in KEPT}
    yield from (run.name, data.metric.name)
    learned = "nothing"
    for taken in (False, True):
        mixed = ModelSoFar(Path(), manifest, OofCache(run, data), Deadline.after(None))
        setattr(mixed, FLAGS[part], taken)
        for trial in read_journal(run / "journal.jsonl"):
            mixed.add(trial)
        chosen = mixed.weigh()
        if chosen is None:
            raise SystemExit(f"{run} has no finished trial")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mixed.automl"
            mixed.write(path, {})
            scores = evaluate_model(path, test, metric=data.metric.name, threads=1)
        yield f"{chosen.mean_loss:.4f}"
        yield f"{METRICS[scores.metric].natural(scores.scores[scores.metric]):.4f}"
        if part == "stacking":
            learned = ", ".join(f"{w:.2f}" for _, w in chosen.members) if chosen.mixing.offsets else "nothing"
        elif chosen.decision.multipliers:
            learned = "x " + ", ".join(f"{value:.2f}" for value in np.asarray(chosen.decision.multipliers))
        elif chosen.decision.temperature != 1.0:
            learned = f"temperature {chosen.decision.temperature:.3f}"
    yield learned


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="+", metavar="RUN MODEL TEST", help="run folder, its model file, labelled rows")
    parser.add_argument("--part", choices=FLAGS, default="calibration")
    args = parser.parse_args()
    paths = args.paths
    print("| " + " | ".join(HEAD) + " |")
    print("|" + "---|" * len(HEAD))
    for run, model, test in zip(paths[::3], paths[1::3], paths[2::3], strict=True):
        print("| " + " | ".join(compare(Path(run), Path(model), test, args.part)) + " |", flush=True)


if __name__ == "__main__":
    main()
