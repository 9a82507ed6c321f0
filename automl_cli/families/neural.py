"""Networks in torch: tuned simple ones and batch-ensembled ones (TabM), with embeddings; an extra.

The recipe follows RealMLP (Holzmüller et al., Better by default, NeurIPS 2024) and TabM (Gorishniy et al., ICLR 2025).
Any architecture that `automl_cli.neural.architecture` reads is a value of the hyperparameter ``architecture``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.clock import Deadline
from automl_cli.families.arrays import bad_model, read_native, save_native
from automl_cli.families.family import (
    Family,
    FoldData,
    Hyperparameters,
    Limits,
    Shape,
    as_probabilities,
    is_absolute,
    present_classes,
    spread,
)
from automl_cli.families.net_inputs import NetInputs
from automl_cli.families.target_scale import standardised
from automl_cli.features.matrix import Array, Matrix
from automl_cli.neural.architecture import Architecture, parse_architecture
from automl_cli.neural.counts import InputShape, cost, tensors
from automl_cli.neural.recipe import Examples, Means, Recipe, examples
from automl_cli.trial import Value

_HEAD, _WEIGHTS = "network.json", "network.safetensors"
_MOST_COLUMNS = 2_000
_EMBEDDED_COLUMNS = 100
"""Numbers beyond which the defaults embed none: the first layer sees enough, and would be most of the work."""
_ROW_VISITS = 400_000
_FEWEST_EPOCHS, _MOST_EPOCHS = 15, 150
_LARGEST_NETWORK = 2**28  # numbers; what a model file may ask for

_PLAIN = "pbld3 cat8 k1 | dense256 mish none d0.3 | dense256 mish none d0.3 | dense256 mish none d0.3"
_NORMED = "pbld3 cat8 k8 | dense64 relu batch d0.2 | dense64 relu batch d0.2 | dense64 relu batch d0.2"
_MEMBERS = "pbld3 cat8 k8 | dense32 mish none d0.3 | dense32 mish none d0.3 | dense32 mish none d0.3"
_WIDE = "none cat8 k1 | dense512 silu none d0.3 | dense512 silu none d0.3 | dense512 silu none d0.3"
_SMALL = "none cat8 k1 | dense64 relu none d0 | dense64 relu none d0"

# What was best on many tables (benchmarks/network_list.py), then narrow and wide ones, members and other blocks.
NETWORKS = (
    _NORMED,
    _PLAIN,
    _MEMBERS,
    "pwl16 cat8 k16 | dense128 relu none d0.1 | dense128 relu none d0.1",
    _SMALL,
    "pbld3 cat8 k1 | dense128 silu none d0.1 | dense128 silu none d0.1",
    "pwl16 cat8 k32 | dense256 relu none d0.1 | dense256 relu none d0.1 | dense256 relu none d0.1",
    _WIDE,
    "pbld3 cat8 k1 | dense256 mish none d0.1 | residual256 mish layer d0.1 | residual256 mish layer d0.1",
    "none cat8 k1 | dense128 relu batch d0.2 | residual128 relu batch d0.2 +1 | residual128 relu batch d0.2",
    "pbld3 cat8 k16 | dense64 silu none d0 | dense64 silu none d0",
    "pwl8 cat8 k8 | cross64 relu none d0 | dense128 relu none d0.1",
    "pbld7 cat8 k1 | attention64 silu layer d0.1 | dense128 silu none d0.1",
    "pwl16 cat8 k8 | gated128 silu none d0.1 | gated128 silu none d0.1",
    "pwl8 cat8 k8 | dense64 relu none d0.1 | dense64 relu none d0.1",
)
_LONGEST_FOLD = 20.0
"""Guessed seconds of a fold (three times what it takes) beyond which members are not trained twice as long."""


def _epochs(shape: Shape) -> int:
    return int(np.clip(_ROW_VISITS / max(shape.n_rows, 1), _FEWEST_EPOCHS, _MOST_EPOCHS))


def space(shape: Shape) -> tuple[list[Any], list[Any]]:
    """Return the fixed networks, regularisation and schedule."""
    from ConfigSpace import Categorical, Float, Integer  # noqa: PLC0415

    known: list[dict[str, Any]] = [{**default} for default in defaults(shape)]
    first, networks = known[0], dict.fromkeys([*(default["architecture"] for default in known), *NETWORKS])
    return (
        [
            Categorical("architecture", list(networks), default=first["architecture"]),
            Float("learning_rate", (0.004, 0.2), log=True, default=first["learning_rate"]),
            Float("weight_decay", (1e-4, 1.0), log=True, default=first["weight_decay"]),
            Float("dropout", (0.0, 2.0), default=first["dropout"]),
            Categorical("batch_size", [32, 64, 128, 256, 512], default=first["batch_size"], ordered=True),
            Categorical("schedule", ["constant", "cosine", "coslog4"], default=first["schedule"]),
            Categorical("label_smoothing", [0.0, 0.1], default=first["label_smoothing"]),
            Integer("epochs", (max(4, first["epochs"] // 3), 3 * first["epochs"]), log=True, default=first["epochs"]),
        ],
        [],
    )


def defaults(shape: Shape) -> tuple[Hyperparameters, ...]:
    """Return members that share their weights, a network like RealMLP's, other members, and a small network."""
    n_numbers = shape.n_columns - shape.n_categorical
    embedded, wide = 0 < n_numbers <= _EMBEDDED_COLUMNS, n_numbers > _EMBEDDED_COLUMNS
    batch = 64 if shape.n_rows < 3_000 else 128 if shape.n_rows < 20_000 else 256
    epochs = _epochs(shape)

    def network(architecture: str, **given: Value) -> dict[str, Value]:
        return {
            "architecture": architecture if embedded else architecture.replace("pbld3", "none"),
            "learning_rate": 0.04,
            "weight_decay": 0.1,
            "dropout": 1.0,
            "batch_size": batch,
            "schedule": "coslog4",
            "label_smoothing": 0.0,
            "epochs": epochs,
            **given,
        }

    plain = network(_WIDE, weight_decay=0.02) if wide else network(_PLAIN)
    members = network(_MEMBERS, learning_rate=0.2, schedule="constant", batch_size=min(4 * batch, 512))
    if seconds(shape, members) < _LONGEST_FOLD / 2:
        members["epochs"] = 2 * epochs
    small = network(_SMALL, weight_decay=0.02, schedule="cosine")
    return (network(_NORMED, batch_size=2 * batch), plain, members, small)


