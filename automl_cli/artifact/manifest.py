"""What a model file says about itself, checked key by key before it is believed."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from automl_cli.artifact.container import BLOBS, DIGEST, Container, is_safe_name
from automl_cli.artifact.values import (
    is_count,
    is_factor,
    is_list,
    is_number,
    is_numbers,
    is_object,
    is_objects,
    is_text,
    is_texts,
)
from automl_cli.errors import BadArtifact
from automl_cli.trial import Pipeline, Value

if TYPE_CHECKING:
    from automl_cli.calibration import Decision

    # All import numpy and pyarrow, which `automl inspect` does without.
    from automl_cli.features.frame import FrameSchema
    from automl_cli.stacking import Mixing
    from automl_cli.table import Schema
    from automl_cli.task import TaskKind

T = TypeVar("T")

FORMAT = 3
"""Raised when an older automl could misread the file, not when it could leave something out; see `format_of`."""
ATTACHMENTS = ("rows", "reference", "outputs")
"""Keys whose values name a blob beside those of the members."""
_LARGEST_WEIGHT = 1e6
_FURTHEST = 1e3  # offset of a logarithm of a probability


@dataclass(frozen=True)
class FoldFiles:
    """The files of one fold's encoder and model: relative name -> SHA-256 of the blob."""

    encoder: Mapping[str, str]
    model: Mapping[str, str]


@dataclass(frozen=True)
class MemberEntry:
    """One pipeline of the ensemble: its fold models are averaged, the average is weighed."""

    number: int
    pipeline: Pipeline
    weight: float
    loss: float | None
    folds: tuple[FoldFiles, ...]


