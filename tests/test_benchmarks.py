"""The comparison harness: its scorer, its report, who runs when, and that nothing is run twice."""

import json
import math
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from scipy import stats
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error

from benchmarks.compare.__main__ import main
from benchmarks.compare.boards import board_of, lost_of, pair_of, ranks_of
from benchmarks.compare.report import Reference, markdown, off_reference, report_of
from benchmarks.compare.rows import Row, append_row, read_rows
from benchmarks.compare.runs import turns
from benchmarks.compare.systems import ROOT, parse_system
from benchmarks.tables import BadPredictions, Dataset, error_of, find_datasets, guess_error, lay_out
from benchmarks.timed import run_timed

SYSTEM = """
    import sys
    from pathlib import Path
    from one_run import carry_out

    def fit(job, X, y):
        with (Path(__file__).parent / "calls.txt").open("a") as file:
            name = Path(job.train).parent.name.split("-")[0]
            file.write(f"{Path(__file__).stem} {name} {job.seed} {job.limit_s:g}\\n")
        assert job.target not in X
        BEHAVIOUR

        def predict(rows):
            assert job.target not in rows
            return rows[["x"]].rename(columns={"x": "prediction"})

        return predict

    carry_out(fit, ["pandas"])
"""


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    """Return a folder with two small regressions, of which the best prediction is column x."""
    folder = tmp_path / "tables"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in ("one", "two"):
        x = rng.normal(size=40)
        pd.DataFrame({"x": x, "y": x + 0.5}).to_csv(folder / f"{name}.csv", index=False)
    index = {name: {"task": "regression", "target": "y"} for name in ("one", "two")}
    (folder / "index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    """Write the script of a system that notes its calls."""

    def write(name: str, behaviour: str = "pass") -> Path:
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(SYSTEM).replace("BEHAVIOUR", behaviour))
        return path

    return write


@pytest.fixture
def compare(tmp_path: Path, tables: Path) -> Callable[..., int]:
    def run(*arguments: object) -> int:
        fixed = ["--out", tmp_path / "runs.jsonl", "--splits", tmp_path / "splits", "--limits", "5", "--cores", "1"]
        return main([str(word) for word in ("run", tables, *arguments, *fixed)])

    return run


def row(system: str, dataset: str, error: float | None, **more: object) -> Row:
    facts = {
        "task": "binary",
        "metric": "roc_auc",
        "limit_s": 60.0,
        "seed": 0,
        "failure": None if error is not None else "exit status 1: no",
        "guess": 0.5,
        "fit_s": 50.0,
        "model_s": 55.0,
        "predict_s": 1.0,
        "wall_s": 56.0,
        "peak_bytes": 10**8,
    }
    return Row(system=system, dataset=dataset, error=error, **(facts | more))  # type: ignore[arg-type]


def rows_of(errors: dict[str, list[float | None]]) -> list[Row]:
    """Each system's errors on sets s0, s1, ..."""
    return [row(system, f"s{i}", e) for system, column in errors.items() for i, e in enumerate(column)]


# --- the scorer ---


@pytest.mark.parametrize("labels", [("1.0", "2.0"), ("TRUE", "none"), ("NA", "yes"), ("0", "00")])
def test_area_under_the_curve_is_that_of_scikit_learn(tmp_path: Path, labels: tuple[str, str]) -> None:
    rng = np.random.default_rng(2)
    truth, p = rng.choice(labels, size=50), rng.random(50)
    pd.DataFrame({"a": range(50), "y": truth}).to_csv(tmp_path / "test.csv", index=False)
    answer = {"prediction": truth, f"proba_{labels[1]}": p, f"proba_{labels[0]}": 1 - p}
    pd.DataFrame(answer).to_csv(tmp_path / "p.csv", index=False)
    dataset = Dataset("d", tmp_path / "d.csv", "y", "binary")
    expected = 1 - roc_auc_score(truth == labels[1], p)
    assert error_of(dataset, tmp_path / "p.csv", tmp_path / "test.csv") == pytest.approx(expected, rel=1e-12)


def test_log_loss_is_that_of_scikit_learn_whatever_the_order_of_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    labels = ["none", "1.0", "TRUE", "1"]
    truth, p = rng.choice(labels, size=60), rng.dirichlet(np.ones(4), size=60)
    pd.DataFrame({"y": truth}).to_csv(tmp_path / "test.csv", index=False)
    pd.DataFrame(p.round(6), columns=[f"proba_{c}" for c in labels]).to_csv(tmp_path / "p.csv", index=False)
    order = np.argsort(labels)
    error = error_of(Dataset("d", tmp_path, "y", "multiclass"), tmp_path / "p.csv", tmp_path / "test.csv")
    assert error == pytest.approx(log_loss(truth, p[:, order], labels=sorted(labels)), rel=1e-4)


def test_class_that_was_never_predicted_costs_what_probability_zero_costs(tmp_path: Path) -> None:
    pd.DataFrame({"y": ["a", "b", "c"]}).to_csv(tmp_path / "test.csv", index=False)
    pd.DataFrame({"proba_a": [1.0, 0.0, 0.5], "proba_b": [0.0, 1.0, 0.5]}).to_csv(tmp_path / "p.csv", index=False)
    error = error_of(Dataset("d", tmp_path, "y", "multiclass"), tmp_path / "p.csv", tmp_path / "test.csv")
    assert error == pytest.approx(-math.log(1e-15) / 3)


def test_regression_and_guess(tables: Path, tmp_path: Path) -> None:
    dataset = find_datasets(tables)["one"]
    folder = lay_out(dataset, tmp_path / "splits")
    train, test = pd.read_csv(folder / "train.csv"), pd.read_csv(folder / "test.csv")
    features = pd.read_csv(folder / "features.csv")
    assert (len(train), len(test), list(features)) == (30, 10, ["x"])
    pd.DataFrame({"prediction": features["x"]}).to_csv(tmp_path / "p.csv", index=False)
    assert error_of(dataset, tmp_path / "p.csv", folder / "test.csv") == pytest.approx(0.5)
    guess = root_mean_squared_error(test["y"], np.full(10, train["y"].mean()))
    assert guess_error(dataset, folder) == pytest.approx(guess)


def test_changed_table_gets_a_new_split(tables: Path, tmp_path: Path) -> None:
    dataset = find_datasets(tables)["one"]
    before = lay_out(dataset, tmp_path / "splits")
    assert lay_out(dataset, tmp_path / "splits") == before
    dataset.source.write_text(dataset.source.read_text() + "1.0,2.0\n")
    assert lay_out(dataset, tmp_path / "splits") != before


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"proba_a": [0.5], "proba_b": [0.5]}, "1 predictions for 2 rows"),
        ({"proba_a": [0.5, None], "proba_b": [0.5, 0.5]}, "not finite"),
        ({"proba_a": [0.9, 0.9], "proba_b": [0.9, 0.1]}, "add up to"),
        ({"proba_a": ["x", "y"], "proba_b": [0.9, 0.1]}, "not numbers"),
        ({"prediction": ["a", "b"]}, "no column"),
    ],
)
def test_predictions_that_cannot_be_scored(tmp_path: Path, answer: dict[str, list[object]], reason: str) -> None:
    pd.DataFrame({"y": ["a", "b"]}).to_csv(tmp_path / "test.csv", index=False)
    pd.DataFrame(answer).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(BadPredictions, match=reason):
        error_of(Dataset("d", tmp_path, "y", "binary"), tmp_path / "p.csv", tmp_path / "test.csv")


