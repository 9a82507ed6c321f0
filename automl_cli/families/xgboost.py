"""XGBoost: depth-wise or leaf-wise boosted trees; categories that training never saw are missing."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.clock import Deadline
from automl_cli.families.arrays import bad_model, read_native, save_native
from automl_cli.families.boosting import (
    BYTES_PER_BIN,
    MOST_HISTOGRAMS,
    SeenCodes,
    affordable_rate,
    expected_rounds,
    least_l2,
    most_rounds,
    n_trees_per_round,
    shape_of,
    stopping_for,
)
from automl_cli.families.family import (
    Family,
    FoldData,
    Hyperparameters,
    Limits,
    Shape,
    as_probabilities,
    is_absolute,
    without_infinities,
)
from automl_cli.families.target_scale import standardised
from automl_cli.features.matrix import Array, Matrix
from automl_cli.lean import import_lean
from automl_cli.task import TaskKind

_OBJECTIVES = {
    TaskKind.BINARY: {"objective": "binary:logistic", "eval_metric": "logloss"},
    TaskKind.MULTICLASS: {"objective": "multi:softprob", "eval_metric": "mlogloss"},
    TaskKind.REGRESSION: {"objective": "reg:squarederror", "eval_metric": "rmse"},
}
_ABSOLUTE = {"objective": "reg:absoluteerror", "eval_metric": "mae"}
_MODEL = "model.ubj"
_CODES = "codes.npz"
_MOST_BINS = 256
_FEWEST_CACHED = 8
# The validation rows are held as a sparse matrix: a column and a value for each number, and room while it is made.
_BYTES_PER_VALID_CELL = 12


@dataclass(frozen=True)
class XGBoostModel:
    """A booster that holds its trees alone, and the category codes it knows."""

    booster: Any
    codes: SeenCodes
    regression: bool
    rounds: int
    cut: bool = False
    raised: float = 1.0

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, n_outputs)."""
        self.booster.set_param({"nthread": threads})
        raw = self.booster.predict(_matrix(data, self.codes, threads))
        raw = np.asarray(raw, dtype=np.float64).reshape(len(data.X), -1)
        return raw if self.regression else as_probabilities(raw)


def _matrix(data: Matrix, codes: SeenCodes, threads: int) -> Any:
    xgboost = import_lean("xgboost")

    return xgboost.DMatrix(
        without_infinities(codes.mask(data.X)),
        feature_types=_feature_types(data),
        enable_categorical=True,
        nthread=threads,
    )


def _feature_types(data: Matrix) -> list[str]:
    categorical = frozenset(data.categorical)
    return ["c" if feature in categorical else "q" for feature in range(data.X.shape[1])]


def contributions(model: XGBoostModel, data: Matrix, threads: int) -> Array:
    """Return the SHAP values of each feature, then the base, of shape (n_rows, n_features + 1, n_raw)."""
    model.booster.set_param({"nthread": threads})
    matrix = _matrix(data, model.codes, threads)
    by_output = model.booster.predict(matrix, pred_contribs=True, strict_shape=True)
    return np.asarray(by_output, dtype=np.float64).transpose(0, 2, 1)


def space(shape: Shape) -> tuple[list[Any], list[Any]]:
    """Return TabArena's ranges, with room for the coarser rates that short budgets need."""
    from ConfigSpace import Categorical, EqualsCondition, Float, Integer  # noqa: PLC0415

    grow_policy = Categorical("grow_policy", ["depthwise", "lossguide"], default="depthwise")
    max_depth = Integer("max_depth", (3, 10), log=True, default=6)
    max_leaves = Integer("max_leaves", (8, 1024), log=True, default=64)
    parameters = [
        Float("learning_rate", (0.005, 0.3), log=True, default=0.08),
        max_depth,
        Float("min_child_weight", (1e-3, 5.0), log=True, default=1e-3),
        Float("subsample", (0.6, 1.0), default=0.65),
        Float("colsample_bylevel", (0.5, 1.0), default=0.9),
        Float("colsample_bynode", (0.5, 1.0), default=1.0),
        Float("reg_alpha", (1e-4, 5.0), log=True, default=1e-4),
        Float("reg_lambda", (1e-4, 5.0), log=True, default=1e-4),
        grow_policy,
        max_leaves,
    ]
    if shape.n_categorical:
        parameters.append(Integer("max_cat_to_onehot", (4, 100), log=True, default=4))
    # leaf-wise trees have no bound on their depth
    return parameters, [
        EqualsCondition(max_depth, grow_policy, "depthwise"),
        EqualsCondition(max_leaves, grow_policy, "lossguide"),
    ]


