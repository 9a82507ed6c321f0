"""Flag, environment, automl.toml, default: in this order, and it can be seen which it was."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from automl_cli.cli.settings import load_settings, parse_bytes, parse_seconds, parse_wait
from automl_cli.errors import UsageError

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def shown(command: Command, tmp_path: Path) -> Callable[..., dict[str, tuple[str, str]]]:
    """Return option -> (value, source) as `fit --show-settings` prints them in a folder with this automl.toml."""

    def run(toml: str = "", *flags: str) -> dict[str, tuple[str, str]]:
        (tmp_path / "automl.toml").write_text(toml, encoding="utf-8")
        done = command("fit", "d.csv", *flags, "--show-settings", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        lines = [line.split() for line in done.stdout.splitlines()]
        return {words[0]: (" ".join(words[1:-1]), words[-1]) for words in lines}

    return run


def test_each_source_beats_the_next(
    shown: Callable[..., dict[str, tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = '[fit]\ntarget = "y"\nfolds = 3\ntrials = 4\nseed = 5\n'
    monkeypatch.setenv("AUTOML_TRIALS", "6")
    monkeypatch.setenv("AUTOML_SEED", "7")
    found = shown(toml, "--seed", "8")
    assert found["seed"] == ("8", "flag")
    assert found["trials"] == ("6", "environment")
    assert found["folds"] == ("3", "automl.toml")
    assert found["metric"] == ("-", "default")
    assert found["target"] == ("y", "automl.toml")


def test_without_a_file_the_defaults_stand(command: Command, tmp_path: Path) -> None:
    done = command("fit", "d.csv", "-t", "y", "--show-settings", cwd=tmp_path)
    sources = {line.split()[0]: line.split()[-1] for line in done.stdout.splitlines()}
    assert sources.pop("data") == sources.pop("target") == "flag"
    assert sources.pop("experience") == "environment"  # the tests' own
    assert set(sources.values()) == {"default"}


def test_options_given_several_times(
    shown: Callable[..., dict[str, tuple[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = '[fit]\ntarget = "y"\nexclude = ["neighbors", "linear"]\nignore = ["a b", "c"]\n'
    monkeypatch.setenv("AUTOML_INCLUDE", "lightgbm xgboost")
    found = shown(toml, "--ignore", "d")
    assert found["include"] == ("lightgbm, xgboost", "environment")
    assert found["exclude"] == ("neighbors, linear", "automl.toml")
    assert found["ignore"] == ("d", "flag")


def test_one_value_of_an_option_given_several_times_needs_no_list(
    shown: Callable[..., dict[str, tuple[str, str]]],
) -> None:
    found = shown('[fit]\ntarget = "y"\nignore = "customer id"\nfolds = 4\n')
    assert found["ignore"] == ("customer id", "automl.toml")


def test_columns_to_repeat_may_be_a_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from automl_cli.cli import app
    from automl_cli.cli.predict import names_of

    monkeypatch.chdir(tmp_path)
    Path("automl.toml").write_text('[predict]\ncolumns = ["id", "a, b"]\n')
    group = typer.main.get_command(app)
    read = load_settings(typer.Context(group))
    assert names_of(read["predict"]["columns"]) == ("id", "a, b")


def test_a_settings_file_that_is_a_folder_is_told(command: Command, tmp_path: Path) -> None:
    (tmp_path / "automl.toml").mkdir()
    done = command("profile", "d.csv", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "automl: automl.toml cannot be read (Is a directory): mend it or move it away\n"


@pytest.mark.parametrize(("value", "shows"), [("0", False), ("false", False), ("1", True)])
def test_debug_is_switched_in_the_environment_as_any_other_option(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, shows: bool
) -> None:
    monkeypatch.setenv("AUTOML_DEBUG", value)
    done = command("profile", "nosuch.csv", cwd=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("Traceback") == shows


@pytest.mark.parametrize("key", ["weight-column", "weight_column"])
def test_keys_are_spelled_like_options(shown: Callable[..., dict[str, tuple[str, str]]], key: str) -> None:
    assert shown(f'[fit]\ntarget = "y"\n{key} = "größe"\n')["weight-column"] == ("größe", "automl.toml")


def test_switches_numbers_and_durations(shown: Callable[..., dict[str, tuple[str, str]]]) -> None:
    found = shown('[fit]\ntarget = "y"\nquiet = true\njson = false\ntime = 90\nmemory = "2GB"\n')
    assert found["quiet"] == ("True", "automl.toml")
    assert found["json"] == ("False", "automl.toml")
    assert found["time"] == ("90", "automl.toml")
    assert found["memory"] == ("2GB", "automl.toml")


def test_settings_of_one_command_are_no_settings_of_another(command: Command, tmp_path: Path) -> None:
    (tmp_path / "automl.toml").write_text('[fit]\ntarget = "y"\n\n[profile]\nignore = ["b"]\n')
    (tmp_path / "d.csv").write_text("a,b\n" + "".join(f"{i}.5,{i * i}\n" for i in range(30)))
    done = command("profile", "d.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "1 columns" in done.stdout
    assert "b " not in done.stdout


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('[fits]\ntarget = "y"\n', "did you mean 'fit'?"),
        ('[fit]\ntarget = ["y"]\n', "automl.toml sets 'target' to a list, and it takes one value"),
        ("[runs]\njson = true\n", "[runs], which takes no settings"),
        ('[experience]\nexperience = "e.sqlite"\n', "[experience], which takes no settings"),
        ('[fit]\ntarget = "y"\nquiet = "perhaps"\n', "--quiet"),
        ('[fit]\ntarget = "y"\nfolds = 1\n', "--folds"),
        ('[fit]\ntarget = "y"\nproba = true\n', "'proba'"),
        ("[fit]\ntarget = \n", "not valid TOML"),
    ],
)
def test_a_setting_that_cannot_be_is_named(command: Command, tmp_path: Path, toml: str, says: str) -> None:
    (tmp_path / "automl.toml").write_text(toml)
    done = command("fit", "d.csv", "--show-settings", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


@given(st.integers(0, 40), st.integers(0, 59), st.integers(0, 59))
def test_durations_add_up(hours: int, minutes: int, seconds: int) -> None:
    total = 3600 * hours + 60 * minutes + seconds
    text = f"{hours}h{minutes}m{seconds}s"
    if total:
        assert parse_seconds(text) == parse_seconds(str(total)) == parse_seconds(f" {text.upper()} ") == total
    else:
        with pytest.raises(UsageError):
            parse_seconds(text)


@pytest.mark.parametrize("text", [None, "0", "0s", " 0m "])
def test_no_wait_is_a_wait_of_no_time(text: str | None) -> None:
    assert parse_wait(text) == 0
    assert parse_wait("10m") == 600


@pytest.mark.parametrize("text", ["", "s", "10x", "1h 5", "-3s", "1e3", "inf", "nan", "0s", "9" * 400])
def test_no_duration(text: str) -> None:
    with pytest.raises(UsageError):
        parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [("4GB", 4 * 10**9), ("2GiB", 2**31), ("1.5 gb", 15 * 10**8), ("300M", 3 * 10**8), ("3e9", None), ("-1GB", None),
     ("lots", None), ("100MB", None), ("", None), ("GB", None), ("4PB", None)],
)  # fmt: skip
def test_sizes(text: str, n_bytes: int | None) -> None:
    if n_bytes is None:
        with pytest.raises(UsageError):
            parse_bytes(text)
    else:
        assert parse_bytes(text) == n_bytes
