"""Fits and predictions by the hundred: what is left on the machine afterwards, and what grows in one process.

Everything runs in folders of its own (TMPDIR and the XDG folders), looked at first, halfway and at the end. What grows
on purpose is told apart: a note of each run for a month, a verdict for each model file up to 2,000, and the experience.
A second loop predicts in one process and watches its handles, threads and memory.

usage: python -m benchmarks.soak [--fits 100] [--predictions 1000] [--inside 1000]
"""

import argparse
import contextlib
import gc
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

MARK = "AUTOML_SOAK"
SHARED = Path("/dev/shm")
MOST_GROWTH = 24 << 20
"""Bytes that a process may hold more after the last thousand predictions than after the first hundred."""
WARM = 100
PATIENCE = 10.0  # seconds that what ends may take to be gone
ON_PURPOSE = ("notes of runs", "verdicts", "experience, kB")
N_ROWS = 400


def sample_table(path: Path, seed: int) -> None:
    chance = random.Random(seed)
    lines = ["a,b,c,y"]
    for _ in range(N_ROWS):
        a, b, c = chance.gauss(0, 1), chance.gauss(0, 1), chance.choice("xyz")
        lines.append(f"{a:.4f},{b:.4f},{c},{'yes' if a + (c == 'x') + chance.gauss(0, 0.5) > 0.5 else 'no'}")
    path.write_text("\n".join(lines) + "\n")


class Place:
    """The folders of a soak and the environment that keeps commands in them."""

    def __init__(self, root: Path) -> None:
        self.root, self.token = root, f"{os.getpid()}-{time.time_ns()}"
        self.work, self.tmp, self.home = (root / name for name in ("work", "tmp", "home"))
        for folder in (self.work, self.tmp, self.home):
            folder.mkdir()
        self.shared_before = _shared()
        self.ours: set[int] = set()  # all processes that commands had
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AUTOML_")},
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "TMPDIR": str(self.tmp),
            "HOME": str(self.home),
            MARK: self.token,
            "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait for each other on a busy machine must sleep
            **{f"XDG_{name}_HOME": str(self.home / name.lower()) for name in ("CACHE", "CONFIG", "DATA", "STATE")},
        }

    def automl(self, *line: str) -> None:
        """Run a command that must succeed."""
        with tempfile.TemporaryFile("w+") as said:
            process = psutil.Popen(
                [sys.executable, "-m", "automl_cli", *line], cwd=self.work, env=self.environment,
                stdout=said, stderr=said,
            )  # fmt: skip
            while process.poll() is None:
                with contextlib.suppress(psutil.Error):
                    self.ours |= {process.pid, *(child.pid for child in process.children(recursive=True))}
                time.sleep(0.05)
            if process.returncode:
                said.seek(0)
                raise RuntimeError(f"automl {' '.join(line)} ended with {process.returncode}: {said.read()[-500:]}")

    def measure(self) -> dict[str, int]:
        """Count what is there once what is ending has ended."""
        until = time.monotonic() + PATIENCE
        while (self.processes() or self.lost()) and time.monotonic() < until:
            time.sleep(0.5)
        runs = self.home / "state" / "automl" / "runs"
        of_runs = [path for path in runs.rglob("*") if path.is_file()] if runs.exists() else []
        notes = [path for path in of_runs if path.name == "run.json"]
        kept = [path for path in (*notes, *(path.with_name("lock") for path in notes)) if path.exists()]
        verdicts = self.home / "cache" / "automl" / "checked"
        experience = list((self.home / "data").rglob("experience.sqlite*"))
        known = {*kept, *(verdicts.iterdir() if verdicts.exists() else ()), *experience}
        return {
            "files in the temporary folder": len(list(self.tmp.rglob("*"))),
            "files beside the model": len(list(self.work.rglob("*"))),
            "other files in the home folders": sum(
                path.is_file() and path not in known for path in self.home.rglob("*")
            ),
            "processes": len(self.processes()),
            "shared memory and semaphores": len(self.lost()),
            "System V semaphores": _lines("/proc/sysvipc/sem"),
            "System V shared memory": _lines("/proc/sysvipc/shm"),
            "notes of runs": len(notes),
            "verdicts": len(list(verdicts.iterdir())) if verdicts.exists() else 0,
            "experience, kB": sum(path.stat().st_size for path in experience) // 1000,
        }

    def processes(self) -> list[psutil.Process]:
        """Find what still runs and was started by a command of this soak."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.token:
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def may_be_ours(self, name: str) -> bool:
        """Whether a name says that one of our processes made it, or nothing."""
        pid = _pid_of(name)
        return pid is None or pid in self.ours

    def lost(self) -> set[str]:
        """Find names in shared memory that are new, that no process holds, and that no other program's process made."""
        fresh = {name for name in _shared() - self.shared_before if self.may_be_ours(name)}
        for process in psutil.process_iter() if fresh else ():
            try:
                held = {Path(part.path).name for part in process.memory_maps(grouped=True)}
                fresh -= held | {Path(file.path).name for file in process.open_files()}
            except psutil.Error:
                continue
        return fresh


