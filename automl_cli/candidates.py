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
from automl_cli.neural import NEURAL
from automl_cli.neural.architecture import parse_architecture
from automl_cli.space import build_space, default_pipelines, to_configuration, to_pipeline, usable_encodings
from automl_cli.trial import Pipeline, Value

_NETWORK = "architecture"
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
        if entry.family in offered and (pipeline := _coarser(entry, offered[entry.family], usual)) is not None
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
    family = _offered(pipeline, families, shape)
    return None if family is None else _default_here(pipeline, family, shape) or _coarser(pipeline, family, shape)


def as_it_was(pipeline: Pipeline, families: Mapping[str, Family], shape: Shape) -> Pipeline | None:
    """Return a pipeline that was found on an earlier state of this very table.

    What it reached it reached at its own rate: that is not raised. Numbers whose range moves with the rows are brought
    into it, so that a table which has grown does not lose what won on it.

    Returns
    -------
    Pipeline or None
        See `suited`.
    """
    family = _offered(pipeline, families, shape)
    if family is None:
        return None
    return _default_here(pipeline, family, shape) or _within(_in_range(pipeline, family, shape), family, shape)


def _offered(pipeline: Pipeline, families: Mapping[str, Family], shape: Shape) -> Family | None:
    """Return a pipeline's family where it and the encoding can be used here."""
    family = families.get(pipeline.family)
    if family is None or not family.offered(shape) or pipeline.encoding not in family.encodings:
        return None
    # with others it would be what its plain twin is
    return family if pipeline.encoding in usable_encodings(family, shape) else None


def _default_here(pipeline: Pipeline, family: Family, shape: Shape) -> Pipeline | None:
    number = _default_number(pipeline, family, USUAL[shape.kind])
    if number is None or number >= len(own := family.defaults(shape)):
        return None
    return Pipeline(pipeline.family, pipeline.encoding, own[number])


def remembered_as(pipeline: Pipeline, families: Mapping[str, Family], shape: Shape) -> Pipeline:
    """Return the name that a pipeline of a table has in every archive: of a default what it is on the usual table.

    What `suited` gives for that name is the pipeline again. One of a family that is not there keeps its name: a run
    that is resumed with less time holds trials of networks and searches none.
    """
    family = families.get(pipeline.family)
    if family is None:
        return pipeline
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


def _coarser(pipeline: Pipeline, family: Family, shape: Shape) -> Pipeline | None:
    """Return a pipeline with the rate that a table of this shape affords."""
    values = dict(pipeline.hyperparameters)
    rate = values.get("learning_rate")
    if pipeline.family in _BOOSTERS and isinstance(rate, float):
        values["learning_rate"] = affordable_rate(shape, rate)
    return _within(Pipeline(pipeline.family, pipeline.encoding, values), family, shape)


def _within(pipeline: Pipeline, family: Family, shape: Shape) -> Pipeline | None:
    """Return a pipeline as the space of its family holds it; None where it is outside."""
    drawn = pipeline.hyperparameters.get(_NETWORK) if pipeline.family == NEURAL else None
    if drawn is None or not _is_network(drawn):
        return _legal(pipeline, family, shape)
    # The space names a few networks; a search of architectures finds others, and trains them for fewer epochs too.
    known = {**pipeline.hyperparameters, _NETWORK: family.defaults(shape)[0][_NETWORK]}
    found = _legal(_in_range(Pipeline(NEURAL, pipeline.encoding, known), family, shape), family, shape)
    return None if found is None else Pipeline(NEURAL, found.encoding, {**found.hyperparameters, _NETWORK: drawn})


def _legal(pipeline: Pipeline, family: Family, shape: Shape) -> Pipeline | None:
    try:
        return to_pipeline(to_configuration(_space(family, shape), pipeline))
    except UsageError:
        return None


def _is_network(value: Value) -> bool:
    try:
        parse_architecture(str(value))
    except ValueError:
        return False
    return True


def _in_range(pipeline: Pipeline, family: Family, shape: Shape) -> Pipeline:
    """Return a pipeline whose numbers lie in the ranges that they have on a table of this shape."""
    space = _space(family, shape)
    values = dict(pipeline.hyperparameters)
    for name, value in values.items():
        parameter = space.get(f"{family.name}:{name}")
        if hasattr(parameter, "lower") and isinstance(value, int | float) and not isinstance(value, bool):
            values[name] = min(max(value, parameter.lower), parameter.upper)
    return Pipeline(pipeline.family, pipeline.encoding, values)


@lru_cache(maxsize=32)
def _space(family: Family, shape: Shape) -> Any:
    return build_space({family.name: family}, shape)


@lru_cache(maxsize=1)
def _published() -> tuple[Pipeline, ...]:
    """Read the configurations that come with the program; each names its source."""
    text = files("automl_cli").joinpath("published.json").read_text(encoding="utf-8")
    return tuple(Pipeline.from_json(entry) for entry in json.loads(text))
