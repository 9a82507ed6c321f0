"""The benchmark of networks trained beforehand: its model of losses, its replay, and how its table is built."""

from pathlib import Path

import numpy as np
import pytest

from automl_cli.nas import random_search
from benchmarks.additive import predicted_ranks
from benchmarks.nas_table import COLUMNS, SPACE, main, open_csv, read_lines, regrets, synthetic_table, tables_of

# ---- the benchmark's additive model of losses


def test_an_additive_model_orders_networks_that_it_has_not_seen() -> None:
    table = synthetic_table(3, noise=0.0)
    every = SPACE.every()
    loss = {indices: table.losses[str(SPACE.decode(indices)), 1.0][0] for indices in every}
    order = np.random.default_rng(0).permutation(len(every))
    known, unseen = [every[k] for k in order[:60]], [every[k] for k in order[60:]]
    noisy = np.random.default_rng(1).normal(0, 0.1, 60)
    said = predicted_ranks([(n, loss[n] + e) for n, e in zip(known, noisy, strict=True)], unseen, SPACE)
    truth = np.array([loss[network] for network in unseen])
    ranks = [np.argsort(np.argsort(values)) for values in (said, truth)]
    assert np.corrcoef(ranks[0], ranks[1])[0, 1] > 0.8


def test_an_additive_model_takes_what_little_it_is_given() -> None:
    first, second, third = SPACE.every()[:3]
    assert predicted_ranks([(first, 0.3)], [first, second], SPACE).tolist() == [0.0, 0.0]
    assert predicted_ranks([(first, 0.3), (second, 0.3)], [third], SPACE).tolist() == [0.0]
    diverged = predicted_ranks([(first, 0.3), (second, np.inf)], [first, second], SPACE)
    assert np.isfinite(diverged).all()
    assert diverged[0] <= diverged[1]


# ---- the benchmark's replay


def test_replaying_counts_whole_trainings_and_ends_at_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    table = synthetic_table(0, noise=0.0)
    assert min(table.regret.values()) == 0.0
    assert np.median(list(table.regret.values())) == pytest.approx(1.0)
    (few, _), (many, _) = regrets(table, random_search(SPACE, seed=0), [5, 120], 0)
    assert few >= many == 0.0
    main(["replay", "--synthetic", "--seeds", "2", "--budgets", "10"])
    assert "| evolution | 10 |" in capsys.readouterr().out


def test_a_table_that_is_being_built_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    assert read_lines(path) == []
    rows = ["a,none cat8 k1 | dense64 silu none d0.1,1.0,0,0.25,0.26,1.5\n", "a,none cat8 k1 | dense64 si"]
    path.write_text(",".join(COLUMNS) + "\n" + "".join(rows))
    (line,) = read_lines(path)
    assert (line.loss, line.test, line.fidelity) == (0.25, 0.26, 1.0)
    with open_csv(path) as file:
        file.write(rows[0].replace("0.25", "0.35"))
    assert [line.loss for line in read_lines(path)] == [0.25, 0.35]
    assert tables_of(read_lines(path)) == []  # networks are missing
