"""Experience leaves a store as lines of JSON, and comes into another one whole or not at all."""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from automl_cli.errors import BadData
from automl_cli.experience.queries import every_run
from automl_cli.experience.records import FORMAT, FORMAT_VERSION, RunRecord, from_json, to_json
from automl_cli.experience.store import Store, reading
from automl_cli.experience.writing import add
from automl_cli.files import write_whole

MOST_LINE = 50_000_000  # bytes


def export(store: Store, path: Path) -> int:
    """Write all runs into a file, packed where its name ends in .gz; return how many.

    Neither the salt nor digests of names nor the tables' names are in it.

    Raises
    ------
    AutomlError
        The store cannot be read or the file not be written; then it is not there.
    """
    n_runs = 0
    with reading(store) as connection, write_whole(path) as file:
        lines = gzip.GzipFile(fileobj=file, mode="wb", mtime=0) if path.name.endswith(".gz") else file
        lines.write(json.dumps({"format": FORMAT, "version": FORMAT_VERSION}).encode() + b"\n")
        for run in _without_digests(every_run(connection)):
            lines.write(json.dumps(to_json(run, named=False)).encode() + b"\n")
            n_runs += 1
        if lines is not file:
            lines.close()
    return n_runs


def take_in(store: Store, path: Path) -> tuple[int, int]:
    """Add the runs of an exported file that the store does not have; return how many were new, and how many there are.

    Raises
    ------
    BadData
        A line is not what an export holds; nothing was added.
    """
    runs = [replace(run, origin="import") for run in _lines(path)]
    return add(store, runs), len(runs)


def merge(store: Store, other: Store) -> tuple[int, int]:
    """Add another store's runs; names of columns are known to each store alone, so that their digests stay behind."""
    with reading(other) as connection:
        every = every_run(connection)
        runs = list(every if other.salt == store.salt else _without_digests(every))
    return add(store, runs), len(runs)


def _without_digests(runs: Iterable[RunRecord]) -> Iterator[RunRecord]:
    """Leave digests behind; the second and later targets of one table are told by their numbers, or they were one."""
    targets: dict[tuple[str, str], dict[str, str]] = {}
    for run in runs:
        dataset = run.dataset
        known = targets.setdefault((dataset.fingerprint, str(dataset.kind)), {})
        number = known.setdefault(dataset.target, f"{len(known) + 1}" if known else "")
        yield replace(run, dataset=replace(dataset, target=number, columns=()))


def _lines(path: Path) -> Iterator[RunRecord]:
    try:
        with path.open("rb") as start:
            packed = start.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as file:
            header = _header(file.readline(1_000))
            if not isinstance(header, dict) or header.get("format") != FORMAT:
                raise BadData(f"{path} is no export of experience", hint="make one with automl experience export")
            if header.get("version") != FORMAT_VERSION:
                version = header.get("version")
                raise BadData(f"{path} is an export of version {version}", hint=f"this program reads {FORMAT_VERSION}")
            number = 1
            while line := file.readline(MOST_LINE):
                number += 1
                try:
                    yield from_json(json.loads(line))
                except BadData as error:
                    raise BadData(f"{path}, line {number}: {error.problem}", hint=error.hint) from error
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise BadData(f"{path} cannot be read ({error.strerror})", hint="check the path") from error
    except (OSError, EOFError, ValueError, OverflowError, zlib.error) as error:
        raise BadData(f"{path} cannot be read ({error})", hint="is it whole?") from error


def _header(line: bytes) -> Any:
    """Return what the first line says; None where it is another file's."""
    try:
        return json.loads(line)
    except ValueError:
        return None
