"""Pipelines that are worth measuring on any table, and how a pipeline of one table suits another."""

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from automl_cli.errors import UsageError
from automl_cli.families.boosting import affordable_rate
from automl_cli.families.family import Family, Shape
from automl_cli.metrics import TaskKind
from automl_cli.space import build_space, default_pipelines, to_configuration, to_pipeline, usable_encodings
from automl_cli.trial import Pipeline

_BOOSTERS = ("lightgbm", "xgboost", "catboost")
USUAL: Mapping[TaskKind, Shape] = MappingProxyType(
    {
        kind: Shape(kind, n_rows=10_000, n_columns=20, n_categorical=5, n_outputs=n_outputs, n_numeric=15, n_many=1)
        for kind, n_outputs in ((TaskKind.BINARY, 2), (TaskKind.MULTICLASS, 5), (TaskKind.REGRESSION, 1))
    }
)
"""A table like many: what a pipeline is called by is what it is there, so that one name holds for all tables."""


def candidates(families: Mapping[str, Family], kind: TaskKind) -> tuple[Pipeline, ...]:
    """List what is measured on every table of an archive: the portfolio, published configurations and drawn ones.

    Rates below 0.03 were raised to it: the published ones were found with hours at hand. Drawn once from the spaces,
    the last ones reach where nobody has published.
    """
    usual = USUAL[kind]
    offered = {name: family for name, family in families.items() if family.offered(usual)}
    found = [
        pipeline
        for entry in _published()
        if entry.family in offered and (pipeline := _within(entry, offered[entry.family], usual)) is not None
    ]
    return tuple(dict.fromkeys([*default_pipelines(offered, usual), *found]))


def reference_pipeline(families: Mapping[str, Family], kind: TaskKind) -> Pipeline | None:
    """Return the first default of the first family, by the name that it has in every archive."""
    offered = {name: family for name, family in families.items() if family.offered(USUAL[kind])}
    return next(iter(default_pipelines(offered, USUAL[kind])), None)


def suited(pipeline: Pipeline, families: Mapping[str, Family], shape: Shape) -> Pipeline | None:
    """Return a pipeline that was found on another table as it suits one of this shape.

    A family's default is its default here, whatever rate or size that has; other boosters' rates are raised where
    rounds are expensive, as the defaults' are. Hyperparameters that make no difference here are left out, and those
    that are missing take their default.

    Returns
    -------
    Pipeline or None
        None where its family or encoding is not offered.
    """
    family = families.get(pipeline.family)
    if family is None or not family.offered(shape) or pipeline.encoding not in family.encodings:
        return None
    if pipeline.encoding not in usable_encodings(family, shape):
        return None  # it would be what its plain twin is
    number = _default_number(pipeline, family, USUAL[shape.kind])
    if number is not None and number < len(own := family.defaults(shape)):
        return Pipeline(pipeline.family, pipeline.encoding, own[number])
    return _within(pipeline, family, shape)


def remembered_as(pipeline: Pipeline, families: Mapping[str, Family], shape: Shape) -> Pipeline:
    """Return the name that a pipeline of a table has in every archive: of a default what it is on the usual table.

    What `suited` gives for that name is the pipeline again.
    """
    family = families[pipeline.family]
    usual = family.defaults(USUAL[shape.kind])
    number = _default_number(pipeline, family, shape)
    if number is None or number >= len(usual):
        return pipeline
    return Pipeline(pipeline.family, pipeline.encoding, usual[number])


def _default_number(pipeline: Pipeline, family: Family, shape: Shape) -> int | None:
    """Return which default of its family a pipeline is on a table of a shape."""
    known = [dict(hyperparameters) for hyperparameters in family.defaults(shape)]
    own = dict(pipeline.hyperparameters)
    return known.index(own) if own in known else None


def _within(pipeline: Pipeline, family: Family, shape: Shape) -> Pipeline | None:
    values = dict(pipeline.hyperparameters)
    rate = values.get("learning_rate")
    if pipeline.family in _BOOSTERS and isinstance(rate, float):
        values["learning_rate"] = affordable_rate(shape, rate)
    try:
        return to_pipeline(
            to_configuration(_space(family, shape), Pipeline(pipeline.family, pipeline.encoding, values))
        )
    except UsageError:
        return None


@lru_cache(maxsize=32)
def _space(family: Family, shape: Shape) -> Any:
    return build_space({family.name: family}, shape)


@lru_cache(maxsize=1)
def _published() -> tuple[Pipeline, ...]:
    """Read the configurations that come with the program; each names its source."""
    text = files("automl_cli").joinpath("published.json").read_text(encoding="utf-8")
    return tuple(Pipeline.from_json(entry) for entry in json.loads(text))
