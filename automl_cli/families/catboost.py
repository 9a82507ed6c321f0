"""CatBoost: symmetric boosted trees with ordered statistics of categories; an extra."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.clock import Deadline
from automl_cli.families.arrays import Expected, bad_model, integer, load_arrays, read_native, save_arrays, save_native
from automl_cli.families.boosting import (
    BYTES_PER_BIN,
    MOST_HISTOGRAMS,
    SeenCodes,
    Stopping,
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
    is_absolute,
    median,
    present_classes,
    smoothing_prior,
    spread,
)
from automl_cli.families.target_scale import standardised
from automl_cli.features.matrix import Array, Matrix
from automl_cli.lean import import_lean
from automl_cli.task import TaskKind

_LOSSES = {TaskKind.BINARY: "Logloss", TaskKind.MULTICLASS: "MultiClass", TaskKind.REGRESSION: "RMSE"}
_BORDERS = 254  # CatBoost's own
_FEW_BORDERS = 64
_FEWEST_BORDERS = 16
_RARE = 0.015  # share of a class; with more of it little regularisation is no worse
_MODEL, _CODES, _OUTPUTS, _SHARES = "model.cbm", "codes.npz", "outputs.npz", "shares.npz"


@dataclass(frozen=True)
class CatBoostModel:
    """A booster, or a constant where the training rows or their targets are all alike, which CatBoost refuses.

    Attributes
    ----------
    booster : catboost.CatBoost or None
        None where the prediction is constant.
    classes : int64 (n_present,)
        Classes that occurred in training; empty for a regression.
    constant : float
        The prediction of a regression without a booster.
    shares : float64 (n_present,)
        What a classifier without a booster predicts, up to a factor; empty with one and for a regression.
    """

    booster: Any
    codes: SeenCodes
    classes: Array
    n_outputs: int
    constant: float
    shares: Array
    rounds: int
    cut: bool = False
    raised: float = 1.0

    def predict(self, data: Matrix, threads: int) -> Array:
        """Return float64 of shape (n_rows, n_outputs)."""
        if self.booster is None:
            raw = np.tile(self.shares if len(self.classes) else [self.constant], (len(data.X), 1))
        else:
            form = "Probability" if len(self.classes) else "RawFormulaVal"
            raw = self.booster.predict(_pool(data, self.codes), prediction_type=form, thread_count=threads)
            raw = np.asarray(raw, dtype=np.float64).reshape(len(data.X), -1)
        return spread(raw, self.classes, self.n_outputs) if len(self.classes) else raw


@dataclass
class _Watch:
    """CatBoost's callback: asks our own stopping rule after each round.

    Attributes
    ----------
    wanted : float or None
        The rate that the seconds left would need; where it is set, the fit ended for it.
    """

    stopping: Stopping
    loss: str
    rate: float
    wanted: float | None = None

    def __post_init__(self) -> None:
        self._started = self.stopping.deadline.elapsed()

    def after_iteration(self, info: Any) -> bool:
        """Say whether to go on."""
        if self.stopping.should_stop(info.metrics["validation"][self.loss][-1]):
            return False
        deadline = self.stopping.deadline
        # What was spent so far, preparing the data included, would be spent once more.
        if deadline.seconds_left() > deadline.elapsed() - self._started:
            self.wanted = self.stopping.coarser_rate(self.rate)
        return self.wanted is None


def _pool(data: Matrix, codes: SeenCodes, label: Array | None = None, weight: Array | None = None) -> Any:
    catboost = import_lean("catboost")
    if not data.categorical:
        return catboost.Pool(data.X, label=label, weight=weight)
    numeric = np.setdiff1d(np.arange(data.X.shape[1]), data.categorical)
    columns = [codes.codes(data.X, position) for position in range(len(data.categorical))]
    most = max(int(column.max(initial=-1)) for column in columns)
    # One bytes object per code, shared by all cells that hold it; the first stands for missing.
    texts = np.array([str(code).encode() for code in range(-1, most + 1)], dtype=object)
    features = catboost.FeaturesData(
        num_feature_data=np.ascontiguousarray(data.X[:, numeric]) if len(numeric) else None,
        cat_feature_data=np.stack([texts[column + 1] for column in columns], axis=1),
    )
    return catboost.Pool(features, label=label, weight=weight)


def contributions(model: CatBoostModel, data: Matrix, threads: int) -> Array:
    """Return the SHAP values of each feature, then the base, of shape (n_rows, n_features + 1, n_raw)."""
    n_rows, n_features = data.X.shape
    whole = np.zeros((n_rows, n_features + 1, model.n_outputs if model.n_outputs > 2 else 1))
    if model.booster is None:
        whole[:, -1] = _base(model, whole.shape[2])
        return whole
    pool = _pool(data, model.codes)
    values = model.booster.get_feature_importance(pool, type="ShapValues", thread_count=threads)
    by_output = np.asarray(values, dtype=np.float64).reshape(n_rows, -1, n_features + 1)
    # The pool has the categories last.
    order = np.concatenate([np.setdiff1d(np.arange(n_features), data.categorical), data.categorical, [n_features]])
    outputs = model.classes if whole.shape[2] > 1 else np.zeros(1, dtype=np.int64)
    whole[:, order.astype(np.int64)[:, None], outputs] = by_output.transpose(0, 2, 1)
    return whole


def _base(model: CatBoostModel, n_raw: int) -> Array:
    """Return the raw prediction of a model without a booster, of shape (n_raw,)."""
    base = np.full(n_raw, model.constant)
    if len(model.classes) > 1:
        raw = np.log(model.shares)
        if n_raw == 1:
            base[0] = raw[1] - raw[0]
        else:
            base[model.classes] = raw
    return base


def explains(hyperparameters: Hyperparameters) -> bool:
    """Whether the trees are symmetric: SHAP values that CatBoost 1.2.10 gives for others may not add up.

    See https://github.com/catboost/catboost/issues/1703, where that was met on a GPU; here it was on processors.
    """
    return hyperparameters.get("grow_policy", "SymmetricTree") == "SymmetricTree"


def space(shape: Shape) -> tuple[list[Any], list[Any]]:
    """Return TabArena's ranges, with room for the coarser rates that short budgets need."""
    from ConfigSpace import Categorical, Float, Integer  # noqa: PLC0415

    parameters = [
        Float("learning_rate", (0.005, 0.3), log=True, default=0.05),
        Integer("depth", (4, 9), default=6),
        Float("l2_leaf_reg", (1e-5, 5.0), log=True, default=3.0),
        Float("subsample", (0.7, 1.0), default=0.8),
        Float("colsample_bylevel", (0.7, 1.0), default=1.0),
        Float("random_strength", (0.0, 2.0), default=1.0),
        Integer("leaf_estimation_iterations", (1, 20), log=True, default=1),
        Categorical("grow_policy", ["SymmetricTree", "Depthwise"], default="SymmetricTree"),
    ]
    if shape.n_categorical:
        parameters += [
            Integer("one_hot_max_size", (2, 100), log=True, default=2),
            Integer("max_ctr_complexity", (1, 5), default=4),
        ]
    return parameters, []


