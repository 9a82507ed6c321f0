"""Hostile model files and tables through every reader: nothing but one line and an exit code may come of it.

Each case runs in a process forked from one that has imported everything and never run any of it, so that a crash or an
endless loop costs that case alone. A model goes through `inspect`, through the child that checks it (which may crash:
that is what it is for) and, where the check lets it pass, through `predict` and `check`. A table goes through `profile`
and through `predict` with a model that fits it. Some of both go through the real command as well, and some tables are
fitted by it, with one trial, and predicted with what came of it.

Counted: errors that are none of ours, crashes outside the checking child, more than 10 s, more than 1 GB, code of a
file that ran, files made anywhere but at the output's place. An example of each is saved.

usage: python -m benchmarks.fuzz [--models 20000] [--tables 20000] [--commands 300] [--fits 300] [--corpus FOLDER]
       python -m benchmarks.fuzz --atheris table|manifest|arrays [arguments of libFuzzer] [FOLDER]

FOLDER holds files to start from: tables, manifests, .npz files of models. Atheris is not among the dependencies.
"""

import argparse
import contextlib
import functools
import importlib
import io
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECONDS = 10
MOST_BYTES = 1 << 30
ADDRESS_SPACE = 8 << 30  # a machine survives a case that asks for everything
FAMILIES = ("lightgbm", "xgboost", "catboost", "linear", "extra_trees", "random_forest", "neighbors", "mlp", "kernel")
TASKS = ("binary", "multiclass", "regression")
N_ROWS = 240
FINE = {"inspect": {0, 6}, "check": {0, 2, 3, 6, 8}, "predict": {0, 3, 6}, "profile": {0, 3}, "fit": {0, 3, 4}}
"""Exit codes that a command may have: a model may say other columns than the table has, or nothing of its rows."""


@dataclass(frozen=True)
class Sample:
    """A model and a table that fits it."""

    model: Path
    table: bytes


@dataclass
class Findings:
    """What must not happen, by kind, with examples on disk."""

    folder: Path
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, what: str, example: Path, note: str) -> None:
        self.counts[what] += 1
        if self.counts[what] <= 3:
            place = self.folder / re.sub(r"\W+", "-", what)[:100]
            place.mkdir(parents=True, exist_ok=True)
            name = f"{self.counts[what]}-{note.split(maxsplit=1)[0]}"
            if example.exists():
                shutil.copy(example, place / f"{name}{example.suffix}")
            (place / f"{name}.txt").write_text(note)
            print(f"found: {what} ({note.splitlines()[0]})", flush=True)


