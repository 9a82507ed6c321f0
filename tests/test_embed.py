"""`automl embed`: rows as numbers that no label was needed for."""

import csv
import io
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

Command = Callable[..., subprocess.CompletedProcess[str]]
N_ROWS = 240


def write(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def read(text: str) -> dict[str, list[str]]:
    header, *rows = list(csv.reader(io.StringIO(text)))
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))


def clouds(n: int = N_ROWS) -> tuple[list[list[object]], np.ndarray]:
    """Three clouds in numbers and a category, some cells empty, a row's group as its target, and an id."""
    rng = np.random.default_rng(4)
    group = rng.integers(0, 3, n)
    X = 6 * np.array([[0, 0, 1, 0], [1, 0, 0, 1], [0, 1, 0, -1]])[group] + rng.normal(0, 1, (n, 4))
    rows: list[list[object]] = [["id", "a", "b", "c", "d", "kind", "y"]]
    for k in range(n):
        cells = ["" if rng.random() < 0.03 else f"{value:.3f}" for value in X[k]]
        rows.append([f"r{(k * 7919) % 100_003}", *cells, ("red", "blue", "green")[group[k]], f"group {group[k]}"])
    return rows, group


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("embed")
    write(place / "data.csv", clouds()[0])
    return place


def embed(command: Command, cwd: Path, *arguments: object) -> dict[str, list[str]]:
    done = command("embed", *arguments, "-q", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return read(done.stdout)


def test_groups_of_rows_are_found(command: Command, folder: Path) -> None:
    found = embed(command, folder, "data.csv", "-t", "y", "--clusters", "3")
    assert adjusted_rand_score(clouds()[1], found["cluster"]) > 0.95
    sizes = [found["cluster"].count(str(k)) for k in range(3)]
    assert sizes == sorted(sizes, reverse=True)
    nearest = np.argmin(np.array([found[f"distance_{k}"] for k in range(3)], dtype=float), axis=0)
    assert nearest.tolist() == [int(k) for k in found["cluster"]]


def test_rows_keep_their_order_and_ids(command: Command, folder: Path) -> None:
    found = embed(command, folder, "data.csv", "-t", "y", "--columns", "id,y")
    rows = clouds()[0][1:]
    assert found["id"] == [row[0] for row in rows]
    assert found["y"] == [row[-1] for row in rows]
    assert list(found)[:3] == ["id", "y", "cluster"]


def test_rows_apart_are_embedded_as_they_are_together(command: Command, folder: Path) -> None:
    rows = clouds()[0]
    write(folder / "first.csv", rows[:101])
    write(folder / "second.csv", [rows[0], *rows[101:]])
    whole = command("embed", "data.csv", "-t", "y", "--all", "--columns", "id", "-q", cwd=folder)
    apart = command("embed", "data.csv", "-t", "y", "--all", "--columns", "id", "-q", "--apply", "first.csv",
                    "--apply", "second.csv", cwd=folder)  # fmt: skip
    assert whole.returncode == apart.returncode == 0
    assert whole.stdout == apart.stdout


def test_new_rows_need_no_target_and_may_hold_new_values(command: Command, folder: Path) -> None:
    write(folder / "new.csv", [["a", "b", "c", "d", "kind", "id"], [1, 2, "", 4, "mauve", "x"]])
    found = embed(command, folder, "data.csv", "-t", "y", "--apply", "new.csv")
    assert len(found["cluster"]) == 1
    assert np.isfinite(float(found["anomaly"][0]))


def test_the_target_is_not_looked_at(command: Command, folder: Path) -> None:
    rows = clouds()[0]
    write(folder / "shuffled.csv", [rows[0], *([*row[:-1], f"other {k % 5}"] for k, row in enumerate(rows[1:]))])
    one, other = (command("embed", name, "-t", "y", "-q", cwd=folder) for name in ("data.csv", "shuffled.csv"))
    assert one.returncode == 0
    assert one.stdout == other.stdout


def test_strange_rows_stand_out(command: Command, folder: Path) -> None:
    rows = [*clouds()[0], ["odd", 60, -50, 70, 40, "violet", "group 0"]]
    write(folder / "odd.csv", rows)
    found = embed(command, folder, "odd.csv", "-t", "y", "--columns", "id")
    assert found["id"][int(np.argmax(np.array(found["anomaly"], dtype=float)))] == "odd"


def test_ranks_and_frequencies_on_demand(command: Command, folder: Path) -> None:
    found = embed(command, folder, "data.csv", "-t", "y", "--all")
    assert {"rank_a", "rank_d", "frequency_kind"} <= set(found)
    assert not {"frequency_id", "frequency_y"} & set(found)
    values = [row[1] for row in clouds()[0][1:]]
    assert [rank == "" for rank in found["rank_a"]] == [value == "" for value in values]


def test_what_was_done_as_json(command: Command, folder: Path) -> None:
    done = command("embed", "data.csv", "-t", "y", "--json", "-o", "out.csv", "-q", cwd=folder)
    said = json.loads(done.stdout)
    assert (said["rows"], said["rows_learned_from"], said["columns_used"]) == (N_ROWS, N_ROWS, 5)
    assert said["columns"] == list(read((folder / "out.csv").read_text()))


def test_another_seed_is_another_chance(command: Command, folder: Path) -> None:
    lines = [embed(command, folder, "data.csv", "-t", "y", "--seed", seed)["anomaly"] for seed in (0, 0, 1)]
    assert lines[0] == lines[1] != lines[2]


def test_few_rows_have_few_clusters(command: Command, tmp_path: Path) -> None:
    write(tmp_path / "few.csv", [["a", "b"], [1.5, 2], [1.5, 2], [3, 4]])
    found = embed(command, tmp_path, "few.csv")
    assert set(found["cluster"]) == {"0", "1"}


@pytest.mark.parametrize(
    ("rows", "more", "code", "says"),
    [
        ([["a", "y"], ["same", "u"], ["same", "v"]], ("-t", "y"), 3, "no column to learn from"),
        ([["a", "y"], [1, "u"], [2, "v"]], ("-t", "z"), 3, "no column 'z'"),
        ([["a", "y"], [1, "u"], [2, "v"]], ("--columns", "z"), 3, "no column 'z'"),
        ([["a", "cluster"], [1, "u"], [2, "v"]], ("--columns", "cluster"), 2, "which a made column is called"),
        ([["a", "y"], [1, "u"], [2, "v"]], ("--apply", "gone.csv"), 3, "gone.csv"),
        ([["a", "y"], [1, "u"], [2, "v"]], ("--apply", "other.csv"), 3, "lacks the column"),
        ([["a", "y"], [1, "u"], [2, "v"]], ("-o", "data.csv"), 2, "would be overwritten"),
        ([["a", "y"], [1, "u"], [2, "v"]], ("-o", "no/such/out.csv"), 2, "does not exist"),
        ([["a", "y"], [1, "u"], [2, "v"]], ("--json",), 2, "name a file with -o"),
        ([["a", "y"], [1, "u"], [2, "v"]], ("--clusters", "0"), 2, "--clusters"),
        ([["a", "y"]], (), 3, "has a header but no rows"),
    ],
)
def test_bad_input_is_told_in_one_line(
    command: Command, tmp_path: Path, rows: list[list[object]], more: tuple[str, ...], code: int, says: str
) -> None:
    write(tmp_path / "data.csv", rows)
    write(tmp_path / "other.csv", [["y", "b"], ["u", 2]])
    done = command("embed", "data.csv", *more, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert done.stdout == ""
    assert done.stderr.strip().count("\n") == 0


def test_a_table_cannot_be_read_twice_from_a_pipe(command: Command, folder: Path) -> None:
    done = command("embed", "-", cwd=folder, stdin=b"a,b\n1,2\n3,4\n")
    assert done.returncode == 2
    assert "read once" in done.stderr


def test_nor_from_a_named_one(command: Command, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert command("embed", "pipe", cwd=tmp_path).returncode == 2


def test_a_remark_is_made_once_for_a_file(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automl_cli.embedding.BLOCK_BYTES", 300)
    write(folder / "odd.csv", [["a", "b", "c", "d", "kind"], *([k, 1, 2, 3, "mauve"] for k in range(200))])
    done = command("embed", "data.csv", "-t", "y", "--apply", "odd.csv", "-o", "e.csv", "--json", cwd=folder)
    notices = [notice for notice in json.loads(done.stdout)["notices"] if "never saw" in notice]
    assert len(notices) == 1
    assert "200 cells" in notices[0]


def test_a_column_that_was_ignored_is_not_called_unknown(folder: Path) -> None:
    from automl_cli.embedding import EmbedOptions, embed

    options = EmbedOptions(str(folder / "data.csv"), (str(folder / "data.csv"),), "y", ignore=("d",))
    embedded = embed(options)
    assert len([block for block in embedded.blocks() if "d" not in block]) == 1
    assert not [notice for notice in embedded.notices if "unknown" in notice.message]
