"""A model as a source: what of it a job can use, and whether it has seen the job's rows."""

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from automl_cli.artifact import Artifact, MemberEntry
from automl_cli.errors import AutomlError, UsageError
from automl_cli.features.frame import FrameSchema, frame_from_table
from automl_cli.features.matrix import Array
from automl_cli.seen import SeenRows
from automl_cli.sourced import ColumnMap, PartFiles, write_source
from automl_cli.table import Kind, Notice, Schema, Table, read_with_schema
from automl_cli.task import Task, TaskKind
from automl_cli.transfer.adaptation import FEATURE, OFFSET, SHARED, split_name

LEAST_SHARE = 0.05  # of a source model's weight: members with less are left out
MOST_PARTS = 10  # fitted models of a source model: each row that is predicted asks all of them
NOT_ALONE = frozenset({FEATURE, OFFSET, SHARED})  # a member with one of these holds another model
MOST_READ_AGAIN = 50 * 10**6  # bytes of the data, for a warning; what a model is adapted to is smaller as a rule


def is_model(path: str) -> bool:
    """Whether a file is a saved model rather than a table; one that is called so may be damaged.

    >>> is_model("-"), is_model("old.automl")
    (False, True)
    """
    if path.endswith(".automl"):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            return "manifest.json" in archive.namelist()
    except (OSError, zipfile.BadZipFile, ValueError):
        return False


def column_map(known: FrameSchema, own: FrameSchema, known_schema: Schema, schema: Schema) -> ColumnMap:
    """Find the columns of a model's frame in that of a table, by name; categories by their text."""

    def places(names: Sequence[str], among: Sequence[str]) -> tuple[int, ...]:
        position = {name: k for k, name in enumerate(among)}
        return tuple(position.get(name, -1) for name in names)

    codes = []
    for name in known.categorical:
        there = {value: k for k, value in enumerate(known_schema.column(name).categories)}
        here = schema.column(name).categories if name in own.categorical else ()
        codes.append(tuple(there.get(value, -2) for value in here))
    return ColumnMap(
        known,
        places(known.numeric, own.numeric),
        places(known.categorical, own.categorical),
        places(known.datetime, own.datetime),
        places(known.text, own.text),
        tuple(codes),
    )


def lay_out_model(artifact: Artifact, folder: Path, table: Table, own: FrameSchema, task: Task) -> tuple[Notice, ...]:
    """Write the heaviest members of a model as the source of a run.

    Their weighted mean stands for the model: how it is calibrated is learned anew on the target.

    Raises
    ------
    UsageError
        The one predicts values and the other classes, they share no column, or no member can stand alone.
    BadArtifact, MissingExtra
        See `Artifact.check`.
    """
    manifest = artifact.manifest
    if (manifest.kind is TaskKind.REGRESSION) != (task.kind is TaskKind.REGRESSION):
        what = f"{artifact.path} is a model of a {manifest.kind} task, and this is {task.kind}"
        raise UsageError(what, hint="say --task, or fit without it")
    artifact.check()
    columns = column_map(manifest.frame_schema, own, manifest.schema, table.schema)
    if max((*columns.numeric, *columns.categorical, *columns.datetime, *columns.text), default=-1) < 0:
        hint = "rename the columns that are meant to be the same"
        raise UsageError(f"{artifact.path} shares no column with {table.source}", hint=hint)
    alone = [member for member in manifest.members if split_name(member.pipeline.encoding)[1] not in NOT_ALONE]
    if not alone:
        hint = "name the table that it was made from, or a model that was fitted without either"
        raise UsageError(f"{artifact.path} was itself made with a --source or --unlabeled", hint=hint)
    positive = [member for member in alone if member.weight > 0] or alone
    total = sum(member.weight for member in positive)
    chosen: list[MemberEntry] = []
    for member in sorted(positive, key=lambda member: -member.weight):
        few = sum(len(other.folds) for other in (*chosen, member)) <= MOST_PARTS
        if not chosen or (few and member.weight >= LEAST_SHARE * total):
            chosen.append(member)
    shares = {member.number: abs(member.weight) for member in chosen}
    whole = sum(shares.values())
    with artifact.laid_out(tuple(shares)) as models:
        parts = [
            PartFiles(split_name(encoding)[0], about.family, about.share * shares[about.number] / whole, encoder, model)
            for about, encoding, encoder, model in models
        ]
        folder.mkdir(parents=True, exist_ok=True)
        write_source(folder, parts, manifest.kind, manifest.n_outputs, columns)
    return *_left_out(manifest.members, alone, artifact), *_lacking(artifact, columns, table)


