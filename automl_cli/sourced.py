"""Models of a source inside models of the target: their outputs as columns, and what is learned beside them.

The files of a source model lie flat in an encoder's folder, each with a prefix that says which model it belongs to.
"""

import functools
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from automl_cli.errors import BadArtifact
from automl_cli.families import find_families
from automl_cli.families.family import Family, Model
from automl_cli.features.encodings import ENCODINGS, Encoder, Encoding
from automl_cli.features.frame import Frame, FrameSchema, no_texts
from automl_cli.features.matrix import Array, Matrix, Source
from automl_cli.files import link_file
from automl_cli.metrics import TaskKind
from automl_cli.shared import shared_encoding, with_columns
from automl_cli.transfer.adaptation import OFFSET, SELFTRAIN, SHARED, WITH_OUTPUTS, WITH_ROWS, split_name
from automl_cli.transfer.probabilities import raw_outputs

HEADER = "source.json"
OFFSET_FILE = "offset.json"
PREFIX = "source_"
VERSION = 1
MOST_HELD = 4  # source models in a process
UNKNOWN, MISSING = -2, -1
HINT = "the model file is damaged or was not written by automl"


@dataclass(frozen=True)
class ColumnMap:
    """From a target's frame to that of a source model.

    Attributes
    ----------
    schema : FrameSchema
        Of the source model.
    numeric, categorical, datetime, text : tuple of int
        For each column of the source its position among the target's of that kind; -1 where there is none.
    codes : tuple of tuple of int
        For each categorical column what the target's codes are in the source; -2 where it does not know the value.
    """

    schema: FrameSchema
    numeric: tuple[int, ...]
    categorical: tuple[int, ...]
    datetime: tuple[int, ...]
    text: tuple[int, ...]
    codes: tuple[tuple[int, ...], ...]

    def apply(self, frame: Frame) -> Frame:
        """Return the rows as the source model knows them; columns that are not there are empty."""
        n = frame.n_rows
        numbers, days = (
            np.column_stack([block[:, k] if k >= 0 else np.full(n, np.nan) for k in places])
            if places
            else np.empty((n, 0))
            for block, places in ((frame.numbers, self.numeric), (frame.days, self.datetime))
        )
        codes = np.full((n, len(self.categorical)), MISSING, dtype=np.int32)
        for j, (k, known) in enumerate(zip(self.categorical, self.codes, strict=True)):
            if k >= 0:
                there = np.array([*known, UNKNOWN, MISSING], dtype=np.int32)  # -2 and -1 are the last two
                codes[:, j] = there[frame.codes[:, k]]
        texts = tuple(frame.texts[k] if k >= 0 else no_texts(n) for k in self.text)
        return Frame(self.schema, numbers, codes, days, texts)

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**vars(self), "schema": self.schema.to_json()}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ColumnMap":
        """Read what `to_json` wrote; ValueError, KeyError, TypeError where it is anything else."""
        schema = FrameSchema.from_json(data["schema"])
        kinds = ("numeric", "categorical", "datetime", "text")
        places = {kind: tuple(int(k) for k in data[kind]) for kind in kinds}
        codes = tuple(tuple(int(code) for code in known) for known in data["codes"])
        for kind in kinds:
            if len(places[kind]) != len(getattr(schema, kind)) or min(places[kind], default=0) < -1:
                raise ValueError("columns of a source that it does not have")
        highest = [max(known, default=-1) for known in codes]
        if len(codes) != len(schema.categorical) or any(
            code >= n for code, n in zip(highest, schema.n_categories, strict=True)
        ):
            raise ValueError("codes of a source that it does not have")
        return cls(schema, places["numeric"], places["categorical"], places["datetime"], places["text"], codes)


@dataclass(frozen=True)
class SourcePart:
    """One fitted model of a source and its share."""

    encoding: str
    family: str
    share: float
    encoder: Encoder
    model: Model


