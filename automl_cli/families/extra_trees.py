"""Extremely randomised trees (Geurts et al., 2006): cut points drawn at random."""

from collections.abc import Mapping
from typing import Any

from automl_cli.families.family import Family, FoldData, Hyperparameters, Limits, Shape
from automl_cli.families.forest import FOREST_MODULE, fit_forest, forest_default, forest_seconds, forest_space
from automl_cli.families.target_scale import standardised
from automl_cli.families.trees import Trees, load_trees, save_trees, thinned
from automl_cli.lean import import_lean


def space(shape: Shape) -> tuple[list[Any], list[Any]]:
    """Return the space of forests; each tree sees all rows by default."""
    return forest_space(shape, bootstrap=False)


def defaults(shape: Shape) -> tuple[Hyperparameters, ...]:
    """Return AutoGluon's default, then r42 and r172 of its 2023 portfolio."""
    return (
        forest_default(shape, bootstrap=False),
        forest_default(shape, bootstrap=False, max_features=0.75),
        forest_default(shape, bootstrap=False, max_features=1.0, min_samples_leaf=4),
    )


def fit(data: FoldData, hyperparameters: Hyperparameters, limits: Limits) -> Trees:
    """Fit 300 trees, or as many as the seconds allow."""
    return fit_forest(data, hyperparameters, limits, _make)


def _make(*, regression: bool, parameters: Mapping[str, Any]) -> Any:
    forests = import_lean(FOREST_MODULE)
    return (forests.ExtraTreesRegressor if regression else forests.ExtraTreesClassifier)(**parameters)


def seconds(shape: Shape, hyperparameters: Hyperparameters) -> float:
    """Guess one fit's seconds on one core: two fifths of a random forest's, since nothing is sorted."""
    return 0.4 * forest_seconds(shape, hyperparameters)


FAMILY = standardised(
    Family(
        name="extra_trees",
        package="sklearn",
        modules=(FOREST_MODULE,),
        encodings=("ordinal", "target", "generated"),
        space=space,
        defaults=defaults,
        fit=fit,
        save=save_trees,
        load=load_trees,
        thinned=thinned,
        seconds=seconds,
    )
)