@dataclass(frozen=True)
class Manifest:
    """The readable part of a model file.

    Attributes
    ----------
    digest : str
        SHA-256 of its bytes; it covers the digests of everything else in the file.
    data : Mapping
        All of it as JSON values.
    task : {"kind", "target", "classes", "metric"}
    members : tuple of MemberEntry
        In number order; weights sum to one unless they are stacked, see `mixing`.
    """

    digest: str
    data: Mapping[str, Any]
    members: tuple[MemberEntry, ...]

    @property
    def target(self) -> str:
        """Name of the predicted column."""
        return str(self.data["task"]["target"])

    @property
    def kind(self) -> "TaskKind":
        """Kind of the task."""
        from automl_cli.task import TaskKind  # noqa: PLC0415  (imports numpy)

        return TaskKind(self.data["task"]["kind"])

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels in the order of the outputs, the positive one last; empty for a regression."""
        return tuple(self.data["task"]["classes"])

    @property
    def metric(self) -> str:
        """Name of the metric that was optimised; one that this version knows, or BadArtifact."""
        from automl_cli.metrics import METRICS  # noqa: PLC0415  (imports numpy)

        name = str(self.data["task"]["metric"])
        if name not in METRICS or self.kind not in METRICS[name].kinds:
            raise _malformed("names a metric that is unknown or of another task")
        return name

    @property
    def n_outputs(self) -> int:
        """Columns of a prediction: one per class, or 1."""
        return len(self.classes) or 1

    @property
    def decision(self) -> "Decision":
        """How probabilities are calibrated and labels decided; in files that say nothing of it, not at all."""
        from automl_cli.calibration import PLAIN, Decision  # noqa: PLC0415  (imports numpy)

        data = self.data.get("decision")
        return PLAIN if data is None else Decision.from_json(data)

    @property
    def mixing(self) -> "Mixing":
        """How weighted members become one prediction; in files that say nothing of it, by their mean."""
        from automl_cli.stacking import MEAN, Mixing  # noqa: PLC0415  (imports numpy)

        data = self.data.get("mixing")
        return MEAN if data is None else Mixing.from_json(data)

    @property
    def schema(self) -> "Schema":
        """Columns of the table that was learned from."""
        from automl_cli.table import Schema  # noqa: PLC0415  (imports pyarrow)

        return _parsed("schema", Schema.from_json, self.data["schema"])

    @property
    def frame_schema(self) -> "FrameSchema":
        """Columns as the encoders see them; all are columns of `schema`, of the kind that is said there."""
        from automl_cli.features.frame import FrameSchema, frame_schema  # noqa: PLC0415  (imports numpy)

        found, schema = _parsed("frame", FrameSchema.from_json, self.data["frame"]), self.schema
        seen = set(found.names)
        others = [name for name in schema.names if name not in seen]
        if found != frame_schema(schema, exclude=others):
            raise _malformed("has a 'frame' of other columns than its 'schema'")
        return found


def format_of(data: Mapping[str, Any]) -> int:
    """Return the lowest format whose readers understand a manifest: only those of 3 know of other shares of classes."""
    return FORMAT if (data.get("decision") or {}).get("moved") is not None else 2


def read_manifest(container: Container) -> Manifest:
    """Read the manifest of an open file and check that every blob it names is there.

    Raises
    ------
    BadArtifact
        It is damaged, malformed, or of a newer format.
    """
    text, digest = container.manifest()
    try:
        manifest = parse_manifest(text, digest)
    except BadArtifact as error:
        raise BadArtifact(f"{container.path}: {error.problem}", hint=error.hint) from error
    for name in blobs_of(manifest):
        if BLOBS + name not in container.sizes:
            raise container.damaged(f"entry {BLOBS}{name} is missing")
    return manifest


def blobs_of(manifest: Manifest) -> set[str]:
    """Return the digests of all blobs that a manifest names."""
    entries = [manifest.data.get(key) for key in ATTACHMENTS]
    attached = {entry["blob"] for entry in entries if entry is not None}
    return attached | {blob for fold in all_folds(manifest) for files in fold for blob in files.values()}


def all_folds(manifest: Manifest) -> list[tuple[Mapping[str, str], Mapping[str, str]]]:
    """Return (encoder files, model files) of every fold of every member, in number order."""
    return [(fold.encoder, fold.model) for member in manifest.members for fold in member.folds]


def parse_manifest(text: bytes, digest: str) -> Manifest:
    """Check a manifest's bytes against what this version understands.

    Raises
    ------
    BadArtifact
        Not JSON, a newer format, or a key that is missing or of the wrong type.
    """
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise _malformed("is not JSON") from error
    if not isinstance(data, dict):
        raise _malformed("is not a JSON object")
    version = data.get("format")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise _malformed("states no format version")
    if version > FORMAT:
        by = data.get("product") if isinstance(data.get("product"), str) else f"with format {version}"
        raise BadArtifact(f"written by a newer automl ({str(by)[:40]})", hint="pip install --upgrade automl-cli")
    for key, (matches, required) in _KEYS.items():
        if (required or data.get(key) is not None) and not matches(data.get(key)):
            raise _malformed(f"has no valid {key!r}")
    if not _is_decision(data.get("decision"), len(data["task"]["classes"])):
        raise _malformed("has no valid 'decision'")
    if not _is_mixing(data.get("mixing"), len(data["task"]["classes"]) or 1):
        raise _malformed("has no valid 'mixing'")
    members = tuple(_member(entry) for entry in data["members"])
    _check_members(members, stacked=_is_stacked(data.get("mixing")))
    return Manifest(digest=digest, data=data, members=members)


def _member(entry: dict[str, Any]) -> MemberEntry:
    found: tuple[Any, ...] = tuple(entry.get(key) for key in _MEMBER_KEYS)
    number, family, encoding, hyperparameters, weight, loss, folds = found
    if not (is_count(number) and is_number(weight) and (loss is None or is_number(loss))):
        raise _malformed("has a member without number, weight or loss")
    if not (isinstance(family, str) and isinstance(encoding, str) and is_object(hyperparameters)):
        raise _malformed(f"does not say how member {number} is built")
    if not all(isinstance(value, Value) for value in hyperparameters.values()):
        raise _malformed(f"has a hyperparameter of member {number} that is not a plain value")
    if not is_objects(folds) or not folds:
        raise _malformed(f"names no folds of member {number}")
    return MemberEntry(
        number=number,
        pipeline=Pipeline(family, encoding, hyperparameters),
        weight=float(weight),
        loss=None if loss is None else float(loss),
        folds=tuple(FoldFiles(_files(fold.get("encoder")), _files(fold.get("model"))) for fold in folds),
    )


_MEMBER_KEYS = ("number", "family", "encoding", "hyperparameters", "weight", "loss", "folds")


def _files(entry: Any) -> Mapping[str, str]:
    if not is_object(entry):
        raise _malformed("has a fold without encoder or model")
    for name, digest in entry.items():
        if not is_safe_name(name):
            raise _malformed(f"names the unsafe file {name[:80]!r}")
        if not (isinstance(digest, str) and DIGEST.fullmatch(digest)):
            raise _malformed(f"has no digest for the file {name!r}")
        if any(other.startswith(name + "/") for other in entry):
            raise _malformed(f"names {name!r} as a file and as a folder")
    return dict(entry)


def _check_members(members: tuple[MemberEntry, ...], *, stacked: bool) -> None:
    numbers = [member.number for member in members]
    if not members or numbers != sorted(set(numbers)):
        raise _malformed("has no members, or not in number order")
    weights = [member.weight for member in members]
    if stacked:
        if max(map(abs, weights)) > _LARGEST_WEIGHT:
            raise _malformed("has weights that are out of range")
        return
    if min(weights) < 0 or not math.isclose(math.fsum(weights), 1.0, rel_tol=1e-6):
        raise _malformed("has weights that do not sum to one")


def _parsed(key: str, parse: Callable[[Any], T], data: Any) -> T:
    try:
        return parse(data)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _malformed(f"has no valid {key!r}") from error


def _malformed(what: str) -> BadArtifact:
    return BadArtifact(f"the model's manifest {what}", hint="fit again, or ask who made the file")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _is_decision(value: Any, n_classes: int) -> bool:
    """Whether probabilities stay finite and some class is decided for; files without classes decide nothing."""
    if value is None:
        return True
    if not (is_object(value) and is_factor(value.get("temperature")) and is_list(value.get("multipliers"))):
        return False
    multipliers, moved = value["multipliers"], value.get("moved")
    if n_classes == 0:
        return value["temperature"] == 1 and not multipliers and moved is None
    if moved is not None and not _is_moved(moved, n_classes):
        return False
    return all(map(is_factor, multipliers)) and len(multipliers) in (0, n_classes)


def _is_moved(value: Any, n_classes: int) -> bool:
    if not (is_object(value) and is_factor(value.get("inverse")) and is_list(value.get("offsets"))):
        return False
    offsets = value["offsets"]
    return len(offsets) == n_classes and all(is_number(offset) and abs(offset) <= _FURTHEST for offset in offsets)


def _is_mixing(value: Any, n_outputs: int) -> bool:
    """Whether weighted members become probabilities or values; only those that are stacked have offsets."""
    if value is None:
        return True
    if not (is_object(value) and isinstance(value.get("logarithms"), bool) and is_list(value.get("offsets"))):
        return False
    offsets = value["offsets"]
    if not all(map(is_number, offsets)) or len(offsets) not in (0, n_outputs):
        return False
    if n_outputs > 1 and any(abs(offset) > _LARGEST_WEIGHT for offset in offsets):
        return False
    return bool(value["logarithms"] == (bool(offsets) and n_outputs > 1))


def _is_stacked(value: Any) -> bool:
    return value is not None and bool(value["offsets"])


def _is_task(value: Any) -> bool:
    if not is_object(value) or not all(is_text(value.get(key)) for key in ("kind", "target", "metric")):
        return False
    classes, fewest_most = value.get("classes"), _N_CLASSES.get(value["kind"])
    if fewest_most is None or not is_texts(classes) or len(set(classes)) < len(classes):
        return False
    return fewest_most[0] <= len(classes) <= fewest_most[1]


_N_CLASSES = {"binary": (2, 2), "multiclass": (2, 1_000_000), "regression": (0, 0)}


def _is_ended_early(value: Any) -> bool:
    if not (is_object(value) and is_count(value.get("n_trials")) and is_text(value.get("reason", ""))):
        return False
    return all(value.get(key) is None or is_number(value[key]) for key in ("seconds_left", "trials_left"))


def _is_footprint(value: Any) -> bool:
    """Whether the figures that are shown of a model's size and speed are figures."""
    if not (is_object(value) and is_count(value.get("n_models"))):
        return False
    without = value.get("unlimited")
    known = without is None or (is_object(without) and all(is_number(without.get(key)) for key in _WITHOUT_LIMITS))
    seconds = [value.get("row_seconds"), (without or {}).get("row_seconds")] if known else []
    return known and all(second is None or is_number(second) for second in seconds)


