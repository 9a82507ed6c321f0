"""What a check found, as text."""

from typing import TYPE_CHECKING

from rich.table import Table as Grid
from rich.text import Text

from automl_cli.console.streams import make_console
from automl_cli.console.tell import tell_notices

if TYPE_CHECKING:
    from automl_cli.drift import Check

MOST_COLUMNS = 15


def tell_check(found: "Check") -> None:
    """Print the verdict with its reasons, then the columns that moved the most."""
    tell_notices(found.notices)
    console = make_console(answer=True)
    verdict = "drift" if found.drift else "no drift"
    console.print(Text(f"{verdict} in {found.n_rows:,} rows", style="bold red" if found.drift else "bold green"))
    for reason in found.reasons:
        console.print(Text(f"  {reason}"))
    if found.domain_auc is not None:
        auc, low, high = found.domain_auc
        console.print(
            Text(f"old and new rows told apart: AUC {auc:.3f} ({low:.3f} to {high:.3f}; 0.5 or less is not at all)")
        )
    if found.predictions is not None:
        console.print(Text(f"predictions: distance {found.predictions.size:.3f} from those at training"))
    if found.score is not None and found.score_interval is not None:
        low, high = found.score_interval
        before = "" if found.score_before is None else f", at training {found.score_before:.5g}"
        console.print(Text(f"{found.metric_title} {found.score:.5g} ({low:.5g} to {high:.5g}){before}"))
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for title in ("column", "distance", "p", "missing before", "now", "unknown", ""):
        grid.add_column(title)
    for column in found.columns[:MOST_COLUMNS]:
        grid.add_row(
            Text(column.name),
            f"{column.size:.3f}",
            f"{column.p:.1e}",
            f"{column.missing_before:.1%}",
            f"{column.missing_now:.1%}",
            f"{column.unknown:.1%}",
            "moved" if column.drifted else "",
        )
    console.print(grid)
    if len(found.columns) > MOST_COLUMNS:
        console.print(Text(f"and {len(found.columns) - MOST_COLUMNS:,} more columns; --json lists all"))
