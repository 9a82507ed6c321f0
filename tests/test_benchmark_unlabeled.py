"""The benchmark of rows without labels: what it hides, and what it counts."""

import csv
import json
from collections import Counter
from pathlib import Path

from benchmarks.tables import Dataset
from benchmarks.unlabeled import ALONE, WITH, report, split


def read(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_labels_are_stratified_and_hidden_elsewhere(tmp_path: Path) -> None:
    rows = [[str(k), "rare" if k % 60 == 0 else "ab"[k % 2]] for k in range(600)]
    with (tmp_path / "t.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["x", "y"], *rows])
    data = Dataset("t", tmp_path / "t.csv", "y", "multiclass")
    n_labelled, n_rest, n_test = split(data, tmp_path, n_labels=40, most=100, seed=1)
    assert abs(n_labelled - 40) <= 2
    assert (n_rest, n_test) == (100, 200)
    labelled, rest, test = (read(tmp_path / f"{name}.csv") for name in ("labelled", "rest", "test"))
    counts = Counter(row[1] for row in labelled[1:])
    assert counts["rare"] == 2
    assert abs(counts["a"] - counts["b"]) <= 4
    assert rest[0] == ["x"]
    parts = [{row[0] for row in part[1:]} for part in (labelled, rest, test)]
    assert sum(map(len, parts)) == len(set.union(*parts))
    split(data, tmp_path, n_labels=40, most=100, seed=1)
    assert read(tmp_path / "labelled.csv") == labelled


def test_sets_are_counted_by_the_sign_of_their_difference(tmp_path: Path) -> None:
    same = {"labels": 40, "limit": "3 trials", "optimised": "default", "metric": "log_loss", "shares": {"plain": 1.0}}
    rows = []
    for name, differences in (("gains", (-0.1, -0.11)), ("loses", (0.2, 0.21)), ("unsure", (-0.3, 0.2))):
        for seed, difference in enumerate(differences):
            about = {**same, "name": name, "seed": seed}
            rows += [{**about, "system": ALONE, "error": 0.5}, {**about, "system": WITH, "error": 0.5 + difference}]
    rows.append({**same, "name": "broken", "seed": 0, "system": ALONE, "failure": "no"})
    (tmp_path / "runs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = report(tmp_path / "runs.jsonl")
    assert "lower on 2 of 3, by more than 2 standard errors on 1; worse by more than 2 on 1" in said
    assert "| gains | log_loss | 2 | 0.5 | 0.395 | -0.105 | 0.005 |" in said
    assert "1 failed" in said