@dataclass(frozen=True)
class NeuralModel:
    """A trained network and what rows must become for it.

    Attributes
    ----------
    weights : Mapping of name to float32 array
        All of `automl_cli.neural.counts.tensors`.
    classes : int64 (n_present,)
        Classes that occurred in training; empty for a regression.
    low, high : float
        Predictions of a regression are kept between these.
    smoothing : float
        Share of the uniform distribution in the probabilities: one row more of any class, for none is impossible.
    rounds : int
        Epochs that were kept.
    losses : tuple of float
        Validation loss after each epoch; empty once the model was saved and loaded.
    """

    architecture: Architecture
    inputs: NetInputs
    weights: Mapping[str, Array]
    classes: Array
    n_outputs: int
    low: float
    high: float
    smoothing: float
    rounds: int
    cut: bool = False
    losses: tuple[float, ...] = field(default=(), compare=False)

    @property
    def shape(self) -> InputShape:
        """What the network was built for."""
        return self.inputs.shape(max(len(self.classes), 1))

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, n_outputs), the same on any number of threads."""
        from automl_cli.neural.training import predict  # noqa: PLC0415

        del threads
        classify, columns = len(self.classes) > 0, self.inputs.transform(data)
        answers: Array = predict(self.architecture, self.shape, self.weights, columns, classify=classify)
        if not classify:
            within: Array = np.clip(answers, self.low, self.high)
            return within
        certain = spread(answers, self.classes, self.n_outputs)
        return as_probabilities((1 - self.smoothing) * certain + self.smoothing / self.n_outputs)


@dataclass(frozen=True)
class Prepared:
    """A fold as a network sees it: what `automl_cli.neural.training.train` takes.

    Attributes
    ----------
    valid : Examples
        Those whose class occurred in training.
    """

    inputs: NetInputs
    train: Examples
    valid: Examples
    classes: Array
    shape: InputShape


def prepare(data: FoldData, seed: int) -> Prepared:
    """Scale and look up the rows of a fold; the target of a regression must be standardised."""
    classes, y = present_classes(data)
    inputs = NetInputs.fit(data.train, seed)
    known = np.isin(data.y_valid, classes) if len(classes) else np.ones(len(data.y_valid), dtype=bool)
    y_valid = np.searchsorted(classes, data.y_valid) if len(classes) else data.y_valid
    valid = examples(inputs.transform(data.valid), y_valid, data.weight_valid)
    return Prepared(
        inputs=inputs,
        train=examples(inputs.transform(data.train), y, data.weight),
        valid=valid if known.all() else valid.take(np.flatnonzero(known)),
        classes=classes,
        shape=inputs.shape(max(len(classes), 1)),
    )


def recipe_of(data: FoldData, hyperparameters: Hyperparameters) -> Recipe:
    """Return how hyperparameters want a network to be trained."""
    epochs = int(hyperparameters["epochs"])
    return Recipe(
        epochs=epochs,
        rate=float(hyperparameters["learning_rate"]),
        weight_decay=float(hyperparameters["weight_decay"]),
        batch_size=int(hyperparameters["batch_size"]),
        schedule=str(hyperparameters["schedule"]),
        dropout=float(hyperparameters["dropout"]),
        label_smoothing=float(hyperparameters["label_smoothing"]),
        patience=max(20, epochs // 3),
        absolute=is_absolute(data),
    )


def fit(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> NeuralModel:
    """Train for the epochs asked for, or as many as the seconds allow under the same schedule; keep the best epoch."""
    from automl_cli.neural.training import train  # noqa: PLC0415

    deadline = Deadline.after(limits.seconds)
    architecture = parse_architecture(str(hyperparameters["architecture"]))
    fold = prepare(data, limits.seed)
    means = Means(limits.seed, limits.threads, deadline, limits.rounds)
    valid = None if limits.rounds else fold.valid
    trained = train(architecture, fold.shape, recipe_of(data, hyperparameters), fold.train, valid, means)
    low, high = (0.0, 0.0) if len(fold.classes) else (float(data.y.min()), float(data.y.max()))
    return NeuralModel(
        architecture=architecture,
        inputs=fold.inputs,
        weights=trained.weights,
        classes=fold.classes,
        n_outputs=data.n_outputs,
        low=2 * low - high,
        high=2 * high - low,
        smoothing=1 / (len(data.y) + 1),
        rounds=trained.epoch,
        cut=trained.cut,
        losses=trained.losses,
    )


def save(model: NeuralModel, folder: Path) -> None:
    """Write the architecture as text, the weights as safetensors, and what rows must become."""
    from safetensors.numpy import save as to_bytes  # noqa: PLC0415

    head = {
        "architecture": str(model.architecture),
        "classes": model.classes.tolist(),
        "n_outputs": model.n_outputs,
        "bounds": [model.low, model.high],
        "smoothing": model.smoothing,
        "rounds": model.rounds,
    }
    save_native(folder / _HEAD, json.dumps(head).encode())
    save_native(folder / _WEIGHTS, to_bytes({name: np.ascontiguousarray(w) for name, w in model.weights.items()}))
    model.inputs.save(folder)


def load(folder: Path) -> NeuralModel:
    """Read what `save` wrote; raises `BadArtifact` where that is not what the files hold."""
    inputs, path = NetInputs.load(folder), folder / _HEAD
    try:
        head = json.loads(read_native(path, starts=b"{"))
        architecture = parse_architecture(str(head["architecture"]))
        classes = np.array(head["classes"], dtype=np.int64)
        n_outputs, rounds = int(head["n_outputs"]), int(head["rounds"])
        low, high, smoothing = (float(value) for value in (*head["bounds"], head["smoothing"]))
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise bad_model(path, "it cannot be read") from error
    ordered = classes.ndim == 1 and not (np.diff(classes) <= 0).any()
    if not ordered or (len(classes) and (classes[0] < 0 or classes[-1] >= n_outputs)):
        raise bad_model(path, "a class is out of range")
    in_range = 1 <= n_outputs <= 10**6 and 0 <= rounds <= 10**6 and 0 <= smoothing <= 0.5
    if not (in_range and -np.inf < low <= high < np.inf):
        raise bad_model(path, "a number is out of range")
    if not len(classes) and n_outputs != 1:
        raise bad_model(path, "outputs do not add up")
    weights = _load_weights(folder / _WEIGHTS, architecture, inputs.shape(max(len(classes), 1)))
    return NeuralModel(architecture, inputs, weights, classes, n_outputs, low, high, smoothing, rounds)


def _load_weights(path: Path, architecture: Architecture, shape: InputShape) -> Mapping[str, Array]:
    """Read the tensors that the architecture has, no more and no fewer."""
    from safetensors import SafetensorError  # noqa: PLC0415
    from safetensors.numpy import load as from_bytes  # noqa: PLC0415

    wanted = tensors(architecture, shape)
    if sum(tensor.size for tensor in wanted.values()) > _LARGEST_NETWORK:
        raise bad_model(path, "far too large")
    try:
        weights: Mapping[str, Array] = from_bytes(read_native(path, starts=b""))
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise bad_model(path, "it cannot be read") from error
    if {name: array.shape for name, array in weights.items()} != {name: t.shape for name, t in wanted.items()}:
        raise bad_model(path, "its tensors are not those of the architecture")
    if not all(array.dtype == np.float32 and np.isfinite(array).all() for array in weights.values()):
        raise bad_model(path, "a weight is not finite")
    return weights


def seconds(shape: Shape, hyperparameters: Hyperparameters) -> float:
    """Guess one fit's seconds on one core."""
    architecture = parse_architecture(str(hyperparameters["architecture"]))
    sizes = (20,) * shape.n_categorical
    inputs = InputShape(shape.n_columns - shape.n_categorical, sizes, 1 if shape.n_outputs == 1 else shape.n_outputs)
    steps = shape.n_rows / float(hyperparameters["batch_size"])
    per_epoch = shape.n_rows * cost(architecture, inputs) * 1.5e-10 + steps * (1e-3 + 2e-4 * len(architecture.blocks))
    return 0.1 + per_epoch * float(hyperparameters["epochs"])


def offered(shape: Shape) -> bool:
    """Whether a network can learn anything from so few rows, and see so many columns."""
    return shape.n_rows >= 100 and shape.n_columns <= _MOST_COLUMNS


FAMILY = standardised(
    Family(
        name="neural",
        package="torch",
        modules=("torch", "safetensors.numpy", "automl_cli.neural.training"),
        encodings=("native", "generated"),
        space=space,
        defaults=defaults,
        fit=fit,
        save=save,
        load=load,
        seconds=seconds,
        offered=offered,
    )
)