# XGB_TD of pytabkit (Holzmüller et al., NeurIPS 2024); its zeros stand at the lower end of our logarithmic ranges.
_TUNED_CLASSIFICATION = {"learning_rate": 0.08, "max_depth": 6, "min_child_weight": 1e-3, "subsample": 0.65}
_TUNED_REGRESSION = {"learning_rate": 0.05, "max_depth": 9, "min_child_weight": 2.0, "subsample": 0.7}
_TUNED: Hyperparameters = {
    "colsample_bylevel": 0.9,
    "colsample_bynode": 1.0,
    "reg_alpha": 1e-4,
    "reg_lambda": 1e-4,
    "grow_policy": "depthwise",
}
# AutoGluon's 2023 portfolio, r89 (colsample_bytree .66 taken per level), and small-data portfolio of 2025 with its rate
# of 0.011 raised.
_R89 = {"learning_rate": 0.0878, "max_depth": 5, "min_child_weight": 0.6294, "subsample": 1.0}
_R89_REST: Hyperparameters = {
    "colsample_bylevel": 0.6628,
    "colsample_bynode": 1.0,
    "reg_alpha": 1e-4,
    "reg_lambda": 1.0,
    "grow_policy": "depthwise",
}
_LEAVES = {"learning_rate": 0.05, "min_child_weight": 0.1403, "subsample": 0.6949, "max_leaves": 35}
_LEAVES_REST: Hyperparameters = {
    "colsample_bylevel": 0.6377,
    "colsample_bynode": 0.9238,
    "reg_alpha": 3.4961,
    "reg_lambda": 1.3062,
    "grow_policy": "lossguide",
}


def defaults(shape: Shape) -> tuple[Hyperparameters, ...]:
    """Return pytabkit's tuned default, then two of AutoGluon's portfolios."""
    tuned = _TUNED_REGRESSION if shape.kind is TaskKind.REGRESSION else _TUNED_CLASSIFICATION
    one_hot = {"max_cat_to_onehot": 4} if shape.n_categorical else {}
    # The published zero lets the Newton steps of rare classes blow up, see lightgbm.py.
    rest = {**_TUNED, "reg_lambda": 1.0} if shape.kind is TaskKind.MULTICLASS else _TUNED
    rated = ((tuned, rest), (_R89, _R89_REST), (_LEAVES, _LEAVES_REST))
    return tuple(
        {**first, **others, **one_hot, "learning_rate": affordable_rate(shape, first["learning_rate"])}
        for first, others in rated
    )


