"""Split a CSV into rows to learn from and rows to test on: ``hold_out.py SOURCE TRAIN TEST``."""

import csv
import random
import sys
from pathlib import Path


def hold_out(source: Path, train: Path, test: Path, *, share: float = 0.25, seed: int = 0) -> None:
    """Write a random ``share`` of the rows of ``source`` to ``test`` and the others to ``train``."""
    with source.open(newline="", encoding="utf-8") as lines:
        header, *rows = list(csv.reader(lines))
    random.Random(seed).shuffle(rows)
    n_test = round(len(rows) * share)
    for path, part in ((test, rows[:n_test]), (train, rows[n_test:])):
        with path.open("w", newline="", encoding="utf-8") as lines:
            csv.writer(lines).writerows([header, *part])


if __name__ == "__main__":
    hold_out(*(Path(argument) for argument in sys.argv[1:4]))
