"""Write tables of 26 and of 100 classes for `python -m benchmarks.compare run FOLDER`: such sets are rarely published.

Each class is three clouds of points, and a category is a hint at which; the same bytes each time.

usage: python -m benchmarks.many_classes FOLDER
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

SIZES = ((26, 6_000, 16), (100, 8_000, 20))  # classes, rows, columns of numbers
CLOUDS = 3
COLOURS = np.array(["red", "green", "blue", "grey"])


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    index = {}
    for n_classes, n, d in SIZES:
        centres = rng.normal(size=(n_classes * CLOUDS, d)) * 2.0
        cloud = rng.integers(0, n_classes * CLOUDS, n)
        X = centres[cloud] + rng.normal(size=(n, d)) * 1.5
        X[:, 0] = np.round(X[:, 0])
        table = pd.DataFrame(X.round(4), columns=[f"x{i}" for i in range(d)])
        table["colour"] = COLOURS[(cloud + rng.integers(0, 2, n)) % len(COLOURS)]
        table["y"] = [f"c{label}" for label in cloud % n_classes]
        table.to_csv(folder / f"k{n_classes}.csv", index=False)
        index[f"k{n_classes}"] = {"task": "multiclass", "target": "y"}
    (folder / "index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