@dataclass(frozen=True, eq=False)
class SourceModel:
    """A bag of models of a source, as a target's model asks it.

    Attributes
    ----------
    columns : ColumnMap or None
        None where it was fitted on columns of the target's schema.
    centre, scale : ndarray of shape (n_raw,)
        Outputs are brought to mean 0 and variance 1 on the target's rows: linear models are shrunk alike then.
    """

    kind: TaskKind
    n_outputs: int
    parts: tuple[SourcePart, ...]
    columns: ColumnMap | None
    centre: Array
    scale: Array
    last: threading.local = field(default_factory=threading.local, repr=False)

    def outputs(self, frame: Frame, threads: int = 1) -> Array:
        """Return the weighted mean of the parts' answers, shape (n_rows, n_outputs)."""
        known = frame if self.columns is None else self.columns.apply(frame)
        total = np.zeros((frame.n_rows, self.n_outputs))
        matrices: dict[int, Matrix] = {}
        for part in self.parts:
            if id(part.encoder) not in matrices:
                matrices = {id(part.encoder): part.encoder.transform(known)}
            answer = part.model.predict(matrices[id(part.encoder)], threads)
            if answer.shape != total.shape:
                raise BadArtifact(f"a source model answers with shape {answer.shape}, not {total.shape}", hint=HINT)
            total += part.share * answer
        return total

    def columns_of(self, frame: Frame) -> Array:
        """Return the outputs as float32 columns, shape (n_rows, n_raw): values or log odds, standardised.

        The answer for the last frame is kept: many encoders of one model ask for the same rows.
        """
        last = getattr(self.last, "asked", None)
        if last is None or last[0] is not frame:
            found = standardised(raw_outputs(self.outputs(frame), self.kind), self.centre, self.scale)
            self.last.asked = last = (frame, found)
        answer: Array = last[1]
        return answer

    @property
    def names(self) -> tuple[str, ...]:
        """The target's columns that it looks at; none where these are all."""
        if self.columns is None:
            return ()
        own = self.columns
        places = (*own.numeric, *own.categorical, *own.datetime, *own.text)
        return tuple(name for name, place in zip(own.schema.names, places, strict=True) if place >= 0)


def standardised(raw: Array, centre: Array, scale: Array) -> Array:
    """Return raw outputs as columns."""
    return np.asarray((raw - centre) / scale, dtype=np.float32)


@dataclass(frozen=True)
class SourceEncoder:
    """An encoder whose last columns are the outputs of a source model."""

    base: Encoder
    source: SourceModel
    used: tuple[str, ...]

    def transform(self, frame: Frame) -> Matrix:
        """Encode rows; see `Encoder`."""
        return with_columns(self.base.transform(frame), self.source.columns_of(frame))

    def sources(self) -> tuple[Source, ...]:
        """Return the source of each feature; the outputs come from all columns that the source model looks at."""
        return (*self.base.sources(), *((self.used,) * len(self.source.centre)))


@dataclass(frozen=True)
class Offset:
    """Slope and base, on the standardised outputs of a source model."""

    slope: float
    base: float

    def of(self, matrix: Matrix) -> Array:
        """Return what is added to a model's values, shape (n_rows, 1)."""
        return np.asarray(self.slope * matrix.X[:, -1:].astype(np.float64) + self.base)


@dataclass(frozen=True)
class OffsetModel:
    """A model of what a recalibrated source model leaves over."""

    model: Model
    offset: Offset

    @property
    def rounds(self) -> int:
        """See `Model`."""
        return self.model.rounds

    @property
    def cut(self) -> bool:
        """See `Model`."""
        return self.model.cut

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return values of shape (n_rows, 1)."""
        return self.model.predict(data, threads) + self.offset.of(data)


def find_encoding(name: str) -> Encoding:
    """Return an encoding by its name, with or without an adaptation.

    Raises
    ------
    KeyError
        There is none.
    """
    base_name, adaptation = split_name(name)
    base = ENCODINGS[base_name]
    if not adaptation or adaptation in WITH_ROWS or adaptation == SELFTRAIN:
        return base
    if adaptation == SHARED:
        return shared_encoding(name, base)
    if adaptation not in WITH_OUTPUTS:
        raise KeyError(name)

    def load(folder: Path) -> SourceEncoder:
        encoder, source = base.load(folder), read_source(folder)
        own = dict.fromkeys(column for feature in encoder.sources() for column in feature)
        return SourceEncoder(encoder, source, source.names or tuple(own))

    return replace(base, name=name, load=load)


def save_model(family: Family, model: Any, folder: Path) -> None:
    """Write a model, or one beside an offset, into an existing empty folder."""
    if isinstance(model, OffsetModel):
        (folder / OFFSET_FILE).write_text(json.dumps(vars(model.offset)))
        model = model.model
    family.save(model, folder)


def load_model(family: Family, encoding: str, folder: Path, *, verified: bool = False) -> Model:
    """Read what `save_model` wrote.

    Parameters
    ----------
    verified : bool
        Whether these very files have passed `Family.verify` before.

    Raises
    ------
    BadArtifact
        Anything is malformed.
    """
    if family.verify is not None and not verified:
        family.verify(folder)
    if split_name(encoding)[1] != OFFSET:
        return family.load(folder)
    try:
        data = json.loads((folder / OFFSET_FILE).read_text())
        offset = Offset(float(data["slope"]), float(data["base"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadArtifact("the offset of a model cannot be read", hint=HINT) from error
    if not (np.isfinite(offset.slope) and np.isfinite(offset.base)):
        raise BadArtifact("the offset of a model is not finite", hint=HINT)
    return OffsetModel(family.load(folder), offset)


@dataclass(frozen=True)
class PartFiles:
    """Where one model of a source lies: folders with its encoder and model."""

    encoding: str
    family: str
    share: float
    encoder: Path
    model: Path


def write_source(
    folder: Path, parts: Sequence[PartFiles], kind: TaskKind, n_outputs: int, columns: ColumnMap | None
) -> None:
    """Lay the models of a source out flat in an existing folder; `finish_source` completes it."""
    said = []
    for k, part in enumerate(parts):
        files: dict[str, list[str]] = {}
        for what, place in (("encoder", part.encoder), ("model", part.model)):
            files[what] = sorted(file.name for file in place.iterdir())
            for name in files[what]:
                (folder / f"{PREFIX}{k}_{what}_{name}").write_bytes((place / name).read_bytes())
        said.append({"encoding": part.encoding, "family": part.family, "share": part.share, **files})
    header = {
        "version": VERSION,
        "kind": str(kind),
        "n_outputs": n_outputs,
        "parts": said,
        "columns": None if columns is None else columns.to_json(),
        "centre": [0.0] * n_raw(kind, n_outputs),
        "scale": [1.0] * n_raw(kind, n_outputs),
    }
    (folder / HEADER).write_text(json.dumps(header))


def finish_source(folder: Path, centre: Array, scale: Array) -> None:
    """Note what outputs are standardised by."""
    header = json.loads((folder / HEADER).read_text())
    header |= {"centre": centre.tolist(), "scale": scale.tolist()}
    (folder / HEADER).write_text(json.dumps(header))


def n_raw(kind: TaskKind, n_outputs: int) -> int:
    """Return how many columns a source's outputs are."""
    return 1 if kind is not TaskKind.MULTICLASS else n_outputs


