"""``automl fit --adapt-to``: a model for rows without labels, by simulated shifts whose answer is known."""

import csv
import json

import numpy as np
import pytest

TRIALS = ("--trials", 2, "--include", "linear", "--no-experience")


def write(path, columns):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(columns)
        rows.writerows(zip(*columns.values(), strict=True))
    return path


def by_name(X):
    return {f"x{j}": np.round(X[:, j], 5) for j in range(X.shape[1])}


def label_shifted(n, share, seed):
    """Rows of two classes that overlap, of which ``share`` are "yes"."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < share
    X = rng.normal(size=(n, 3)) + y[:, None] * np.array([1.5, -0.8, 0.0])
    return by_name(X), np.where(y, "yes", "no")


def curved(n, there, seed):
    """Rows of one curve, which a line follows in one place and not in another."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    if there:
        X[:, 0] = 0.6 * X[:, 0] + 1.2
    return by_name(X), np.round(1.5 * X[:, 0] ** 2 + X[:, 1] + 0.3 * rng.normal(size=n), 5)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Tables of each shift: what is learned from, what is new, and the same with its labels."""
    folder = tmp_path_factory.mktemp("tables")
    made = {
        "label": (label_shifted(900, 0.5, 1), label_shifted(800, 0.15, 2)),
        "same": (label_shifted(400, 0.5, 3), label_shifted(400, 0.5, 4)),
        "curved": (curved(700, False, 5), curved(500, True, 6)),
    }
    for name, (old, new) in made.items():
        write(folder / f"{name}.csv", {**old[0], "y": old[1]})
        write(folder / f"{name}-new.csv", new[0])
        write(folder / f"{name}-truth.csv", {**new[0], "y": new[1]})
    return folder


@pytest.fixture(scope="module")
def fit(command, tables, tmp_path_factory):
    """Fit a table, adapted or not; the answer is what ``--json`` says, and the model."""

    def run(name, *options, new=None):
        folder = tmp_path_factory.mktemp("fitted")
        adapt = () if new is None else ("--adapt-to", tables / new)
        done = command(
            "fit", tables / f"{name}.csv", "-t", "y", *TRIALS, *adapt, *options, "-o", "m.automl", "--json", cwd=folder
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), folder / "m.automl", done.stderr

    return run


@pytest.fixture(scope="module")
def label(fit):
    """A model that is adapted to other shares of the classes."""
    return fit("label", "--metric", "log_loss", new="label-new.csv")


def scores(command, model, table):
    done = command("evaluate", model, table, "--json", cwd=model.parent)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["scores"]


def test_other_shares_of_the_classes_are_found_and_corrected_for(command, fit, tables, label):
    found, model, said = label
    transfer = found["transfer"]
    assert (transfer["setting"], transfer["adapted"]) == ("transductive", "label shares")
    assert transfer["shift"]["kinds"] == ["label"]
    assert transfer["verdict"]["accepted"]
    assert next(one["after"] for one in transfer["classes"] if one["label"] == "yes") == pytest.approx(0.15, abs=0.04)
    assert "a label shift" in said
    assert "probabilities are corrected" in said
    _, plain, _ = fit("label", "--metric", "log_loss")
    truth = tables / "label-truth.csv"
    with_it, without = (scores(command, one, truth)["log_loss"] for one in (model, plain))
    assert with_it < 0.8 * without
    assert transfer["scores"]["score"] == pytest.approx(with_it, abs=0.05)
    assert transfer["scores"]["without"] == pytest.approx(without, abs=0.05)


def test_the_model_says_what_it_is_adapted_to(command, label):
    _, model, _ = label
    shown = command("inspect", model, cwd=model.parent).stdout
    assert "to label-new.csv" in " ".join(shown.split())
    manifest = json.loads(command("inspect", model, "--json", cwd=model.parent).stdout)
    assert manifest["format"] == 3, "an older version would pass over the correction"
    assert manifest["transfer"]["adapted"] == "label shares"
    assert len(manifest["decision"]["moved"]["offsets"]) == 2


def test_the_same_command_gives_the_same_correction(command, fit, tables, label):
    _, first, _ = label
    _, again, _ = fit("label", "--metric", "log_loss", "--workers", 1, new="label-new.csv")
    said = [command("predict", m, tables / "label-new.csv", "--proba", cwd=m.parent).stdout for m in (first, again)]
    assert said[0] == said[1]


def test_thresholds_are_learned_for_the_new_shares(command, fit, tables):
    _, model, _ = fit("label", "--metric", "balanced_accuracy", new="label-new.csv")
    found = scores(command, model, tables / "label-truth.csv")
    assert found["balanced_accuracy"] > 0.75, "at 0.5 most of the rare class would be missed"


def test_rows_from_elsewhere_are_learned_from_by_weight(command, fit, tables):
    found, model, said = fit("curved", new="curved-new.csv")
    assert found["transfer"]["adapted"] == "weights"
    assert found["transfer"]["shift"]["kinds"] == ["covariate"]
    assert "a covariate shift" in said
    _, plain, _ = fit("curved")
    truth = tables / "curved-truth.csv"
    with_it, without = (scores(command, one, truth)["rmse"] for one in (model, plain))
    assert with_it < 0.8 * without


def test_where_nothing_has_changed_the_model_is_the_same(command, fit, tables):
    found, model, said = fit("same", new="same-new.csv")
    assert found["transfer"]["adapted"] == "none"
    assert "no adaptation: the new rows look like those that were learned from" in said
    _, plain, _ = fit("same")
    rows = tables / "same-new.csv"
    said_of = [command("predict", one, rows, "--proba", cwd=one.parent).stdout for one in (model, plain)]
    assert said_of[0] == said_of[1]


def test_rows_that_were_measured_otherwise_are_left_alone(fit, tables):
    X, _ = label_shifted(400, 0.5, 7)
    write(tables / "scaled.csv", {name: 40 * values + 200 for name, values in X.items()})
    found, _, said = fit("same", new="scaled.csv")
    assert found["transfer"]["adapted"] == "none"
    assert "weights cannot help" in found["transfer"]["verdict"]["reason"]
    assert found["transfer"]["verdict"]["reason"] in said


def test_a_column_that_the_new_rows_lack_is_no_shift(fit, tables):
    X, _ = label_shifted(400, 0.5, 8)
    write(tables / "narrow.csv", {name: values for name, values in X.items() if name != "x2"})
    found, _, _ = fit("same", new="narrow.csv")
    assert found["transfer"]["shift"]["kinds"] == []
    assert any("x2" in notice["message"] for notice in found["odd"])


def test_labels_of_the_new_rows_are_not_looked_at(fit, tables, label):
    found, _, _ = fit("label", "--metric", "log_loss", new="label-truth.csv")
    assert found["transfer"]["classes"] == label[0]["transfer"]["classes"]
    assert any("not looked at" in notice["message"] for notice in found["odd"])


def test_too_few_new_rows_tell_nothing(fit, tables):
    X, _ = label_shifted(10, 0.5, 9)
    write(tables / "few.csv", X)
    found, _, _ = fit("same", new="few.csv")
    assert "too few" in found["transfer"]["verdict"]["reason"]
    assert found["transfer"]["shift"] is None


@pytest.mark.parametrize(
    ("columns", "options", "code", "says"),
    [
        ({"other": [1.0, 2.0, 3.0]}, (), 3, "shares no column"),
        ({"x0": [], "x1": []}, (), 3, "no rows"),
        ({"x0": [1.0, 2.0]}, ("--source", "same-truth.csv"), 2, "--adapt-to and --source"),
        ({"x0": [1.0, 2.0]}, ("--dask", "tcp://localhost:1", "--run-dir", "run"), 2, "--adapt-to"),
    ],
)
def test_what_cannot_be_adapted_to_is_refused(command, tables, tmp_path, *, columns, options, code, says):
    new = write(tmp_path / "new.csv", columns)
    options = [tables / one if one == "same-truth.csv" else one for one in options]
    done = command(
        "fit", tables / "same.csv", "-t", "y", *TRIALS, "--adapt-to", new, *options, "-o", "m.automl", cwd=tmp_path
    )
    assert done.returncode == code
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "m.automl").exists()


def test_a_champion_is_judged_on_other_rows(command, tables, tmp_path):
    options = ("--adapt-to", tables / "same-new.csv", "--champion", "m.automl")
    done = command("fit", tables / "same.csv", "-t", "y", *TRIALS, *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "--champion" in done.stderr
