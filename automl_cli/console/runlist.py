"""Runs as tables."""

import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.table import Table as Grid
from rich.text import Text

from automl_cli.console.streams import make_console

if TYPE_CHECKING:
    from automl_cli.runs import PastRun
    from automl_cli.trial import Success


def tell_runs(runs: "Sequence[PastRun]") -> None:
    """Print one line for each run."""
    console = make_console(answer=True)
    if not runs:
        console.print(Text("no runs"))
        return
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "status", "began", "data", "target", "trials", "reached", "MB"):
        grid.add_column(title, overflow="fold")
    for run in runs:
        identity = run.facts.get("identity") or {}
        grid.add_row(
            Text(run.name),
            run.status,
            _when(run.began),
            Text(str(identity.get("data", "?"))),
            Text(str(identity.get("target", "?"))),
            str(run.n_trials or "-"),
            Text(_reached(run)),
            f"{run.n_bytes / 1e6:.1f}",
        )
    console.print(grid)
    waiting = [run for run in runs if run.status == "interrupted"]
    if waiting:
        console.print(Text(f"next: automl runs resume {shlex.quote(waiting[0].name)}", style="bold"))


def tell_run(run: "PastRun", best: "Sequence[Success]") -> None:
    """Print a run with its best trials."""
    console = make_console(answer=True)
    identity, options = run.facts.get("identity") or {}, run.facts.get("options") or {}
    asked = {key: value for key, value in options.items() if value not in (None, [], {}, False)}
    lines = {
        "run": run.name,
        "status": run.status,
        "began": _when(run.began),
        "folder": str(run.folder),
        "data": str(identity.get("data", "?")),
        "target": str(identity.get("target", "?")),
        "model": str(identity.get("out", "?")),
        "options": ", ".join(
            f"{key} {value}" for key, value in asked.items() if key not in ("data", "target", "out", "run_dir")
        ),
        "trials": str(run.n_trials or ""),
        "reached": _reached(run),
    }
    grid = Grid.grid(padding=(0, 2))
    for name, value in lines.items():
        if value:
            grid.add_row(Text(name, style="bold"), Text(value))
    console.print(grid)
    if best:
        board = Grid(box=None, pad_edge=False, header_style="bold")
        for title in ("trial", "pipeline", "loss", "folds", "seconds"):
            board.add_column(title)
        for trial in best:
            pipeline = trial.proposal.pipeline
            board.add_row(
                str(trial.proposal.number),
                f"{pipeline.family} on {pipeline.encoding}",
                f"{trial.loss:.5g}",
                str(len(trial.losses)),
                f"{trial.seconds:.1f}",
            )
        console.print(board)
    if run.status == "interrupted":
        console.print(Text(f"next: automl runs resume {shlex.quote(run.name)}", style="bold"))


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")


def _reached(run: "PastRun") -> str:
    score = run.facts.get("score")
    return f"{run.facts.get('metric')} {score:.5g}" if isinstance(score, int | float) else ""
