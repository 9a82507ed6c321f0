"""``automl profile``: what a table holds, before anything is learned from it."""

from typing import Annotated

import typer

from automl_cli.cli.options import Data, Debug, Ignore, Json, Kinds, parse_kinds, print_json
from automl_cli.cli.settings import check_settings


def profile(
    context: typer.Context,
    data: Data,
    target: Annotated[
        str | None,
        typer.Option("--target", "-t", envvar="AUTOML_TARGET", help="Look for leaks and imbalance of this column."),
    ] = None,
    kind: Kinds = None,
    ignore: Ignore = None,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show each column's kind and what is odd in a table."""
    check_settings(context)
    from automl_cli.lean import arrow_without_pandas

    arrow_without_pandas()
    from automl_cli.console.tell import tell_profile
    from automl_cli.profile import profile as make_profile
    from automl_cli.table import read_table

    table = read_table(data, target=target, kinds=parse_kinds(kind or ()), ignore=ignore or ())
    found = make_profile(table, target)
    if json:
        print_json({**found.to_json(), "notices": [notice.message for notice in table.notices]})
    else:
        tell_profile(found.to_json(), table.notices)
    return 0