# --- a timed process ---


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_a_process_leaves_behind_is_ended(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; p = subprocess.Popen(['sleep', '60']); print(p.pid); time.sleep(1)"
    timed = run_timed([sys.executable, "-c", code], cwd=tmp_path, timeout_s=30)
    assert (timed.rc, timed.timed_out, timed.n_left) == (0, False, 1)
    assert not runs(int(timed.out))
    assert 1 < timed.wall_s < 20


def test_process_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    code = "import subprocess; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    timed = run_timed([sys.executable, "-c", code], cwd=tmp_path, timeout_s=5)
    assert (timed.rc, timed.timed_out) == (-signal.SIGKILL, True)
    assert not runs(int(timed.out))


# --- what is compared ---


def test_names_of_systems(tmp_path: Path) -> None:
    before = tmp_path / "before"
    (before / "automl_cli").mkdir(parents=True)
    (before / "automl_cli" / "__main__.py").write_text("before\n")
    assert parse_system("automl").checkout == ROOT
    other = parse_system(f"old=automl@{before}:without=smac")
    assert (other.label, other.checkout, other.options) == ("old", before, ("--without", "smac"))
    assert parse_system("automl:no-racing").label == "automl:no-racing"
    assert parse_system("autogluon_best").environment == parse_system("autogluon_medium").environment
    assert parse_system("autogluon_best").source != parse_system("autogluon_medium").source
    source = other.source
    (before / "automl_cli" / "__main__.py").write_text("after\n")
    assert other.source != source


@pytest.mark.parametrize(
    "text", ["nobody", "flaml:without=smac", "flaml@.", "automl@/nowhere", "=", "no/such/script.py"]
)
def test_names_of_no_systems(text: str, tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tables), "--systems", text]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- who runs when ---


