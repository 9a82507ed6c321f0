"""One space over all families, and the one door between configurations and pipelines."""

import subprocess
import sys
from dataclasses import replace

import pytest

from automl_cli.errors import UsageError
from automl_cli.families import find_families
from automl_cli.families.family import Shape, without_encoding
from automl_cli.space import build_space, default_pipelines, to_configuration, to_pipeline, usable_encodings, ways_of
from automl_cli.task import TaskKind
from automl_cli.trial import Pipeline

FAMILIES = find_families()
SHAPES = [
    Shape(kind, n_rows, n_columns, n_categorical, n_outputs)
    for kind, n_outputs in ((TaskKind.BINARY, 2), (TaskKind.MULTICLASS, 7), (TaskKind.REGRESSION, 1))
    for n_rows, n_columns, n_categorical in ((200, 10, 0), (5_000, 20, 5), (300, 900, 0), (400_000, 15, 3))
]
each_shape = pytest.mark.parametrize(
    "shape", SHAPES, ids=lambda s: f"{s.kind}-{s.n_rows}x{s.n_columns}-{s.n_categorical}"
)


@each_shape
def test_any_configuration_becomes_a_pipeline_and_comes_back(shape):
    space = build_space(FAMILIES, shape)
    space.seed(1)
    for configuration in space.sample_configuration(100):
        pipeline = to_pipeline(configuration)
        assert pipeline.encoding in usable_encodings(FAMILIES[pipeline.family], shape)
        assert to_configuration(space, pipeline) == configuration
        assert to_pipeline(to_configuration(space, pipeline)) == pipeline
        assert Pipeline.from_json(pipeline.to_json()) == pipeline
        assert {type(value) for value in pipeline.hyperparameters.values()} <= {int, float, str, bool}


@each_shape
def test_every_default_lies_in_the_space(shape):
    space = build_space(FAMILIES, shape)
    for pipeline in default_pipelines(FAMILIES, shape):
        assert to_pipeline(to_configuration(space, pipeline)) == pipeline


@each_shape
def test_every_default_is_active_as_a_whole(shape):
    # a hyperparameter that its conditions switch off would be a mistake in the defaults
    for name, family in FAMILIES.items():
        if family.offered(shape):
            space = build_space({name: family}, shape)
            for hyperparameters in family.defaults(shape):
                pipeline = Pipeline(name, family.encodings[0], hyperparameters)
                assert dict(to_pipeline(to_configuration(space, pipeline)).hyperparameters) == dict(hyperparameters)


def test_the_space_is_small_enough_to_learn():
    # each family has a surrogate of its own
    assert 20 <= len(build_space(FAMILIES, SHAPES[1])) <= 10 * len(FAMILIES)


@each_shape
def test_the_portfolio_holds_each_published_default_once(shape):
    pipelines = default_pipelines(FAMILIES, shape)
    assert len(set(pipelines)) == len(pipelines)
    for name, family in FAMILIES.items():
        firsts = [
            p for p in pipelines if p.family == name and dict(p.hyperparameters) == dict(family.defaults(shape)[0])
        ]
        assert bool(firsts) == family.offered(shape)


def test_the_portfolio_follows_the_shape():
    def order(n_rows, n_columns):
        return [p.family for p in default_pipelines(FAMILIES, Shape(TaskKind.BINARY, n_rows, n_columns, 2, 2))]

    assert order(5_000, 20)[0] == "lightgbm"
    assert order(500, 900)[0] == "linear"
    assert "neighbors" not in order(500_000, 20)
    slow = {name for name in ("extra_trees", "neural", "mlp", "random_forest") if name in FAMILIES}
    assert set(order(500_000, 20)[-len(slow) :]) == slow


def test_perceptrons_come_early_but_where_there_are_rows_of_another_table() -> None:
    alone = Shape(TaskKind.BINARY, 500, 20, 2, 2, n_numeric=18)
    for shape, early in ((alone, True), (replace(alone, adaptations=("pooled",), n_source=9_000), False)):
        order = [p.family for p in default_pipelines(FAMILIES, shape)]
        assert (order.index("mlp") < order.index("extra_trees")) is early


