"""`automl nas` and `--nas`: networks are searched, drawn and saved; without torch one line says what is missing."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from automl_cli.background import Background
from automl_cli.clock import Deadline
from automl_cli.errors import MissingExtra, NoModel, UsageError
from automl_cli.events import Event
from automl_cli.families import find_families
from automl_cli.families.family import Shape
from automl_cli.families.neural import FAMILY, NETWORKS
from automl_cli.job import families_of
from automl_cli.metrics import TaskKind
from automl_cli.nas import STRATEGIES, Suggestion, known_networks, make_strategy, network_search
from automl_cli.options import FitOptions
from automl_cli.parts import Part
from automl_cli.proposing import _in_turn
from automl_cli.trial import Pipeline

Command = Callable[..., subprocess.CompletedProcess[str]]
SHAPE = Shape(TaskKind.BINARY, 400, 5, 1, 2, n_numeric=4)
WITH_TORCH = find_families(include_missing=True)["neural"].installed()
needs_torch = pytest.mark.skipif(not WITH_TORCH, reason="extra: neural")


def search(strategy: str, *, shape: Shape = SHAPE, seconds: Callable[[], float] | None = None):
    family = find_families(include_missing=True)["neural"]
    make = lambda space, fits: make_strategy(strategy, space, seed=1, fits=fits)  # noqa: E731
    return network_search(family, shape, make, n_folds=5, seconds=seconds)


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_proposes_pipelines_and_hears_what_they_lost(name: str) -> None:
    first, again = search(name), search(name)
    for number in range(12):
        pipeline, origin = first.ask()
        assert (pipeline, origin) == again.ask()
        assert pipeline.family == "neural"
        assert origin.startswith("nas ")
        assert 1 <= int(pipeline.hyperparameters["epochs"]) <= 150
        for one in (first, again):
            one.tell(pipeline, 0.3 + 0.01 * (number % 5) if number % 4 else None, 1.0)


def test_the_portfolios_networks_are_known_to_the_strategy() -> None:
    heard = []

    class Listening:
        def ask(self) -> Suggestion:
            raise AssertionError

        def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
            heard.append((str(suggestion.candidate.architecture), suggestion.fidelity, loss))

    family = find_families(include_missing=True)["neural"]
    optimizer = network_search(family, SHAPE, lambda space, fits: Listening(), n_folds=5)
    default = dict(family.defaults(SHAPE)[0])
    optimizer.tell(Pipeline("neural", "native", default), 0.2, 1.0)
    optimizer.tell(Pipeline("neural", "native", {**default, "architecture": "nonsense"}), 0.2, 1.0)
    optimizer.tell(Pipeline("lightgbm", "native", {}), 0.1, 1.0)
    assert heard == [(default["architecture"], 1.0, 0.2)]


@pytest.mark.parametrize(
    "shape",
    [
        SHAPE,
        Shape(TaskKind.REGRESSION, 300, 4, 4, 1),
        Shape(TaskKind.MULTICLASS, 5_000, 400, 0, 7, n_numeric=400),
        Shape(TaskKind.BINARY, 500_000, 20, 3, 2, n_numeric=17),
    ],
    ids=["usual", "no numbers", "many numbers", "many rows"],
)
def test_every_default_is_of_the_space_that_is_searched(shape: Shape) -> None:
    heard = []

    class Listening:
        def ask(self) -> Suggestion:
            raise AssertionError

        def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
            heard.append(suggestion.candidate)

    family = find_families(include_missing=True)["neural"]
    optimizer = network_search(family, shape, lambda space, fits: Listening(), n_folds=5)
    for default in family.defaults(shape):
        optimizer.tell(Pipeline("neural", "native", dict(default)), 0.2, 1.0)
    assert len(heard) == len(family.defaults(shape))
    assert {candidate for candidate, _ in known_networks(family.defaults(shape))} >= {*heard}


def test_a_search_begins_with_the_fixed_networks() -> None:
    family = find_families(include_missing=True)["neural"]
    defaults = family.defaults(SHAPE)
    known = known_networks(defaults)
    make = lambda space, fits: make_strategy("auto", space, seed=1, fits=fits, earlier=known)  # noqa: E731
    optimizer = network_search(family, SHAPE, make, n_folds=5)
    for number, default in enumerate(defaults[:2]):  # as the portfolio has them
        optimizer.tell(Pipeline("neural", "native", dict(default)), 0.2 + 0.1 * number, 1.0)
    asked = [optimizer.ask()[0].hyperparameters["architecture"] for _ in range(2)]
    assert asked[0] in NETWORKS[2:]  # evolution has a population to begin with
    block = NETWORKS[0].split(" | ")[1]
    assert block in str(asked[1])  # local search changes the best


def test_what_its_limit_cut_says_nothing_of_what_networks_take() -> None:
    def small_ones(took: float) -> list[object]:
        optimizer = search("mutation", seconds=lambda: 20.0)
        optimizer.tell(Pipeline("neural", "native", dict(FAMILY.defaults(SHAPE)[0])), 0.2, took)
        return [optimizer.ask()[0] for _ in range(5)]

    assert small_ones(25.0) == small_ones(21.0)  # cut by the limit: not learned from
    assert small_ones(25.0) != small_ones(0.01)


def test_counted_trials_give_the_same_networks_whatever_they_took() -> None:
    slow, fast = search("auto"), search("auto")
    for number in range(16):
        pipeline, _ = slow.ask()
        assert pipeline == fast.ask()[0]
        slow.tell(pipeline, 0.4 - 0.01 * (number % 7), 50.0 / (1 + number))
        fast.tell(pipeline, 0.4 - 0.01 * (number % 7), 0.1)


def test_counted_trials_take_minutes_a_fold_not_hours() -> None:
    shape = Shape(TaskKind.BINARY, 100_000, 40, 0, 2, n_numeric=40)
    for strategy in ("random", "reinforce"):
        optimizer = search(strategy, shape=shape)
        for _ in range(25):
            whole = {**optimizer.ask()[0].hyperparameters, "epochs": FAMILY.defaults(shape)[0]["epochs"]}
            assert FAMILY.seconds(shape, whole) < 1.5 * 600  # of all rows, a fold has four fifths of them


def test_a_table_that_is_too_large_for_any_network_has_the_smallest_ones_tried() -> None:
    assert search("random", shape=Shape(TaskKind.BINARY, 50_000_000, 10, 0, 2, n_numeric=10)).ask()


def test_short_trainings_are_known_again_after_a_resume() -> None:
    first, resumed = search("random"), search("random")
    told = []
    for number in range(12):
        pipeline, _ = first.ask()
        told.append((pipeline, 0.5 - 0.01 * number))
        first.tell(*told[-1], 1.0)
    for pipeline, loss in told:
        resumed.tell(pipeline, loss, 1.0)
    epochs = {int(optimizer.ask()[0].hyperparameters["epochs"]) for optimizer in (first, resumed)}
    assert len(epochs) == 1  # the best of the short ones goes on, in both


def test_where_seconds_are_few_only_small_networks_are_proposed() -> None:
    def length_of_text(seconds: float) -> float:
        optimizer = search("mutation", seconds=lambda: seconds)
        return float(np.mean([len(str(optimizer.ask()[0].hyperparameters["architecture"])) for _ in range(20)]))

    assert length_of_text(8.0) < length_of_text(10_000.0)


def options(**more: object) -> FitOptions:
    return FitOptions(data="d.csv", target="y", out=Path("m.automl"), **more)  # type: ignore[arg-type]


def test_networks_are_searched_where_there_is_time_or_they_are_asked_for() -> None:
    assert ("neural" in families_of(options(seconds=300.0))) == WITH_TORCH
    assert "neural" not in families_of(options(seconds=60.0))
    assert "neural" not in families_of(options(nas="off"))
    assert "neural" not in families_of(options(n_trials=5))
    with pytest.raises(UsageError, match="off"):
        families_of(options(nas="off", include=("neural", "linear")))
    with pytest.raises(UsageError, match="smac"):
        families_of(options(nas="random", without=frozenset({Part.SMAC})))
    with pytest.raises(UsageError, match="left out"):
        families_of(options(nas="random", exclude=("neural",)))
    if WITH_TORCH:
        assert "neural" in families_of(options(seconds=60.0, nas="random"))
    else:
        with pytest.raises(MissingExtra, match="torch"):
            families_of(options(seconds=60.0, nas="random"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nas")
    rng = np.random.default_rng(3)
    x = rng.normal(size=(160, 2)).round(3)
    kind = rng.choice(["a", "b"], 160)
    y = np.where(x[:, 0] * np.where(kind == "a", 1, -1) + 0.2 * rng.normal(size=160) > 0, "yes", "no")
    lines = [f"{a},{b},{k},{label}" for (a, b), k, label in zip(x, kind, y, strict=True)]
    (folder / "d.csv").write_text("\n".join(["x,z,kind,y", *lines]) + "\n")
    return folder


@needs_torch
def test_networks_are_found_drawn_and_saved(automl: Command, command: Command, folder: Path) -> None:
    done = automl("nas", "d.csv", "-t", "y", "--time", "20s", "--nas", "evolution", "-o", "m.automl", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "┌" in done.stdout
    assert "multiply-adds" in done.stdout
    drawn = command("inspect", "m.automl", "--architecture", cwd=folder)
    assert drawn.returncode == 0
    assert "2 classes" in drawn.stdout
    members = json.loads(command("inspect", "m.automl", "--json", cwd=folder).stdout)["members"]
    assert {member["family"] for member in members} == {"neural"}
    assert command("predict", "m.automl", "d.csv", cwd=folder).stdout.count("\n") == 161


@pytest.mark.skipif(WITH_TORCH, reason="torch is installed")
def test_without_torch_one_line_says_how_to_get_it(command: Command, folder: Path) -> None:
    for line in (("nas", "d.csv", "-t", "y"), ("fit", "d.csv", "-t", "y", "--nas", "evolution")):
        done = command(*line, "--trials", 1, cwd=folder)
        assert done.returncode == 2
        assert "pip install 'automl-cli[neural]'" in done.stderr


def test_a_search_that_is_interrupted_before_a_model_draws_no_other_one(
    command: Command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(*arguments: object) -> Iterator[Event]:
        os.kill(os.getpid(), signal.SIGTERM)
        raise NoModel("nothing was fitted")
        yield

    monkeypatch.setattr("automl_cli.workflow.fit", nothing)
    line = ("nas", "d.csv", "-t", "y", "--trials", 1, "-o")
    model = shutil.copy(Path(__file__).parent / "data" / "models" / "format-2.automl", tmp_path)
    for out in (tmp_path / "none.automl", model):
        done = command(*line, out, cwd=folder)
        assert (done.returncode, done.stdout) == (143, "")
        assert done.stderr == "automl: interrupted before there was a model\n"


def test_a_model_without_networks_has_nothing_to_draw(command: Command, folder: Path) -> None:
    cheap = ("--trials", 1, "--folds", 2, "--include", "linear", "-q", "-o", "linear.automl")
    assert command("fit", "d.csv", "-t", "y", *cheap, cwd=folder).returncode == 0
    done = command("inspect", "linear.automl", "--architecture", cwd=folder)
    assert done.returncode == 2
    assert "holds no network" in done.stderr


def test_networks_do_not_wait_for_the_end_of_what_was_recalled() -> None:
    recalled = [Pipeline("lightgbm", "native", {"n": n}) for n in range(10)]
    networks = [Pipeline("neural", "native", {"n": n}) for n in range(3)]
    rest = [Pipeline("linear", "one_hot", {"C": 1.0}), *networks]
    optimizer = _in_turn(recalled, rest, Background(lambda: search("random")), Deadline.after(300))
    asked = [optimizer.ask() for _ in range(14)]
    assert [pipeline for pipeline, _ in asked] == [*recalled[:3], *networks[:2], *recalled[3:], rest[0], networks[2]]
    assert [origin for _, origin in asked].count("recalled") == 10
