"""Models under limits: size, time per row, and one model only."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from automl_cli.cli.settings import parse_latency, parse_size
from automl_cli.delivery import save
from automl_cli.errors import TooLarge, UsageError
from automl_cli.members import OofCache
from automl_cli.options import FitOptions
from automl_cli.runs import list_runs
from automl_cli.seen import SeenRows
from automl_cli.small import Ceiling, Costs, Small, choose_small
from automl_cli.trial import Success
from automl_cli.trialfiles import trial_folder
from tests.test_members import finished, noisy, run_data

Command = Callable[..., subprocess.CompletedProcess[str]]
JOB = ("fit", "day.csv", "-t", "y", "-o", "m.automl", "--trials", "6", "--folds", "3",
       "--include", "linear", "--include", "lightgbm", "--include", "extra_trees")  # fmt: skip


@pytest.fixture(scope="module")
def failed(command: Command, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a run that could not keep its limit, and what it said."""
    folder = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4)).round(4)
    y = (x[:, 0] * 2 + np.sin(2 * x[:, 1]) + x[:, 2] * x[:, 3] + 0.3 * rng.normal(size=400)).round(4)
    rows = "".join(",".join(map(str, (*row, value))) + "\n" for row, value in zip(x, y, strict=True))
    (folder / "day.csv").write_text("a,b,c,d,y\n" + rows)
    answer = command(*JOB, "--run-dir", "kept", "--max-size", "2kB", cwd=folder)
    assert answer.returncode == 4, answer.stderr
    return folder, answer.stderr


