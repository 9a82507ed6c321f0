"""LightGBM: leaf-wise boosted trees with native categories and missing values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.clock import Deadline
from automl_cli.families.arrays import bad_model, read_native, save_native
from automl_cli.families.boosting import (
    MOST_HISTOGRAMS,
    Stopping,
    affordable_rate,
    expected_rounds,
    least_l2,
    most_rounds,
    n_trees_per_round,
    shape_of,
    stopping_for,
)
from automl_cli.families.family import Family, FoldData, Hyperparameters, Limits, Shape, is_absolute
from automl_cli.families.lightgbm_text import check_text, lean_text, read_header
from automl_cli.families.target_scale import standardised
from automl_cli.features.matrix import Array, Matrix
from automl_cli.lean import import_lean
from automl_cli.task import TaskKind
from automl_cli.transfer.probabilities import from_raw

_OBJECTIVES = {
    TaskKind.BINARY: {"objective": "binary", "metric": "binary_logloss"},
    TaskKind.MULTICLASS: {"objective": "multiclass", "metric": "multi_logloss"},
    TaskKind.REGRESSION: {"objective": "regression", "metric": "rmse"},
}
_ABSOLUTE = {"objective": "regression_l1", "metric": "l1"}
# Rounds in a row that found no split: others may, since each draws rows and features of its own.
_MOST_STUCK = 20
# Without it the Newton steps of a rare class, whose hessians are near zero, blow up: the loss rises by half within a
# few rounds and boosting stops there.
LEAST_L2_MULTICLASS = 1.0
# LGBM_TD's; rare classes need LightGBM's own, for the reason above.
_LEAST_HESSIAN = {TaskKind.BINARY: 1e-7, TaskKind.REGRESSION: 1e-7, TaskKind.MULTICLASS: 1e-3}
MOST_BUNDLED = 2000
# What LightGBM's bins depend on, once nothing is filtered by `min_data_in_leaf`. Of more than 200,000 rows a sample is
# looked at; its seed would follow from the trial's if it were not given.
_BINNING = ("max_bin", "feature_pre_filter", "enable_bundle", "data_random_seed", "force_row_wise")
# One for a bin, two where a feature has more than 256.
_BYTES_PER_CELL = 2
# Of a booster's text: the nodes of so many trees fit into the first caches of a processor, and passing the rows to
# LightGBM once more takes little beside them.
_BYTES_AT_ONCE = 1 << 16
_BYTES_PER_COLUMN = 1 << 10
_MODEL = "model.txt"


@dataclass(frozen=True)
class LightGBMModel:
    """A booster, kept as the text that is saved: a loaded model is the same model."""

    text: str
    booster: Any
    regression: bool
    rounds: int
    cut: bool = False
    raised: float = 1.0

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, n_outputs)."""
        raw = self._raw(data.X, threads)
        if self.regression:
            return raw
        return from_raw(raw, TaskKind.BINARY if raw.shape[1] == 1 else TaskKind.MULTICLASS)

    def _raw(self, X: Array, threads: int) -> Array:
        """Return the sum of the trees, of shape (n_rows, n_raw): all rows go through a few trees before the next few.

        LightGBM takes each row through all trees, which a processor's cache does not hold.
        """
        rounds = self.booster.current_iteration()
        at_once = max(1, rounds * max(_BYTES_AT_ONCE, _BYTES_PER_COLUMN * X.shape[1]) // len(self.text))
        total = np.zeros((len(X), self.booster.num_model_per_iteration()))
        for start in range(0, rounds, at_once):
            part = self.booster.predict(
                X, raw_score=True, start_iteration=start, num_iteration=at_once, num_threads=threads
            )
            total += np.reshape(part, total.shape)
        return total


def contributions(model: LightGBMModel, data: Matrix, threads: int) -> Array:
    """Return the SHAP values of each feature, then the base, of shape (n_rows, n_features + 1, n_raw)."""
    values = model.booster.predict(data.X, pred_contrib=True, num_threads=threads)
    by_output = np.asarray(values, dtype=np.float64).reshape(len(data.X), -1, data.X.shape[1] + 1)
    return by_output.transpose(0, 2, 1)


def space(shape: Shape) -> tuple[list[Any], list[Any]]:
    """Return TabArena's ranges [1]_, with room for the coarser rates that short budgets need.

    References
    ----------
    .. [1] Erickson et al., TabArena: a living benchmark for machine learning on tabular data, NeurIPS 2025.
    """
    from ConfigSpace import Categorical, EqualsCondition, Float, Integer  # noqa: PLC0415

    bagging = Categorical("bagging", [True, False], default=True)
    bagging_fraction = Float("bagging_fraction", (0.5, 1.0), default=0.75)
    parameters = [
        Float("learning_rate", (0.005, 0.3), log=True, default=0.05),
        Integer("num_leaves", (2, 256), log=True, default=50),
        Integer("min_data_in_leaf", (1, 100), log=True, default=20),
        Float("feature_fraction", (0.4, 1.0), default=1.0),
        bagging,
        bagging_fraction,
        Categorical("extra_trees", [False, True], default=False),
        Float("lambda_l1", (1e-4, 1.0), log=True, default=1e-4),
        Float("lambda_l2", (1e-4, 2.0), log=True, default=1e-4),
    ]
    if shape.n_categorical:
        parameters += [
            Float("cat_smooth", (1e-3, 100.0), log=True, default=10.0),
            Float("cat_l2", (5e-3, 10.0), log=True, default=10.0),
            Integer("min_data_per_group", (2, 100), log=True, default=100),
            Integer("max_cat_to_onehot", (4, 100), log=True, default=4),
        ]
    return parameters, [EqualsCondition(bagging_fraction, bagging, True)]


@dataclass(frozen=True)
class _Published:
    """A published configuration in the order rate, leaves, rows per leaf, feature and row share, ..."""

    learning_rate: float
    num_leaves: int
    min_data_in_leaf: int
    feature_fraction: float
    bagging_fraction: float
    extra_trees: bool = False
    lambda_l1: float = 1e-4
    lambda_l2: float = 1e-4
    cat_smooth: float = 10.0
    cat_l2: float = 10.0
    min_data_per_group: int = 100
    max_cat_to_onehot: int = 4


# LGBM_TD of pytabkit (Holzmüller et al., NeurIPS 2024), tuned on a benchmark of its own.
_TUNED_CLASSIFICATION = _Published(0.04, 50, 40, 1.0, 0.75)
_TUNED_REGRESSION = _Published(0.05, 100, 3, 1.0, 0.7)
# AutoGluon's CPU portfolio of December 2025: r177, r163, r120, r72, then r31 and r13, which are published for generated
# features. Their rates (0.011 to 0.04) were found with hours at hand; here most are raised.
_PORTFOLIO = (
    _Published(0.05, 39, 3, 0.4622, 0.8769, True, 0.2375, 0.3552, 15.4305, 0.3418, 9, 16),
    _Published(0.04, 84, 3, 0.528, 0.9784, False, 0.0269, 0.8375, 0.0093, 0.1553, 75, 42),
    _Published(0.05, 5, 12, 0.7335, 0.8541, True, 0.2413, 0.2981, 5.0905, 0.011, 93, 67),
    _Published(0.05, 180, 12, 0.4045, 0.9501, True, 0.7662, 1.6042, 0.0638, 0.2159, 3, 11),
    _Published(0.04, 16, 1, 0.5792, 0.9592, False, 0.9385, 0.99, 0.0215, 1.8962, 39, 27),
    _Published(0.05, 64, 28, 0.5534, 0.9923, True, 0.9144, 1.9044, 1.8663, 0.0143, 54, 18),
)


def defaults(shape: Shape) -> tuple[Hyperparameters, ...]:
    """Return pytabkit's tuned default, then the best of AutoGluon's CPU portfolio with raised rates."""
    tuned = _TUNED_REGRESSION if shape.kind is TaskKind.REGRESSION else _TUNED_CLASSIFICATION
    return tuple(_complete(shape, published) for published in (tuned, *_PORTFOLIO))


def _complete(shape: Shape, published: _Published) -> Hyperparameters:
    categorical = ("cat_smooth", "cat_l2", "min_data_per_group", "max_cat_to_onehot")
    values = {name: value for name, value in vars(published).items() if shape.n_categorical or name not in categorical}
    if shape.kind is TaskKind.MULTICLASS:
        values["lambda_l2"] = max(values["lambda_l2"], LEAST_L2_MULTICLASS)
    return {**values, "bagging": True, "learning_rate": affordable_rate(shape, published.learning_rate)}


def fit(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> LightGBMModel:
    """Boost until the validation rows stop gaining; keep the best round."""
    lightgbm = import_lean("lightgbm")

    deadline = Deadline.after(limits.seconds)
    params = _params(data, hyperparameters, limits)
    train, valid = _binned(data, params)
    booster = lightgbm.Booster(params=params, train_set=train)
    booster.add_valid(valid, "valid")
    stopping = stopping_for(data, deadline, limits)
    rate = float(hyperparameters["learning_rate"])
    _boost(booster, stopping, rate, most_rounds(_seconds_per_round(shape_of(data), hyperparameters)))
    text = lean_text(booster.model_to_string(num_iteration=stopping.best_round))
    # Parsed from its text, so that the data is let go and a loaded model predicts the very same numbers.
    booster = lightgbm.Booster(model_str=text)
    regression = data.kind is TaskKind.REGRESSION
    return LightGBMModel(text, booster, regression, stopping.rounds_at_rate, stopping.shortened, stopping.raised)


def _binned(data: FoldData, params: dict[str, Any]) -> tuple[Any, Any]:
    """Return both parts of the fold as LightGBM holds them, kept for the next fit with the same binning."""
    lightgbm = import_lean("lightgbm")

    binning = {name: params[name] for name in _BINNING}

    def make() -> tuple[tuple[Any, Any], int]:
        train = lightgbm.Dataset(
            data.train.X,
            label=data.y,
            weight=data.weight,
            feature_name=list(data.train.names),
            categorical_feature=list(data.train.categorical),
            params={**binning, "num_threads": params["num_threads"], "verbosity": -1},
        )
        valid = train.create_valid(
            data.valid.X, label=data.y_valid, weight=data.weight_valid, params=dict(train.params)
        )
        made = (train.construct(), valid.construct())
        return made, _BYTES_PER_CELL * (data.train.X.size + data.valid.X.size)

    return data.keep(("lightgbm", data.targets_digest(), *binning.items()), make)


def _boost(booster: Any, stopping: Stopping, rate: float, most: int) -> None:
    stuck = 0
    for _ in range(most):
        booster.update()
        # A round without a split leaves no trees behind; only as the very first does it leave the mean.
        if booster.current_iteration() > stopping.rounds:
            stuck = 0
            if stopping.should_stop(booster.eval_valid()[0][2]):
                return
            coarser = stopping.coarser_rate(rate)
            if coarser is not None:
                booster.reset_parameter({"learning_rate": coarser})
        else:
            stuck += 1
            if stuck == _MOST_STUCK or stopping.late():
                return


def _params(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> dict[str, Any]:
    bagging = hyperparameters.get("bagging", False)
    params = {name: value for name, value in hyperparameters.items() if name not in ("bagging", "bagging_fraction")}
    if bagging:
        params |= {"bagging_fraction": hyperparameters["bagging_fraction"], "bagging_freq": 1}
    if data.kind is TaskKind.MULTICLASS:
        params["num_class"] = data.n_outputs
    # On a few dozen rows the published leaf sizes would leave no split at all.
    most_per_leaf = len(data.y) // 20
    if "min_data_per_group" in params:
        params["min_data_per_group"] = min(int(params["min_data_per_group"]), max(2, most_per_leaf))
    return {
        **params,
        **(_ABSOLUTE if is_absolute(data) else _OBJECTIVES[data.kind]),
        "min_data_in_leaf": min(int(hyperparameters["min_data_in_leaf"]), max(1, most_per_leaf)),
        "lambda_l2": max(float(hyperparameters["lambda_l2"]), least_l2(data)),
        "min_sum_hessian_in_leaf": _LEAST_HESSIAN[data.kind],
        "max_bin": 255,
        "feature_pre_filter": False,
        "data_random_seed": 1,
        # Looking for columns to bundle takes time quadratic in their number.
        "enable_bundle": data.train.X.shape[1] <= MOST_BUNDLED,
        # MB; by itself it keeps one histogram of all columns per leaf.
        "histogram_pool_size": MOST_HISTOGRAMS / 2**20,
        "seed": limits.seed % 2**31,
        "num_threads": limits.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def save(model: LightGBMModel, folder: Path) -> None:
    """Write LightGBM's own text."""
    save_native(folder / _MODEL, model.text.encode("utf-8"))


def verify(folder: Path) -> None:
    """Check the text as far as plain reading can, since a malformed one aborts the process that parses it.

    Raises
    ------
    BadArtifact
        It is not what `save` wrote, or was changed since.
    """
    path = folder / _MODEL
    try:
        check_text(_read(path))
    except (ValueError, IndexError, KeyError) as error:
        raise bad_model(path, "it cannot be read") from error


def load(folder: Path) -> LightGBMModel:
    """Read LightGBM's own text; raises `BadArtifact` where that is not what the file holds."""
    lightgbm = import_lean("lightgbm")

    path = folder / _MODEL
    try:
        text = _read(path)
        summary = read_header(text)
        booster = lightgbm.Booster(model_str=text)
        consistent = booster.num_trees() == summary.n_trees and booster.num_feature() == summary.n_features
    except (lightgbm.basic.LightGBMError, ValueError, IndexError, KeyError) as error:
        raise bad_model(path, "it cannot be read") from error
    if not consistent:
        raise bad_model(path, "trees are missing")
    return LightGBMModel(text, booster, summary.objective in ("regression", "regression_l1"), summary.n_rounds)


def _read(path: Path) -> str:
    return read_native(path, starts=b"tree\n").decode("utf-8")


def _seconds_per_round(shape: Shape, hyperparameters: Hyperparameters) -> float:
    leaves = float(hyperparameters["num_leaves"])
    share = float(hyperparameters["feature_fraction"])
    # a pass over the rows per level, and a scan of 255 bins per leaf and feature tried
    per_row = 2e-9 * shape.n_columns * np.log2(leaves + 1)
    per_tree = 1e-4 + shape.n_rows * per_row + 1.2e-6 * leaves * (1 + shape.n_columns * share)
    return float(per_tree) * n_trees_per_round(shape)


def seconds(shape: Shape, hyperparameters: Hyperparameters) -> float:
    """Guess one fit's seconds on one core."""
    rounds = expected_rounds(shape, float(hyperparameters["learning_rate"]))
    return 0.05 + _seconds_per_round(shape, hyperparameters) * rounds


FAMILY = standardised(
    Family(
        name="lightgbm",
        package="lightgbm",
        encodings=("native", "target", "generated"),
        space=space,
        defaults=defaults,
        fit=fit,
        save=save,
        load=load,
        verify=verify,
        seconds=seconds,
        contributions=contributions,
    )
)
