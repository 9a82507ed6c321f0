"""What another table is worth: fits with and without it on pairs of a source and a target, and what came out.

usage: python -m benchmarks.transfer run FOLDER --out RUNS.jsonl [--names A B] [--seeds 5] [--limit 20] [--labels 25 50]
       python -m benchmarks.transfer report RUNS.jsonl [--base target_only] [--system transfer] > REPORT.md

FOLDER holds index.json ({"transfer": {NAME: {task, target}}}) and, in transfer/NAME, source.csv.gz, target_train.csv.gz
and target_test.csv.gz of the same columns. For each pair and seed as many rows of the target as target_train has, or as
--labels says, keep their label; the systems learn from them, from the source, or from both, and are scored on all other
rows of the target.

A run that is in the file already is not repeated, whether it failed or not.

Systems, each `automl fit` and `automl predict` as whole processes, without experience and with the same limit:

  target_only  the labelled rows of the target
  pooled       these and the rows of the source as one table
  source_only  the source
  transfer     the labelled rows, with --source source.csv
  from_model   the labelled rows, with --source and a model of the source, fitted before within the same limit
  adapt        the source, with --adapt-to all rows of the target without their target column, those scored included

Models that see no label of the target are kept beside RUNS.jsonl, as they are the same for any number of labels.
"""

import argparse
import hashlib
import json
import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from automl_cli.errors import AutomlError, UsageError
from automl_cli.files import locked
from benchmarks.compare.rows import append_line
from benchmarks.compare.runs import PATIENCE, PATIENCE_SECONDS, commit_of, environment_of, machine
from benchmarks.compare.systems import ROOT, SCRIPTS, System
from benchmarks.tables import BadPredictions, error_of, guess_error
from benchmarks.timed import Timed, run_timed
from benchmarks.transfer_pairs import Tables, draw, find_pairs, lay_out, points
from benchmarks.transfer_report import Run, markdown, read_runs

LONGEST_COUNTED = 3600.0  # seconds until a run without a limit, of so many trials, is ended
PREDICT_SECONDS = 600.0
TOLD = ("score", "n_trials", "n_failed", "peak_memory_bytes")
PACKAGES = ("lightgbm", "xgboost", "catboost", "scikit-learn", "smac", "torch")


@dataclass(frozen=True)
class Recipe:
    """What a system is given.

    Attributes
    ----------
    data : str
        The file that it is fitted on, of those that `lay_out` writes.
    blind : bool
        It sees no label of the target: its model is the same for any number of labelled rows, and is fitted once per
        pair and seed.
    """

    data: str
    options: tuple[str, ...] = ()
    blind: bool = False


SOURCE_MODEL = "source.automl"
SYSTEMS: Mapping[str, Recipe] = MappingProxyType({
    "target_only": Recipe("train.csv"),
    "pooled": Recipe("pooled.csv"),
    "source_only": Recipe("source.csv", blind=True),
    "transfer": Recipe("train.csv", ("--source", "source.csv")),
    "from_model": Recipe("train.csv", ("--source", SOURCE_MODEL)),
    "adapt": Recipe("source.csv", ("--adapt-to", "unlabelled.csv"), blind=True),
})  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """What holds for all runs of a command."""

    program: System
    limit_s: float | None
    trials: int | None
    models: Path

    @property
    def budget(self) -> list[str]:
        """Return the limit as options of ``automl fit``."""
        return ["--time", f"{self.limit_s:g}s"] if self.trials is None else ["--trials", str(self.trials)]


@dataclass(frozen=True)
class Cell:
    """What all systems are given in turn; ``labels`` is None for as many as the pair comes with."""

    pair: Tables
    seed: int
    labels: int | None


@dataclass(frozen=True)
class Fitted:
    """A model, or why there is none.

    Attributes
    ----------
    seconds : float
        Wall clock of the whole process.
    told : mapping
        What the command printed with ``--json``.
    """

    seconds: float
    failure: str | None
    peak_bytes: int
    told: dict[str, Any]


def turns(
    pairs: Sequence[Tables], n_seeds: int, labels: Sequence[int] | None, systems: Sequence[str]
) -> Iterator[tuple[Cell, str, int]]:
    """Yield every run with its position in its cell.

    The machine's speed drifts, so systems take turns on each cell, and each seed begins with the next system. Seeds are
    the outer loop: what is interrupted has something on all pairs.
    """
    for seed in range(n_seeds):
        first = seed % len(systems)
        for pair in pairs:
            for n in points(pair, labels):
                for position, system in enumerate([*systems[first:], *systems[:first]]):
                    yield Cell(pair, seed, n), system, position


