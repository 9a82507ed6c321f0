"""Run folders: where a fit keeps its data, trials and best model, so that a killed run can go on."""

import contextlib
import json
import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

from automl_cli.errors import AutomlError, LimitNotMet, Locked, NoSpace, UsageError
from automl_cli.files import NO_SPACE, explain, locked, remove_in_time
from automl_cli.rundata import TOKEN

logger = logging.getLogger(__name__)
FACTS = "run.json"
NO_FACTS: Mapping[str, Any] = MappingProxyType({})
SURELY_DEAD = 86_400.0  # seconds since anything happened in the folder of a run that has no trial
KEEP_DAYS = 30  # folders of finished or abandoned runs; their trials are dropped at once when a run succeeds
_NOTING = threading.Lock()  # what past runs say is noted by a thread, maybe while the end of the run is


def _no_end() -> float:
    return math.inf


@dataclass(frozen=True)
class Run:
    """One run's folder.

    Attributes
    ----------
    keep : bool
        Whether the user named the folder: then nothing in it is removed after the run.
    left : callable
        Seconds that there are for removing files at the end; what is left over goes with `sweep`.
    """

    folder: Path
    keep: bool
    left: Callable[[], float] = _no_end

    @property
    def data(self) -> Path:
        """The run's data, mapped by every worker."""
        return self.folder / "data"

    @property
    def encoded(self) -> Path:
        """Encoded folds, mapped by every worker; gone with the end of the run, even where its folder is kept."""
        return self.folder / "encoded"

    @property
    def source(self) -> Path:
        """What was learned of other tables than the one that is fitted."""
        return self.folder / "source"

    @property
    def journal(self) -> Path:
        """One line per finished trial."""
        return self.folder / "journal.jsonl"

    @property
    def model(self) -> Path:
        """The best complete model so far."""
        return self.folder / "model.automl"

    def facts(self) -> dict[str, Any]:
        """Return what was noted of the run; empty for a new folder, and where a crash left half a note."""
        try:
            facts = json.loads((self.folder / FACTS).read_text())
        except (OSError, ValueError):
            return {}
        return facts if isinstance(facts, dict) else {}

    def note(self, facts: Mapping[str, Any]) -> None:
        """Write down facts of the run over those noted before."""
        draft = self.folder / f"{FACTS}.draft"
        with _NOTING:
            draft.write_text(json.dumps({**self.facts(), **facts}))
            draft.replace(self.folder / FACTS)


def state_folder() -> Path:
    """Return the user's folder for runs and locks (XDG base directories)."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "automl"


@contextlib.contextmanager
def open_run(
    named: Path | None, *, stem: str, identity: Mapping[str, str], resume: bool, left: Callable[[], float] = _no_end
) -> Iterator[Run]:
    """Hold a run's folder: a new one, or with ``resume`` the newest unfinished one of the same job.

    Parameters
    ----------
    named : Path or None
        The folder the user named, if any.
    identity : mapping of str to str
        What makes two runs the same job: data, target, output.
    left : callable
        As in `Run`.

    Raises
    ------
    Locked
        Another process works in that folder.
    UsageError
        There is nothing to resume, or the named folder holds another job.
    """
    folder = named
    if folder is None:
        runs = state_folder() / "runs"
        unfinished = _unfinished(runs, identity)
        if resume and not unfinished:
            raise UsageError("there is no interrupted run of this data and target", hint="start it without --resume")
        # The process number tells runs apart that start within the same second.
        folder = unfinished[-1] if resume else runs / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"the run folder {folder} is a file", hint="name another --run-dir")
    try:
        # The table lies in it: where nobody named a place that others are to see, it is the user's alone.
        folder.mkdir(0o777 if named else 0o700, parents=True, exist_ok=True)
        with locked(folder / "lock", f"the run folder {folder}", wait_seconds=1.0):  # others look at it for a moment
            run = Run(folder, keep=named is not None and named.parent != state_folder() / "runs", left=left)
            _check(run, identity, resume)
            # Not flushed to disk, so that half a file may be left where the machine itself went down.
            shutil.rmtree(run.encoded, ignore_errors=True)
            run.note({"identity": dict(identity), "status": "running", "pid": os.getpid(), "began": time.time()})
            try:
                yield run
            except AutomlError as error:
                # A run that is resumed stays: a mistake in the options must not cost its trials.
                if not resume and not isinstance(error, NoSpace | LimitNotMet):
                    _free(run)
                raise
            finally:
                with contextlib.suppress(OSError):  # from here on no worker writes into it
                    (run.data / TOKEN).unlink(missing_ok=True)
                remove_in_time(run.encoded, run.left)
    except OSError as error:
        if error.errno in NO_SPACE or error.filename in (str(folder), str(folder / "lock")):
            raise explain(error, folder / FACTS) from error
        raise


def _check(run: Run, identity: Mapping[str, str], resume: bool) -> None:
    known = run.facts()
    if resume and known and known.get("identity") != dict(identity):
        raise UsageError(f"{run.folder} holds a run of other data, target or output", hint="name another --run-dir")
    if resume and not known:
        raise UsageError(f"there is no run to resume in {run.folder}", hint="start it without --resume")
    if resume:
        return
    ours = (run.data, run.encoded, run.source, run.folder / "trials", run.journal, run.model, run.folder / FACTS)
    foreign = [path.name for path in ours if path.exists()]
    if foreign and "identity" not in known:
        # they would be removed below, and may be the user's own
        raise UsageError(f"{run.folder} holds {foreign[0]!r}, which no run left there", hint="name another --run-dir")
    if known.get("status") == "running" and run.journal.exists():
        raise UsageError(
            f"{run.folder} holds an interrupted run", hint="add --resume to go on with it, or name another --run-dir"
        )
    for leftover in (run.data, run.source, run.folder / "trials"):
        shutil.rmtree(leftover, ignore_errors=True)
    run.journal.unlink(missing_ok=True)
    run.model.unlink(missing_ok=True)


def finish(run: Run, facts: Mapping[str, Any] = NO_FACTS) -> None:
    """Note that the run is done, with what it came to, and free the disk unless the user named the folder.

    Its model is in its place by now, so that a full disk is a matter for the log alone.
    """
    done = {**facts, "status": "done"}
    noted = _logged(lambda: run.note(done))
    _logged(lambda: _free(run))
    if not noted:  # by now there may be room
        _logged(lambda: run.note(done))


def _logged(step: Callable[[], None]) -> bool:
    """Take a step of the end of a run; return whether the disk let it."""
    try:
        step()
    except OSError:
        logger.warning("the run could not be ended as usual", exc_info=True)
        return False
    return True


def _free(run: Run) -> None:
    """Give the disk back, unless the user named the folder; what there is no time for is left to `sweep`."""
    if not run.keep:
        run.model.unlink(missing_ok=True)
        run.journal.unlink(missing_ok=True)
        for big in (run.folder / "trials", run.source, run.data):
            remove_in_time(big, run.left)


def interrupted_run(identity: Mapping[str, str]) -> Path | None:
    """Return the newest run of the same job that was killed, for a hint on the screen."""
    unfinished = _unfinished(state_folder() / "runs", identity)
    return unfinished[-1] if unfinished else None


def output_lock(out: Path) -> Path:
    """Return the lock file of an output; it lies apart, so that no lock files litter the user's folders."""
    return state_folder() / "locks" / f"{sha256(str(out.resolve()).encode()).hexdigest()[:24]}.lock"