_WITHOUT_LIMITS = ("n_members", "n_models", "n_bytes", "score")


def _is_experience(value: Any) -> bool:
    neighbours = value.get("neighbours", []) if is_object(value) else None
    return is_objects(neighbours) and is_count(value.get("same_table_runs", 0))


def _is_attachment(value: Any) -> bool:
    return is_object(value) and is_text(value.get("blob")) and bool(DIGEST.fullmatch(value["blob"]))


def _is_interval(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(is_number, value))


def _is_schema(value: Any) -> bool:
    """Whether it lists columns, each with a name of its own; what else it says of them is for who needs it."""
    if not is_objects(value) or not all(is_text(column.get("name")) for column in value):
        return False
    return len({column["name"] for column in value}) == len(value)


def _is_transfer(value: Any) -> bool:
    """Whether what is shown of an adaptation is there: other keys are carried along."""
    if not (is_object(value) and all(is_text(value.get(key, "")) for key in ("setting", "adapted", "table"))):
        return False
    verdict, shares = value.get("verdict"), value.get("classes")
    known = verdict is None or (is_object(verdict) and is_text(verdict.get("reason")))
    return known and is_texts(value.get("sentences", [])) and (shares is None or is_objects(shares))


def _is_board(value: Any) -> bool:
    texts = ("family", "encoding", "origin", "note")
    return is_objects(value) and all(
        is_count(row.get("number"))
        and (row.get("score") is None or is_number(row["score"]))
        and all(is_text(row.get(key, "")) for key in texts)
        for row in value
    )


