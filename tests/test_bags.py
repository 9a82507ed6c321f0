"""Members' bags as they are saved: forests keep the trees that the bag needs, and everything else stays as it was."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import ExtraTreesRegressor

from automl_cli.bags import thinned_bags
from automl_cli.families import find_families
from automl_cli.families.target_scale import Rescaled
from automl_cli.families.trees import Trees, from_scikit_learn, join
from automl_cli.features.matrix import Matrix
from automl_cli.members import Chosen
from automl_cli.sourced import Offset, OffsetModel, load_model, save_model
from automl_cli.trial import Pipeline, Proposal, Success
from automl_cli.trialfiles import trial_folder

Command = Callable[..., subprocess.CompletedProcess[str]]
FAMILY = find_families()["extra_trees"]
N_TREES = 120
X = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)


def forest(seed: int) -> Trees:
    made = ExtraTreesRegressor(N_TREES, max_leaf_nodes=8, random_state=seed).fit(X, X[:, 0])
    trees = [from_scikit_learn(one.tree_, np.zeros(0, dtype=int), 1) for one in made.estimators_]
    return join(trees, n_features=2, prior=np.zeros(0), cut=False)


def bag(run: Path, n_folds: int, encoding: str) -> Chosen:
    """A run with one trial, whose folds have forests."""
    for k in range(n_folds):
        folder = trial_folder(run, 0) / f"fold_{k}"
        for part in ("encoder", "model"):
            (folder / part).mkdir(parents=True)
        (folder / "encoder" / "what.json").write_text("{}")
        model = Rescaled(forest(k), 0.0, 2.0)
        save_model(
            FAMILY, OffsetModel(model, Offset(0.5, 1.0)) if encoding.endswith("offset") else model, folder / "model"
        )
    proposal = Proposal(0, Pipeline("extra_trees", encoding, {}), "portfolio", 0, 1)
    trial = Success(proposal, (0.1,) * n_folds, 1.0, True)
    return Chosen(((trial, 1.0),), 0.1, (0.1,) * n_folds)


@pytest.mark.parametrize("encoding", ["ordinal", "ordinal:offset"])
def test_each_forest_of_a_bag_keeps_the_trees_it_needs(tmp_path: Path, encoding: str) -> None:
    chosen = bag(tmp_path, 4, encoding)
    folders = thinned_bags(tmp_path, chosen, {}, classify=False)[0]
    assert [folder.name for folder in folders] == ["fold_0", "fold_1", "fold_2", "fold_3"]
    rows = Matrix(X, (), ("a", "b"))
    for k, folder in enumerate(folders):
        part = load_model(FAMILY, encoding, folder / "model")
        assert part.rounds == 2 * N_TREES // 4
        whole = load_model(FAMILY, encoding, trial_folder(tmp_path, 0) / f"fold_{k}" / "model")
        assert whole.rounds == N_TREES
        assert np.abs(part.predict(rows, 1) - whole.predict(rows, 1)).mean() < 0.1
        assert (folder / "encoder" / "what.json").read_text() == "{}"


def test_few_models_keep_all_their_trees(tmp_path: Path) -> None:
    chosen = bag(tmp_path, 2, "ordinal")
    assert thinned_bags(tmp_path, chosen, {}, classify=False) == {}
    alone = {0: (trial_folder(tmp_path, 0) / "fold_0",)}
    assert thinned_bags(tmp_path, chosen, alone, classify=False) == alone


def test_a_classifier_that_is_mostly_forests_is_left_whole(tmp_path: Path) -> None:
    # its probabilities are compared with those of whole forests when it is adapted to new rows
    chosen = bag(tmp_path, 4, "ordinal")
    assert thinned_bags(tmp_path, chosen, {}, classify=True) == {}
    (trial, _), other = chosen.members[0], replace(chosen.members[0][0].proposal, number=1)
    linear = replace(trial, proposal=replace(other, pipeline=Pipeline("linear", "one_hot", {})))
    mixed = replace(chosen, members=((trial, 0.4), (linear, 0.6)))
    assert set(thinned_bags(tmp_path, mixed, {}, classify=True)) == {0}


def test_a_fit_saves_thinned_forests_that_predict_as_well(command: Command, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 3)).round(4)
    y = (values[:, 0] + values[:, 1] ** 2 + 0.2 * rng.normal(size=300)).round(4)
    for name, rows in (("d.csv", slice(150)), ("new.csv", slice(150, 300))):
        lines = [",".join(map(str, (*row, t))) for row, t in zip(values[rows], y[rows], strict=True)]
        (tmp_path / name).write_text("a,b,c,y\n" + "\n".join(lines) + "\n")
    fit = ("fit", "d.csv", "-t", "y", "--include", "extra_trees", "--trials", "2", "--folds", "6", "-q")
    done = command(*fit, "--run-dir", "run", "-o", "m.automl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command(*fit, "--compact", "-o", "one.automl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    sizes = [(tmp_path / name).stat().st_size for name in ("m.automl", "one.automl")]
    assert sizes[0] < 4 * sizes[1], "six whole forests would be larger"
    errors = []
    for name in ("m.automl", "one.automl"):
        said = command("predict", name, "new.csv", cwd=tmp_path).stdout.split()[1:]
        errors.append(np.sqrt(np.mean((np.array(said, dtype=float) - y[150:]) ** 2)))
    assert errors[0] < 1.1 * errors[1]
