"""How good the first trials of a warm start are, on datasets that are left out: recall against fixed lists and chance.

Losses are those that `automl experience build` measured; nothing is fitted here. Normalised regret after k trials is
(best of the first k - best known) / (LightGBM's default - best known), clipped to 0..1. Each dataset is judged without
itself and without those of its family (names that share their first word).

usage: python -m benchmarks.recall STORE [--judge STORE] [--first 1 3 5 10] [--seeds 20]
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from automl_cli.candidates import USUAL, candidates, reference_pipeline, suited
from automl_cli.experience.access import Dataset, Store, open_store, reading
from automl_cli.experience.portfolio import greedy, regrets
from automl_cli.experience.queries import every_run
from automl_cli.experience.recall import recall
from automl_cli.families import find_families
from automl_cli.families.family import Shape
from automl_cli.space import default_pipelines
from automl_cli.trial import Pipeline


@dataclass(frozen=True)
class Measured:
    """One dataset and the losses of the candidates on it."""

    dataset: Dataset
    losses: Mapping[Pipeline, float]
    seconds: Mapping[Pipeline, float]

    @property
    def family(self) -> str:
        return self.dataset.name.split("_")[0]

    def regret(self, first: Sequence[Pipeline], default: Pipeline) -> float:
        best, known = min(self.losses.values()), [self.losses[p] for p in first if p in self.losses]
        width = self.losses.get(default, max(self.losses.values())) - best
        if width <= 0 or not known:
            return 0.0 if known else 1.0
        return float(np.clip((min(known) - best) / width, 0.0, 1.0))


def measured(store: Store) -> list[Measured]:
    found: dict[str, Measured] = {}
    with reading(store) as connection:
        for run in every_run(connection):
            if run.origin != "build":
                continue
            losses = {e.pipeline: e.loss for e in run.evaluations if e.complete and e.loss is not None}
            seconds = {e.pipeline: e.seconds for e in run.evaluations}
            before = found.get(run.dataset.uid)
            if before is not None:
                losses, seconds = {**before.losses, **losses}, {**before.seconds, **seconds}
            found[run.dataset.uid] = Measured(run.dataset, losses, seconds)
    return [item for item in found.values() if len(item.losses) >= 20]


def shape_of(dataset: Dataset) -> Shape:
    share = dataset.features.get("share_categorical", 0.0)
    n_categorical = round(share * dataset.n_columns)
    n_numeric = round(dataset.features.get("share_numeric", 0.0) * dataset.n_columns)
    outputs = dataset.n_classes or 1
    return Shape(dataset.kind, dataset.n_rows, dataset.n_columns, n_categorical, outputs, n_numeric)


def global_list(others: Sequence[Measured], usable: Sequence[Pipeline]) -> list[Pipeline]:
    """Choose the list that serves all other datasets of the kind, by the same greedy rule."""
    losses = np.array([[item.losses.get(p, np.nan) for p in usable] for item in others])
    cost = np.array([np.nanmedian([item.seconds.get(p, np.nan) for item in others] + [60.0]) for p in usable])
    return [usable[i] for i in greedy(regrets(losses), np.ones(len(others)), cost, 16).order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--judge", help="datasets to judge on; default the store's own, each left out")
    parser.add_argument("--first", type=int, nargs="+", default=[1, 3, 5, 10])
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    store = open_store(f"sqlite:///{arguments.store}", create_missing=False)
    known = measured(store)
    judged = measured(open_store(f"sqlite:///{arguments.judge}", create_missing=False)) if arguments.judge else known
    families = find_families()
    rows: dict[str, list[list[float]]] = {name: [] for name in ("recall", "global", "fixed", "random")}
    for item in judged:
        for name, lists in proposals(item, known, store, arguments.seeds).items():
            default = default_pipelines(families, USUAL[item.dataset.kind])[0]
            regret = [[item.regret(one[:k], default) for k in arguments.first] for one in lists]
            rows[name].append(list(np.mean(regret, axis=0)))
    print(f"{len(judged)} datasets; mean normalised regret after the first k trials (standard error)")
    print("| | " + " | ".join(f"k = {k}" for k in arguments.first) + " |")
    print("|---|" + "---|" * len(arguments.first))
    for name, values in rows.items():
        mean, error = np.mean(values, axis=0), np.std(values, axis=0) / np.sqrt(max(1, len(values)))
        print(f"| {name} | " + " | ".join(f"{m:.3f} ({e:.3f})" for m, e in zip(mean, error, strict=True)) + " |")
    print(json.dumps({name: np.mean(values, axis=0).tolist() for name, values in rows.items()}))


def proposals(
    item: Measured, known: Sequence[Measured], store: Store, seeds: int
) -> dict[str, Sequence[Sequence[Pipeline]]]:
    """Return the lists to compare, as the pipelines' names in the store; random has one for each seed."""
    families, shape = find_families(), shape_of(item.dataset)
    related = [other for other in known if other.family == item.family]
    others = [o for o in known if o.dataset.kind == item.dataset.kind and o.family != item.family]
    back: dict[Pipeline, Pipeline] = {}
    for candidate in candidates(families, item.dataset.kind):
        own = suited(candidate, families, shape)
        if own is not None and candidate in item.losses:
            back.setdefault(own, candidate)
    suit = _suit(shape, back)
    without = [item.dataset.fingerprint, *(other.dataset.fingerprint for other in related)]
    found = recall(
        item.dataset,
        prior=store,
        own=None,
        suit=suit,
        now=0.0,
        reference=reference_pipeline(families, item.dataset.kind),
        without=without,
    )
    usable = list(back.values())
    rng = np.random.default_rng(0)
    fixed = [back[p] for p in default_pipelines(families, shape) if p in back]
    rest = [p for p in fixed if p not in {back[q] for q in found.pipelines}]
    return {
        "recall": [[back[p] for p in found.pipelines] + rest],
        "global": [global_list(others, usable) + fixed],
        "fixed": [fixed],
        "random": [[usable[i] for i in rng.permutation(len(usable))] for _ in range(seeds)],
    }


def _suit(shape: Shape, back: Mapping[Pipeline, Pipeline]) -> Callable[[Pipeline], tuple[Pipeline, float] | None]:
    every = find_families()

    def suit(pipeline: Pipeline) -> tuple[Pipeline, float] | None:
        own = suited(pipeline, every, shape)
        if own is None or own not in back:
            return None
        return own, 5 * every[own.family].seconds(shape, own.hyperparameters)

    return suit


if __name__ == "__main__":
    main()
