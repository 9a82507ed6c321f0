"""Multilayer perceptron: dense layers trained by AdamW under a cosine schedule, in numpy alone.

The recipe follows well-tuned simple networks: robustly scaled inputs with a learned scale per feature (Holzmüller et
al., Better by default, NeurIPS 2024), dropout and decoupled weight decay (Kadra et al., Well-tuned simple nets excel
on tabular datasets, NeurIPS 2021), and the epoch with the best validation loss is kept.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from automl_cli.calibration import softmax
from automl_cli.clock import Deadline
from automl_cli.families.dense import AdamW, Net, new_net, rate_factor
from automl_cli.families.family import Family, FoldData, Hyperparameters, Limits, Shape, is_absolute, present_classes
from automl_cli.families.network import BLOCK, MlpModel, bounded, load, save
from automl_cli.families.target_scale import BEND, standardised
from automl_cli.families.waves import MOST_COLUMNS, N_EMBEDDED, N_WAVES, numbers_among
from automl_cli.features.matrix import Array
from automl_cli.neural.recipe import settled_loss
from automl_cli.task import TaskKind

_ROW_VISITS = 400_000  # rows times epochs of the default: what about five seconds of a core can do
_FEWEST_EPOCHS, _MOST_EPOCHS = 10, 120
_STEPS_BETWEEN_LOOKS = 16


def _epochs(shape: Shape) -> int:
    return int(np.clip(_ROW_VISITS / max(shape.n_rows, 1), _FEWEST_EPOCHS, _MOST_EPOCHS))


def space(shape: Shape) -> tuple[list[Any], list[Any]]:
    """Return depth, width, regularisation and schedule."""
    from ConfigSpace import Categorical, Float, Integer  # noqa: PLC0415

    epochs = _epochs(shape)
    return (
        [
            Integer("layers", (1, 4), default=2),
            Integer("width", (32, 512), log=True, default=128),
            Float("dropout", (0.0, 0.5), default=0.1),
            Float("learning_rate", (5e-4, 2e-2), log=True, default=4e-3),
            Float("weight_decay", (1e-5, 1.0), log=True, default=0.02),
            Categorical("batch_size", [32, 64, 128, 256, 512], default=128, ordered=True),
            Categorical("activation", ["relu", "silu"], default="silu"),
            Categorical("embedding", [True, False], default=True),
            Integer("epochs", (max(4, epochs // 3), 3 * epochs), log=True, default=epochs),
        ],
        [],
    )


_SMALL: Hyperparameters = {
    "layers": 1,
    "width": 64,
    "dropout": 0.0,
    "learning_rate": 8e-3,
    "weight_decay": 0.02,
    "activation": "relu",
    "embedding": False,
}


def defaults(shape: Shape) -> tuple[Hyperparameters, ...]:
    """Return a mid-sized net, a larger one with strong regularisation, and a small one."""
    first = {
        "layers": 2,
        "width": 128,
        "dropout": 0.1,
        "learning_rate": 4e-3,
        "weight_decay": 0.02,
        "batch_size": 64 if shape.n_rows < 3_000 else 128 if shape.n_rows < 20_000 else 256,
        "activation": "silu",
        "embedding": True,
        "epochs": _epochs(shape),
    }
    return (
        first,
        {**first, "layers": 3, "width": 256, "dropout": 0.35, "weight_decay": 0.1, "learning_rate": 2e-3},
        {**_SMALL, "batch_size": first["batch_size"], "epochs": first["epochs"]},
    )


@dataclass(frozen=True)
class _Rows:
    """Training or validation rows: ``y`` one column of values, or class positions.

    Attributes
    ----------
    absolute : bool
        Whether a regression is about absolute errors.
    """

    X: Array
    y: Array
    weight: Array
    classify: bool
    absolute: bool

    def slope(self, rows: Array) -> Any:
        """Return the function from a batch's scores to the slope of its mean loss."""
        y, weight = self.y[rows], self.weight[rows][:, None] / np.float32(len(rows))

        def of(scores: Array) -> Array:
            if not self.classify:
                error = scores - y[:, None]
                return np.asarray((np.clip(error, -BEND, BEND) if self.absolute else error) * weight)
            p = softmax(scores)
            p[np.arange(len(p)), y] -= 1.0
            return np.asarray(p * weight)

        return of

    def loss(self, model: MlpModel) -> float:
        """Return the mean loss: log loss, the absolute error, or half the squared one."""
        total = 0.0
        for i in range(0, len(self.X), BLOCK):
            scores = model.scores(self.X[i : i + BLOCK]).astype(np.float64)
            y, weight = self.y[i : i + BLOCK], self.weight[i : i + BLOCK]
            if self.classify:
                p = softmax(scores)[np.arange(len(y)), y]
                total -= float(weight @ np.log(np.maximum(p, 1e-12)))
            else:
                error = scores[:, 0] - y
                total += float(weight @ (np.abs(error) if self.absolute else 0.5 * error**2))
        return total / max(float(self.weight.sum()), np.finfo(float).tiny)