def test_generated_features_come_early_where_something_can_be_made():
    def encodings(shape):
        return [p.encoding for p in default_pipelines(FAMILIES, shape)]

    assert "generated" in encodings(Shape(TaskKind.BINARY, 5_000, 20, 0, 2, n_numeric=20))[:4]
    for nothing in (
        Shape(TaskKind.BINARY, 60, 20, 0, 2, n_numeric=20),
        Shape(TaskKind.BINARY, 5_000, 900, 0, 2, n_numeric=900),
        Shape(TaskKind.BINARY, 5_000, 1, 0, 2, n_numeric=1),
    ):
        assert "generated" not in encodings(nothing)
        assert "generated" not in usable_encodings(FAMILIES["lightgbm"], nothing)


def test_statistics_come_early_where_a_category_has_many_values():
    few, many = (Shape(TaskKind.BINARY, 5_000, 20, 5, 2, 15, n_many) for n_many in (0, 1))
    place = [[p.encoding for p in default_pipelines(FAMILIES, shape)].index("target") for shape in (few, many)]
    assert place[1] < 5 < place[0]


def test_generated_features_can_be_left_out():
    left = {name: without_encoding(family, "generated") for name, family in FAMILIES.items()}
    shape = Shape(TaskKind.BINARY, 5_000, 20, 2, 2, n_numeric=18)
    assert "generated" in {p.encoding for p in default_pipelines(FAMILIES, shape)}
    assert "generated" not in {p.encoding for p in default_pipelines(left, shape)}
    assert all("generated" not in p.choices for n, p in build_space(left, shape).items() if n.endswith(":encoding"))
    assert without_encoding(FAMILIES["linear"], "one_hot").encodings == ("one_hot",)


def test_one_family_is_enough():
    shape = SHAPES[1]
    one = {"linear": FAMILIES["linear"]}
    assert {p.family for p in default_pipelines(one, shape)} == {"linear"}
    assert to_pipeline(build_space(one, shape).sample_configuration()).family == "linear"


def test_a_pipeline_of_another_run_is_completed():
    space = build_space(FAMILIES, SHAPES[1])
    configuration = to_configuration(space, Pipeline("linear", "one_hot", {"C": 0.5, "forgotten": 3}))
    assert dict(to_pipeline(configuration).hyperparameters) == {"C": 0.5, "elastic_net": False}


@pytest.mark.parametrize(
    "pipeline",
    [
        Pipeline("linear", "one_hot", {"C": 1e9}),
        Pipeline("linear", "native", {"C": 1.0}),
        Pipeline("nobody", "native", {}),
    ],
)
def test_a_pipeline_outside_the_space_is_refused(pipeline):
    with pytest.raises(UsageError):
        to_configuration(build_space(FAMILIES, SHAPES[1]), pipeline)


def test_finding_families_loads_no_library():
    code = (
        "import sys, automl_cli.families as f, automl_cli.space; f.find_families();"
        "print([m for m in ('sklearn', 'lightgbm', 'xgboost', 'catboost', 'scipy', 'ConfigSpace') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_missing_packages_leave_the_family_out_unless_asked_for():
    assert set(find_families()) <= set(find_families(include_missing=True))
    assert "catboost" in find_families(include_missing=True)


def test_what_is_for_small_tables_is_not_fitted_on_the_many_rows_of_a_source():
    many = Shape(TaskKind.BINARY, 200, 10, 0, 2, n_source=400_000, adaptations=("pooled", "feature"))
    plain = default_pipelines(FAMILIES, many)
    ways = ways_of(plain, FAMILIES, many)
    with_rows, with_outputs = ([pipeline.family for pipeline in ways[way]] for way in ("pooled", "feature"))
    assert "neighbors" in with_outputs
    assert "neighbors" not in with_rows
    slow = [family in ("random_forest", "extra_trees", "mlp", "neural") for family in with_rows]
    assert slow == sorted(slow), "what grows fastest with the rows comes last"
    assert usable_encodings(FAMILIES["neighbors"], many)[-1].endswith(":feature")
    assert not any(name.endswith(":pooled") for name in usable_encodings(FAMILIES["neighbors"], many))
    few = Shape(TaskKind.BINARY, 200, 10, 0, 2, n_source=4_000, adaptations=("pooled", "feature"))
    assert "neighbors" in [pipeline.family for pipeline in ways_of(plain, FAMILIES, few)["pooled"]]