class Box:
    """The folders that commands run in, compared before and after."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.work, self.tmp, self.notes = root / "box" / "work", root / "box" / "tmp", root / "notes"
        for folder in (self.work, self.tmp, root / "box" / "home", self.notes):
            folder.mkdir(parents=True)
        self.sentinel = root / "ran"
        self.variables = {
            "HOME": str(root / "box" / "home"),
            "TMPDIR": str(self.tmp),
            "AUTOML_EXPERIENCE": "off",
            "NO_COLOR": "1",
            "PYTHONPATH": str(Path(__file__).parents[1]),
            **{
                f"XDG_{name}_HOME": str(root / f"box/home/{name.lower()}")
                for name in ("CACHE", "DATA", "STATE", "CONFIG")
            },
            **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
        }

    def files(self) -> set[Path]:
        return {path for path in self.root.rglob("*") if self.notes not in path.parents}

    def reset(self) -> None:
        self.clear([*self.work.iterdir(), *self.tmp.iterdir()])

    def clear(self, paths: Sequence[Path]) -> None:
        for path in paths:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


@dataclass(frozen=True)
class Outcome:
    """How a process ended: its exit code or, negative, its signal; what it said; its memory and seconds of a core."""

    code: int
    said: str
    peak: int
    seconds: float

    @property
    def signal_name(self) -> str:
        return signal.Signals(-self.code).name if self.code < 0 else ""


def forked(box: Box, call: Callable[[], int]) -> Outcome:
    """Run a call in a fork of this process; its exit code is what the call returns.

    What has not ended after 10 s gets a minute and is judged by the seconds of a core that it took: others may use the
    machine as well.
    """
    ended = _forked(box, call, SECONDS)
    if ended.signal_name != "SIGALRM":
        return ended
    box.clear([*box.tmp.iterdir(), *box.work.glob(".*")])  # what it could not put away itself
    return _forked(box, call, 6 * SECONDS)


def _forked(box: Box, call: Callable[[], int], seconds: int) -> Outcome:
    said = box.notes / "said.txt"
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.chdir(box.work)
            resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            signal.alarm(seconds)
            code = call()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:
            import traceback

            traceback.print_exc()
        os._exit(code)
    _, status, usage = os.wait4(pid, 0)
    return _outcome(os.waitstatus_to_exitcode(status), said, usage)


def commanded(box: Box, line: Sequence[str]) -> Outcome:
    """Run the real command."""
    said = box.notes / "said.txt"
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "automl_cli", *line], cwd=box.work, env={**os.environ, **box.variables},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)  # with what its children took
    return _outcome(os.waitstatus_to_exitcode(status), said, usage)


def _outcome(code: int, said: Path, usage: resource.struct_rusage) -> Outcome:
    text = said.read_bytes()[-20_000:].decode(errors="replace") if said.exists() else ""
    return Outcome(code, text, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime)


def judged(command: str, outcome: Outcome) -> str | None:
    """Return what is wrong with how a command ended; None where nothing is."""
    if outcome.signal_name == "SIGALRM" or outcome.seconds > SECONDS:
        return f"{command}: more than {SECONDS} s"
    if outcome.code < 0:
        return f"{command}: crash, {outcome.signal_name}"
    if outcome.peak > MOST_BYTES:
        return f"{command}: more than 1 GB"
    unexpected = re.search(r"^automl: (unexpected \w+|out of memory)", outcome.said, re.MULTILINE)
    if unexpected or outcome.code == 99:
        places = re.findall(r'File ".*?(automl_cli/\S+?)", line (\d+)', outcome.said)
        where = ":".join(places[-1]) if places else "?"
        return f"{command}: {unexpected[1] if unexpected else 'escaped'} at {where}"
    if outcome.code not in FINE[command]:
        return f"{command}: exit code {outcome.code}"
    if re.search(r"^\S+: \w*Warning: ", outcome.said, re.MULTILINE):
        return f"{command}: a warning of Python's on the screen"
    return None


# One case


@dataclass
class Run:
    """All that cases share."""

    box: Box
    samples: Sequence[Sample]
    drawn: Sequence[bytes]
    seed: int
    findings: Findings
    ends: dict[str, Counter[str]] = field(default_factory=dict)

    def note(
        self, row: str, command: str, outcome: Outcome, example: Path, what: str, *, may_crash: bool = False
    ) -> None:
        """Count how a process ended, and keep what is wrong with it."""
        code = outcome.signal_name or str(outcome.code)
        self.ends.setdefault(f"{row} {command}", Counter())[code] += 1
        if may_crash and outcome.code < 0 and outcome.signal_name != "SIGALRM":
            return
        wrong = judged(command, outcome)
        if wrong is not None:
            self.findings.add(wrong, example, f"{what}\n{outcome.said}")

    def look_around(
        self, before: set[Path], example: Path, what: str, *, left: bool = False, places: Sequence[Path] = ()
    ) -> None:
        """Look for files that nobody named, beside ``places`` and what is below them, and for code that ran."""
        kept = {self.box.root / "box" / "home" / "cache", *places}
        news = {path for path in self.box.files() - before if not kept & {path, *path.parents}}
        news -= {example, self.box.work / "out.csv"}
        if left:
            news = {path for path in news if self.box.tmp not in path.parents}
        if self.box.sentinel.exists():
            self.findings.add("code of a file ran", example, what)
            self.box.sentinel.unlink()
            news.discard(self.box.sentinel)
        if news:
            self.findings.add("files outside the named places", example, f"{what}\n" + "\n".join(map(str, news)))
        self.box.reset()


def ours(line: Sequence[str]) -> Callable[[], int]:
    """Return a call that runs a command line in this process."""

    def call() -> int:
        from automl_cli.cli import run

        return run([*line, "--debug"])

    return call


def write_case(run: Run, number: int, kind: str) -> tuple[str, Path, Path]:
    """Write the files of a case; runs in a fork, because making some of them starts threads."""
    from benchmarks.mutations import mutated_model, mutated_table

    chance = random.Random(f"{run.seed}:{kind}:{number}")
    sample = chance.choice(run.samples)
    model, table = run.box.work / "model.automl", run.box.work / "table.csv"
    if kind == "fit":
        whole = sample_table(chance.choice(TASKS), chance.choice((12, 60, N_ROWS))).encode()
        what, content = mutated_table(chance, [whole], run.box.sentinel)
        table.write_bytes(content)
    elif kind == "model":
        table.write_bytes(sample.table)
        what, content = mutated_model(chance, [sample.model], run.box.sentinel, repaired=number % 2 == 0)
        model.write_bytes(content)
    else:
        model.write_bytes(sample.model.read_bytes())
        if number % 4 == 0 and run.drawn:
            what, content = "drawn", chance.choice(run.drawn)
        else:
            what, content = mutated_table(chance, [sample.table], run.box.sentinel)
        table.write_bytes(content)
    return what, model, table


def made(run: Run, number: int, kind: str) -> tuple[str, Path, Path]:
    note = run.box.notes / "what.txt"

    def call() -> int:
        note.write_text(write_case(run, number, kind)[0])
        return 0

    ended = forked(run.box, call)
    if ended.code:
        raise RuntimeError(f"case {number} of {kind} cannot be made: {ended.said[-2000:]}")
    return f"{number} {note.read_text()}", run.box.work / "model.automl", run.box.work / "table.csv"


def model_case(run: Run, number: int) -> None:
    """Inspect, check and use a mutated model."""
    row = "digests right" if number % 2 == 0 else "digests as they were"
    what, model, table = made(run, number, "model")
    before = run.box.files()
    opened = forked(run.box, ours(["inspect", model.name]))
    run.note(row, "inspect", opened, model, what)
    crashed = False
    if opened.code == 0:

        def probed() -> int:
            from automl_cli.artifact import open_artifact
            from automl_cli.artifact.check import mark_checked
            from automl_cli.artifact.probe import main

            with open_artifact(model) as artifact:
                digest = artifact.manifest.digest
            code = main(model, digest)
            if code == 0:
                mark_checked(digest)
            return code

        checked = forked(run.box, probed)
        run.note(row, "check", checked, model, what, may_crash=True)
        crashed = checked.code < 0
        if checked.code == 0:
            for line in (
                ["predict", model.name, table.name, "-o", "out.csv", "--threads", "1"],
                ["check", model.name, table.name, "--threads", "1"],
            ):
                ended = forked(run.box, ours(line))
                run.note(f"{row}, check passed:", line[0], ended, model, what)
                crashed = crashed or ended.code < 0
    run.look_around(before, model, what, left=crashed)


def table_case(run: Run, number: int) -> None:
    """Profile a mutated table and predict it."""
    what, model, table = made(run, number, "table")
    before = run.box.files()
    crashed = False
    for line in (["profile", table.name], ["predict", model.name, table.name, "-o", "out.csv", "--threads", "1"]):
        ended = forked(run.box, ours(line))
        run.note("table:", line[0], ended, table, what)
        crashed = crashed or ended.code < 0
    run.look_around(before, table, what, left=crashed)


def command_case(run: Run, number: int, kind: str) -> None:
    """The same by the real command, the check included; other numbers than in this process."""
    what, model, table = made(run, number, kind)
    before = run.box.files()
    predict = ["predict", model.name, table.name, "-o", "out.csv"]
    lines = [["inspect", model.name], predict] if kind == "model" else [["profile", table.name], predict]
    example = model if kind == "model" else table
    for line in lines:
        ended = commanded(run.box, line)
        run.note(f"real command, {kind}:", line[0], ended, example, what)
        if "Traceback" in ended.said:
            run.findings.add(f"real command: traceback of {line[0]}", example, f"{what}\n{ended.said}")
    run.look_around(before, example, what)


def fit_case(run: Run, number: int) -> None:
    """Fit a mutated table by the real command, and predict it with the model."""
    what, model, table = made(run, number, "fit")
    before = run.box.files()
    fit = ["fit", table.name, "-t", "y", "--trials", "1", "--include", "linear", "--folds", "2", "--workers", "1", "-q"]
    lines = [[*fit, "-o", model.name], ["predict", model.name, table.name, "-o", "out.csv"]]
    for line in lines:
        ended = commanded(run.box, line)
        run.note("real command, training table:", line[0], ended, table, what)
        if "Traceback" in ended.said:
            run.findings.add(f"real command: traceback of {line[0]}", table, f"{what}\n{ended.said}")
        if not model.exists():
            if ended.code == 0:
                run.findings.add("fit: exit code 0 and no model", table, f"{what}\n{ended.said}")
            break
    # the notes of runs that `automl runs list` shows
    run.look_around(before, table, what, places=[model, run.box.root / "box" / "home" / "state"])


# The corpus


def sample_table(task: str, n_rows: int = N_ROWS) -> str:
    """Return a table of numbers, categories, dates, text and gaps, with a target that depends on them."""
    chance = random.Random(task)
    lines = ["number,count,colour,day,remark,flag,y"]
    for _ in range(n_rows):
        number, count, colour = chance.gauss(0, 1), chance.randrange(9), chance.choice(("red", "green", "blue", "été"))
        words = " ".join(
            chance.choices(("good", "bad", "late", "soon", "parcel", "lost", "fine"), k=chance.randrange(5, 9))
        )
        day = f"202{chance.randrange(6)}-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
        score = number + count / 3 + (colour == "red") + words.count("bad") + chance.gauss(0, 0.3)
        y = {"regression": f"{score:.4f}", "binary": "yes" if score > 2 else "no"}.get(
            task, "abc"[min(2, max(0, int(score)))]
        )
        cells = [f"{number:.4f}", str(count), colour, day, words, chance.choice(("true", "false")), y]
        lines.append(",".join("" if i < 6 and chance.random() < 0.03 else cell for i, cell in enumerate(cells)))
    return "\n".join(lines) + "\n"


def fit_corpus(folder: Path) -> list[Sample]:
    """Fit a small model of every family, and one of several; tables are their own first rows, without a target."""
    folder.mkdir(parents=True)
    chosen: list[tuple[str, tuple[str, ...], int]] = [(TASKS[i % 3], (family,), 2) for i, family in enumerate(FAMILIES)]
    chosen += [(task, FAMILIES[:4], 8) for task in TASKS]
    found = []
    for task, families, trials in chosen:
        name = f"{task}-{'-'.join(families)}"
        table = folder / f"{name}.csv"
        table.write_text(sample_table(task))
        include = [word for family in families for word in ("--include", family)]
        line = [
            "fit",
            table.name,
            "-t",
            "y",
            "--trials",
            str(trials),
            *include,
            "--folds",
            "2",
            "-q",
            "-o",
            f"{name}.automl",
        ]
        ended = subprocess.run(
            [sys.executable, "-m", "automl_cli", *line], cwd=folder, capture_output=True, text=True, check=False,
            env={**os.environ, "AUTOML_EXPERIENCE": "off"},
        )  # fmt: skip
        if ended.returncode:
            print(f"no model of {name}: {ended.stderr.strip()[-200:]}")
    for model in sorted(folder.glob("*.automl")):
        found.append(Sample(model, _features(model.with_suffix(".csv"))))
    return found


def read_corpus(folder: Path) -> list[Sample]:
    """Take models that lie in a folder, each with a table of its name beside it."""
    return [Sample(path, _features(path.with_suffix(".csv"))) for path in sorted(folder.absolute().glob("*.automl"))]


def _features(table: Path) -> bytes:
    rows = [line.rpartition(",")[0] for line in table.read_text().splitlines()[:60]]
    return ("\n".join(rows) + "\n").encode()


# The whole


def imported(box: Box, sample: Sample) -> None:
    """Import what commands import on the way, so that forks have it; they may not run here: threads survive no fork."""
    model, table, names = box.work / "model.automl", box.work / "table.csv", box.notes / "modules.txt"
    model.write_bytes(sample.model.read_bytes())
    table.write_bytes(sample.table)

    def call() -> int:
        from automl_cli.cli import run

        import_all()
        for line in (["predict", model.name, table.name], ["check", model.name, table.name], ["profile", table.name]):
            run([*line, "-q"] if line[0] != "profile" else line)
        names.write_text("\n".join(sys.modules))
        return 0

    ended = _forked(box, call, 60 * SECONDS)
    if ended.code:
        raise RuntimeError(f"a model that is whole does not predict: {ended.said[-2000:]}")
    import_all()
    from automl_cli.cli import run

    with contextlib.redirect_stdout(io.StringIO()):
        run(["inspect", str(model)])
    for name in names.read_text().split():
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    box.reset()


def import_all() -> None:
    from automl_cli.families import find_families

    for family in find_families().values():
        for module in family.modules:
            __import__(module)


def numbered(n: int, began: float, what: str) -> Iterator[int]:
    for number in range(n):
        if number and number % 1000 == 0:
            print(f"{number} {what}, {time.monotonic() - began:.0f} s", flush=True)
        yield number


def report(run: Run, seconds: float) -> int:
    """Print how all commands ended and what was found; return how much that is."""
    print(f"\n{'case':60} {'n':>7}  ended")
    for row, ends in sorted(run.ends.items()):
        print(f"{row:60} {ends.total():7}  " + ", ".join(f"{code}: {n}" for code, n in sorted(ends.items())))
    print(f"\n{'found':60} {'n':>7}")
    for what, n in run.findings.counts.most_common():
        print(f"{what:60} {n:7}")
    total = run.findings.counts.total()
    print(f"{'all':60} {total:7}   (seed {run.seed}, {seconds:.0f} s)")
    if total:
        print(f"examples in {run.findings.folder}")
    return total


def atheris_target(kind: str) -> Callable[[bytes], None]:
    """Return what a coverage-guided fuzzer calls: it raises what is no error of ours."""
    from automl_cli.artifact.manifest import parse_manifest
    from automl_cli.errors import AutomlError
    from automl_cli.families.arrays import Expected, load_arrays
    from automl_cli.profile import profile
    from automl_cli.table import read_table

    place = Path(tempfile.mkdtemp()) / "case"

    def target(data: bytes) -> None:
        try:
            if kind == "manifest":
                _ = parse_manifest(data, "0" * 64).schema
                return
            place.write_bytes(data)
            if kind == "arrays":
                load_arrays(place, {"x": Expected("f", 2)})
            else:
                profile(read_table(str(place)), None)
        except AutomlError:
            return

    return target


def run_atheris(kind: str, rest: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["automl_cli", "zipfile", "json", "numpy.lib"]):
        target = atheris_target(kind)
    atheris.Setup([sys.argv[0], *rest], target)
    atheris.Fuzz()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=20_000)
    parser.add_argument("--tables", type=int, default=20_000)
    parser.add_argument("--commands", type=int, default=300, help="of each, through the real command")
    parser.add_argument("--fits", type=int, default=300, help="of tables, by the real command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--corpus", type=Path, help="models to start from, each with a table beside it; default: fitted"
    )
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where examples are saved")
    parser.add_argument(
        "--atheris", choices=["table", "manifest", "arrays"], help="guided by coverage, until it is stopped"
    )
    options, rest = parser.parse_known_args(arguments)
    if options.atheris:
        run_atheris(options.atheris, rest)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="automl-fuzz-") as place:
        box = Box(Path(place))
        samples = read_corpus(options.corpus) if options.corpus else fit_corpus(box.notes / "corpus")
        print(f"{len(samples)} models to start from, {time.monotonic() - began:.0f} s", flush=True)
        os.environ.update(box.variables)
        tempfile.tempdir = str(box.tmp)
        imported(box, samples[0])
        from benchmarks.mutations import strategy_tables

        drawn = strategy_tables(min(500, options.tables), options.seed) if options.tables else []
        run = Run(box, samples, drawn, options.seed, Findings(options.keep.absolute()))
        for sample in samples:
            forked(box, functools.partial(_trusted, sample.model))
        for number in numbered(options.models, began, "models"):
            model_case(run, number)
        for number in numbered(options.tables, began, "tables"):
            table_case(run, number)
        for kind in ("model", "table"):
            for number in range(options.commands):
                command_case(run, 10**9 + number, kind)
        for number in range(options.fits):
            fit_case(run, number)
        return 1 if report(run, time.monotonic() - began) else 0


def _trusted(model: Path) -> int:
    """Note that a model of ours is safe to load, as the fit that wrote it would have."""
    from automl_cli.artifact import open_artifact
    from automl_cli.artifact.check import mark_checked

    mark_checked(open_artifact(model).manifest.digest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