def read_source(folder: Path) -> SourceModel:
    """Read the models of a source from an encoder's folder; the last few are kept, for encoders that share them.

    Raises
    ------
    BadArtifact
        Anything is malformed.
    """
    try:
        text = (folder / HEADER).read_text()
        key = hashlib.sha256(text.encode() + _digest(folder).encode()).hexdigest()
    except (OSError, UnicodeDecodeError) as error:
        raise BadArtifact("the source model cannot be read", hint=HINT) from error
    held = _held()
    if key not in held:
        if len(held) >= MOST_HELD:
            held.clear()
        held[key] = _parse_source(folder, text)
    return held[key]


@functools.lru_cache(maxsize=1)
def _held() -> dict[str, SourceModel]:
    """Return the source models of this process; models are not changed once they are read."""
    return {}


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.glob(f"{PREFIX}*")):
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _parse_source(folder: Path, text: str) -> SourceModel:
    try:
        data = json.loads(text)
        if data["version"] != VERSION:
            raise ValueError("another version")
        kind, n_outputs = TaskKind(data["kind"]), int(data["n_outputs"])
        columns = None if data["columns"] is None else ColumnMap.from_json(data["columns"])
        centre, scale = (np.array(data[name], dtype=np.float64) for name in ("centre", "scale"))
        if not 1 <= n_outputs <= 10_000 or centre.shape != (n_raw(kind, n_outputs),) or scale.shape != centre.shape:
            raise ValueError("outputs that do not fit")
        if not (np.isfinite(centre).all() and (scale > 0).all() and np.isfinite(scale).all()):
            raise ValueError("a scale that is none")
        parts = tuple(_read_part(folder, k, entry) for k, entry in enumerate(data["parts"]))
        if not parts:
            raise ValueError("no parts")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise BadArtifact("the source model cannot be read", hint=HINT) from error
    return SourceModel(kind, n_outputs, parts, columns, centre, scale)


def _read_part(folder: Path, k: int, entry: Mapping[str, Any]) -> SourcePart:
    family, share = find_families(include_missing=True)[entry["family"]], float(entry["share"])
    if not np.isfinite(share):
        raise ValueError("a share that is no number")
    with _apart(folder, k, "encoder", entry) as place:
        encoder = ENCODINGS[entry["encoding"]].load(place)
    with _apart(folder, k, "model", entry) as place:
        return SourcePart(entry["encoding"], family.name, share, encoder, load_model(family, entry["encoding"], place))


@contextmanager
def _apart(folder: Path, k: int, what: str, entry: Mapping[str, Any]) -> Iterator[Path]:
    """Lay the files of one encoder or model out in a folder of its own, under their own names."""
    with TemporaryDirectory(prefix="automl-") as name:
        place = Path(name)
        for file in entry[what]:
            if not isinstance(file, str) or Path(file).name != file:
                raise ValueError("a name that is a path")
            (place / file).write_bytes((folder / f"{PREFIX}{k}_{what}_{file}").read_bytes())
        yield place


def source_files(folder: Path, target: Path) -> None:
    """Link a source model's files into an encoder's folder."""
    for file in folder.iterdir():
        link_file(file, target / file.name)