def run_one(cell: Cell, system: str, position: int, setup: Setup) -> Run:
    """Fit, predict and score with one system in a fresh folder; a failure is a row as well."""
    pair, drawn = cell.pair, draw(cell.pair, cell.seed, cell.labels)
    begun, load = datetime.now(UTC).isoformat(timespec="seconds"), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="transfer-") as scratch:
        folder = Path(scratch)
        lay_out(pair, drawn, folder)
        naive = guess_error(pair.dataset, folder)
        fitted, extra = _fit_any(cell, system, setup, folder)
        error, failure, predict_s = _predict(pair, setup, folder) if fitted.failure is None else (None, None, None)
    return Run(
        name=pair.name,
        task=pair.task,
        metric=pair.dataset.metric,
        seed=cell.seed,
        system=system,
        labels=cell.labels,
        n_labels=len(drawn.labelled),
        n_source=len(pair.source),
        n_scored=len(drawn.scored),
        limit_s=setup.limit_s,
        trials=setup.trials,
        error=error,
        failure=fitted.failure or failure,
        naive=naive,
        fit_s=fitted.seconds,
        predict_s=predict_s,
        peak_bytes=fitted.peak_bytes,
        position=position,
        begun=begun,
        load=load,
        source=setup.program.source,
        commit=commit_of(setup.program.checkout),
        versions=_versions(),
        machine=machine(),
        transfer=fitted.told.get("transfer"),
        details={key: fitted.told[key] for key in TOLD if key in fitted.told} | extra,
    )


def _fit_any(cell: Cell, system: str, setup: Setup, folder: Path) -> tuple[Fitted, dict[str, Any]]:
    """Leave a model in the folder as model.automl, and say what else there is to tell of it."""
    if SYSTEMS[system].blind:
        return _fit_once(cell.pair, system, cell.seed, setup, folder, "model.automl")
    if system != "from_model":
        return _fit(cell.pair, system, cell.seed, setup, folder), {}
    # one model of the source for all seeds: whoever has one has it before there is a target
    before, _ = _fit_once(cell.pair, "source_only", 0, setup, folder, SOURCE_MODEL)
    extra = {"source_fit_s": before.seconds}
    if before.failure is not None:
        return replace(before, failure=f"the model of the source: {before.failure}"), extra
    return _fit(cell.pair, system, cell.seed, setup, folder), extra


def _fit(pair: Tables, system: str, seed: int, setup: Setup, folder: Path, out: str = "model.automl") -> Fitted:
    recipe = SYSTEMS[system]
    words = ["fit", recipe.data, "--target", pair.target, "--task", pair.task, "--seed", str(seed)]
    timeout_s = LONGEST_COUNTED if setup.limit_s is None else PATIENCE * setup.limit_s + PATIENCE_SECONDS
    words += [*setup.budget, "--out", out, "--json", "--quiet", *recipe.options]
    timed = _automl(words, setup, folder, timeout_s)
    failure = _failure(timed)
    if failure is None and not (folder / out).is_file():
        failure = "no model at its place"
    try:
        told = json.loads(timed.out) if failure is None else {}
    except ValueError:
        told = {}
    return Fitted(timed.wall_s, failure, timed.peak_bytes, told)


def _fit_once(
    pair: Tables, system: str, seed: int, setup: Setup, folder: Path, out: str
) -> tuple[Fitted, dict[str, Any]]:
    """Take the model from an earlier run of the same code on the same rows, or fit it and keep it for the next."""
    digest = hashlib.sha256(repr((setup.program.source, setup.budget, pair, SYSTEMS[system])).encode()).hexdigest()
    kept = setup.models / f"{pair.name}-{system}-{seed}-{digest[:10]}"
    model, facts = kept.with_name(f"{kept.name}.automl"), kept.with_name(f"{kept.name}.json")
    if facts.is_file():
        shutil.copyfile(model, folder / out)
        return Fitted(**json.loads(facts.read_text(encoding="utf-8"))), {"fitted_before": True}
    fitted = _fit(pair, system, seed, setup, folder, out)
    if fitted.failure is None:
        setup.models.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / out, model)
        partial = kept.with_name(f"{kept.name}.partial")
        partial.write_text(json.dumps(asdict(fitted)), encoding="utf-8")
        partial.replace(facts)  # last, and whole: a model without its facts is fitted again
    return fitted, {"fitted_before": False}