def _pid_of(name: str) -> int | None:
    found = re.search(r"-(\d+)-", name)
    return int(found[1]) if found else None


def _shared() -> set[str]:
    return {path.name for path in SHARED.iterdir()} if SHARED.is_dir() else set()


def _lines(path: str) -> int:
    return max(0, len(Path(path).read_text().splitlines()) - 1) if Path(path).exists() else 0


def predict_inside(model: Path, table: Path, n: int) -> dict[str, list[int]]:
    """Predict so often in this process; return handles, threads and bytes after the first hundred, halfway and last."""
    from automl_cli.prediction import Asked, predict

    process = psutil.Process()
    found: dict[str, list[int]] = {"open handles": [], "threads": [], "memory, MB": []}
    stops = (min(WARM, n), max(min(WARM, n), n // 2), n)
    for number in range(1, n + 1):
        predict(model, str(table), Asked(proba=True, carry=("a",)), threads=2)
        for _ in range(stops.count(number)):
            gc.collect()
            found["open handles"].append(process.num_fds())
            found["threads"].append(process.num_threads())
            found["memory, MB"].append(process.memory_info().rss >> 20)
    return found


def show(title: str, columns: tuple[str, ...], rows: Mapping[str, list[int]], bad: list[str]) -> None:
    print(f"\n{title:45}" + "".join(f"{column:>12}" for column in columns))
    for name, values in rows.items():
        verdict = "  GROWS" if name in bad else "  (on purpose)" if name in ON_PURPOSE else ""
        print(f"{name:45}" + "".join(f"{value:12,}" for value in values) + verdict)


def soak(place: Place, n_fits: int, n_predictions: int) -> list[dict[str, int]]:
    """Fit and predict in turn; return what is there after the first fit, halfway and at the end."""
    measured = []
    each = n_predictions // max(1, n_fits)
    sample_table(place.work / "new.csv", 0)
    for number in range(n_fits):
        sample_table(place.work / "table.csv", number)
        place.automl("fit", "table.csv", "-t", "y", "--trials", "3", "--seed", str(number), "-q", "-o", "model.automl")
        for _ in range(each):
            place.automl("predict", "model.automl", "new.csv", "-o", "predictions.csv", "-q")
        for _ in range((0, n_fits // 2, n_fits - 1).count(number)):
            measured.append(place.measure())
            print(f"{number + 1} fits, {(number + 1) * each} predictions", flush=True)
    return measured


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fits", type=int, default=100)
    parser.add_argument("--predictions", type=int, default=1000, help="by the command, shared out among the fits")
    parser.add_argument("--inside", type=int, default=1000, help="in one process")
    parser.add_argument("--only-inside", nargs=2, metavar=("MODEL", "TABLE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.only_inside:
        model, table = map(Path, options.only_inside)
        print(json.dumps(predict_inside(model, table, options.inside)))
        return 0
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="automl-soak-") as root:
        place = Place(Path(root))
        measured = soak(place, options.fits, options.predictions)
        inside = _inside(place, options.inside) if options.inside else {}
        after = place.measure()
    rows = {name: [part[name] for part in measured] for name in measured[0]}
    bad = [name for name, values in rows.items() if name not in ON_PURPOSE and values[-1] > values[0]]
    bad += [name for name in ("processes", "shared memory and semaphores") if after[name] and name not in bad]
    show("left by commands", ("first", "middle", "end"), rows, bad)
    grown = [name for name in ("open handles", "threads") if inside and inside[name][-1] > inside[name][0]]
    grown += ["memory, MB"] if inside and _grown(inside["memory, MB"]) else []
    show("held by one process", (f"{min(WARM, options.inside)}", "half", f"{options.inside}"), inside, grown)
    print(f"\n{options.fits} fits, {options.predictions} predictions by command, {options.inside} in one process, "
          f"{time.monotonic() - began:.0f} s: {'nothing grows' if not bad + grown else 'something grows'}")  # fmt: skip
    return 1 if bad + grown else 0


def _grown(megabytes: list[int]) -> bool:
    return (megabytes[-1] - megabytes[0]) << 20 > MOST_GROWTH


def _inside(place: Place, n: int) -> dict[str, Any]:
    line = ["--inside", str(n), "--only-inside", "model.automl", "new.csv"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", *line], cwd=place.work, env=place.environment, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    sys.exit(main())
