"""Nightly retraining: a challenger is fitted beside the model in use, and takes its place only where it is better."""

import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from automl_cli.artifact import Signer, TrustedKeys, open_artifact, read_trusted
from automl_cli.champion import Bench, Verdict, judge, read_bench
from automl_cli.clock import Deadline
from automl_cli.errors import NoModel, UsageError
from automl_cli.events import Event
from automl_cli.files import check_writable, is_stream, locked, write_whole
from automl_cli.job import Contest, signer_of
from automl_cli.machine import usable_cores
from automl_cli.named import read_data
from automl_cli.options import FitOptions
from automl_cli.runs import Run, interrupted_run, output_lock
from automl_cli.summary import Summary
from automl_cli.workflow import fit

JUDGING = 1.0  # seconds, beside what predicting takes
LEAST_SEARCH = 0.4  # of the time that is left: with less judging would cost more than it is worth


@dataclass(frozen=True)
class Retrained:
    """The end of a retraining.

    Attributes
    ----------
    champion : Path
    verdict : Verdict
    summary : Summary or None
        Of the challenger; None where none was fitted.
    """

    champion: Path
    verdict: Verdict
    summary: Summary | None

    def to_json(self) -> dict[str, object]:
        """Return it as JSON values."""
        verdict = {**vars(self.verdict), "path": str(self.champion)}
        fitted = {} if self.summary is None else self.summary.to_json()
        return {**fitted, "out": str(self.champion), "champion": verdict}


def retrain(
    options: FitOptions,
    deadline: Deadline,
    interrupted: Callable[[], bool],
) -> Iterator[Event | Retrained]:
    """Fit a challenger to the model at ``options.out`` on the rows that do not judge, and compare the two.

    Where there is no model yet, the first one is installed uncontested.

    Parameters
    ----------
    options : FitOptions
        ``keep`` says how many replaced models stay beside it, as ``NAME.1`` (the latest) and so on.

    Yields
    ------
    Event or Retrained
        What happens, as it happens; `Retrained` comes last.

    Raises
    ------
    Locked
        Another retraining holds the model.
    UsageError
        The table is a pipe, the model predicts something else, or the key that signs is not trusted.
    BadArtifact
        The model is damaged, or not signed as it must be.
    """
    champion = options.out
    signer, trusted = _keys(options)
    if is_stream(options.data):
        raise UsageError("--champion reads the table more than once", hint="save it to a file first")
    check_writable(champion, only_file=True)
    with ExitStack() as stack:
        wait = min(options.wait, max(0.0, deadline.seconds_left()))
        stack.enter_context(locked(_retraining_lock(champion), str(champion), wait_seconds=wait))
        if not champion.exists() or _is_of_first_night(champion, options, trusted):
            summary = yield from _summarised(fit(options, deadline, interrupted, signer=signer))
            yield Retrained(champion, Verdict(True, "there was none", 0), summary)
            return
        stack.enter_context(locked(output_lock(champion), str(champion), wait_seconds=wait))
        began = deadline.elapsed()
        bench = _read_bench(champion, options, trusted)
        if isinstance(bench, Verdict):
            yield Retrained(champion, bench, None)
            return
        reserve = JUDGING + 2.0 * (deadline.elapsed() - began)
        if deadline.limited and reserve > LEAST_SEARCH * deadline.seconds_left():
            raise NoModel("the time is too short to fit and to judge", hint="give it more --time")
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="automl-challenger-")))
        # without the rows that judge the kind of task might be seen otherwise
        challenger = replace(
            options, out=place / champion.name, stands_for=champion, task=bench.task.kind, metric=bench.task.metric.name
        )
        verdict = Verdict(False, "the new one was interrupted", bench.n_fresh)  # it can be resumed, and is judged then

        def decide() -> None:
            nonlocal verdict
            verdict = judge(bench, challenger.out, options, usable_cores(), deadline)
            if verdict.installed:
                install(challenger.out, champion, options.keep or 0)

        contest = Contest(bench.held_out, bench.fingerprint, deadline, decide)
        earlier = deadline.earlier(reserve) if deadline.limited else deadline
        summary = yield from _summarised(fit(challenger, earlier, interrupted, contest=contest, signer=signer))
        yield Retrained(champion, verdict, replace(summary, out=champion, seconds=deadline.elapsed()))


def _is_of_first_night(champion: Path, options: FitOptions, trusted: TrustedKeys | None) -> bool:
    """Whether the champion is what an interrupted first run came to that is to go on: it has seen every row."""
    folder = options.run_dir or interrupted_run(options.identity())
    if not options.resume or folder is None:
        return False
    facts = Run(folder, keep=True).facts()
    if facts.get("status") != "running" or not facts.get("uncontested"):
        return False
    with open_artifact(champion, trusted) as artifact:
        table = artifact.manifest.data.get("fingerprint")
    began = str(facts.get("settings", {}).get("fingerprint"))
    return isinstance(table, str) and table != "" and began.startswith(table)


def _keys(options: FitOptions) -> tuple[Signer | None, TrustedKeys | None]:
    """Read the key that signs and those that are trusted; refuse to install what the next retraining would refuse."""
    signer = signer_of(options)
    if options.require_signature is None:
        return signer, None
    trusted = read_trusted(options.require_signature)
    if signer is not None and signer.key not in trusted.keys:
        raise UsageError(
            f"the public key of {options.sign_key} is not in {trusted.source}",
            hint="add it, or the next retraining would refuse the new champion",
        )
    return signer, trusted


def _read_bench(champion: Path, options: FitOptions, trusted: TrustedKeys | None) -> Bench | Verdict:
    table = read_data(options)
    options.check_present(table)
    return read_bench(champion, options, table, usable_cores(), trusted)


def _summarised(events: Iterator[Event]) -> Generator[Event, None, Summary]:
    """Hand events on but for the summary, which is returned."""
    summary: Summary | None = None
    for event in events:
        if isinstance(event, Summary):
            summary = event
        else:
            yield event
    if summary is None:
        raise RuntimeError("the fit ended without a summary")
    return summary


def _retraining_lock(champion: Path) -> Path:
    return output_lock(champion).with_suffix(".champion.lock")


def install(challenger: Path, champion: Path, keep: int) -> None:
    """Put a model in another's place, at no moment leaving it empty; what stood there is kept under a number.

    A process that is killed on the way leaves the old model, or the new one, whole.
    """
    place = champion.resolve()
    with challenger.open("rb") as content, write_whole(champion) as file:
        shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())
        # only now, when there is room for the new one: a night without space must not push an old one out
        for number in range(keep, 1, -1):
            newer = _numbered(place, number - 1)
            if newer.exists():
                newer.replace(_numbered(place, number))
        if keep:
            _link(place, _numbered(place, 1))


def _numbered(place: Path, number: int) -> Path:
    return place.with_name(f"{place.name}.{number}")


def _link(place: Path, other: Path) -> None:
    """Give a file a second name; a copy where the file system knows no links."""
    other.unlink(missing_ok=True)
    try:
        os.link(place, other)
    except OSError:
        with place.open("rb") as content, write_whole(other) as file:
            shutil.copyfileobj(content, file)
