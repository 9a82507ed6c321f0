"""The transfer benchmark: which rows are drawn, what each system is given, and what the report counts."""

import csv
import gzip
import json
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare.rows import append_line
from benchmarks.transfer import main
from benchmarks.transfer_pairs import Drawn, draw, find_pairs, lay_out, per_class, points
from benchmarks.transfer_report import Run, against, at_least, errors_of, labels_for, read_runs, saved_by

ODD = ("NA", "1.0", "01", "1e3", " x ", 'a "b", c', "None", "", "TRUE")
PROGRAM = """
    import json, sys
    from pathlib import Path

    command, *words = sys.argv[1:]
    option = dict(zip(words, words[1:]))
    rows = lambda name: len(Path(name).read_text().splitlines()) - 1
    if command == "fit":
        with Path(CALLS).open("a") as file:
            given = option.get("--source") or option.get("--adapt-to")
            seen = given and (Path(given).read_text() if given.endswith(".automl") else rows(given))
            print(json.dumps([words[0], rows(words[0]), option["--seed"], given, seen]), file=file)
        if "--adapt-to" in option:
            sys.exit("automl: it cannot adapt")
        Path(option["--out"]).write_text(f"{words[0]} {option['--seed']}")
        print(json.dumps({"n_trials": 2, "transfer": {"taken": given}} if given else {"n_trials": 2}))
    else:
        shift = 0.5 if Path(words[0]).read_text().startswith("source") else 0.25
        lines = [f"{float(line.split(',')[0]) + shift}" for line in Path(words[1]).read_text().splitlines()[1:]]
        Path(option["-o"]).write_text("\\n".join(["prediction", *lines]))
"""


