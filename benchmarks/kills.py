"""Kill -9 at random moments of fit, predict and the replacement of a champion: nothing half-written, nothing lost.

After each kill every file with a final name must be whole: a model opens and predicts, predictions have as many rows as
the table, the champion is there. A fit that had a trial on disk must be listed as interrupted, and resume to its end.

usage: python -m benchmarks.kills [--kills 200] [--seed 0]
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

N_ROWS = 2_000
KINDS = ("fit", "predict", "champion")
CHEAP = ("--include", "linear", "--include", "lightgbm", "--folds", "2", "-q")


def write(path: Path, n: int, seed: int, *, labels: bool = True) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4)).round(5)
    y = (x @ [1.0, 2.0, 0.0, -1.0] + rng.normal(size=n)).round(4)
    rows = "".join(",".join(map(str, row)) + (f",{t}" if labels else "") + "\n" for row, t in zip(x, y, strict=True))
    path.write_text("a,b,c,d" + (",y" if labels else "") + "\n" + rows)


class Broken(Exception):  # noqa: N818 - what was found, not what went wrong here
    """Something was half-written or lost."""


def automl(folder: Path, *line: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "automl_cli", *line],
        cwd=folder, env=environment(folder), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


def environment(folder: Path) -> dict[str, str]:
    package = str(Path(__file__).parents[1])
    state, data = str(folder / "state"), str(folder / "experience.sqlite")
    return {**os.environ, "XDG_STATE_HOME": state, "AUTOML_EXPERIENCE": data, "PYTHONPATH": package}


def killed(folder: Path, line: Sequence[str], after: float) -> bool:
    """Start a command and kill its whole group after so long; False where it had ended by then."""
    process = subprocess.Popen(
        [sys.executable, "-m", "automl_cli", *line],
        cwd=folder, env=environment(folder), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


def seconds(folder: Path, line: Sequence[str]) -> float:
    """Return what a command takes when nobody kills it: kills fall anywhere within."""
    began = time.monotonic()
    automl(folder, *line)
    return time.monotonic() - began


def check_whole(folder: Path) -> None:
    """Raise `Broken` where a file with a final name is not whole."""
    for model in folder.glob("*.automl*"):
        answer = automl(folder, "predict", model.name, "new.csv", "-q")
        if answer.returncode or answer.stdout.count("\n") != N_ROWS + 1:
            raise Broken(f"{model.name} does not predict: {answer.stderr[-200:]}")
    for predictions in folder.glob("predictions.csv"):
        if predictions.read_text().count("\n") != N_ROWS + 1:
            raise Broken("predictions.csv is half a file")


def check_resumable(folder: Path) -> int:
    """Resume whatever is listed as interrupted; return how many runs that were."""
    runs = json.loads(automl(folder, "runs", "list", "--json").stdout)
    n_resumed = 0
    for run in runs:
        if run["status"] == "running":
            raise Broken(f"{run['name']} is said to run")
        if run["status"] == "interrupted":
            answer = automl(folder, "runs", "resume", run["name"], "-q")
            if answer.returncode not in (0, 7):
                raise Broken(f"{run['name']} does not resume: {answer.stderr[-200:]}")
            n_resumed += 1
    automl(folder, "runs", "clean", "-q")
    return n_resumed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="automl-kills-") as place:
        folder = Path(place)
        write(folder / "new.csv", N_ROWS, 99, labels=False)
        write(folder / "day.csv", N_ROWS, 0)
        automl(folder, "fit", "day.csv", "-t", "y", "--trials", "2", *CHEAP, "--champion", "champion.automl")
        lines = {
            "fit": ("fit", "day.csv", "-t", "y", "--trials", "8", *CHEAP, "-o", "model.automl"),
            "predict": ("predict", "champion.automl", "new.csv", "-o", "predictions.csv", "-q"),
            "champion": ("fit", "day.csv", "-t", "y", "--trials", "4", *CHEAP, "--champion", "champion.automl"),
        }
        takes = {kind: seconds(folder, line) for kind, line in lines.items()}
        while counts["killed"] < arguments.kills:
            kind = chance.choice(KINDS)
            write(folder / "day.csv", N_ROWS, counts["tried"] + 1)
            counts["tried"] += 1
            start = time.monotonic()
            was_killed = killed(folder, lines[kind], chance.uniform(0.05, 1.05) * takes[kind])
            if not was_killed:
                takes[kind] = time.monotonic() - start
            counts["killed"] += was_killed
            counts[f"{kind} killed"] += was_killed
            try:
                if not (folder / "champion.automl").exists():
                    raise Broken("the champion is lost")
                check_whole(folder)
                counts["resumed"] += check_resumable(folder)
            except Broken as error:
                counts["failed"] += 1
                print(f"{kind}: {error}", flush=True)
            if counts["tried"] % 20 == 0:
                print(dict(counts), f"{time.monotonic() - began:.0f} s", flush=True)
    print(json.dumps({**counts, "failed": counts["failed"], "seconds": round(time.monotonic() - began)}))
    sys.exit(1 if counts["failed"] else 0)


if __name__ == "__main__":
    main()
