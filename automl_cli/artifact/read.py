"""Model file -> predictions: models are loaded when they are needed, from bytes whose digests are right."""

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from automl_cli.artifact.check import check_native, private_folder
from automl_cli.artifact.container import Container
from automl_cli.artifact.manifest import Manifest, read_manifest
from automl_cli.artifact.signing import PublicKey, Signature, TrustedKeys, check_signed, signatures_of
from automl_cli.errors import BadArtifact, MissingExtra
from automl_cli.transfer.adaptation import encoder_of

if TYPE_CHECKING:
    # Opening a file imports no numpy; predicting does.
    from automl_cli.families.family import Family, Model
    from automl_cli.features.encodings import Encoder, Encoding
    from automl_cli.features.frame import Frame
    from automl_cli.features.matrix import Array, Matrix

T = TypeVar("T")
CHUNK_ROWS = 100_000
CHUNK_CELLS = 1 << 24
"""Of the frame, per chunk: wide tables are encoded in fewer rows at a time."""
BLOCK_BYTES = 8 << 20
"""Of a CSV that are predicted at a time: enough that work on rows outweighs that on models."""
KEEP_BYTES = 256 << 20
"""Models of a file up to this size stay loaded between two predictions."""


PLAIN: Mapping[str, Any] = {"temperature": 1.0, "multipliers": []}
"""The decision of files that say nothing of it."""
MOST_BAGGED = 25_000_000
"""Values of stacked members that are held at once; of more rows one block is predicted after another."""


@dataclass(frozen=True)
class FoldModel:
    """One fitted model of a member, and its share of the member: one over its number of folds."""

    number: int
    family: str
    encoding: str
    share: float
    files: Mapping[str, str]


@dataclass(frozen=True)
class EncoderGroup:
    """The models that see the same encoded rows, in number and fold order."""

    encoding: str
    files: Mapping[str, str]
    models: tuple[FoldModel, ...]


@dataclass(frozen=True)
class LoadedGroup:
    """An encoder and its models in memory."""

    encoder: "Encoder"
    models: tuple[tuple[FoldModel, "Model"], ...]


