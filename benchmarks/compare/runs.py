"""Who runs when, and one run: a whole process, its answer scored."""

import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import psutil

from automl_cli.errors import UsageError
from benchmarks.compare.environments import python_of
from benchmarks.compare.rows import Row
from benchmarks.compare.systems import SCRIPTS, System
from benchmarks.systems.one_run import Job, write_job
from benchmarks.tables import BadPredictions, Dataset, error_of, guess_error, lay_out, truth_of
from benchmarks.timed import Timed, run_timed

PATIENCE = 3.0  # times the limit, and a while for imports, until a system is ended
PATIENCE_SECONDS = 120.0


@dataclass(frozen=True)
class Cell:
    """What all systems are given in turn."""

    dataset: Dataset
    limit_s: float
    seed: int


@dataclass(frozen=True)
class Place:
    """Where and on how many cores systems run."""

    venvs: Path
    splits: Path
    cores: int


def turns(
    datasets: Sequence[Dataset], limits: Sequence[float], seeds: Sequence[int], systems: Sequence[System]
) -> Iterator[tuple[Cell, System, int]]:
    """Yield every run with its position in its cell.

    The machine's speed drifts, so systems take turns on each cell, and each cell begins with the next system. The
    order depends on the arguments alone: a resumed comparison goes on in the same one.
    """
    cells = [Cell(dataset, limit, seed) for seed in seeds for limit in limits for dataset in datasets]
    for number, cell in enumerate(cells):
        first = number % len(systems)
        for position, system in enumerate([*systems[first:], *systems[:first]]):
            yield cell, system, position


def check_sources(rows: Sequence[Row], systems: Sequence[System]) -> None:
    """Refuse to mix runs of two versions of a system under one name."""
    sources = {system.label: system.source for system in systems}
    for row in rows:
        if row.source != sources.get(row.system, row.source):
            raise UsageError(
                f"the file has runs of {row.system!r} made by other code than today's",
                hint=f"take another --out, or another name: NEW={row.system}",
            )


def run_one(cell: Cell, system: System, position: int, place: Place) -> Row:
    """Fit and predict with a system in a fresh folder, and score it; a failure is a row as well."""
    split = lay_out(cell.dataset, place.splits)
    begun, load = datetime.now(UTC).isoformat(timespec="seconds"), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="compare-") as scratch:
        folder = Path(scratch)
        job = Job(
            train=str(split / "train.csv"),
            features=str(split / "features.csv"),
            target=cell.dataset.target,
            task=cell.dataset.task,
            metric=cell.dataset.metric,
            limit_s=cell.limit_s,
            seed=cell.seed,
            cores=place.cores,
            out=scratch,
            options=list(system.options),
            begun=time.monotonic(),
        )
        write_job(job, folder / "job.json")
        timed = run_timed(
            [str(python_of(system.environment, place.venvs)), str(system.script), str(folder / "job.json")],
            cwd=folder,
            timeout_s=PATIENCE * cell.limit_s + PATIENCE_SECONDS,
            environment=environment_of(system, folder, os.environ),
        )
        error, failure, report = _outcome(cell.dataset, timed, folder, split)
    return Row(
        system=system.label,
        dataset=cell.dataset.name,
        task=cell.dataset.task,
        metric=cell.dataset.metric,
        limit_s=cell.limit_s,
        seed=cell.seed,
        error=error,
        failure=failure,
        guess=guess_error(cell.dataset, split),
        fit_s=report.get("fit_s"),
        model_s=report.get("model_s"),
        predict_s=report.get("predict_s"),
        wall_s=timed.wall_s,
        peak_bytes=timed.peak_bytes,
        n_train=len(truth_of(cell.dataset, split / "train.csv")),
        n_columns=len(pd.read_csv(split / "train.csv", nrows=0).columns),
        cores=place.cores,
        position=position,
        begun=begun,
        load=load,
        n_left=timed.n_left,
        source=system.source,
        commit=commit_of(system.checkout),
        machine=machine(),
        details=report.get("details", {}),
    )


def environment_of(system: System, scratch: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a system's process: no settings of the user, no experience of earlier runs, no GPU."""
    kept = {name: value for name, value in environment.items() if not name.startswith(("AUTOML_", "PYTHON"))}
    kept.pop("VIRTUAL_ENV", None)
    homes = {f"XDG_{name}_HOME": str(scratch / "home" / name.lower()) for name in ("DATA", "CONFIG", "CACHE", "STATE")}
    paths = [str(path) for path in (system.checkout, SCRIPTS) if path is not None]
    return kept | homes | {"PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": "", "NO_COLOR": "1"}


def commit_of(checkout: Path | None) -> str:
    """Return what git calls a checkout, or nothing where it is no repository."""
    if checkout is None:
        return ""
    git = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        return subprocess.run(git, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _outcome(
    dataset: Dataset, timed: Timed, folder: Path, split: Path
) -> tuple[float | None, str | None, dict[str, Any]]:
    """Return the error or the reason why there is none, and what the system reports."""
    report = _read_report(folder / "report.json")
    if timed.timed_out:
        return None, f"ended after {timed.wall_s:.0f} s", report
    if timed.rc:
        last = (timed.err.strip().splitlines() or ["no message"])[-1]
        return None, f"exit status {timed.rc}: {last}", report
    if "model_s" not in report:
        return None, "no whole report.json", report
    try:
        return error_of(dataset, folder / "predictions.csv", split / "test.csv"), None, report
    except BadPredictions as error:
        return None, str(error), report


def _read_report(path: Path) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it never came so far, or was ended while it wrote
        return {}
    return report


def machine() -> str:
    """Say what the runs were made on."""
    memory = psutil.virtual_memory().total / 2**30
    cpu = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{os.cpu_count()} cores of {cpu}, {memory:.0f} GB, {platform.system()}, Python {platform.python_version()}"