@pytest.fixture
def resumed(command: Command, failed: tuple[Path, str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Go on with a copy of that run under other limits; gives the summary."""

    def run(*limits: str) -> dict[str, Any]:
        folder, place = failed[0], tmp_path / "run"
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(folder / "kept", place)
        answer = command(*JOB, "--run-dir", place, "--resume", "--json", *limits, cwd=folder)
        assert answer.returncode == 0, answer.stderr
        assert not (place / "draft.automl").exists()
        found: dict[str, Any] = json.loads(answer.stdout)
        return {**found, "said": answer.stderr}

    return run


def manifest_of(command: Command, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command("inspect", "m.automl", "--json", cwd=folder).stdout)
    return found


def predictions(command: Command, folder: Path, model: str = "m.automl") -> str:
    answer = command("predict", model, "day.csv", cwd=folder)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def test_a_limit_that_nothing_keeps_is_no_model_and_says_what_can_be_had(failed: tuple[Path, str]) -> None:
    folder, said = failed
    assert "no model keeps the limits: the least one takes" in said
    assert "more than 2 kB; nothing is saved" in said
    assert "--resume --max-size" in said
    assert not (folder / "m.automl").exists()
    assert len((folder / "kept" / "journal.jsonl").read_text().splitlines()) == 6


def test_what_it_says_can_be_had_is_had(
    failed: tuple[Path, str], resumed: Callable[..., dict[str, Any]], command: Command
) -> None:
    option = failed[1].rsplit("--max-size ", 1)[1].split()[0]
    found = resumed("--max-size", option)
    assert (failed[0] / "m.automl").stat().st_size <= parse_size(option)
    assert found["footprint"]["n_models"] == 1
    assert len(predictions(command, failed[0]).splitlines()) == 401


@pytest.mark.parametrize("n_bytes", [15_000, 60_000, 300_000])
def test_the_file_is_never_larger_than_it_may_be(
    command: Command, failed: tuple[Path, str], resumed: Callable[..., dict[str, Any]], n_bytes: int
) -> None:
    found = resumed("--max-size", f"{n_bytes}")
    written = (failed[0] / "m.automl").stat().st_size
    assert written == found["n_bytes"] <= n_bytes
    footprint = found["footprint"]
    assert footprint["ceiling"]["n_bytes"] == n_bytes
    assert footprint["measured"]
    assert footprint["unlimited"]["score"] <= found["score"] + 1e-9  # an error: without limits it is not larger
    assert footprint["unlimited"]["n_models"] >= footprint["n_models"]
    assert "without limits: about" in found["said"]
    assert len(predictions(command, failed[0]).splitlines()) == 401
    kept = manifest_of(command, failed[0])
    assert kept["footprint"] == footprint
    assert sum(len(member["folds"]) for member in kept["members"]) == footprint["n_models"]
    shown = command("inspect", "m.automl", cwd=failed[0]).stdout
    assert "a row; without limits: about" in shown


@pytest.mark.alone
def test_what_is_slow_is_left_out(failed: tuple[Path, str], resumed: Callable[..., dict[str, Any]]) -> None:
    free = resumed("--max-latency", "1s")
    assert free["footprint"]["n_models"] > 1
    assert free["footprint"]["n_models"] == free["footprint"]["unlimited"]["n_models"]
    limit = free["footprint"]["row_seconds"] / 4
    few = resumed("--max-latency", f"{1e6 * limit:.4f}us")
    assert few["footprint"]["measured"]
    assert few["footprint"]["row_seconds"] <= limit
    assert few["footprint"]["n_models"] < free["footprint"]["n_models"]


def test_compact_is_one_model_fitted_on_all_rows(
    command: Command, failed: tuple[Path, str], resumed: Callable[..., dict[str, Any]]
) -> None:
    found = resumed("--compact")
    (member,) = manifest_of(command, failed[0])["members"]
    assert len(member["folds"]) == 1
    best = manifest_of(command, failed[0])["leaderboard"][0]
    assert member["number"] == best["number"]
    assert found["score"] == pytest.approx(best["score"])  # of the pipeline on rows it had not seen
    errors = np.genfromtxt((failed[0] / "day.csv"), delimiter=",", skip_header=1)[:, -1] - np.array(
        [float(line) for line in predictions(command, failed[0]).splitlines()[1:]]
    )
    assert np.sqrt(np.mean(errors**2)) < found["score"], "it was fitted on these rows"


def test_under_a_limit_the_same_run_gives_the_same_bytes(
    command: Command, failed: tuple[Path, str], tmp_path: Path
) -> None:
    for workers in ("1", "2"):
        line = (*JOB[:-2], "--max-size", "40kB", "--workers", workers, "-o", f"{workers}.automl", "-q")
        assert command(*line, cwd=failed[0]).returncode == 0
    assert predictions(command, failed[0], "1.automl") == predictions(command, failed[0], "2.automl")


def test_a_run_in_the_users_folder_can_go_on_with_another_limit(
    command: Command, failed: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    line = (*JOB[:7], "3", "--folds", "2", "--include", "linear")
    assert command(*line, "--max-size", "2kB", "--compact", cwd=failed[0]).returncode == 4
    (run,) = list_runs()
    assert run.status == "interrupted"
    assert command("runs", "resume", run.name, cwd=tmp_path).returncode == 4
    answer = command("runs", "resume", run.name, "--max-size", "1MB", "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["footprint"]["ceiling"] == {
        "n_bytes": 1_000_000,
        "row_seconds": None,
        "one_model": True,
    }


def test_under_a_time_order_a_limited_model_has_single_models_too(
    command: Command, failed: tuple[Path, str], tmp_path: Path
) -> None:
    lines = (failed[0] / "day.csv").read_text().splitlines()
    ordered = [f"{line},{number}" for number, line in enumerate(lines[1:])]
    (tmp_path / "day.csv").write_text("\n".join([f"{lines[0]},when", *ordered]) + "\n")
    line = (*JOB[:6], "--trials", "4", "--include", "linear", "--time-column", "when")
    answer = command(*line, "--max-size", "20kB", "--json", cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout)
    assert found["footprint"]["n_models"] == len(found["members"])
    assert (tmp_path / "m.automl").stat().st_size <= 20_000


@pytest.mark.parametrize(
    ("option", "value"),
    [("--max-size", "much"), ("--max-size", "10"), ("--max-latency", "50"), ("--max-latency", "0us")],
)
def test_what_is_no_limit_is_refused(command: Command, failed: tuple[Path, str], option: str, value: str) -> None:
    assert command(*JOB, option, value, cwd=failed[0]).returncode == 2


def test_limits_are_read_with_their_units() -> None:
    assert (parse_size("1.5MB"), parse_size("2MiB"), parse_size("500 kB")) == (1_500_000, 2_097_152, 500_000)
    assert (parse_latency("50us"), parse_latency("50µs"), parse_latency("0.5ms")) == pytest.approx((5e-5, 5e-5, 5e-4))
    with pytest.raises(UsageError, match="not a time of a row"):
        parse_latency("fast")


def test_limits_are_kept_with_a_run_and_do_not_keep_it_from_going_on(tmp_path: Path) -> None:
    plain = FitOptions(str(tmp_path / "d.csv"), "y", tmp_path / "m.automl")
    limited = replace(plain, max_bytes=10_000_000, max_row_seconds=5e-5, compact=True)
    assert FitOptions.from_json(json.loads(json.dumps(limited.to_json()))) == limited
    assert limited.settings() == plain.settings()


def sized(run: Path, trial: Success, n_bytes: int, row_seconds: float = 1e-6) -> Success:
    """Give each model of a trial content that does not get smaller, and a time."""
    for k in range(len(trial.losses)):
        folder = trial_folder(run, trial.proposal.number) / f"fold_{k}"
        (folder / "encoder").mkdir()
        content = np.random.default_rng([trial.proposal.number, k]).bytes(n_bytes)
        (folder / "model" / "model.txt").write_bytes(content)
    return replace(trial, n_bytes=(n_bytes,) * len(trial.losses), row_seconds=(0.0, row_seconds))


def small_of(run: Path, noises: Mapping[int, float], sizes: Mapping[int, int], limit: int | None) -> Small:
    data = run_data()
    trials = [sized(run, finished(run, data, k, noisy(k, noise)), sizes[k]) for k, noise in noises.items()]
    found = choose_small(trials, Costs(OofCache(run, data), Ceiling(n_bytes=limit)))
    assert found is not None
    return found


def test_with_room_for_all_nothing_changes(tmp_path: Path) -> None:
    found = small_of(tmp_path, {0: 1.0, 1: 1.0, 2: 1.0}, {0: 1000, 1: 1000, 2: 1000}, 100_000)
    assert len(found.chosen.members) > 1
    assert not found.singles


def test_bags_become_single_models_before_members_go(tmp_path: Path) -> None:
    found = small_of(tmp_path, {0: 1.0, 1: 1.0}, {0: 10_000, 1: 10_000}, 36_000)
    assert len(found.chosen.members) == 2
    assert len(found.singles) == 1, "what room is left is that of one bag"
    assert found.cost.n_bytes <= 36_000


def test_the_dear_member_goes_where_others_do_nearly_as_well(tmp_path: Path) -> None:
    found = small_of(tmp_path, {0: 1.0, 1: 1.0, 2: 1.0}, {0: 2_000, 1: 30_000, 2: 2_000}, 32_000)
    assert [trial.proposal.number for trial, _ in found.chosen.members] == [0, 2]
    assert not found.singles


def test_the_slow_member_goes(tmp_path: Path) -> None:
    data = run_data()
    trials = [
        sized(tmp_path, finished(tmp_path, data, k, noisy(k, 1.0)), 1000, row_seconds)
        for k, row_seconds in enumerate((1e-6, 1e-4, 1e-6))
    ]
    found = choose_small(trials, Costs(OofCache(tmp_path, data), Ceiling(row_seconds=1.01e-4)))
    assert found is not None
    assert [trial.proposal.number for trial, _ in found.chosen.members] == [0, 2]
    assert not found.singles
    assert found.cost.row_seconds == pytest.approx(4e-6)


def test_what_two_members_share_is_counted_once(tmp_path: Path) -> None:
    data = run_data()
    trials = [sized(tmp_path, finished(tmp_path, data, k, noisy(k, 1.0)), 1000) for k in range(2)]
    trials = [replace(trial, row_seconds=(1e-5, 1e-6)) for trial in trials]  # with the same encoding
    costs = Costs(OofCache(tmp_path, data), Ceiling(one_model=True))
    assert costs.of(trials, {0, 1}).row_seconds == pytest.approx(1.2e-5)
    assert costs.of(trials, ()).row_seconds == pytest.approx(2.4e-5)


def test_a_trial_that_alone_exceeds_the_limit_is_out(tmp_path: Path) -> None:
    found = small_of(tmp_path, {0: 0.01, 1: 2.0}, {0: 50_000, 1: 500}, 20_000)
    assert [trial.proposal.number for trial, _ in found.chosen.members] == [1]


def test_where_nothing_fits_the_nearest_is_named(tmp_path: Path) -> None:
    found = small_of(tmp_path, {0: 0.01, 1: 2.0}, {0: 50_000, 1: 30_000}, 5_000)
    assert [trial.proposal.number for trial, _ in found.chosen.members] == [1]
    assert found.cost.n_bytes > 5_000


def test_one_model_is_the_best_of_those_that_fit(tmp_path: Path) -> None:
    data = run_data()
    trials = [sized(tmp_path, finished(tmp_path, data, k, noisy(k, 0.2 + k)), 1000, 1e-5 / (k + 1)) for k in range(3)]
    costs = Costs(OofCache(tmp_path, data), Ceiling(row_seconds=6e-6, one_model=True))
    found = choose_small(trials, costs)
    assert found is not None
    assert [trial.proposal.number for trial, _ in found.chosen.members] == [1]
    assert found.singles == {1}
    assert found.chosen.mean_loss == pytest.approx(trials[1].loss, rel=1e-5)


class Narrow:
    """A model that takes no bytes beside what is attached to it."""

    def __init__(self, most_bytes: int) -> None:
        self.costs = SimpleNamespace(ceiling=Ceiling(n_bytes=most_bytes))
        self.attached: Mapping[str, Any] = {}

    def write(self, *_: object, attached: Mapping[str, Any], most_bytes: int, **__: object) -> None:
        n_bytes = sum(len(content) for _, content in attached.values())
        if n_bytes > most_bytes:
            raise TooLarge("too large", n_bytes=n_bytes)
        self.attached = attached


@pytest.mark.parametrize(("most_bytes", "n_rows", "n_notices"), [(9_000, 1_000, 0), (2_000, 125, 0), (900, 0, 1)])
def test_where_room_is_short_some_of_the_rows_are_known(most_bytes: int, n_rows: int, n_notices: int) -> None:
    seen = SeenRows(b"salt", 2**64 - 1, np.sort(np.random.default_rng(0).integers(0, 2**63, 1_000).astype(np.uint64)))
    attached = {"rows": (seen.to_json(), seen.to_bytes()), "reference": ({}, b"x" * 500)}
    model, summary = Narrow(most_bytes), SimpleNamespace(to_manifest=dict)
    notices = save(model, Path("m.automl"), summary, {}, attached, None)  # type: ignore[arg-type]
    assert "reference" in model.attached
    assert len(notices) == n_notices
    kept = SeenRows.from_parts(*model.attached["rows"]).hashes if n_rows else ()
    assert len(kept) == n_rows
