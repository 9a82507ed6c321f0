"""Pairs of tables, the labelled rows that are drawn from a target, and the files that a system is given."""

import csv
import gzip
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from automl_cli.errors import BadData, UsageError
from benchmarks.tables import METRICS, Dataset

LEAST_SCORED = 200
Cells = tuple[str, ...]


@dataclass(frozen=True)
class Tables:
    """A source and a target of the same columns, each cell the text that is written.

    Attributes
    ----------
    pool : tuple of rows
        The target: first the rows that the pair comes with as labelled ones, then all others. Those without a value of
        the target column are left out.
    n_given : int
        How many the pair comes with.
    """

    name: str
    task: str
    target: str
    header: Cells
    source: tuple[Cells, ...]
    pool: tuple[Cells, ...]
    n_given: int

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the target of each row of the pool."""
        at = self.header.index(self.target)
        return tuple(row[at] for row in self.pool)

    @property
    def dataset(self) -> Dataset:
        """Return what the scorer wants to know."""
        return Dataset(self.name, Path(), self.target, self.task)


@dataclass(frozen=True)
class Drawn:
    """Positions in the pool: the rows whose labels a system sees, and those it is scored on."""

    labelled: tuple[int, ...]
    scored: tuple[int, ...]


def find_pairs(folder: Path, names: Sequence[str] | None = None) -> list[Tables]:
    """Read the pairs of a folder, in the order of its index.

    Parameters
    ----------
    folder : Path
        Holds ``index.json`` with ``{"transfer": {NAME: {"task": ..., "target": ...}}}``, and
        ``transfer/NAME/source.csv.gz``, ``target_train.csv.gz`` and ``target_test.csv.gz``.
    names : sequence of str or None
        Only these.
    """
    path = folder / "index.json"
    index = json.loads(path.read_text(encoding="utf-8")).get("transfer") if path.is_file() else None
    if not index:
        raise UsageError(
            f"{path} names no pairs", hint='write {"transfer": {"NAME": {"task": "binary", "target": "COLUMN"}}}'
        )
    for name in names or ():
        if name not in index:
            raise UsageError(f"index.json has no pair {name!r}", hint=f"it has {', '.join(index)}")
    return [_read_pair(name, index[name], folder / "transfer" / name) for name in names or index]


def _read_pair(name: str, about: Mapping[str, str], folder: Path) -> Tables:
    if about.get("task") not in METRICS or "target" not in about:
        raise UsageError(f"index.json says no task and target for {name!r}", hint=f"tasks are {', '.join(METRICS)}")
    read = {part: _read(folder / f"{part}.csv.gz") for part in ("source", "target_train", "target_test")}
    headers = {header for header, _ in read.values()}
    if len(headers) > 1 or about["target"] not in read["source"][0]:
        raise BadData(f"the three tables in {folder} have not the same columns, or none is {about['target']!r}")
    (header,) = headers
    at = header.index(about["target"])
    given, others = ([row for row in read[part][1] if row[at]] for part in ("target_train", "target_test"))
    source = tuple(read["source"][1])
    return Tables(name, about["task"], about["target"], header, source, (*given, *others), len(given))


def _read(path: Path) -> tuple[Cells, list[Cells]]:
    if not path.is_file():
        raise UsageError(f"{path} does not exist", hint="index.json names its pair")
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        header, *rows = (tuple(row) for row in csv.reader(file))
    return header, rows


def points(pair: Tables, asked: Sequence[int] | None) -> list[int | None]:
    """Return the numbers of labels to draw: those asked for, as far as enough rows are left to score on.

    Enough are 200, or half of the pool where that is less. None is as many as the pair comes with.
    """
    if asked is None:
        return [None]
    left = min(LEAST_SCORED, len(pair.pool) // 2)
    return [n for n in asked if n <= len(pair.pool) - left]


def draw(pair: Tables, seed: int, n: int | None) -> Drawn:
    """Choose the labelled rows, which depends on the pair's name, the seed and their number alone.

    Parameters
    ----------
    n : int or None
        How many; None: as many as the pair comes with, and with seed 0 the very rows that it comes with.
    """
    everything = range(len(pair.pool))
    if n is None and seed == 0:
        return Drawn(tuple(everything[: pair.n_given]), tuple(everything[pair.n_given :]))
    n = pair.n_given if n is None else n
    order = list(everything)
    random.Random(f"{pair.name}/{seed}/{n}").shuffle(order)
    labels = [""] * len(order) if pair.task == "regression" else pair.labels
    left = per_class(Counter(labels), n)
    labelled = []
    for at in order:
        if left[labels[at]]:
            left[labels[at]] -= 1
            labelled.append(at)
    return Drawn(tuple(labelled), tuple(sorted(set(everything) - set(labelled))))


def per_class(counts: Mapping[str, int], n: int) -> dict[str, int]:
    """Share out n rows over classes by their size, at least one to each where that many are to be shared out.

    >>> per_class({"rare": 3, "common": 97}, 10)
    {'common': 9, 'rare': 1}
    """
    exact = {label: n * count / sum(counts.values()) for label, count in sorted(counts.items())}
    least = int(n >= len(counts))
    shared = {label: max(least, int(share)) for label, share in exact.items()}
    while sum(shared.values()) < n:
        shared[max(exact, key=lambda label: exact[label] - shared[label])] += 1
    while sum(shared.values()) > n:
        shared[min((x for x in exact if shared[x] > least), key=lambda label: exact[label] - shared[label])] -= 1
    return shared


def lay_out(pair: Tables, drawn: Drawn, folder: Path) -> None:
    """Write all files that any system learns from or is asked about.

    ``train.csv`` are the labelled rows of the target, ``pooled.csv`` these and the source, ``unlabelled.csv`` the whole
    pool without the target column; ``features.csv`` is ``test.csv`` without it.
    """
    labelled, scored = ([pair.pool[at] for at in part] for part in (drawn.labelled, drawn.scored))
    _write(folder / "train.csv", pair.header, labelled)
    _write(folder / "source.csv", pair.header, pair.source)
    _write(folder / "pooled.csv", pair.header, [*labelled, *pair.source])
    _write(folder / "test.csv", pair.header, scored)
    for name, rows in (("features", scored), ("unlabelled", pair.pool)):
        header, *without = _without(pair.header.index(pair.target), [pair.header, *rows])
        _write(folder / f"{name}.csv", header, without)


def _without(at: int, rows: Sequence[Cells]) -> list[Cells]:
    return [(*row[:at], *row[at + 1 :]) for row in rows]


def _write(path: Path, header: Cells, rows: Sequence[Cells]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