_SHARED = {"colsample_bylevel": 1.0, "grow_policy": "SymmetricTree"}
# CB_TD of pytabkit (Holzmüller et al., NeurIPS 2024).
_TUNED_CLASSIFICATION = {
    "learning_rate": 0.08,
    "depth": 7,
    "l2_leaf_reg": 1e-5,
    "subsample": 0.9,
    "one_hot_max_size": 15,
    "random_strength": 0.8,
    "leaf_estimation_iterations": 1,
    "max_ctr_complexity": 4,
}
_TUNED_REGRESSION = {
    "learning_rate": 0.09,
    "depth": 9,
    "l2_leaf_reg": 1e-5,
    "subsample": 0.9,
    "one_hot_max_size": 20,
    "random_strength": 0.0,
    "leaf_estimation_iterations": 20,
    "max_ctr_complexity": 4,
}
# A level more doubles the time that looking for splits takes.
_SHALLOW = {"depth": 6, "leaf_estimation_iterations": 1}
# CatBoost's own default with AutoGluon's rate, and r177 of AutoGluon's 2023 portfolio.
_OWN_REST = {"random_strength": 1.0, "leaf_estimation_iterations": 1, "max_ctr_complexity": 4}
_OWN = {"learning_rate": 0.05, "depth": 6, "l2_leaf_reg": 3.0, "subsample": 0.8, "one_hot_max_size": 2, **_OWN_REST}
_R177 = {
    "learning_rate": 0.0686,
    "depth": 6,
    "l2_leaf_reg": 2.1543,
    "subsample": 0.8,
    "one_hot_max_size": 10,
    **_OWN_REST,
}