def _unfinished(runs: Path, identity: Mapping[str, str]) -> list[Path]:
    """Return the folders of killed runs of the same job, oldest first."""
    found = []
    for _, folder in sorted(_folders(runs)):
        facts = Run(folder, keep=False).facts()
        same = facts.get("identity") == dict(identity) and facts.get("status") == "running"
        if same and (folder / "journal.jsonl").exists() and not _held(folder):
            found.append(folder)
    return found


def _held(folder: Path) -> bool:
    try:
        with locked(folder / "lock", str(folder)):
            return False
    except Locked:
        return True


def sweep() -> None:
    """Remove what runs have left in the user's folder: all that is a month old, and what no time was left to remove.

    A run that can be resumed is left alone.
    """
    oldest = time.time() - KEEP_DAYS * 86400
    for touched, folder in list(_folders(state_folder() / "runs")):
        if not folder.is_dir():
            continue
        with contextlib.suppress(AutomlError, OSError), locked(folder / "lock", str(folder)):
            if touched < oldest:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            run = Run(folder, keep=False)
            # one without a journal may have just begun, where the file system knows no locks
            dead = not run.journal.exists() and touched < time.time() - SURELY_DEAD
            if dead or run.facts().get("status") == "done":
                remove_in_time(run.encoded, run.left)
                _free(run)


def _folders(runs: Path) -> Iterator[tuple[float, Path]]:
    """Give (time of the last change, folder) of all runs; another process may remove one meanwhile."""
    for folder in runs.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            yield folder.stat().st_mtime, folder


@dataclass(frozen=True)
class PastRun:
    """A run whose folder is still there.

    Attributes
    ----------
    status : str
        ``running``, ``interrupted`` (it can be resumed), ``failed`` (it cannot) or ``done``.
    began : float
        Seconds since 1970; the last time, where it was resumed.
    n_trials : int
        On disk; 0 of a run that is done, whose trials are gone.
    n_bytes : int
        On disk.
    facts : mapping
        What was noted: ``identity``, ``options``, of a run that is done ``metric``, ``score`` and ``seconds``.
    """

    name: str
    folder: Path
    status: str
    began: float
    n_trials: int
    n_bytes: int
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        named = {key: value for key, value in self.facts.items() if key not in ("status", "began")}
        return {
            **named,
            **{key: value for key, value in vars(self).items() if key != "facts"},
            "folder": str(self.folder),
        }


def list_runs() -> list[PastRun]:
    """Return the runs in the user's folder, the latest first."""
    found = [_past_run(folder) for _, folder in _folders(state_folder() / "runs")]
    return sorted((run for run in found if run is not None), key=lambda run: -run.began)


def find_run(name: str) -> PastRun:
    """Return the run of a name, or the only one whose name begins so.

    Raises
    ------
    UsageError
        There is none, or more than one.
    """
    known = list_runs()
    found = [run for run in known if run.name == name] or [run for run in known if run.name.startswith(name)]
    if not found:
        raise UsageError(f"there is no run {name!r}", hint="see automl runs list")
    if len(found) > 1:
        raise UsageError(f"{len(found)} runs begin with {name!r}", hint="write more of the name")
    return found[0]


def _past_run(folder: Path) -> PastRun | None:
    facts = Run(folder, keep=False).facts()
    if not facts:
        return None
    journal = folder / "journal.jsonl"
    status = str(facts.get("status"))
    try:
        n_trials = journal.read_bytes().count(b"\n") if journal.exists() else 0
        if status == "running" and not _held(folder):
            status = "interrupted" if n_trials else "failed"
        n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        began = float(facts.get("began", folder.stat().st_mtime))
    except FileNotFoundError:  # it ends just now
        return None
    return PastRun(folder.name, folder, status, began, n_trials, n_bytes, facts)


def remove_run(run: PastRun) -> bool:
    """Remove a run's folder; False where a process works in it."""
    try:
        with locked(run.folder / "lock", str(run.folder)):
            shutil.rmtree(run.folder, ignore_errors=True)
    except Locked:
        return False
    return True