def _is_racing(value: Any) -> bool:
    counts = ("n_trials", "n_folds")
    return is_object(value) and all(is_count(value.get(key)) for key in counts) and is_number(value.get("seconds"))


def _are_shares(value: Any) -> bool:
    pairs = is_list(value) and all(isinstance(pair, list) and len(pair) == 2 for pair in value)
    return pairs and all(is_text(name) and is_number(share) for name, share in value)


_GAINS = ("in_sample_gain", "cross_fitted_gain")

# key -> (what it must be, whether it must be there); other keys are carried along and shown as they are
_KEYS: Mapping[str, tuple[Callable[[Any], bool], bool]] = {
    "created": (is_text, True),
    "product": (is_text, True),
    "libraries": (lambda v: is_object(v) and all(map(is_text, v.values())), True),
    "task": (_is_task, True),
    "schema": (_is_schema, True),
    "frame": (is_object, True),
    "members": (is_objects, True),
    "leaderboard": (_is_board, False),
    "timings": (lambda v: is_object(v) and is_numbers(list(v.values())), False),
    "overhead": (lambda v: is_object(v) and all(map(is_number, v.values())), False),
    "ended_early": (_is_ended_early, False),
    "fingerprint": (is_text, False),
    "n_rows": (is_count, False),
    "validation": (is_text, False),
    "loss": (is_number, False),
    "naive_loss": (is_number, False),
    "interval": (_is_interval, False),
    "score": (is_number, False),
    "ensemble": (lambda v: is_object(v) and all(is_number(v.get(key)) for key in _GAINS), False),
    "warnings": (is_texts, False),
    "ignored": (is_texts, False),
    "naive_score": (is_number, False),
    "mattered": (_are_shares, False),
    "racing": (_is_racing, False),
    "peak_memory_bytes": (is_count, False),
    "seed": (is_count, False),
    "experience": (_is_experience, False),
    "footprint": (_is_footprint, False),
    "transfer": (_is_transfer, False),
    **dict.fromkeys(ATTACHMENTS, (_is_attachment, False)),
}
