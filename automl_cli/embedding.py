"""``automl embed``: a table, or others of its kind, as numbers that were learned without labels."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from automl_cli.errors import BadData, UsageError
from automl_cli.features.frame import frame_from_table, frame_schema
from automl_cli.files import is_stream
from automl_cli.table import Column, Kind, Notice, Remark, Schema, added_up, align, gather, read_table
from automl_cli.transfer.embedding import Embedding

BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class EmbedOptions:
    """What a user can say about an embedding.

    Attributes
    ----------
    source : str
        The table that is learned from; a path, or ``-`` for standard input.
    apply : tuple of str
        Tables whose rows are wanted, one below the other; none: those of the source.
    target : str or None
        A column that is not looked at.
    carry : tuple of str
        Columns that are repeated in front as they are written.
    every : bool
        Whether ranks and frequencies are wanted too.
    """

    source: str
    apply: tuple[str, ...] = ()
    target: str | None = None
    n_clusters: int = 8
    carry: tuple[str, ...] = ()
    every: bool = False
    seed: int = 0
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()


@dataclass
class Embedded:
    """Columns of all rows, block by block, and what was found while they were made.

    Attributes
    ----------
    names : tuple of str
        Of the columns that are made, in order.
    notices : tuple of Notice
        Complete once the last block was taken.
    """

    options: EmbedOptions
    schema: Schema
    learned: Embedding
    names: tuple[str, ...]
    n_columns: int
    n_source: int
    notices: tuple[Notice, ...]
    n_rows: int = 0

    def blocks(self) -> Iterator[Mapping[str, Any]]:
        """Make the columns, the carried ones in front.

        Raises
        ------
        BadData, SchemaMismatch
            A table cannot be read, or lacks columns of the source.
        """
        options, frame_of = self.options, self.learned.shared.schema
        for name in options.apply or (options.source,):
            aligned = align(name, self.schema, optional=_given(options.target), verbatim=options.carry)
            self.notices = (*self.notices, *aligned.notices) if options.apply else self.notices
            remarks: list[Remark] = []
            for block in aligned.blocks(BLOCK_BYTES):
                frame = frame_from_table(block.table, frame_of)
                self.n_rows += frame.n_rows
                remarks = added_up([*remarks, *block.remarks])
                yield {**block.carried, **self.learned.columns(frame, every=options.every)}
            self.notices = (*self.notices, *gather(remarks)) if options.apply else self.notices

    def to_json(self) -> dict[str, Any]:
        """Return what can be said of it as JSON values."""
        return {
            "rows": self.n_rows,
            "rows_learned_from": self.n_source,
            "columns_used": self.n_columns,
            "clusters": len(self.learned.centres),
            "directions": len(self.learned.directions),
            "columns": [*self.options.carry, *self.names],
            "notices": [notice.message for notice in self.notices],
        }


def embed(options: EmbedOptions) -> Embedded:
    """Learn from the source's rows; `Embedded.blocks` gives the columns.

    Raises
    ------
    BadData, TargetNotFound, UsageError
        The source cannot be read or has no usable column; or a carried column is called like one that is made.
    """
    files = (options.source, *(options.apply or (options.source,)))
    if any(is_stream(name) and files.count(name) > 1 for name in files):
        raise UsageError(
            "standard input or a pipe can be read once, and this reads a table twice", hint="save it to a file first"
        )
    table = read_table(options.source, target=options.target, kinds=options.kinds, ignore=options.ignore)
    found = frame_schema(table.schema, exclude=(*_given(options.target), *options.carry))
    if not found.names:
        hint = "ids, constants, the target and --columns do not count; see automl profile"
        raise BadData(f"{table.source} has no column to learn from", hint=hint)
    frame = frame_from_table(table, found)
    learned = Embedding.fit(frame, options.n_clusters, options.seed)
    names = tuple(learned.columns(frame.take(np.arange(1)), every=options.every))
    for name in options.carry:
        if name in names:
            raise UsageError(f"--columns names {name!r}, which a made column is called", hint="leave it out")
    used = set(found.names)
    known = [c if c.name in used else replace(c, kind=Kind.ID) for c in table.schema.columns]
    left_out = sorted(set(options.ignore) - set(table.schema.names))
    schema = Schema((*known, *(Column(name, Kind.ID, "ignored") for name in left_out)))
    return Embedded(options, schema, learned, names, len(found.names), table.n_rows, table.notices)


def _given(name: str | None) -> Sequence[str]:
    return () if name is None else (name,)