def fit(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> XGBoostModel:
    """Boost until the validation rows stop gaining; keep the best round."""
    xgboost = import_lean("xgboost")

    deadline = Deadline.after(limits.seconds)
    train, valid, codes = _binned(data, limits.threads)
    stopping = stopping_for(data, deadline, limits)
    booster = xgboost.Booster(_params(data, hyperparameters, limits), [train, valid])
    for number in range(most_rounds(_seconds_per_round(shape_of(data), hyperparameters))):
        booster.update(train, number)
        # "[0]\tvalid-logloss:0.69": the only form in which a booster tells its losses
        report = booster.eval_set([(valid, "valid")], number)
        if stopping.should_stop(float(report.rpartition(":")[2])):
            break
        coarser = stopping.coarser_rate(float(hyperparameters["learning_rate"]))
        if coarser is not None:
            booster.set_param({"learning_rate": coarser})
    # Read back, it holds no predictions of the rows it learned from. Of many classes a booster is hundreds of MB, and
    # each form goes before the next comes.
    kept = booster if stopping.best_round == booster.num_boosted_rounds() else booster[: stopping.best_round]
    del booster
    content = kept.save_raw("ubj")
    del kept
    return XGBoostModel(
        _parse(content),
        codes,
        data.kind is TaskKind.REGRESSION,
        stopping.rounds_at_rate,
        stopping.shortened,
        stopping.raised,
    )


def _binned(data: FoldData, threads: int) -> tuple[Any, Any, SeenCodes]:
    """Return both parts of the fold as XGBoost holds them and the known codes, kept for the next fit."""
    xgboost = import_lean("xgboost")

    def make() -> tuple[tuple[Any, Any, SeenCodes], int]:
        codes = SeenCodes.of(data.train)
        train = xgboost.QuantileDMatrix(
            without_infinities(data.train.X),
            label=data.y,
            weight=data.weight,
            feature_types=_feature_types(data.train),
            enable_categorical=True,
            max_bin=_MOST_BINS,
            nthread=threads,
        )
        valid = _matrix(data.valid, codes, threads)
        valid.set_info(label=data.y_valid, weight=data.weight_valid)
        return (train, valid, codes), 2 * data.train.X.size + _BYTES_PER_VALID_CELL * data.valid.X.size

    # The quantiles are weighed: other weights would be other bins.
    return data.keep(("xgboost", data.targets_digest(), _MOST_BINS, threads), make)


def _params(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> dict[str, Any]:
    params: dict[str, Any] = {**hyperparameters, **(_ABSOLUTE if is_absolute(data) else _OBJECTIVES[data.kind])}
    if data.kind is TaskKind.MULTICLASS:
        params["num_class"] = data.n_outputs
    if params["grow_policy"] == "lossguide":
        params["max_depth"] = 0
    if data.kind is TaskKind.BINARY and len(np.unique(data.y)) < 2:
        # XGBoost estimates the base score from the labels and refuses its own 0 or 1.
        params["base_score"] = 1e-6 if data.y[0] == 0 else 1 - 1e-6
    return {
        **params,
        "reg_lambda": max(float(hyperparameters["reg_lambda"]), least_l2(data)),
        "tree_method": "hist",
        "max_bin": _MOST_BINS,
        "max_cached_hist_node": _most_cached(data.train.X.shape[1]),
        "seed": limits.seed % 2**31,
        "nthread": limits.threads,
        "verbosity": 0,
        "disable_default_eval_metric": False,
    }


def _most_cached(n_columns: int) -> int:
    """Return of how many nodes the histograms are kept: XGBoost alone keeps 65,536, gigabytes of wide data."""
    return max(_FEWEST_CACHED, MOST_HISTOGRAMS // (BYTES_PER_BIN * _MOST_BINS * max(n_columns, 1)))


def _parse(content: bytearray) -> Any:
    xgboost = import_lean("xgboost")

    return xgboost.Booster({"verbosity": 0}, model_file=content)


def save(model: XGBoostModel, folder: Path) -> None:
    """Write XGBoost's UBJSON and the known category codes."""
    save_native(folder / _MODEL, model.booster.save_raw("ubj"))
    model.codes.save(folder / _CODES)


def load(folder: Path) -> XGBoostModel:
    """Read what `save` wrote; raises `BadArtifact` where that is not what the files hold."""
    import json  # noqa: PLC0415

    xgboost = import_lean("xgboost")

    path = folder / _MODEL
    content = read_native(path, starts=b"{")
    codes = SeenCodes.load(folder / _CODES)
    try:
        booster = _parse(bytearray(content))
        config = json.loads(booster.save_config())["learner"]
        objective, rounds = config["objective"]["name"], booster.num_boosted_rounds()
    except (xgboost.core.XGBoostError, ValueError, KeyError) as error:
        raise bad_model(path, "it cannot be read") from error
    if rounds < 1 or (len(codes.features) and codes.features.max() >= booster.num_features()):
        raise bad_model(path, "a feature is out of range")
    return XGBoostModel(booster, codes, objective.startswith("reg:"), rounds)


def _seconds_per_round(shape: Shape, hyperparameters: Hyperparameters) -> float:
    if hyperparameters["grow_policy"] == "lossguide":
        leaves = float(hyperparameters["max_leaves"])
        depth = 2.0 * np.log2(leaves)
    else:
        depth = float(hyperparameters["max_depth"])
        leaves = min(2**depth, 1 + shape.n_rows / 4)
    per_tree = 4e-4 + 4e-9 * shape.n_rows * shape.n_columns * depth + 6e-7 * leaves * (1 + shape.n_columns)
    return float(per_tree) * n_trees_per_round(shape)


def seconds(shape: Shape, hyperparameters: Hyperparameters) -> float:
    """Guess one fit's seconds on one core."""
    rounds = expected_rounds(shape, float(hyperparameters["learning_rate"]))
    return 0.1 + _seconds_per_round(shape, hyperparameters) * rounds


FAMILY = standardised(
    Family(
        name="xgboost",
        package="xgboost",
        encodings=("native", "target", "generated"),
        space=space,
        defaults=defaults,
        fit=fit,
        save=save,
        load=load,
        seconds=seconds,
        contributions=contributions,
    )
)
