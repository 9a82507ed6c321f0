"""The screen: a live view on a terminal, plain lines elsewhere, and a closing summary. All of it on stderr."""

import os
import shlex
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table as Grid
from rich.text import Text

from automl_cli.clock import Deadline
from automl_cli.console.memories import paid_words, remembered_words, tell_recalled
from automl_cli.console.shifts import last_words, shift_words
from automl_cli.console.streams import make_console
from automl_cli.console.tell import early_words, size_words, verdict_words
from automl_cli.console.transfers import transfer_words
from automl_cli.events import Entered, Event, Improved, Prepared, Remembered
from automl_cli.retraining import Retrained
from automl_cli.search import Finished, Started
from automl_cli.summary import Summary
from automl_cli.trial import Failure, Success

PLAIN_SECONDS = 10.0  # between two lines where nobody watches


@dataclass
class View:
    """What the screen knows; built from events alone."""

    deadline: Deadline
    phase: str = "reading"
    prepared: Prepared | None = None
    running: dict[int, str] = field(default_factory=dict)
    n_done: int = 0
    n_failed: int = 0
    n_stopped: int = 0
    best: str = "none yet"
    best_at: float = 0.0
    members: str = ""

    def take(self, event: Event | Retrained) -> None:
        """Note what an event says."""
        match event:
            case Entered(phase=phase):
                self.phase = phase
            case Prepared():
                self.prepared = event
            case Started(proposal=proposal):
                self.running[proposal.number] = proposal.pipeline.family
            case Finished(trial=trial):
                self.running.pop(trial.proposal.number, None)
                self.n_done += 1
                self.n_failed += isinstance(trial, Failure)
                self.n_stopped += isinstance(trial, Success) and not trial.complete
            case Improved(chosen=chosen) if self.prepared is not None:
                metric = self.prepared.job.task.metric
                self.best = f"{metric.title} {metric.natural(chosen.shown_loss):.5g}"
                self.best_at = self.deadline.elapsed()
                ranked = sorted(chosen.members, key=lambda member: -abs(member[1]))
                total = sum(abs(weight) for _, weight in ranked)
                self.members = ", ".join(
                    f"{abs(weight) / total:.0%} {trial.proposal.pipeline.family}" for trial, weight in ranked[:4]
                )

    def left(self) -> str:
        """Return the time left in words; the time used where there is no limit."""
        if self.deadline.limited:
            return f"{max(0.0, self.deadline.seconds_left()):.0f} s left"
        return f"{self.deadline.elapsed():.0f} s"

    def line(self) -> str:
        """Return the state of the search in one line."""
        running = " | running " + ", ".join(sorted(self.running.values())) if self.running else ""
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        best = f"{self.best} ({self.best_at:.0f} s)" if self.members else self.best
        return f"{self.left()} | {self.n_done} trials{failed} | best {best}{running}"

    def __rich__(self) -> Group:
        grid = Grid.grid(padding=(0, 2))
        grid.add_row(Text(self.phase, style="bold cyan"), self.left())
        grid.add_row(
            "best", Text(f"{self.best} after {self.best_at:.0f} s" if self.members else self.best, style="bold")
        )
        grid.add_row("trials", f"{self.n_done} done, {self.n_stopped} stopped early, {self.n_failed} failed")
        grid.add_row("running", Text(", ".join(self.running.values()) or "-"))
        grid.add_row("ensemble", Text(self.members or "-"))
        return Group(grid)


def show(
    events: Iterable[Event | Retrained], deadline: Deadline, *, quiet: bool, explain: bool = False
) -> Summary | Retrained:
    """Draw a fit's events until its summary comes.

    Parameters
    ----------
    explain : bool
        Whether all is said about past runs, not only that they were looked up.

    Returns
    -------
    Summary or Retrained
        The last event.
    """
    console = make_console()
    view = View(deadline)
    if quiet:
        return _last(events)
    live = console.is_terminal and os.environ.get("TERM") != "dumb"
    if not live:
        return _last(_plain(events, view, console, explain))
    with Live(view, console=console, refresh_per_second=4, transient=True) as screen:
        last = _last(_drawn(events, view, screen.console, explain))
    _tell_last(console, last, explain)
    return last


def _last(events: Iterable[Event | Retrained]) -> Summary | Retrained:
    last = deque(events, maxlen=1).pop()
    if not isinstance(last, Summary | Retrained):
        raise RuntimeError("the fit ended without a summary")
    return last


def _tell_last(console: Console, last: Summary | Retrained, explain: bool) -> None:
    """Say what was found; of a challenger also what became of it."""
    summary = last if isinstance(last, Summary) else last.summary
    if summary is not None:
        _tell_found(console, summary, explain=explain)
    if isinstance(last, Retrained):
        for line in verdict_words(last.verdict, last.champion):
            console.print(Text(line, style="bold" if last.verdict.installed else ""))
    if summary is not None and (isinstance(last, Summary) or last.verdict.installed):
        _tell_next(console, summary)