def test_each_cell_begins_with_the_next_system(tables: Path) -> None:
    datasets = list(find_datasets(tables).values())
    systems = [parse_system(name) for name in ("automl", "flaml", "lightgbm_default")]
    plan = list(turns(datasets, [15.0, 60.0], [0, 1], systems))
    firsts = [system.label for _, system, position in plan if position == 0]
    assert firsts == ["automl", "flaml", "lightgbm_default", "automl", "flaml", "lightgbm_default", "automl", "flaml"]
    assert len({(c.dataset.name, c.limit_s, c.seed, s.label) for c, s, _ in plan}) == len(plan) == 2 * 2 * 2 * 3


def test_runs_that_are_there_are_not_repeated(
    compare: Callable[..., int], script: Callable[..., Path], tmp_path: Path
) -> None:
    a, b = script("a"), script("b")
    assert compare("--systems", a, b, "--names", "one") == 0
    out = tmp_path / "runs.jsonl"
    whole = out.read_bytes()
    out.write_bytes(whole[:-20])  # killed while it wrote the second line
    assert compare("--systems", a, b) == 0
    calls = (tmp_path / "calls.txt").read_text().splitlines()
    assert calls == ["a one 0 5", "b one 0 5", "b one 0 5", "b two 0 5", "a two 0 5"]
    rows = read_rows([out])
    assert [(r.system, r.dataset) for r in rows] == [("a", "one"), ("b", "one"), ("b", "two"), ("a", "two")]
    assert all(r.error == pytest.approx(0.5) and r.failure is None for r in rows)
    assert all(r.model_s is not None and r.fit_s is not None and r.fit_s < r.model_s < r.wall_s for r in rows)
    assert all(r.peak_bytes > 0 and (r.n_train, r.n_columns, r.cores) == (30, 2, 1) for r in rows)
    assert set(rows[0].details["versions"]) == {"pandas"}


def test_failures_are_rows_with_a_reason(
    compare: Callable[..., int], script: Callable[..., Path], tmp_path: Path
) -> None:
    died = script("died", 'raise ValueError("too small")')
    silent = script("silent", "sys.exit(0)")
    bad = script("bad", 'return lambda rows: rows.head(3).rename(columns={"x": "prediction"})')
    assert compare("--systems", died, silent, bad, "--names", "one") == 0
    found = {r.system: r for r in read_rows([tmp_path / "runs.jsonl"])}
    assert found["died"].failure == "exit status 1: ValueError: too small"
    assert found["silent"].failure == "no whole report.json"
    assert found["bad"].failure == "3 predictions for 10 rows"
    assert all(r.error is None and r.guess > 0.5 for r in found.values())