class Artifact:
    """A saved model; make one with `open_artifact`.

    Attributes
    ----------
    path : Path
    manifest : Manifest
        All that can be known without loading a model.
    verified : frozenset of PublicKey
        Trusted keys that have signed the file; none where no signature was asked for.
    """

    def __init__(self, container: Container, manifest: Manifest, verified: frozenset[PublicKey] = frozenset()) -> None:
        self.path = container.path
        self.manifest = manifest
        self.verified = verified
        self._container = container
        self._loaded: dict[int, LoadedGroup] = {}
        self._is_checked = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; it is closed with the object otherwise."""
        self._container.close()

    def signatures(self) -> tuple[Signature, ...]:
        """Return what the file bears as signatures, of whatever worth; see `verified`.

        Raises
        ------
        BadArtifact
            One is malformed.
        """
        return signatures_of(self._container)

    def extract(self, files: Iterable[tuple[str, str]], folder: Path) -> None:
        """Write blobs into a folder under other names; see `Container.extract`."""
        self._container.extract(files, folder)

    def uncorrected(self, fold: int) -> "Artifact":
        """Return the model with one model of each member in place of all, and the shares of classes of its training.

        So each row can be asked of models that are as sure of themselves as those that spoke of the training's rows.

        Parameters
        ----------
        fold : int
            From 0 to below `n_folds`.
        """
        decision = {**(self.manifest.data.get("decision") or PLAIN)}
        decision.pop("moved", None)
        members = tuple(replace(member, folds=(member.folds[fold],)) for member in self.manifest.members)
        data = {**self.manifest.data, "decision": decision}
        return Artifact(self._container, replace(self.manifest, data=data, members=members), self.verified)

    @property
    def n_folds(self) -> int:
        """How many models each member has at least."""
        return min(len(member.folds) for member in self.manifest.members)

    def attached(self, key: str, parse: Callable[[Mapping[str, Any], bytes], T]) -> T | None:
        """Return what was attached to the model under a key of the manifest; None where nothing was.

        Parameters
        ----------
        parse : callable
            ``parse(entry of the manifest, bytes)``; ValueError, KeyError and TypeError mean that it is malformed.

        Raises
        ------
        BadArtifact
            It is damaged or malformed.
        """
        entry = self.manifest.data.get(key)
        if entry is None:
            return None
        with self._extracted({key: entry["blob"]}) as folder:
            content = (folder / key).read_bytes()
        try:
            return parse(entry, content)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise self._container.damaged(f"its {key!r} cannot be read") from error

    def check(self) -> None:
        """Make sure, in a child process unless it is known already, that loading the models does not crash.

        Raises
        ------
        BadArtifact
            It does, or a model is malformed.
        MissingExtra
            A model needs a package that is not installed.
        """
        if self._is_checked:
            return
        for member in self.manifest.members:
            _family(self.path, member.pipeline.family)
            _encoding(self.path, member.pipeline.encoding)
        check_native(self.path, self.manifest, self._n_bytes)
        self._is_checked = True

    def predict(self, frame: "Frame", threads: int) -> "Array":
        """Predict: the models of a member's folds are averaged, members weighed, the mix calibrated.

        The sum is taken in an order that depends on the file alone, so the same rows give the same bytes whatever
        ``threads`` is, as far as the models themselves do.

        Parameters
        ----------
        frame : Frame of the manifest's ``frame_schema``

        Returns
        -------
        ndarray of shape (n_rows, n_outputs), float64
            Class probabilities in the order of ``manifest.classes``, or values.

        Raises
        ------
        BadArtifact
            The file is damaged or malformed.
        MissingExtra
            A model needs a package that is not installed.
        NoSpace
            There is no room in the temporary folder.
        """
        self.check()
        return self.predict_unchecked(frame, threads)

    def predict_unchecked(self, frame: "Frame", threads: int) -> "Array":
        """Predict without `check`: for the child process that is the check."""
        import numpy as np  # noqa: PLC0415  (inspect does without)

        total = np.zeros((frame.n_rows, self.manifest.n_outputs))
        at_once = frame.n_rows
        if self.manifest.mixing.logarithms:
            at_once = max(CHUNK_ROWS, MOST_BAGGED // (len(self.manifest.members) * self.manifest.n_outputs))
        for start in range(0, frame.n_rows, max(1, at_once)):
            rows = np.arange(start, min(start + at_once, frame.n_rows))
            total[rows] = self._mixed(frame if len(rows) == frame.n_rows else frame.take(rows), threads)
        return total if frame.n_rows == 0 else self.manifest.decision.calibrated(self.manifest.mixing.joined(total))

    def _mixed(self, frame: "Frame", threads: int) -> "Array":
        """Return the weighted sum of what the members say."""
        import numpy as np  # noqa: PLC0415

        mixing, shape = self.manifest.mixing, (frame.n_rows, self.manifest.n_outputs)
        total = np.zeros(shape)
        weights = {member.number: member.weight for member in self.manifest.members}
        # A mean needs no more than its sum; logarithms are taken of whole members.
        bags = {number: np.zeros(shape) for number in weights} if mixing.logarithms else {}
        for k, group in enumerate(group_by_encoder(self.manifest)):
            loaded = self._load(k, group)
            for rows, chunk in _chunks(frame):
                matrix = loaded.encoder.transform(chunk)
                for about, model in loaded.models:
                    answer = self._answer(about, model, matrix, threads)
                    if mixing.logarithms:
                        bags[about.number][rows] += about.share * answer
                    else:
                        total[rows] += weights[about.number] * about.share * answer
        for number, bag in bags.items():
            total += weights[number] * mixing.terms(bag)
        return total

    def _answer(self, about: FoldModel, model: "Model", matrix: "Matrix", threads: int) -> "Array":
        answer = model.predict(matrix, threads)
        expected = (len(matrix.X), self.manifest.n_outputs)
        if answer.shape != expected:
            what = f"model {about.number} answers with shape {answer.shape}, not {expected}"
            raise self._container.damaged(what)
        return answer

    def groups_of(self, members: Collection[int]) -> Iterator[LoadedGroup]:
        """Load the encoders and models of some members, one encoder after the other; `check` comes first."""
        for k, group in enumerate(group_by_encoder(self.manifest)):
            if any(about.number in members for about in group.models):
                loaded = self._load(k, group)
                yield LoadedGroup(loaded.encoder, tuple(pair for pair in loaded.models if pair[0].number in members))

    @contextlib.contextmanager
    def laid_out(self, members: Collection[int]) -> Iterator[list[tuple[FoldModel, str, Path, Path]]]:
        """Lay the fold models of some members out as files, for as long as they are needed.

        Yields
        ------
        list of (model, its encoding, folder of the encoder, folder of the model)
        """
        with contextlib.ExitStack() as stack:
            yield [
                (
                    about,
                    group.encoding,
                    stack.enter_context(self._extracted(group.files)),
                    stack.enter_context(self._extracted(about.files)),
                )
                for group in group_by_encoder(self.manifest)
                for about in group.models
                if about.number in members
            ]

    @property
    def block_bytes(self) -> int:
        """How much of a table to predict at a time: large models are loaded anew for each part."""
        return BLOCK_BYTES if self._n_bytes <= KEEP_BYTES else 16 * BLOCK_BYTES

    @property
    def _n_bytes(self) -> int:
        return sum(self._container.sizes.values())

    def _load(self, k: int, group: EncoderGroup) -> LoadedGroup:
        if k in self._loaded:
            return self._loaded[k]
        with self._extracted(group.files) as folder:
            encoder = _encoding(self.path, group.encoding).load(folder)
        models = []
        for about in group.models:
            with self._extracted(about.files) as folder:
                # the child that is the check has done so, of files with the very digests
                models.append((about, _model(self.path, about, folder, verified=self._is_checked)))
        loaded = LoadedGroup(encoder, tuple(models))
        if self._n_bytes <= KEEP_BYTES:
            self._loaded[k] = loaded
        return loaded

    @contextlib.contextmanager
    def _extracted(self, files: Mapping[str, str]) -> Iterator[Path]:
        """Lay files out in a private folder that is gone afterwards."""
        with private_folder() as folder:
            self._container.extract(files.items(), folder)
            yield folder


def open_artifact(path: Path, trusted: TrustedKeys | None = None) -> Artifact:
    """Open a model file and read its manifest; no model is loaded and nothing in the file is run.

    Parameters
    ----------
    trusted : TrustedKeys or None
        Keys of which one must have signed it; None: anybody may have made it.

    Raises
    ------
    BadArtifact
        Missing, not readable, not a model, cut, damaged, malformed, written by a newer automl, or not signed as asked.
    """
    container = Container(path)
    manifest = read_manifest(container)
    # of the manifest that was read, not of what the file may hold by now; digests in it bind all that is read later
    verified = frozenset() if trusted is None else check_signed(container, manifest.digest, trusted)
    return Artifact(container, manifest, verified)


def group_by_encoder(manifest: Manifest) -> tuple[EncoderGroup, ...]:
    """Return the fold models by the encoder they share, in the order in which encoders first appear."""
    groups: dict[tuple[object, ...], list[FoldModel]] = {}
    encoders: dict[tuple[object, ...], tuple[str, Mapping[str, str]]] = {}
    for member in manifest.members:
        for fold in member.folds:
            encoding = encoder_of(member.pipeline.encoding)
            key = (encoding, *sorted(fold.encoder.items()))
            encoders[key] = (encoding, fold.encoder)
            model = FoldModel(
                member.number, member.pipeline.family, member.pipeline.encoding, 1.0 / len(member.folds), fold.model
            )
            groups.setdefault(key, []).append(model)
    return tuple(EncoderGroup(*encoders[key], tuple(models)) for key, models in groups.items())


def _chunks(frame: "Frame") -> Iterator[tuple[slice, "Frame"]]:
    """Yield the frame in pieces whose size depends on its columns alone."""
    import numpy as np  # noqa: PLC0415  (inspect does without)

    schema = frame.schema
    n_columns = len(schema.numeric) + len(schema.categorical) + len(schema.datetime) + len(schema.text)
    n_rows = min(CHUNK_ROWS, max(1000, CHUNK_CELLS // max(1, n_columns)))
    if frame.n_rows <= n_rows:
        yield slice(0, frame.n_rows), frame
        return
    for start in range(0, frame.n_rows, n_rows):
        rows = slice(start, min(start + n_rows, frame.n_rows))
        yield rows, frame.take(np.arange(rows.start, rows.stop))


def _family(path: Path, name: str) -> "Family":
    from automl_cli.families import find_families  # noqa: PLC0415  (imports numpy)

    families = find_families(include_missing=True)
    if name not in families:
        raise BadArtifact(
            f"{path} holds a model of an unknown family {name!r}", hint="pip install --upgrade automl-cli"
        )
    if not families[name].installed():
        raise MissingExtra(f"{path} holds a {name} model", hint=f"pip install 'automl-cli[{name}]'")
    return families[name]


def _encoding(path: Path, name: str) -> "Encoding":
    from automl_cli.sourced import find_encoding  # noqa: PLC0415  (imports numpy)

    try:
        return find_encoding(name)
    except KeyError as error:
        hint = "pip install --upgrade automl-cli"
        raise BadArtifact(f"{path} holds an unknown encoding {name!r}", hint=hint) from error


def _model(path: Path, about: FoldModel, folder: Path, *, verified: bool) -> "Model":
    from automl_cli.sourced import load_model  # noqa: PLC0415

    return load_model(_family(path, about.family), about.encoding, folder, verified=verified)