def write(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A regression whose target is column x, and three classes, one of them rare, beside odd cells."""
    place = tmp_path / "tables"
    rng = np.random.default_rng(1)
    tables: dict[str, tuple[list[str], Callable[[int], list[object]]]] = {
        "line": (["x", "note", "y"], lambda i: [x := round(rng.normal(), 3), ODD[i % len(ODD)], x]),
        "kinds": (["kind", "x", "note"], lambda i: ["rare" if i % 10 == 0 else "ab"[i % 2], i, ODD[i % len(ODD)]]),
    }
    for name, (header, row) in tables.items():
        for part, n in (("source", 80), ("target_train", 20), ("target_test", 60)):
            write(place / "transfer" / name / f"{part}.csv.gz", header, [row(i) for i in range(n)])
    about = {"line": {"task": "regression", "target": "y"}, "kinds": {"task": "multiclass", "target": "kind"}}
    (place / "index.json").write_text(json.dumps({"dev": {}, "transfer": about}))
    return place


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Another program of the same commands, which notes what it is given."""
    place = tmp_path / "checkout"
    (place / "automl_cli").mkdir(parents=True)
    (place / "automl_cli" / "__init__.py").touch()
    source = textwrap.dedent(PROGRAM).replace("CALLS", repr(str(tmp_path / "calls.jsonl")))
    (place / "automl_cli" / "__main__.py").write_text(source)
    return place


def calls(tmp_path: Path) -> list[list[object]]:
    path = tmp_path / "calls.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


# --- which rows are drawn ---


def test_first_seed_keeps_the_rows_that_the_pair_comes_with(folder: Path) -> None:
    for pair in find_pairs(folder):
        assert draw(pair, 0, None) == Drawn(tuple(range(20)), tuple(range(20, 80)))
        assert draw(pair, 1, None) == draw(pair, 1, 20) != draw(pair, 2, None)
        assert draw(pair, 0, 20) != draw(pair, 0, None)


@pytest.mark.parametrize("n", [3, 10, 17, 40])
def test_every_row_of_the_pool_is_labelled_or_scored(folder: Path, n: int) -> None:
    for pair in find_pairs(folder):
        drawn = draw(pair, 3, n)
        assert len(drawn.labelled) == n
        assert sorted(drawn.labelled + drawn.scored) == list(range(80))
        assert drawn == draw(find_pairs(folder, [pair.name])[0], 3, n)


@pytest.mark.parametrize("n", [3, 10, 40])
def test_classes_are_drawn_by_their_share_and_none_is_left_out(folder: Path, n: int) -> None:
    (pair,) = find_pairs(folder, ["kinds"])
    drawn = Counter(pair.labels[at] for at in draw(pair, 5, n).labelled)
    for label, count in Counter(pair.labels).items():
        assert drawn[label] >= 1
        assert abs(drawn[label] - n * count / 80) < 1 or n == 3


def test_sharing_out_a_few_rows_over_classes() -> None:
    assert per_class({"a": 1, "b": 1, "c": 98}, 3) == {"a": 1, "b": 1, "c": 1}
    assert sum(per_class({"a": 1, "b": 1, "c": 98}, 2).values()) == 2
    assert per_class({"a": 50, "b": 30, "c": 20}, 10) == {"a": 5, "b": 3, "c": 2}


def test_numbers_of_labels_that_leave_too_few_rows_to_score_are_skipped(folder: Path) -> None:
    (pair,) = find_pairs(folder, ["line"])
    assert points(pair, None) == [None]
    assert points(pair, [10, 40, 41, 70]) == [10, 40]  # half of 80


def test_cells_keep_their_text(folder: Path, tmp_path: Path) -> None:
    (pair,) = find_pairs(folder, ["kinds"])
    drawn = draw(pair, 1, 30)
    lay_out(pair, drawn, tmp_path)
    written = {}
    for name in ("train", "test", "source", "pooled", "features", "unlabelled"):
        with (tmp_path / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        assert header == (["x", "note"] if name in ("features", "unlabelled") else ["kind", "x", "note"])
        written[name] = rows
    assert written["train"] == [list(pair.pool[at]) for at in drawn.labelled]
    assert written["pooled"] == [*written["train"], *written["source"]]
    assert written["features"] == [row[1:] for row in written["test"]]
    assert [row[1] for row in written["unlabelled"]] == [ODD[i % len(ODD)] for n in (20, 60) for i in range(n)]
    assert {row[2] for row in written["source"]} == set(ODD)


def test_rows_without_a_target_are_left_out_of_the_pool(folder: Path) -> None:
    write(folder / "transfer" / "line" / "target_train.csv.gz", ["x", "note", "y"], [["1", "a", ""], ["2", "b", "2"]])
    (pair,) = find_pairs(folder, ["line"])
    assert (pair.n_given, len(pair.pool)) == (1, 61)


def test_pairs_that_cannot_be_read(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "runs.jsonl")]
    assert main(["run", str(tmp_path), *out]) == 2
    assert main(["run", str(folder), *out, "--names", "nobody"]) == 2
    assert "it has line, kinds" in capsys.readouterr().err
    write(folder / "transfer" / "line" / "source.csv.gz", ["x", "y"], [["1", "2"]])
    assert main(["run", str(folder), *out]) == 3
    (folder / "transfer" / "line" / "source.csv.gz").unlink()
    assert main(["run", str(folder), *out]) == 2


# --- what is run ---


def test_each_system_is_given_its_files_in_turn_and_nothing_is_run_twice(
    folder: Path, program: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs.jsonl"
    words = ["run", str(folder), "--out", str(out), "--names", "line", "--program", str(program), "--seeds", "2"]
    assert main(words) == 0
    whole, model = ["source.csv", 80], "source.automl"
    assert calls(tmp_path) == [
        ["train.csv", 20, "0", None, None],
        ["pooled.csv", 100, "0", None, None],
        [*whole, "0", None, None],
        ["train.csv", 20, "0", "source.csv", 80],
        ["train.csv", 20, "0", model, "source.csv 0"],
        [*whole, "0", "unlabelled.csv", 80],
        ["pooled.csv", 100, "1", None, None],
        [*whole, "1", None, None],
        ["train.csv", 20, "1", "source.csv", 80],
        ["train.csv", 20, "1", model, "source.csv 0"],
        [*whole, "1", "unlabelled.csv", 80],
        ["train.csv", 20, "1", None, None],
    ]
    runs = {(run.seed, run.system): run for run in read_runs([out])}
    assert {system: run.error for (seed, system), run in runs.items() if seed == 1} == {
        "target_only": pytest.approx(0.25),
        "pooled": pytest.approx(0.25),
        "source_only": pytest.approx(0.5),
        "transfer": pytest.approx(0.25),
        "from_model": pytest.approx(0.25),
        "adapt": None,
    }
    assert runs[0, "adapt"].failure == "exit status 1: automl: it cannot adapt"
    assert runs[0, "transfer"].transfer == {"taken": "source.csv"}
    assert runs[0, "target_only"].transfer is None
    assert (runs[1, "pooled"].n_labels, runs[1, "pooled"].n_scored, runs[1, "pooled"].n_source) == (20, 60, 80)
    before = out.read_bytes()
    assert main(words) == 0
    assert out.read_bytes() == before
    assert len(calls(tmp_path)) == 12


def test_models_that_see_no_label_of_the_target_are_fitted_once_for_all_numbers_of_labels(
    folder: Path, program: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs.jsonl"
    words = ["run", str(folder), "--out", str(out), "--names", "line", "--program", str(program), "--seeds", "1"]
    assert main([*words, "--systems", "from_model", "source_only", "--labels", "10", "30", "50"]) == 0
    assert [call[0] for call in calls(tmp_path)] == ["source.csv", "train.csv", "train.csv"]
    runs = read_runs([out])
    assert [(run.system, run.n_labels) for run in runs] == [
        ("from_model", 10), ("source_only", 10), ("from_model", 30), ("source_only", 30)
    ]  # fmt: skip
    assert [run.n_scored for run in runs] == [70, 70, 50, 50]
    assert runs[1].details["fitted_before"]
    assert runs[0].details["source_fit_s"] == runs[1].fit_s == runs[3].fit_s


def test_runs_of_other_code_are_not_mixed(folder: Path, program: Path, tmp_path: Path) -> None:
    words = ["run", str(folder), "--out", str(tmp_path / "runs.jsonl"), "--names", "line", "--seeds", "1"]
    words += ["--program", str(program), "--systems", "target_only"]
    assert main(words) == 0
    with (program / "automl_cli" / "__main__.py").open("a") as file:
        file.write("# changed\n")
    assert main(words) == 2
    assert main([*words, "--program", str(tmp_path)]) == 2


def test_run_during_which_the_code_changes_is_not_kept(folder: Path, program: Path, tmp_path: Path) -> None:
    path = program / "automl_cli" / "__main__.py"
    path.write_text(path.read_text() + f"\nPath({str(path)!r}).open('a').write('# changed')\n")
    out = tmp_path / "runs.jsonl"
    words = ["--names", "line", "--seeds", "1", "--program", str(program), "--systems", "target_only"]
    assert main(["run", str(folder), "--out", str(out), *words]) == 2
    assert read_runs([out]) == []


def test_whole_fits_of_the_program(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs.jsonl"
    words = ["--names", "line", "--seeds", "1", "--trials", "2", "--systems", "target_only", "pooled"]
    assert main(["run", str(folder), "--out", str(out), *words]) == 0
    for run in read_runs([out]):
        assert run.failure is None
        assert run.error is not None
        assert run.error < run.naive  # the target is a column
        assert run.fit_s is not None
        assert run.fit_s > 0
    assert main(["report", str(out), "--system", "pooled"]) == 0
    assert "pooled against target_only:" in capsys.readouterr().out


# --- the report ---


def run_of(name: str, seed: int, system: str, error: float | None, **more: object) -> Run:
    facts = {
        "task": "binary",
        "metric": "roc_auc",
        "labels": None,
        "n_labels": 100,
        "n_source": 1000,
        "n_scored": 500,
        "limit_s": 20.0,
        "trials": None,
        "failure": None if error is not None else "exit status 1: no",
        "naive": 0.5,
        "fit_s": 18.0,
        "predict_s": 1.0,
        "begun": "2026-01-01T00:00:00+00:00",
        "machine": "a machine",
    }
    return Run(name=name, seed=seed, system=system, error=error, **(facts | more))  # type: ignore[arg-type]


def runs_of(errors: dict[str, dict[str, list[float | None]]], **more: object) -> list[Run]:
    """Errors by pair and system, one per seed."""
    return [
        run_of(name, seed, system, error, **more)
        for name, systems in errors.items()
        for system, column in systems.items()
        for seed, error in enumerate(column)
    ]


def told(tmp_path: Path, runs: Sequence[Run], capsys: pytest.CaptureFixture[str], *words: str) -> str:
    for run in runs:
        append_line(tmp_path / "runs.jsonl", asdict(run))
    assert main(["report", str(tmp_path / "runs.jsonl"), *words]) == 0
    return capsys.readouterr().out


def test_counts_over_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = runs_of({
        # mean difference -0.1, standard error 0.1 / sqrt(3): lower, and below both
        "gains": {"target_only": [0.4, 0.4, 0.4], "pooled": [0.35] * 3, "transfer": [0.2, 0.3, 0.4]},
        # by more than one standard error, but pooling is better still
        "pooling": {"target_only": [0.4, 0.4, 0.4], "pooled": [0.1] * 3, "transfer": [0.3, 0.3, 0.31]},
        "harmed": {"target_only": [0.2, 0.2, 0.2], "pooled": [0.3] * 3, "transfer": [0.3, 0.31, 0.3]},
        # +0.01, standard error 0.01: worse by one, not by two
        "undecided": {"target_only": [0.2, 0.2, 0.2], "pooled": [0.3] * 3, "transfer": [0.23, 0.2, 0.2]},
        "same": {"target_only": [0.2, 0.2, 0.2], "pooled": [0.3] * 3, "transfer": [0.2, 0.2, 0.2]},
    })  # fmt: skip
    report = told(tmp_path, runs, capsys)
    assert (
        "transfer against target_only: lower by more than one standard error on 2 of 5, worse by more than two on 1, "
        "below the better of target_only and pooled on 1 of 5." in report
    )
    assert "| gains | -0.1 | 0.058 | 0.7500 | lower |" in report
    assert "| undecided | +0.01 | 0.01 | 1.0500 |  |" in report
    ratio = np.exp(np.mean(np.log([0.75, 0.91 / 1.2, 0.91 / 0.6, 1.05, 1.0])))
    assert f"| transfer | target_only | 5 | {ratio:.4f} (" in report


def test_one_draw_decides_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = runs_of({"p": {"target_only": [0.4], "pooled": [0.4], "transfer": [0.1]}})
    report = told(tmp_path, runs, capsys)
    assert "| p | -0.3 | - | 0.2500 |  |" in report
    assert "lower by more than one standard error on 0 of 1" in report


def test_failed_run_counts_as_a_guess_or_as_the_worst_and_is_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = runs_of({"p": {"target_only": [0.4, 0.9], "transfer": [None, None]}})
    errors = errors_of(runs)
    assert errors is not None
    assert errors.column("transfer").tolist() == [0.5, 0.9]
    report = told(tmp_path, runs, capsys)
    assert "0.7 (2 failed)" in report
    assert "| transfer | p | 100 | 1 | exit status 1: no |" in report


def test_draws_that_not_all_systems_have_run_do_not_count() -> None:
    runs = runs_of({"p": {"target_only": [0.4, 0.2], "transfer": [0.3]}})
    errors = errors_of(runs)
    assert errors is not None
    assert errors.mean("target_only") == 0.4
    assert errors_of([run_of("p", 0, "target_only", 0.4), run_of("p", 1, "transfer", 0.3)]) is None
    assert against(errors, "transfer", "pooled") is None


def test_without_labels_the_base_is_the_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = runs_of({
        "p": {"target_only": [0.1] * 3, "source_only": [0.3, 0.31, 0.3], "adapt": [0.2, 0.2, 0.2]},
        "q": {"target_only": [0.1] * 3, "source_only": [0.3, 0.3, 0.3], "adapt": [0.3, 0.3, 0.3]},
    })  # fmt: skip
    report = told(tmp_path, runs, capsys)
    assert (
        "adapt against source_only: lower by more than one standard error on 1 of 2, worse by more than two on 0."
        in report
    )
    assert "No pair has runs of both transfer and target_only." in report
    assert "| adapt | source_only | 2 |" in report


def test_labels_that_a_curve_needs() -> None:
    curve = [(10, 4.0), (40, 2.0), (160, 1.0), (640, 1.5)]
    assert labels_for(curve, 3.0) == ("", pytest.approx(20))
    assert labels_for(curve, 4.0) == ("", 10)
    assert labels_for(curve, 2.0) == ("", pytest.approx(40))
    assert labels_for(curve, 1.5) == ("", pytest.approx(80))
    assert labels_for(curve, 0.9) == (">=", 640)
    assert labels_for(curve, 5.0) == ("<", 10)


def test_labels_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    curves = {10: (4.0, 3.0, 5.0), 40: (2.0, 1.5, 4.0), 160: (1.0, 0.5, 2.0)}
    runs = []
    for n, (alone, transfer, pooled) in curves.items():
        for off in (-0.1, 0.1):
            errors = {"target_only": alone + off, "transfer": transfer + off, "pooled": pooled + off}
            seed = int(off > 0)
            runs += [
                run_of("p", seed, s, e, labels=n, n_labels=n, naive=6.0, task="regression") for s, e in errors.items()
            ]
    by_pair = {"p": [e for n in curves if (e := errors_of([r for r in runs if r.n_labels == n])) is not None]}
    saved = saved_by(by_pair, "transfer")
    assert saved == {
        ("p", 10): ("", pytest.approx(2.0)),
        ("p", 40): ("", pytest.approx(2.0)),
        ("p", 160): (">=", pytest.approx(1.0)),
    }
    assert at_least(list(saved.values())) == pytest.approx(2.0)
    report = told(tmp_path, runs, capsys)
    assert "| p | 10 | 2.00 | < 1.00 |" in report
    assert "| p | 40 | 2.00 | 0.25 |" in report
    assert "| p | 160 | >= 1.00 | 0.25 |" in report
    assert "transfer: 2.00 over 3 points; pooled: 0.25 over 3 points." in report
    assert "### 40 labels" in report


def test_files_that_hold_no_runs(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"name": "p"}\n')
    assert main(["report", str(tmp_path / "bad.jsonl")]) == 3
    assert main(["report", str(tmp_path / "none.jsonl")]) == 2
