"""From families to one search space, and between its configurations and pipelines: the only door between the two."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from automl_cli.errors import UsageError
from automl_cli.families.family import Family, Hyperparameters, Shape
from automl_cli.features.generated.encoder import can_generate
from automl_cli.transfer.adaptation import WITH_ROWS, split_name, with_adaptations
from automl_cli.trial import Pipeline, Value

if TYPE_CHECKING:
    from ConfigSpace import Configuration, ConfigurationSpace

_FAMILY = "family"
_ENCODING = "encoding"

# Cheapest per expected gain first: a family, the number of its default, and an encoding; empty for its own. The order
# is that of what the defaults gained on the hundred tables that the program has measured (docs/experience.md); forests
# and a linear model come early because an ensemble gains most from members that err differently. What can make no
# difference is left out: see usable_encodings.
_FIRST_WAVE = (
    ("lightgbm", 0, ""),
    ("catboost", 0, ""),
    ("mlp", 0, ""),
    ("lightgbm", 6, "generated"),
    ("xgboost", 1, ""),
    ("kernel", 0, ""),
    ("extra_trees", 0, ""),
    ("neural", 0, ""),
    ("neural", 1, ""),
    ("mlp", 2, ""),
    ("linear", 0, ""),
    ("lightgbm", 1, ""),
    ("lightgbm", 2, ""),
    ("random_forest", 0, ""),
    ("neighbors", 0, ""),
)
_SECOND_WAVE = (
    ("kernel", 1, ""),
    ("neural", 2, ""),
    ("lightgbm", 3, ""),
    ("mlp", 1, ""),
    ("xgboost", 0, ""),
    ("catboost", 0, "generated"),
    ("catboost", 1, ""),
    ("lightgbm", 5, "generated"),
    ("lightgbm", 0, "target"),
    ("kernel", 2, ""),
    ("extra_trees", 0, "generated"),
    ("extra_trees", 1, ""),
    ("lightgbm", 4, ""),
    ("linear", 1, ""),
    ("xgboost", 0, "generated"),
    ("extra_trees", 0, "target"),
    ("catboost", 2, ""),
    ("lightgbm", 5, ""),
    ("random_forest", 1, ""),
    ("catboost", 3, ""),
    ("linear", 2, ""),
    ("neighbors", 1, ""),
    ("xgboost", 2, ""),
    ("extra_trees", 2, ""),
)
# Families whose cost grows fastest with the rows.
_SLOW = ("random_forest", "neighbors", "kernel", "extra_trees", "mlp", "neural")
_MANY_ROWS = 100_000
# A category of many values is where target statistics say what a code cannot.
_FOR_MANY_VALUES = (("lightgbm", 0, "target"), ("extra_trees", 0, "target"))
_PERCEPTRON, _FOREST = ("mlp", 0, ""), ("extra_trees", 0, "")
_AFTER = 3
"""Rows of the first wave that stay before those."""

# Families differ from one way of using a source to the next, so that the first few trials differ in both.
_BEGINS_WITH = {
    "balanced": "catboost",
    "feature": "linear",
    "weighted": "extra_trees",
}


_Row = tuple[str, int, str]


def usable_encodings(family: Family, shape: Shape) -> tuple[str, ...]:
    """Return the encodings that can make a difference: the family's own first, which always can.

    Without categories all but "generated" are alike; from a single column or in a wide table nothing is made. Where
    there is a source, each comes with each way of using it as well, of its rows where the family is for so many.
    """
    generated = can_generate(shape.n_rows // 2, shape.n_numeric + shape.n_categorical)  # a fold has half of the rows
    can = {"target": shape.n_categorical > 0, "generated": generated}
    plain = (family.encodings[0], *(name for name in family.encodings[1:] if can.get(name, True)))
    many = family.offered(_larger(shape))
    adaptations = shape.adaptations if family.adapts else ()
    return with_adaptations(plain, [name for name in adaptations if many or name not in WITH_ROWS])


def load_space() -> None:
    """Import ConfigSpace (half a second); call it in a thread, so that the first `build_space` is quick."""
    import ConfigSpace  # noqa: F401, PLC0415


def build_space(families: Mapping[str, Family], shape: Shape) -> "ConfigurationSpace":
    """Join the spaces of the offered families into one conditional space.

    ``family`` chooses; every other name is ``family:hyperparameter`` and is active only with its family.

    Parameters
    ----------
    families : Mapping of str to Family
        At least one of them must be offered for ``shape``.
    """
    from ConfigSpace import AndConjunction, Categorical, ConfigurationSpace, EqualsCondition  # noqa: PLC0415

    offered = _offered(families, shape)
    choice = Categorical(_FAMILY, [f.name for f in offered])
    space = ConfigurationSpace()
    space.add(choice)
    for f in offered:
        parameters, conditions = f.space(shape)
        encoding = Categorical(_ENCODING, list(usable_encodings(f, shape)))
        own = {parameter.name: parameter for parameter in (encoding, *parameters)}
        for name, parameter in own.items():
            parameter.name = f"{f.name}:{name}"
        space.add(list(own.values()))
        conditional = {id(condition.child): condition for condition in conditions}
        for parameter in own.values():
            with_family = EqualsCondition(parameter, choice, f.name)
            inner = conditional.get(id(parameter))
            space.add(with_family if inner is None else AndConjunction(with_family, inner))
    return space


def _offered(families: Mapping[str, Family], shape: Shape) -> list[Family]:
    return [f for _, f in sorted(families.items()) if f.offered(shape)]


def to_pipeline(configuration: "Configuration") -> Pipeline:
    """Turn a configuration into a pipeline; numpy's scalars become Python's here and nowhere else."""
    values = {name: _plain(value) for name, value in dict(configuration).items()}
    family = str(values[_FAMILY])
    own = {name.partition(":")[2]: value for name, value in values.items() if name.startswith(f"{family}:")}
    encoding = str(own.pop(_ENCODING))
    return Pipeline(family, encoding, own)


def _plain(value: Any) -> Value:
    plain: Value = value.item() if isinstance(value, np.generic) else value
    return plain


def to_configuration(space: "ConfigurationSpace", pipeline: Pipeline) -> "Configuration":
    """Turn a pipeline into a configuration, the inverse of `to_pipeline`.

    A pipeline of another run may lack hyperparameters that this space has, or have some that it lacks: the former take
    their default, the latter are left out.

    Raises
    ------
    UsageError
        The pipeline does not lie in the space: its family or encoding is not offered, or a value is out of range.
    """
    from ConfigSpace import Configuration  # noqa: PLC0415
    from ConfigSpace.exceptions import IllegalValueError  # noqa: PLC0415

    outside = UsageError(f"the pipeline {pipeline.key()} is outside the search space", hint="leave it out")
    if not space[_FAMILY].legal_value(pipeline.family):
        raise outside
    prefix = f"{pipeline.family}:"
    wanted: dict[str, Any] = {f"{prefix}{name}": value for name, value in pipeline.hyperparameters.items()}
    wanted |= {_FAMILY: pipeline.family, f"{prefix}{_ENCODING}": pipeline.encoding}
    values: dict[str, Any] = {}
    for name, parameter in space.items():
        if all(condition.satisfied_by_value(values) for condition in space.parent_conditions_of[name]):
            values[name] = wanted.get(name, parameter.default_value)
    try:
        return Configuration(space, values=values)
    except (IllegalValueError, TypeError, ValueError, OverflowError) as error:  # of another type than the parameter
        raise outside from error


def default_pipelines(families: Mapping[str, Family], shape: Shape) -> tuple[Pipeline, ...]:
    """Return the portfolio: what to try first, in order, before anything was measured.

    Every offered family's published default is in it. On wide data the linear model comes first; with many rows the
    slow families come last, and with rows of another table perceptrons later.
    """
    offered = {f.name: f for f in _offered(families, shape)}
    many = _FOR_MANY_VALUES if shape.n_many else ()
    first = list(_FIRST_WAVE)
    if WITH_ROWS & {*shape.adaptations}:  # with rows of another table beside these a perceptron takes long
        first.remove(_PERCEPTRON)
        first.insert(first.index(_FOREST) + 1, _PERCEPTRON)
    rows = [*first[:_AFTER], *many, *first[_AFTER:], *_newcomers(offered), *_SECOND_WAVE]
    if shape.n_columns > 500 or shape.n_columns > shape.n_rows / 4:
        rows.sort(key=lambda row: row[:2] != ("linear", 0))
    if shape.n_rows > _MANY_ROWS:
        rows.sort(key=lambda row: row[0] in _SLOW)
        rows = [row for row in rows if row[0] not in _SLOW or row[1:] == (0, "")]
    pipelines = (
        _pipeline(offered[name], shape, default, encoding) for name, default, encoding in rows if name in offered
    )
    # a dictionary keeps the order and the first of equals
    return tuple(dict.fromkeys(p for p in pipelines if p is not None))


def ways_of(plain: Sequence[Pipeline], families: Mapping[str, Family], shape: Shape) -> dict[str, tuple[Pipeline, ...]]:
    """Return the pipelines as they are, under an empty name, and with each way of using other rows.

    A pipeline that learns from a source's rows is a default for a table of that size, of a family that is offered for
    one, the slow ones last where there are many rows.
    """
    larger = _larger(shape)
    ways = {"": tuple(plain)}
    for adaptation in shape.adaptations:
        own = [p for p in plain if families[p.family].adapts]
        if adaptation in WITH_ROWS:
            own = [p for p in own if p.encoding != "generated" and families[p.family].offered(larger)]
        begin = next((k for k, p in enumerate(own) if p.family == _BEGINS_WITH.get(adaptation)), 0)
        own = [*own[begin:], *own[:begin]]
        if adaptation in WITH_ROWS and larger.n_rows > _MANY_ROWS:
            own.sort(key=lambda p: p.family in _SLOW)
        ways[adaptation] = tuple(_adapted(p, adaptation, families[p.family], shape, larger) for p in own)
    return ways


def variant_of(pipeline: Pipeline, way: str, families: Mapping[str, Family]) -> Pipeline | None:
    """Return a pipeline with a way of using rows without labels; None where its family has none, or it has one."""
    if not families[pipeline.family].adapts or split_name(pipeline.encoding)[1]:
        return None
    return replace(pipeline, encoding=f"{pipeline.encoding}:{way}")


def _larger(shape: Shape) -> Shape:
    """Return the shape of a table that holds a source's rows too."""
    return replace(shape, n_rows=shape.n_rows + shape.n_source)


def _adapted(pipeline: Pipeline, adaptation: str, family: Family, shape: Shape, larger: Shape) -> Pipeline:
    values = dict(pipeline.hyperparameters)
    if adaptation in WITH_ROWS:
        small = [dict(default) for default in family.defaults(shape)]
        if values in small and small.index(values) < len(large := family.defaults(larger)):
            values = dict(large[small.index(values)])
    return Pipeline(pipeline.family, f"{pipeline.encoding}:{adaptation}", values)


def _newcomers(offered: Iterable[str]) -> list[_Row]:
    """Return the published default of families that the table does not know."""
    known = {name for name, _, _ in _FIRST_WAVE}
    return [(name, 0, "") for name in offered if name not in known]


def _pipeline(family: Family, shape: Shape, default: int, encoding: str) -> Pipeline | None:
    choices: tuple[Hyperparameters, ...] = family.defaults(shape)
    if default >= len(choices) or (encoding and encoding not in usable_encodings(family, shape)):
        return None
    return Pipeline(family.name, encoding or family.encodings[0], choices[default])
