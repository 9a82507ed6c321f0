"""The experience as tables."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from automl_cli.console.streams import make_console

if TYPE_CHECKING:
    from automl_cli.archive import Measured
    from automl_cli.experience.access import Listed, Recalled

MOST_ROWS = 60


def remembered_words(recalled: "Recalled") -> str:
    """Say in one line what past runs give to a fit.

    >>> from types import SimpleNamespace
    >>> remembered_words(SimpleNamespace(same_table_runs=2, neighbours=(), pipelines=()))
    'remembered: 2 earlier runs on this table'
    """
    parts = []
    if recalled.same_table_runs:
        runs = "run" if recalled.same_table_runs == 1 else "runs"
        parts.append(f"{recalled.same_table_runs} earlier {runs} on this table")
    if recalled.pipelines and recalled.neighbours:
        nearest = ", ".join(dict.fromkeys(n.name for n in recalled.neighbours if n.distance > 0)) or "this table"
        names = ", ".join(nearest.split(", ")[:3])
        n = len(recalled.pipelines)
        parts.append(f"{n} pipeline{'s' if n > 1 else ''} that did well on tables like it ({names})")
    return "remembered: " + "; ".join(parts) if parts else ""


def tell_recalled(console: Console, recalled: "Recalled") -> None:
    """Say which past tables were near, how near, and what was borrowed."""
    if not recalled.neighbours:
        console.print(Text("warm start: no past table can be compared; the usual portfolio is tried first"))
        return
    grid = _grid("near", "distance", "measured by", "trials")
    for neighbour in recalled.neighbours[:10]:
        measured = "you" if neighbour.own else "the program's makers"
        grid.add_row(Text(neighbour.name), f"{neighbour.distance:.3f}", measured, f"{neighbour.n_evaluations:,}")
    console.print(grid)
    for (family, encoding), n in Counter((p.family, p.encoding) for p in recalled.winners).items():
        console.print(Text(f"won on this table: {family} on {encoding}" + (f", {n} pipelines" if n > 1 else "")))
    grid = _grid("borrowed", "encoding", "regret it takes from them")
    for pipeline, gain in zip(recalled.pipelines, recalled.gains, strict=True):
        grid.add_row(pipeline.family, pipeline.encoding, f"{gain:.1%}")
    console.print(grid)


def paid_words(told: Mapping[str, Any]) -> str:
    """Say at the end of a fit whether what was borrowed was worth it.

    >>> paid_words({"borrowed": 0})
    'warm start: nothing was borrowed'
    >>> paid_words({"borrowed": 3, "best_borrowed": 0.1, "best_other": 0.2, "members_borrowed": 2, "members": 5})
    'warm start: 3 pipelines were borrowed, and one of them is the best; 2 of 5 members of the model are among them'
    """
    if not told.get("borrowed"):
        return "warm start: nothing was borrowed"
    best, other = told.get("best_borrowed"), told.get("best_other")
    is_best = best is not None and (other is None or best <= other)
    verdict = "and one of them is the best" if is_best else "but another one is the best"
    members = f"{told.get('members_borrowed', 0)} of {told.get('members', 0)} members of the model are among them"
    were = "pipeline was" if told["borrowed"] == 1 else "pipelines were"
    return f"warm start: {told['borrowed']} {were} borrowed, {verdict}; {members}"


def tell_datasets(found: "Sequence[Listed]") -> None:
    """Print one line a dataset."""
    console = make_console(answer=True)
    grid = _grid("#", "dataset", "task", "rows", "columns", "runs", "trials", "last")
    for item in found[:MOST_ROWS]:
        grid.add_row(
            f"#{item.id}",
            Text(item.name),
            item.kind,
            f"{item.n_rows:,}",
            f"{item.n_columns:,}",
            f"{item.n_runs:,}",
            f"{item.n_evaluations:,}",
            _day(item.last),
        )
    console.print(grid)
    if len(found) > MOST_ROWS:
        console.print(Text(f"and {len(found) - MOST_ROWS:,} more; --json lists all"))


def tell_runs(item: "Listed", runs: Sequence[Mapping[str, Any]]) -> None:
    """Print the runs on one dataset."""
    console = make_console(answer=True)
    console.print(Text(f"{item.name} ({item.kind}, {item.n_rows:,} rows, {item.n_columns:,} columns)", style="bold"))
    grid = _grid("when", "origin", "metric", "seconds", "trials", "failed", "best loss", "best pipeline")
    for run in runs[:MOST_ROWS]:
        best = run["best"] or {}
        grid.add_row(
            _day(run["began"]),
            run["origin"],
            run["metric"],
            f"{run['seconds']:.0f}",
            f"{run['n_trials']:,}",
            f"{run['n_failed']:,}",
            f"{best['loss']:.5g}" if best else "-",
            Text(f"{best['family']} on {best['encoding']}" if best else "-"),
        )
    console.print(grid)


def tell_stats(data: Mapping[str, Any]) -> None:
    """Print what is remembered."""
    console = make_console(answer=True)
    own = (("table", data["datasets_own"]), ("run", data["runs"]), ("trial", data["trials"]))
    shipped = (("table", data["datasets_prior"]), ("trial", data["trials_prior"]))
    console.print(Text(f"{_counted(own)} of your own"))
    console.print(Text(f"{_counted(shipped)} came with the program"))
    console.print(Text(f"{data['path']} ({data['bytes'] / 1e6:.2f} MB)"))


def _counted(parts: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{n:,} {name}{'' if n == 1 else 's'}" for name, n in parts)


def tell_measured(step: "Measured") -> None:
    """Say on stderr that a table of an archive is done."""
    what = f"{step.n_evaluations} pipelines in {step.seconds:.0f} s"
    if step.n_failed:
        what += f", {step.n_failed} failed"
    if not step.n_evaluations:
        what = "measured before"
    line = f"{step.number} of {step.n_tables} {step.table.name}: {step.problem or what}"
    make_console().print(Text(line, style="yellow" if step.problem else ""))


def _grid(*titles: str) -> Grid:
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        grid.add_column(title, overflow="fold")
    return grid


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%d %H:%M") if seconds else "-"