def _drawn(
    events: Iterable[Event | Retrained], view: View, console: Console, explain: bool
) -> Iterator[Event | Retrained]:
    for event in events:
        view.take(event)
        if isinstance(event, Prepared):
            tell_prepared(console, event)
        elif isinstance(event, Remembered):
            _tell_remembered(console, event, explain)
        yield event


def _plain(
    events: Iterable[Event | Retrained], view: View, console: Console, explain: bool
) -> Iterator[Event | Retrained]:
    said: float | None = None  # when the last line was printed; None before the search
    model_told = False
    for event in events:
        view.take(event)
        if isinstance(event, Prepared):
            tell_prepared(console, event)
            said = view.deadline.elapsed()
        elif isinstance(event, Summary | Retrained):
            _tell_last(console, event, explain)
        elif isinstance(event, Remembered):
            _tell_remembered(console, event, explain)
        elif said is not None:
            first = isinstance(event, Improved) and not model_told
            if first or view.deadline.elapsed() - said > PLAIN_SECONDS:
                said, model_told = view.deadline.elapsed(), model_told or first
                console.print(Text(view.line()))
        yield event


def _tell_remembered(console: Console, event: Remembered, explain: bool) -> None:
    """Say what is known of this table and of tables like it; nothing where nothing is."""
    words = remembered_words(event.recalled)
    if words:
        console.print(Text(words))
    if explain:
        tell_recalled(console, event.recalled)


def tell_prepared(console: Console, event: Prepared) -> None:
    """Say what was read and what will be done."""
    job, task, table = event.job, event.job.task, event.job.table
    lines = [f"{table.source}: {table.n_rows:,} rows, {len(table.schema.columns)} columns"]
    if job.data.source is not None:
        lines.append(f"source: {len(job.data.source.y):,} rows, to learn from where that helps")
    if job.n_left_out:
        lines.append(f"{job.n_left_out:,} rows without a value of {task.target!r} are left out")
    if job.data.unlabelled is not None:
        lines.append(
            f"{job.data.unlabelled.n_rows:,} rows without a value of {task.target!r} are learned from where that helps"
        )
    lines.append(f"task: {task.kind} ({task.reason}); metric {task.metric.title}")
    if task.kind == "binary":
        lines.append(f"positive class: {task.classes[-1]} (another: --positive LABEL)")
    lines.append(f"validation: {job.plan.reason}")
    r = job.resources
    lines.append(
        f"{r.workers} workers with {r.threads} thread{'s' if r.threads > 1 else ''} each; " + ", ".join(job.families)
    )
    if event.interrupted is not None:
        lines.append(f"an interrupted run of this job is in {event.interrupted}; --resume goes on with it")
    lines += [] if job.transfer is None else shift_words(job.transfer)
    for line in lines:
        console.print(Text(line))
    for notice in job.notices:
        console.print(Text(f"warning: {notice.message}", style="yellow"))


def _tell_found(console: Console, summary: Summary, *, explain: bool) -> None:
    """Say what was found and how sure it is."""
    interval = ""
    if summary.interval is not None:
        low, high = summary.interval
        interval = f" (95 % interval over folds {low:.5g} to {high:.5g})"
    console.print(Text(f"{summary.metric_title} {summary.score:.5g}{interval}", style="bold green"))
    console.print(Text(f"a guess that ignores all columns reaches {summary.naive:.5g}"))
    if summary.mattered:
        part = f" ({summary.n_measured} of {summary.n_columns:,} columns measured)"
        part = part if summary.n_measured < summary.n_columns else ""
        console.print(
            Text(f"what mattered{part}: " + ", ".join(f"{name} {share:.0%}" for name, share in summary.mattered))
        )
    shown = summary.members[:6]
    more = f" and {len(summary.members) - len(shown)} more" if len(summary.members) > len(shown) else ""
    console.print(Text("model: " + ", ".join(f"{m['share']:.0%} {m['family']}" for m in shown) + more))
    for line in last_words(summary.transfer, summary.metric_title):
        console.print(Text(line))
    size = None if summary.footprint is None else summary.footprint.to_json()
    for line in size_words(size, summary.n_bytes, len(summary.members)):
        console.print(Text(line))
    for line in transfer_words(summary.transfer):
        console.print(Text(line))
    failed = "".join(f"; {count} x {reason}" for reason, count in summary.failures[:3])
    given_up = f", {summary.racing.n_trials} given up early" if summary.racing.n_trials else ""
    console.print(Text(f"{summary.n_trials} trials{given_up}, {summary.n_failed} failed{failed}"))
    if summary.ended_early is not None:
        console.print(Text(early_words(asdict(summary.ended_early))))
    if explain:
        console.print(Text(paid_words(summary.experience)))
    for problem in summary.experience.get("problems", ()):
        console.print(Text(f"warning: {problem}", style="yellow"))
    for notice in summary.odd:
        console.print(Text(f"odd in the data: {notice.message}", style="yellow"))


def _tell_next(console: Console, summary: Summary) -> None:
    """Say where it is and what to type next."""
    console.print(Text(f"saved to {summary.out} after {summary.seconds:.1f} s"))
    console.print(
        Text(f"next: automl predict {shlex.quote(str(summary.out))} NEW.csv -o predictions.csv", style="bold")
    )