def _predict(pair: Tables, setup: Setup, folder: Path) -> tuple[float | None, str | None, float]:
    """Return the error or the reason why there is none, and the seconds."""
    words = ["predict", "model.automl", "features.csv", "-o", "predictions.csv", "--quiet"]
    words += [] if pair.task == "regression" else ["--proba"]
    timed = _automl(words, setup, folder, PREDICT_SECONDS)
    failure = _failure(timed)
    if failure is not None:
        return None, f"predict: {failure}", timed.wall_s
    try:
        error = error_of(pair.dataset, folder / "predictions.csv", folder / "test.csv")
    except BadPredictions as reason:
        return None, str(reason), timed.wall_s
    return (error, None, timed.wall_s) if math.isfinite(error) else (None, f"the error is {error}", timed.wall_s)


def _automl(words: Sequence[str], setup: Setup, folder: Path, timeout_s: float) -> Timed:
    environment = environment_of(setup.program, folder, os.environ) | {"AUTOML_EXPERIENCE": "off"}
    command = [sys.executable, "-m", "automl_cli", *words]
    return run_timed(command, cwd=folder, timeout_s=timeout_s, environment=environment)


def _failure(timed: Timed) -> str | None:
    if timed.timed_out:
        return f"ended after {timed.wall_s:.0f} s"
    if timed.rc:
        return f"exit status {timed.rc}: {(timed.err.strip().splitlines() or ['no message'])[-1]}"
    return None


def _versions() -> dict[str, str]:
    """Return the versions of what models are fitted with, where it is installed."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def run_all(args: argparse.Namespace) -> None:
    """Run what is not in the file yet."""
    program = _program(args.program)
    limit_s = None if args.trials else args.limit
    setup = Setup(program, limit_s, args.trials, args.out.with_name(f"{args.out.name}.models"))
    pairs = find_pairs(args.folder, args.names)
    with locked(args.out.with_name(f"{args.out.name}.lock"), str(args.out)):
        runs, source = read_runs([args.out]), program.source
        if any(run.source != source for run in runs):
            raise UsageError(f"{args.out} has runs of other code than today's", hint="take another --out")
        done = {run.key for run in runs}
        for cell, system, position in turns(pairs, args.seeds, args.labels, list(dict.fromkeys(args.systems))):
            key = (cell.pair.name, cell.seed, cell.labels, system, setup.limit_s, setup.trials)
            if key not in done:
                done.add(key)
                run = run_one(cell, system, position, setup)
                if program.source != source:  # nobody can say which code the run was made by
                    raise UsageError("the program was changed while it ran", hint="--program a checkout that stays")
                append_line(args.out, asdict(run))
                outcome = run.failure if run.error is None else f"error {run.error:.6g}"
                sys.stderr.write(f"{run.name} {run.n_labels} labels, seed {run.seed}, {system}: {outcome}\n")


def _program(path: Path) -> System:
    if not (path / "automl_cli" / "__main__.py").is_file():
        raise UsageError(f"{path} holds no automl_cli", hint="--program is a checkout of this repository")
    return System("automl", SCRIPTS / "fit_automl.py", checkout=path.resolve())


def report_all(args: argparse.Namespace) -> None:
    """Print the report."""
    for path in args.files:
        if not path.is_file():
            raise UsageError(f"{path} does not exist")
    sys.stdout.write(markdown(read_runs(args.files), base=args.base, system=args.system))


def parser() -> argparse.ArgumentParser:
    """Return the parser of both commands."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.transfer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="fit, predict and score; one line per run")
    run.add_argument("folder", type=Path)
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--names", nargs="+", help="only these pairs; default all of the index")
    run.add_argument("--seeds", type=_positive, default=5, metavar="N", help="0 to N - 1; default 5")
    run.add_argument("--limit", type=float, default=20.0, metavar="SECONDS", help="of each fit; default 20")
    run.add_argument("--labels", type=_positive, nargs="+", metavar="N", help="default as many as target_train has")
    run.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    run.add_argument("--trials", type=_positive, metavar="N", help="so many trials in place of the limit")
    run.add_argument("--program", type=Path, default=ROOT, metavar="PATH", help="another checkout of this repository")
    report = commands.add_parser("report", help="Markdown on standard output")
    report.add_argument("files", type=Path, nargs="+")
    report.add_argument("--base", choices=SYSTEMS, default="target_only", help="what is compared against")
    report.add_argument("--system", choices=SYSTEMS, default="transfer", help="what is compared")
    return top


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    args = parser().parse_args(arguments)
    try:
        {"run": run_all, "report": report_all}[args.command](args)
    except AutomlError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the running system is ended too
    raise SystemExit(main())