def defaults(shape: Shape) -> tuple[Hyperparameters, ...]:
    """Return pytabkit's tuned default with shallow trees, CatBoost's own, pytabkit's as published, one of AutoGluon.

    The first is not a published one: within seconds per fold its loss is the lowest (docs/families.md).
    """
    tuned: dict[str, Any] = _TUNED_REGRESSION if shape.kind is TaskKind.REGRESSION else _TUNED_CLASSIFICATION
    unused = () if shape.n_categorical else ("one_hot_max_size", "max_ctr_complexity")
    complete: list[Hyperparameters] = []
    for hp in ({**tuned, **_SHALLOW}, _OWN, tuned, _R177):
        values: dict[str, Any] = {**hp, **_SHARED, "learning_rate": affordable_rate(shape, hp["learning_rate"])}
        complete.append({name: value for name, value in values.items() if name not in unused})
    return tuple(complete)


def fit(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> CatBoostModel:
    """Boost until the validation rows stop gaining; keep the best round."""
    deadline = Deadline.after(limits.seconds)
    codes = SeenCodes.of(data.train)
    classes, y = present_classes(data)
    if len(np.unique(y)) == 1 or _all_constant(data.train.X):
        return _constant(data, codes, classes, y)
    params = _params(shape_of(data), hyperparameters, limits, "MAE" if is_absolute(data) else _LOSSES[data.kind])
    params["l2_leaf_reg"] = max(float(params["l2_leaf_reg"]), least_l2(data, rare=_RARE))
    # A validation row of a class that training never saw cannot be scored.
    known = np.isin(data.y_valid, classes) if len(classes) else np.ones(len(data.y_valid), dtype=bool)
    y_valid = np.searchsorted(classes, data.y_valid[known]) if len(classes) else data.y_valid
    valid = Matrix(data.valid.X[known], data.valid.categorical, data.valid.names)
    weight_valid = None if data.weight_valid is None else data.weight_valid[known]
    pools = (_pool(data.train, codes, y, data.weight), _pool(valid, codes, y_valid, weight_valid))
    booster, stopping = _boosted(pools, params, stopping_for(data, deadline, limits))
    # as many as the unchanged rate would need
    rounds = max(1, round(int(booster.tree_count_) * stopping.raised))
    none = np.zeros(0)
    return CatBoostModel(
        booster, codes, classes, data.n_outputs, 0.0, none, rounds, stopping.shortened, raised=stopping.raised
    )


def _boosted(pools: tuple[Any, Any], params: dict[str, Any], stopping: Stopping) -> tuple[Any, Stopping]:
    """Train, and start again, coarser, where the first rounds show that the seconds are too few to converge.

    CatBoost cannot change its rate while it trains, but the rounds that are lost are few. Where looking for splits is
    what takes the time, fewer borders are tried before the rate is raised: they cost less accuracy.
    """
    catboost = import_lean("catboost")
    train, valid = pools
    while True:
        watch = _Watch(stopping, params["loss_function"], params["learning_rate"])
        booster = catboost.CatBoost(params)
        booster.fit(train, eval_set=valid, use_best_model=stopping.fixed is None, callbacks=[watch])
        if watch.wanted is None:
            return booster, stopping
        if params["border_count"] > _FEW_BORDERS and train.num_row() < 2 ** params["depth"] * params["border_count"]:
            params, stopping = {**params, "border_count": _FEW_BORDERS}, stopping.afresh()
        else:
            params, stopping = {**params, "learning_rate": watch.wanted}, stopping.afresh(raised=stopping.raised)


def _all_constant(X: Array) -> bool:
    return bool(np.array_equal(X, np.broadcast_to(X[:1], X.shape), equal_nan=True))


def _constant(data: FoldData, codes: SeenCodes, classes: Array, y: Array) -> CatBoostModel:
    if len(classes):
        constant = 0.0
    elif is_absolute(data):
        constant = median(data.y, data.weight)
    else:
        constant = float(np.average(data.y, weights=data.weight))
    shares = smoothing_prior(data)[classes]
    return CatBoostModel(None, codes, classes, data.n_outputs, constant, shares, rounds=0)


def _params(shape: Shape, hyperparameters: Hyperparameters, limits: Limits, loss: str) -> dict[str, Any]:
    return {
        **hyperparameters,
        "loss_function": loss,
        "iterations": max(limits.rounds or 0, most_rounds(_seconds_per_round(shape, hyperparameters))),
        "border_count": _borders(shape, hyperparameters),
        "boosting_type": "Plain",
        "bootstrap_type": "Bernoulli",
        "random_seed": limits.seed % 2**31,
        "thread_count": limits.threads,
        "allow_writing_files": False,
        "logging_level": "Silent",
    }


def _borders(shape: Shape, hyperparameters: Hyperparameters) -> int:
    """Return how many borders a feature may have: fewer where the histograms of deep trees would take much memory.

    CatBoost 1.2.10 keeps 16 bytes for each border of each feature in each leaf (2.0 GB for 1,000 columns at depth 9
    with 254 borders, measured), 2.4 times that where columns are drawn per level, and next to nothing where there are
    several trees to a round.
    """
    if n_trees_per_round(shape) > 1:
        return _BORDERS
    copies = 1.0 if float(hyperparameters.get("colsample_bylevel", 1.0)) >= 1 else 2.4
    per_border = copies * BYTES_PER_BIN * 2 ** int(hyperparameters["depth"]) * max(shape.n_columns, 1)
    return int(np.clip(MOST_HISTOGRAMS // per_border, _FEWEST_BORDERS, _BORDERS))


def save(model: CatBoostModel, folder: Path) -> None:
    """Write CatBoost's own format, the known category codes and the classes."""
    if model.booster is not None:
        model.booster.save_model(str(folder / _MODEL), format="cbm")
        save_native(folder / _MODEL, (folder / _MODEL).read_bytes())
    model.codes.save(folder / _CODES)
    save_arrays(
        folder / _OUTPUTS,
        {
            "classes": model.classes,
            "n_outputs": np.array(model.n_outputs),
            "constant": np.array(model.constant),
            "rounds": np.array(model.rounds),
        },
    )
    if len(model.shares):
        save_arrays(folder / _SHARES, {"shares": model.shares})


def load(folder: Path) -> CatBoostModel:
    """Read what `save` wrote; raises `BadArtifact` where that is not what the files hold."""
    path = folder / _OUTPUTS
    expected = {
        "classes": Expected("i", 1),
        "n_outputs": Expected("i", 0),
        "constant": Expected("f", 0),
        "rounds": Expected("i", 0),
    }
    arrays = load_arrays(path, expected)
    rounds, n_outputs = integer(path, arrays["rounds"], 0, 10**6), integer(path, arrays["n_outputs"], 1, 10**6)
    classes = arrays["classes"]
    if len(classes) and (classes.min() < 0 or classes.max() >= n_outputs or (np.diff(classes) <= 0).any()):
        raise bad_model(path, "a class is out of range")
    booster = _load_booster(folder / _MODEL) if rounds else None
    shares = _load_shares(folder / _SHARES, len(classes)) if booster is None and len(classes) else np.zeros(0)
    codes = SeenCodes.load(folder / _CODES)
    return CatBoostModel(booster, codes, classes, n_outputs, float(arrays["constant"]), shares, rounds=rounds)


def _load_shares(path: Path, n_classes: int) -> Array:
    """Read the shares of the classes; the same for all in older models, which have none."""
    if not path.exists():
        return np.ones(n_classes)
    shares = load_arrays(path, {"shares": Expected("f", 1)})["shares"]
    if len(shares) != n_classes or not (shares > 0).all():
        raise bad_model(path, "the shares do not add up")
    return shares


def _load_booster(path: Path) -> Any:
    catboost = import_lean("catboost")
    content = read_native(path, starts=b"CBM1")
    booster = catboost.CatBoost()
    try:
        booster.load_model(blob=content, format="cbm")
    except (catboost.CatBoostError, ValueError) as error:
        raise bad_model(path, "it cannot be read") from error
    return booster


def _seconds_per_round(shape: Shape, hyperparameters: Hyperparameters) -> float:
    depth = float(hyperparameters["depth"])
    numeric = shape.n_columns - shape.n_categorical
    # a pass over the rows per level, and a scan of the borders per leaf and feature
    per_row = 3e-9 * depth * (numeric + 10 * shape.n_categorical)
    scan = 6e-9 * _borders(shape, hyperparameters) * 2**depth * numeric
    return (5e-4 + shape.n_rows * per_row + scan) * n_trees_per_round(shape)


def seconds(shape: Shape, hyperparameters: Hyperparameters) -> float:
    """Guess one fit's seconds on one core."""
    rounds = expected_rounds(shape, float(hyperparameters["learning_rate"]))
    return 0.2 + _seconds_per_round(shape, hyperparameters) * rounds


FAMILY = standardised(
    Family(
        name="catboost",
        package="catboost",
        modules=("catboost",),
        encodings=("native", "target", "generated"),
        space=space,
        defaults=defaults,
        fit=fit,
        save=save,
        load=load,
        seconds=seconds,
        contributions=contributions,
        explains=explains,
    )
)