def _left_out(members: Sequence[MemberEntry], alone: Sequence[MemberEntry], artifact: Artifact) -> tuple[Notice, ...]:
    """Say how much of a model is no source, because it learned from one itself."""
    if len(alone) == len(members):
        return ()
    share = 1 - sum(abs(member.weight) for member in alone) / sum(abs(member.weight) for member in members)
    what = f"{artifact.path.name} was itself made with a --source or --unlabeled"
    text = f"{what}: {share:.0%} of it asks what that one learned, and is left out"
    return (Notice("source_members", text),)


def _lacking(artifact: Artifact, columns: ColumnMap, table: Table) -> tuple[Notice, ...]:
    """Say which columns a model does not get: those that are not there, and those that are read as something else."""
    known = artifact.manifest.frame_schema
    places = (*columns.numeric, *columns.categorical, *columns.datetime, *columns.text)
    missed = [name for name, place in zip(known.names, places, strict=True) if place < 0]
    there = [name for name in missed if name in table.schema.names]
    model, said = artifact.path.name, []
    absent = [name for name in missed if name not in there]
    if absent:
        some = ", ".join(map(repr, absent[:5]))
        said.append(Notice("source_columns", f"{model} was trained with {some}, which {table.source} lacks"))
    for name in there:
        kinds = [schema.column(name).kind for schema in (artifact.manifest.schema, table.schema)]
        if kinds[0] == kinds[1]:  # it has another role here
            said.append(Notice("source_columns", f"{model} was trained with {name!r}, which is no feature here"))
            continue
        what = f"{model} knows {name!r} as {kinds[0]}, here it is read as {kinds[1]}, which tells that model nothing"
        said.append(Notice("source_kind", f"{what}: --kind {name}={kinds[0]} reads it alike"))
    return tuple(said)


def known_rows(artifact: Artifact, path: str, table: Table, kept: Array, task: Task) -> tuple[Notice, ...]:
    """Warn where a model has learned from rows of the data: what it says of these is better than what it can.

    Parameters
    ----------
    path : str
        The data, which is read again by the schema of the model.
    kept : ndarray of int64
        Positions of the task's rows in the table.
    """
    manifest, seen = artifact.manifest, artifact.attached("rows", SeenRows.from_parts)
    names = set(manifest.frame_schema.names)
    quick = Path(path).is_file() and table.n_bytes <= MOST_READ_AGAIN
    if seen is None or not quick or not names <= set(table.schema.names):
        return ()
    columns = (column if column.name in names else replace(column, kind=Kind.ID) for column in manifest.schema.columns)
    try:
        theirs = read_with_schema(path, Schema(tuple(columns)))
    except (AutomlError, OSError):  # it is there for a warning alone
        return ()
    if theirs.fingerprint != table.fingerprint or theirs.n_rows != table.n_rows:
        return ()
    n = len(seen.known(frame_from_table(theirs, manifest.frame_schema).take(kept), task.y, task.classes))
    if not n:
        return ()
    what = f"{n:,} of {task.n_rows:,} labelled rows are among those that {artifact.path.name} was trained on"
    return (Notice("source_seen", f"{what}: it looks better here than it is; leave them out, or name its table"),)
