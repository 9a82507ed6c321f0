"""The tables that a fit's options name, read side by side."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from automl_cli.artifact import open_artifact
from automl_cli.errors import UsageError
from automl_cli.options import FitOptions
from automl_cli.sourcemodel import is_model
from automl_cli.sources import Sources, check_weights
from automl_cli.table import Table, read_table, read_tables, under


def verbatim_columns(options: FitOptions) -> tuple[str, ...]:
    """Return the columns whose text must be kept as it is written: labels and groups."""
    return (options.target,) if options.group_column is None else (options.target, options.group_column)


def read_data(options: FitOptions) -> Table:
    """Read the table that the options name, by the kinds and roles they give.

    Raises
    ------
    BadData, UsageError
        See `read_table`.
    """
    return read_table(
        options.data,
        target=options.target,
        kinds=options.kinds,
        ignore=options.ignore,
        verbatim=verbatim_columns(options),
    )


def read_with_sources(options: FitOptions) -> tuple[Table, Sources]:
    """Read the table that the options name, and what else it may be learned from.

    Raises
    ------
    BadData, TargetNotFound, UsageError, BadArtifact
        See `read_tables` and `open_artifact`.
    """
    if options.unlabeled:
        return _read_with_unlabelled(options)
    models = [path for path in options.source if is_model(path)]
    tables = [path for path in options.source if path not in models]
    if len(models) > 1:
        raise UsageError(f"--source names {len(models)} models", hint="one model and any number of tables can be named")
    if "-" in tables and options.data == "-":
        raise UsageError("standard input cannot be both the data and a source", hint="name a file for one of them")
    model = open_artifact(Path(models[0])) if models else None
    if options.adapt_to is not None:
        return _read_with_new_rows(options, options.adapt_to)
    if not tables:
        return read_data(options), Sources(None, model)
    table, others = _side_by_side(options, tables, labelled=True)
    return table, Sources(others, model)


def _side_by_side(options: FitOptions, others: Sequence[str], *, labelled: bool) -> tuple[Table, Table]:
    """Read the data and other tables by one schema; return the data, and the rows of all others."""
    table, *more = read_tables(
        options.data,
        others,
        target=options.target,
        kinds=options.kinds,
        ignore=options.ignore,
        verbatim=verbatim_columns(options),
        labelled=labelled,
    )
    if labelled and options.weight_column in table.schema.names:
        for other in more:
            check_weights(other, options.target, options.weight_column)
    notices = tuple(notice for other in more for notice in other.notices)
    return replace(table, notices=(*table.notices, *notices)), under(more)


def _read_with_new_rows(options: FitOptions, new_rows: str) -> tuple[Table, Sources]:
    if new_rows == "-" and options.data == "-":
        raise UsageError("standard input cannot be both the data and the new rows", hint="name a file for one of them")
    table, new = _side_by_side(options, [new_rows], labelled=False)
    return table, Sources(new=new)


def _read_with_unlabelled(options: FitOptions) -> tuple[Table, Sources]:
    other = "--source" if options.source else "--adapt-to" if options.adapt_to else ""
    if other:
        raise UsageError(f"{other} and --unlabeled cannot be used together", hint="give one of them")
    if [options.data, *options.unlabeled].count("-") > 1:
        raise UsageError("standard input can be read once", hint="name files")
    table, unlabelled = _side_by_side(options, options.unlabeled, labelled=False)
    return table, Sources(unlabelled=unlabelled)
