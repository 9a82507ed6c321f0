"""How near past datasets are: robustly scaled distances over the meta-features that both sides have."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.metrics import TaskKind

FARTHEST = 3.0  # interquartile ranges: one odd figure does not make two tables strangers
SIMILARITY = "similarity.json"


@dataclass(frozen=True)
class Scale:
    """What meta-features of one kind of task are measured in.

    Attributes
    ----------
    middle, spread : mapping of str to float
        Median and interquartile range over the datasets that it was made from.
    weight : mapping of str to float
        How much a feature counts, those that are not named nothing; where none is named all count alike.
    """

    middle: Mapping[str, float]
    spread: Mapping[str, float]
    weight: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, features: Array, names: Sequence[str], weight: Mapping[str, float] | None = None) -> "Scale":
        """Measure a scale on datasets, shape (n_datasets, n_features) with NaN; what does not vary is left out."""
        middle, spread = {}, {}
        for name, column in zip(names, np.asarray(features, dtype=np.float64).T, strict=True):
            known = column[np.isfinite(column)]
            if len(known) < 2:
                continue
            low, centre, high = np.quantile(known, [0.25, 0.5, 0.75])
            reach = high - low or known.std()
            if reach > 0:
                middle[name], spread[name] = float(centre), float(reach)
        return cls(middle, spread, weight or {})


def distances(scale: Scale, features: Array, names: Sequence[str], wanted: Mapping[str, float]) -> Array:
    """Return how far each dataset is from one, as a weighted mean of differences in interquartile ranges.

    Parameters
    ----------
    features : ndarray of shape (n_datasets, n_features)
        NaN where a dataset lacks one: what one side lacks and the other has counts as one range.
    wanted : mapping of str to float
        Meta-features of the dataset that neighbours are sought for.

    Returns
    -------
    ndarray of shape (n_datasets,), infinite where nothing can be compared
    """
    columns = [i for i, name in enumerate(names) if name in scale.middle]
    used = [names[i] for i in columns]
    if not used or not len(features):
        return np.full(len(features), np.inf)
    middle = np.array([scale.middle[name] for name in used])
    spread = np.array([scale.spread[name] for name in used])
    weight = np.array([scale.weight.get(name, 0.0) for name in used])
    if not weight.any():
        weight = np.ones(len(used))
    here = (np.array([wanted.get(name, np.nan) for name in used]) - middle) / spread
    there = (np.asarray(features, dtype=np.float64)[:, columns] - middle) / spread
    apart = np.minimum(np.abs(there - here), FARTHEST)
    neither = np.isnan(there) & np.isnan(here)
    apart = np.where(np.isnan(apart), np.where(neither, 0.0, 1.0), apart)
    total = np.where(neither, 0.0, weight).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (apart * weight).sum(axis=1) / total
    return np.where(total > 0, mean, np.inf)


def shipped_weights(kind: TaskKind) -> Mapping[str, float]:
    """Return the weights that come with the program: those whose neighbours served best, see docs/experience.md."""
    path = files("automl_cli").joinpath("experience", SIMILARITY)
    if not path.is_file():
        return {}
    found = json.loads(path.read_text(encoding="utf-8")).get(str(kind), {})
    return {str(name): float(value) for name, value in found.items()}