@dataclass(frozen=True)
class _Course:
    """What training goes through.

    Attributes
    ----------
    epochs : float
        The rate falls to zero over so many.
    last : float
        Training ends after so many: the same as ``epochs``, or fewer in a refit.
    watching : float
        What validating takes, as a share of an epoch.
    started : float
        Seconds on the deadline's clock at which the first step was made.
    """

    batch: int
    rate: float
    weight_decay: float
    epochs: float
    last: float
    deadline: Deadline
    watching: float = 0.0
    started: float = 0.0

    def drawn_together(self, done: float) -> "_Course":
        """Return the course as the seconds hold it, seen from ``done`` epochs: itself where they hold all of it."""
        if not self.deadline.limited or not done:
            return self
        taken = max(self.deadline.elapsed() - self.started, 1e-9)
        possible = max(done, done * (1.0 + self.deadline.seconds_left() / taken) - self.watching)
        return replace(self, epochs=possible, last=possible) if possible < self.last else self


def fit(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> MlpModel:
    """Train for the epochs asked for, or as many as the seconds allow under the same schedule; keep the best epoch."""
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    deadline = Deadline.after(limits.seconds)
    classes, y = present_classes(data)
    train = _rows(data, bounded(data.train.X), y, data.weight)
    low, high = (float(y.min()), float(y.max())) if not len(classes) else (0.0, 0.0)
    smooth = hyperparameters["activation"] == "silu"
    bounds = (2 * low - high, 2 * high - low)
    rng = np.random.default_rng(limits.seed)
    embedded = numbers_among(train.X) if hyperparameters["embedding"] else np.zeros(0, dtype=np.int64)
    net = new_net(train.X.shape[1], embedded, max(len(classes), 1), hyperparameters, rng)
    start = net.views(net.flat)
    empty = MlpModel((), (), smooth, classes, data.n_outputs, *bounds, embedded, start.waves, 1 / (len(y) + 1))
    if len(classes):
        # the network starts from the shares of the classes
        shares = np.bincount(y, weights=train.weight, minlength=len(classes)) + 1e-3
        start.biases[-1][:] = np.log(shares / shares.sum())
    epochs = int(hyperparameters["epochs"])
    course = _Course(
        batch=min(int(hyperparameters["batch_size"]), len(train.X)),
        rate=float(hyperparameters["learning_rate"]),
        weight_decay=float(hyperparameters["weight_decay"]),
        epochs=epochs,
        last=min(limits.rounds or epochs, epochs),
        deadline=deadline,
        watching=0.0 if limits.rounds else len(data.y_valid) / (3 * len(train.X)),
    )
    loss = None if limits.rounds else _validation(data, classes).loss
    with threadpool_limits(limits.threads), np.errstate(over="ignore", invalid="ignore"):
        return _train(_Training(net, train, rng, empty), course, loss)


def _rows(data: FoldData, X: Array, y: Array, weight: Array | None) -> _Rows:
    """Return rows with the target and weights of mean 1, float32."""
    classify = data.kind is not TaskKind.REGRESSION
    weights = np.ones(len(y)) if weight is None or not weight.sum() > 0 else weight * (len(y) / weight.sum())
    target = y if classify else y.astype(np.float32)
    return _Rows(X, target, weights.astype(np.float32), classify, is_absolute(data))


def _validation(data: FoldData, classes: Array) -> _Rows:
    """Return the validation rows whose class occurred in training."""
    y, X, weight = data.y_valid, bounded(data.valid.X), data.weight_valid
    if len(classes):
        known = np.isin(y, classes)
        y, X, weight = np.searchsorted(classes, y[known]), X[known], None if weight is None else weight[known]
    return _rows(data, X, y, weight)


@dataclass(frozen=True)
class _Training:
    """A network in training, and its rows."""

    net: Net
    train: _Rows
    rng: np.random.Generator
    empty: MlpModel

    def model(self, epoch: int) -> MlpModel:
        """Copy the weights; the input scales become part of the first layer and of the frequencies."""
        net = self.net
        now = net.views(net.flat.copy())
        now.weights[0][: net.n_inputs] *= now.scale[:, None]
        now.waves.frequency[:] *= now.scale[net.embedded][:, None, None]
        return replace(self.empty, weights=now.weights, biases=now.biases, waves=now.waves, rounds=epoch)

    def epoch(self, adam: AdamW, course: _Course, number: int, gradient: Array) -> tuple[bool, float]:
        """Go over the rows once, in a new order.

        Returns
        -------
        bool
            False where the seconds were used up on the way.
        float
            The epochs over which the rate falls, as the seconds hold them.
        """
        n_rows = len(self.train.X)
        steps = max(1, n_rows // course.batch)  # the rest of the order waits for the next epoch
        order = self.rng.permutation(n_rows)
        plan = course.drawn_together(number)
        for step in range(steps):
            rows = order[step * course.batch : (step + 1) * course.batch]
            self.net.gradient(self.train.X[rows], self.train.slope(rows), gradient, self.rng)
            done = number + step / steps
            adam.step(self.net.flat, gradient, course.rate * rate_factor(min(done / plan.epochs, 1.0)))
            if course.deadline.limited and step % _STEPS_BETWEEN_LOOKS == 0:
                done += 1 / steps
                plan = course.drawn_together(done) if step else plan  # the first one also wakes the library
                if course.deadline.passed() or (plan.last < course.last and done >= plan.last):
                    return False, plan.epochs
        return True, plan.epochs


def _train(training: _Training, course: _Course, validate: Callable[[MlpModel], float] | None) -> MlpModel:
    """Go over the rows epoch by epoch, until the end of the course or of the seconds."""
    adam, gradient = AdamW.of(training.net, course.weight_decay), np.empty_like(training.net.flat)
    kept, cut = training.model(0), False
    course = replace(course, started=course.deadline.elapsed())
    losses: list[float] = []
    epoch = 0
    while epoch < course.last:
        epoch += 1
        whole, planned = training.epoch(adam, course, epoch - 1, gradient)
        model = training.model(epoch)
        loss = validate(model) if validate else -float(epoch)
        losses.append(loss)
        if math.isfinite(loss) and (not kept.rounds or _better(losses, kept.rounds, planned if validate else 1.0)):
            kept = model
        cut = cut or not whole
        if not (whole and math.isfinite(loss)):
            break  # out of time, or it diverged: the best epoch so far is kept
    if not kept.rounds:
        raise ValueError("the network diverged")
    return replace(kept, cut=cut)


def _better(losses: list[float], kept: int, epochs: float) -> bool:
    """Whether the last epoch is better than the one that is kept so far, for a schedule of so many."""
    return settled_loss(losses, round(epochs)) < settled_loss(losses[:kept], round(epochs))


def seconds(shape: Shape, hyperparameters: Hyperparameters) -> float:
    """Guess one fit's seconds on one core; one-hot columns come on top, so it is a low guess for categories."""
    columns = shape.n_columns + 8 * shape.n_categorical
    width, layers = float(hyperparameters["width"]), float(hyperparameters["layers"])
    waves = N_WAVES * shape.n_numeric if hyperparameters["embedding"] and shape.n_numeric <= MOST_COLUMNS else 0
    n_parameters = width * (columns + N_EMBEDDED * waves / N_WAVES + (layers - 1) * width + shape.n_outputs)
    steps = shape.n_rows / float(hyperparameters["batch_size"])
    per_epoch = shape.n_rows * (n_parameters * 2e-10 + waves * 2e-8) + steps * (4e-4 + 4e-9 * n_parameters)
    return 0.05 + per_epoch * float(hyperparameters["epochs"])


FAMILY = standardised(
    Family(
        name="mlp",
        package="numpy",
        encodings=("one_hot",),
        space=space,
        defaults=defaults,
        fit=fit,
        save=save,
        load=load,
        seconds=seconds,
    )
)
