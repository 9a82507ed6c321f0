"""The encodings a family may choose from, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from automl_cli.features.frame import Frame
from automl_cli.features.generated.encoder import fit_generated, load_generated, save_generated
from automl_cli.features.matrix import Array, Matrix, Source
from automl_cli.features.native import fit_native, fit_ordinal, load_native, load_ordinal, save_native, save_ordinal
from automl_cli.features.one_hot import fit_one_hot, load_one_hot, save_one_hot
from automl_cli.features.target import fit_target, load_target, save_target
from automl_cli.task import TaskKind


class Encoder(Protocol):
    """Turns rows of a frame into a matrix, by what was learned from training rows."""

    def transform(self, frame: Frame) -> Matrix:
        """Encode rows that were not trained on; raises `SchemaMismatch` where the columns are not those of training."""
        ...

    def sources(self) -> tuple[Source, ...]:
        """Return for each feature, in their order, the columns that it is made of."""
        ...


@dataclass(frozen=True)
class Encoding:
    """A way from a frame to a matrix.

    Attributes
    ----------
    fit : callable
        ``fit(frame, y, kind, n_outputs, seed) -> (encoder, matrix)`` learns from the frame's rows alone. The matrix
        holds these rows and is what a model must be trained on: where the target was used, a row's features come
        from other rows, which ``encoder.transform`` of the same rows would not give.
        ``y`` is float64 values for a regression, int64 class indices otherwise.
    save, load : callable
        ``save(encoder, folder)`` writes a JSON file and an npz into an existing folder; ``load(folder)`` reads them
        without unpickling and raises `BadArtifact` for anything malformed.
    """

    name: str
    fit: Callable[[Frame, Array, TaskKind, int, int], tuple[Encoder, Matrix]]
    save: Callable[[Any, Path], None]
    load: Callable[[Path], Encoder]


ENCODINGS: Mapping[str, Encoding] = MappingProxyType(
    {
        encoding.name: encoding
        for encoding in (
            Encoding("native", fit_native, save_native, load_native),
            Encoding("ordinal", fit_ordinal, save_ordinal, load_ordinal),
            Encoding("one_hot", fit_one_hot, save_one_hot, load_one_hot),
            Encoding("target", fit_target, save_target, load_target),
            Encoding("generated", fit_generated, save_generated, load_generated),
        )
    }
)