def test_two_versions_of_a_system_are_not_mixed(
    compare: Callable[..., int], script: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare("--systems", script("a"), "--names", "one") == 0
    assert compare("--systems", script("a", "print()")) == 2
    assert "made by other code" in capsys.readouterr().err


# --- the report ---


def test_pair_against_values_by_hand() -> None:
    rows = rows_of({"ours": [0.10, 0.20, 0.30, 0.1001], "theirs": [0.20, 0.10, 0.40, 0.1000]})
    pair = pair_of(board_of(rows, ["ours", "theirs"], 60.0), "ours", "theirs")
    assert (pair.won, pair.lost, pair.undecided) == (2, 1, 1)
    assert pair.win_rate == pytest.approx(2 / 3)
    assert pair.ratio == pytest.approx((0.5 * 2 * 0.75 * 1.001) ** 0.25)
    assert pair.ratio_interval[0] < pair.ratio < pair.ratio_interval[1]
    # Wilson by hand: (p + z2/2n +- z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n)
    z, n, p = 1.959963984540054, 3, 2 / 3
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low = (p + z * z / (2 * n) - half) / (1 + z * z / n)
    assert pair.win_interval[0] == pytest.approx(low)


def test_equal_systems_are_undecided() -> None:
    rows = rows_of({"ours": [0.1, 0.2], "theirs": [0.1, 0.2], "others": [0.1, 0.2]})
    board = board_of(rows, ["ours", "theirs", "others"], 60.0)
    pair = pair_of(board, "ours", "theirs")
    assert (pair.won, pair.lost, pair.undecided, pair.ratio, pair.p_value) == (0, 0, 2, 1.0, 1.0)
    assert pair.ratio_interval == (1.0, 1.0)
    assert ranks_of(board).average == (2.0, 2.0, 2.0)
    text = markdown(report_of(rows))
    assert "| ours | theirs | 1.0000 (1.0000 to 1.0000) | 0 | 0 | 2 | none decided | 1 |" in text
    assert "nan" not in text


def test_interval_narrows_with_more_sets() -> None:
    rng = np.random.default_rng(4)

    def width(n: int) -> float:
        theirs = rng.uniform(0.1, 0.4, n)
        rows = rows_of({"ours": list(theirs * rng.lognormal(-0.05, 0.1, n)), "theirs": list(theirs)})
        low, high = pair_of(board_of(rows, ["ours", "theirs"], 60.0), "ours", "theirs").ratio_interval
        return high - low

    assert width(200) < width(20)


def test_failure_is_never_better_than_anything() -> None:
    rows = rows_of({"ours": [None, 0.2], "theirs": [0.1, 0.2], "awful": [0.7, 0.9]})
    board = board_of(rows, ["ours", "theirs", "awful"], 60.0)
    assert board.errors[0].tolist() == [0.7, 0.1, 0.7]  # the worst of all, which is worse than the guess's 0.5
    assert board.failed.tolist() == [[1, 0, 0], [0, 0, 0]]
    pair = pair_of(board, "ours", "theirs")
    assert (pair.won, pair.lost, pair.undecided) == (0, 1, 1)
    text = markdown(report_of(rows, systems=["ours", "theirs"], baseline="theirs"))
    assert "| s0 | binary | 0 | 1 | 0.5 (1 failed) | 0.1 | 5.000 |" in text
    assert "| ours | 2 | 1 | 0 | 0 |" in text
    assert "s0: exit status 1: no" in text


def test_limits_missed_are_counted() -> None:
    rows = [
        row("ours", "s0", 0.1),
        row("ours", "s1", 0.1, fit_s=60.5, model_s=61.0),
        row("ours", "s2", 0.1, fit_s=59.0, model_s=64.0),
        row("ours", "s3", None, fit_s=None, model_s=None),
    ]
    assert "| ours | 4 | 1 | 1 | 3 | 61.0 s, 64.0 s |" in markdown(report_of(rows))


def test_ranks_against_the_literature() -> None:
    # Demsar 2006, page 13: four classifiers on 14 sets, q = 2.569, CD = 2.569 sqrt(4 * 5 / (6 * 14)) = 1.25
    rng = np.random.default_rng(5)
    errors = rng.uniform(0.1, 0.2, (14, 4))
    rows = rows_of({name: list(errors[:, i]) for i, name in enumerate("abcd")})
    ranks = ranks_of(board_of(rows, list("abcd"), 60.0))
    assert ranks.critical == pytest.approx(1.25, abs=0.005)
    assert sum(ranks.average) == pytest.approx(10)
    assert ranks.p_value == pytest.approx(stats.friedmanchisquare(*errors.T).pvalue)


def test_sets_lost_to_the_best_of_the_others() -> None:
    rows = rows_of({"ours": [0.103, 0.101, 0.1, 0.3], "b": [0.1, 0.1, 0.2, 0.2], "c": [0.101, 0.1, 0.2, 0.1]})
    lost = lost_of(board_of(rows, ["ours", "b", "c"], 60.0), "ours")
    assert lost == [("s3", "c", pytest.approx(3)), ("s0", "b", pytest.approx(1.03))]


def test_equal_errors_share_their_ranks() -> None:
    rows = rows_of({"a": [0.1, 0.1], "b": [0.1, 0.2], "c": [0.3, 0.3]})
    assert ranks_of(board_of(rows, ["a", "b", "c"], 60.0)).average == (1.25, 1.75, 3.0)


def test_seeds_are_averaged_where_all_have_them() -> None:
    rows = [row("a", "s0", 0.1), row("a", "s0", 0.3, seed=1), row("b", "s0", 0.2), row("b", "s0", 0.2, seed=1)]
    rows += [row("a", "s0", 0.9, seed=2), row("a", "s1", 0.1)]
    board = board_of(rows, ["a", "b"], 60.0)
    assert (board.datasets, board.n_seeds, board.unfinished) == (("s0",), (2,), ("s1",))
    assert board.errors.tolist() == [pytest.approx([0.2, 0.2])]


def test_error_of_zero_has_a_ratio() -> None:
    rows = rows_of({"a": [0.0, 0.1], "b": [0.0, 0.1], "c": [0.1, 0.1]})
    board = board_of(rows, ["a", "b", "c"], 60.0)
    assert pair_of(board, "a", "b").ratio == pytest.approx(1)
    assert 0 < pair_of(board, "a", "c").ratio < 1


def test_error_against_limit() -> None:
    rows = [row("a", "s0", 0.3, limit_s=15.0), row("a", "s0", 0.2), row("b", "s0", 0.4, limit_s=15.0)]
    rows += [row("b", "s0", 0.1), row("a", "s1", 0.1), row("b", "s1", 0.1)]  # s1 at one limit only
    text = markdown(report_of(rows, baseline="b"))
    assert "the 1 sets finished at every limit" in text
    assert "| a | 3.0000 | 2.0000 |" in text
    assert "| b | 4.0000 | 1.0000 |" in text


def test_peers_off_their_reference_are_listed() -> None:
    rows = [row("flaml", "s0", 0.104), row("flaml", "s1", 0.106), row("flaml", "s2", None), row("flaml", "s3", 0.2)]
    figures = [Reference(f"s{i}", "flaml_default", 0.1, 60.0) for i in range(3)]
    figures += [Reference("s3", "flaml_default", 0.1, 300.0), Reference("s0", "autogluon_best", 0.2, 60.0)]
    assert [r.dataset for r, _ in off_reference(rows, figures)] == ["s1", "s2"]
    text = markdown(report_of(rows), figures)
    assert "2 of 3 runs that have a reference figure" in text
    assert "| flaml | s1 | 60 s | 0 | 0.1 | 0.106 | +6.0% |" in text


def test_report_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for each in rows_of({"a": [0.1, 0.2, 0.3], "b": [0.2, 0.3, 0.2], "c": [0.3, 0.1, 0.1]}):
        append_row(tmp_path / "runs.jsonl", each)
    (tmp_path / "reference.json").write_text(json.dumps([{"dataset": "s0", "system": "a", "error": 0.5}]))
    arguments = ["--systems", "a", "c", "--reference", str(tmp_path / "reference.json")]
    assert main(["report", str(tmp_path / "runs.jsonl"), *arguments]) == 0
    text = capsys.readouterr().out
    assert "| s0 | binary | 0 | 1 | 0.1 | 0.3 | 0.333 |" in text
    assert "| a | s0 | 60 s | 0 | 0.5 | 0.1 | -80.0% |" in text
    assert "| b |" not in text
    assert main(["report", str(tmp_path / "runs.jsonl"), "--baseline", "nobody"]) == 3
    assert main(["report", str(tmp_path / "none.jsonl")]) == 2


def test_plots_are_drawn_and_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="extra: report")
    from benchmarks.compare.plots import draw_all, draw_ranks

    rng = np.random.default_rng(6)
    errors = {name: list(rng.uniform(0.1, 0.2, 12)) for name in "abcd"}
    rows = rows_of(errors)  # type: ignore[arg-type]
    rows += [row(r.system, r.dataset, r.error, limit_s=15.0) for r in rows]
    report = report_of(rows, baseline="d")
    drawn = draw_all(report, tmp_path / "first")
    assert [p.name for p in drawn] == [
        "ranks-15s.svg", "ratios-15s.svg", "ranks-60s.svg", "ratios-60s.svg", "limits.svg"
    ]  # fmt: skip
    text = drawn[2].read_text()
    assert draw_ranks(ranks_of(report.boards[1]), tmp_path / "again.svg").read_text() == text
    assert all(f"{name} (" in text for name in "abcd")
    assert "critical difference 1.35" in text  # 2.569 sqrt(4 * 5 / (6 * 12))
