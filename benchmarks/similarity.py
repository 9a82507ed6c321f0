"""Which similarity of datasets warms best: distances, weights, neighbours and normalisation, left out in turn.

Everything is computed from losses that `automl experience build` measured. A list of pipelines is chosen greedily on
the other datasets' regrets, weighted by a variant's similarity; it is judged on the dataset that was left out (with
those of its family: names that share their first word), by its normalised regret after k trials and after so many
seconds of one core: (best so far - best known) / (LightGBM's default - best known), clipped to 0..1, 1 before the
first result.

usage: python -m benchmarks.similarity STORE [--first 1 3 5 10] [--seconds 5 20] [--only NAME ...] [--plot FILE.svg]

The plot shows the same after each of the first trials and after 1 to 60 seconds, of a few lists.
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from scipy.optimize import nnls
from scipy.stats import rankdata
from sklearn.ensemble import ExtraTreesRegressor

from automl_cli.candidates import USUAL
from automl_cli.experience.access import open_store
from automl_cli.experience.portfolio import greedy, regrets
from automl_cli.experience.similar import FARTHEST, Scale
from automl_cli.families import find_families
from automl_cli.features.matrix import Array
from automl_cli.metrics import TaskKind
from automl_cli.space import default_pipelines
from automl_cli.trial import Pipeline
from benchmarks.recall import Measured, measured

MOST = 16
SHIPPED = "ten features, to default"
DRAWN = {
    "fixed": "fixed portfolio",
    "random": "random pipelines of the list",
    "global": "best list for all",
    SHIPPED: "neighbours by ten features (shipped)",
}
FIRST_DRAWN = tuple(range(1, 17))
SECONDS_DRAWN = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0, 30.0, 40.0, 60.0)


@dataclass(frozen=True, eq=False)
class Archive:
    """All measured datasets of a kind: losses and seconds of shape (n_datasets, n_pipelines), NaN where not complete.

    ``apart`` holds scaled differences of meta-features, shape (n_datasets, n_datasets, n_features).
    """

    names: tuple[str, ...]
    families: tuple[str, ...]
    features: Array
    feature_names: tuple[str, ...]
    apart: Array
    losses: Array
    seconds: Array
    pipelines: tuple[Pipeline, ...]
    fixed: tuple[int, ...]

    @property
    def default(self) -> int:
        """Position of LightGBM's default."""
        return self.fixed[0]


def archive(items: Sequence[Measured], kind: TaskKind) -> Archive:
    """Lay the datasets of a kind out as arrays."""
    own = [item for item in items if item.dataset.kind is kind]
    pipelines = tuple(dict.fromkeys(p for item in own for p in item.losses))
    names = tuple(sorted({name for item in own for name in item.dataset.features}))
    features = np.array([[item.dataset.features.get(name, np.nan) for name in names] for item in own])
    fixed = [p for p in default_pipelines(find_families(), USUAL[kind]) if p in pipelines]
    return Archive(
        names=tuple(item.dataset.name for item in own),
        families=tuple(item.family for item in own),
        features=features,
        feature_names=names,
        apart=_apart(features, names),
        losses=np.array([[item.losses.get(p, np.nan) for p in pipelines] for item in own]),
        seconds=np.array([[item.seconds.get(p, np.nan) for p in pipelines] for item in own]),
        pipelines=pipelines,
        fixed=tuple(pipelines.index(p) for p in fixed),
    )


def _apart(features: Array, names: Sequence[str]) -> Array:
    scale = Scale.of(features, names)
    used = [i for i, name in enumerate(names) if name in scale.middle]
    scaled = features[:, used] / np.array([scale.spread[names[i]] for i in used])
    apart = np.minimum(np.abs(scaled[:, None, :] - scaled[None, :, :]), FARTHEST)
    neither = np.isnan(scaled)[:, None, :] & np.isnan(scaled)[None, :, :]
    full = np.zeros((len(features), len(features), len(names)))
    full[:, :, used] = np.where(neither, 0.0, np.where(np.isnan(apart), 1.0, apart))
    return full


def to_default(losses: Array, default: int) -> Array:
    """Scale losses to regrets: 0 is the best of its dataset, 1 LightGBM's default or worse."""
    best = np.nanmin(losses, axis=1, keepdims=True)
    width = losses[:, [default]] - best
    with np.errstate(all="ignore"):
        found = np.where(width > 0, (losses - best) / width, np.where(losses > best, 1.0, 0.0))
    return np.where(np.isnan(losses), np.nan, np.clip(found, 0.0, 1.0))


# Similarities: (archive, positions of the others, position of the judged) -> a weight for each of the others.
Similarity = Callable[[Archive, Array, int], Array]


def everyone(archive: Archive, others: Array, judged: int) -> Array:
    return np.ones(len(others))


def near(n_near: int, floor: float, weigh: Callable[[Archive, Array], Array] | None = None) -> Similarity:
    """Return exp(-distance / distance of the n-th neighbour), and a floor for all."""

    def similarity(archive: Archive, others: Array, judged: int) -> Array:
        weight = np.ones(archive.apart.shape[2]) if weigh is None else weigh(archive, others)
        if not weight.any():
            return np.ones(len(others))
        far = archive.apart[judged, others] @ weight / weight.sum()
        reach = max(float(np.sort(far)[min(n_near, len(far)) - 1]), 1e-6)
        return np.asarray(floor + np.exp(-far / reach))

    return similarity


def named(*wanted: str) -> Callable[[Archive, Array], Array]:
    return lambda archive, others: np.array([float(name in wanted) for name in archive.feature_names])


def learned(archive: Archive, others: Array) -> Array:
    """Weigh features so that a distance tells how differently two datasets rank pipelines."""
    regret = regrets(archive.losses[others])
    rows, targets = [], []
    for i, j in combinations(range(len(others)), 2):
        both = np.isfinite(regret[i]) & np.isfinite(regret[j])
        if both.sum() >= 10:
            a, b = rankdata(regret[i, both]), rankdata(regret[j, both])
            if a.std() and b.std():
                rows.append(archive.apart[others[i], others[j]])
                targets.append(1.0 - np.corrcoef(a, b)[0, 1])
    if len(rows) < 10:
        return np.ones(archive.apart.shape[2])
    A, y = np.array(rows), np.array(targets)
    # drawn towards equal weights of the least-squares size: with a hundred datasets single weights are mostly noise
    equal = float((A.mean(axis=1) @ y) / (A.mean(axis=1) @ A.mean(axis=1))) / A.shape[1]
    strength = np.sqrt(0.1 * len(A))
    A_more = np.vstack([A, strength * np.eye(A.shape[1])])
    return np.asarray(nnls(A_more, np.concatenate([y, strength * np.full(A.shape[1], equal)]))[0])


def forest(leaf: int, floor: float) -> Similarity:
    """Return how often a forest that predicts all pipelines' regrets from meta-features puts two datasets together."""

    def similarity(archive: Archive, others: Array, judged: int) -> Array:
        regret = regrets(archive.losses[others])
        filled = np.where(np.isnan(regret), np.nanmean(regret, axis=0), regret)
        X = np.where(np.isfinite(archive.features), archive.features, -1e3)
        model = ExtraTreesRegressor(200, min_samples_leaf=leaf, max_features=0.3, random_state=0)
        model.fit(X[others], np.nan_to_num(filled, nan=1.0))
        mine, theirs = model.apply(X[[judged]]), model.apply(X[others])
        same = theirs == mine
        return np.asarray(floor + (same / same.sum(axis=0)).sum(axis=1) * len(others) / same.shape[1] / 3)

    return similarity


SIZES = named("log_n_rows", "log_n_columns", "share_categorical", "n_classes", "share_missing")
LANDMARKS = named("stump", "nearest_neighbour", "naive_bayes", "linear", "linear_over_stump", "neighbour_over_linear")
BOTH = named("log_n_rows", "log_n_columns", "share_categorical", "linear", "linear_over_stump", "nearest_neighbour",
             "neighbour_over_linear", "explained", "log_leaves", "mean_target_correlation")  # fmt: skip

VARIANTS: dict[str, tuple[Similarity, str, float]] = {
    # similarity, how regrets are scaled, power of the cost
    "global": (everyone, "median", 0.5),
    "global, no cost": (everyone, "median", 0.0),
    "global, cost^1": (everyone, "median", 1.0),
    "global, to default": (everyone, "default", 0.5),
    "near 6, floor .1": (near(6, 0.1), "median", 0.5),
    "near 6, to default": (near(6, 0.1), "default", 0.5),
    "near 3, floor .1": (near(3, 0.1), "median", 0.5),
    "near 12, floor .1": (near(12, 0.1), "median", 0.5),
    "near 6, floor .5": (near(6, 0.5), "median", 0.5),
    "sizes": (near(6, 0.1, SIZES), "median", 0.5),
    "landmarks": (near(6, 0.1, LANDMARKS), "median", 0.5),
    "ten features": (near(6, 0.1, BOTH), "median", 0.5),
    "ten features, to default": (near(6, 0.1, BOTH), "default", 0.5),
    "learned weights": (near(6, 0.1, learned), "median", 0.5),
    "forest, leaf 3": (forest(3, 0.1), "median", 0.5),
    "forest, leaf 3, to default": (forest(3, 0.1), "default", 0.5),
    "forest, leaf 5, floor .3": (forest(5, 0.3), "median", 0.5),
}


def judged(archive: Archive, i: int, order: Sequence[int], first: Sequence[int], seconds: Sequence[float]) -> Array:
    """Return the regret after the first k trials, and after so many seconds."""
    regret = to_default(archive.losses[[i]], archive.default)[0]
    usable = [p for p in order if np.isfinite(regret[p])]
    reached = np.minimum.accumulate([regret[p] for p in usable]) if usable else np.ones(1)
    ends = np.cumsum([archive.seconds[i, p] for p in usable]) if usable else np.full(1, np.inf)
    after = [float(reached[min(k, len(reached)) - 1]) for k in first]
    by = [float(reached[n - 1]) if (n := int(np.searchsorted(ends, limit, side="right"))) else 1.0 for limit in seconds]
    return np.array(after + by)


def chosen(archive: Archive, i: int, variant: tuple[Similarity, str, float]) -> list[int]:
    """Return the list for a dataset that is left out with its family; the fixed portfolio follows it."""
    similarity, scaling, power = variant
    others = np.array([j for j, family in enumerate(archive.families) if family != archive.families[i]])
    scaled = regrets(archive.losses) if scaling == "median" else to_default(archive.losses, archive.default)
    with np.errstate(all="ignore"):
        cost = np.nan_to_num(np.nanmedian(archive.seconds[others], axis=0), nan=60.0)
    here = np.flatnonzero(np.isfinite(archive.losses[i]))
    weight = similarity(archive, others, i)
    # greedy divides by the root of the cost
    found = greedy(scaled[others][:, here], weight, cost[here] ** (2 * power), MOST)
    return [*(int(here[p]) for p in found.order), *archive.fixed]


def judged_all(
    archives: Sequence[Archive], first: Sequence[int], seconds: Sequence[float], variants: Sequence[str], seeds: int
) -> dict[str, list[Array]]:
    """Return what `judged` says of each dataset, by list: the fixed portfolio, random orders, and variants."""
    rows: dict[str, list[Array]] = {"fixed": [], "random": []}
    rng = np.random.default_rng(0)
    for one in archives:
        for i in range(len(one.names)):
            rows["fixed"].append(judged(one, i, one.fixed, first, seconds))
            orders = [rng.permutation(len(one.pipelines)) for _ in range(seeds)]
            rows["random"].append(np.mean([judged(one, i, order.tolist(), first, seconds) for order in orders], axis=0))
            for name in variants:
                if name in VARIANTS:
                    rows.setdefault(name, []).append(judged(one, i, chosen(one, i, VARIANTS[name]), first, seconds))
    return rows


def draw(rows: dict[str, list[Array]], path: Path) -> None:
    """Draw mean regrets, with the standard error of what is shipped as a band."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "similarity", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for axes, x, label in zip(
            figure.subplots(1, 2, sharey=True),
            (FIRST_DRAWN, SECONDS_DRAWN),
            ("trials", "seconds of one core"),
            strict=True,
        ):
            part = slice(0, len(FIRST_DRAWN)) if x is FIRST_DRAWN else slice(len(FIRST_DRAWN), None)
            for name, title in DRAWN.items():
                values = np.array(rows[name])[:, part]
                mean, error = values.mean(axis=0), values.std(axis=0) / np.sqrt(len(values))
                axes.plot(x, mean, label=title)
                if name == SHIPPED:
                    axes.fill_between(x, mean - error, mean + error, alpha=0.2, color="C3")
            axes.set_xscale("log")
            axes.set_xticks([1, 3, 10, *([30, 60] if x is SECONDS_DRAWN else [])])
            axes.xaxis.set_major_formatter("{x:g}")
            axes.minorticks_off()
            axes.set_xlabel(label)
        figure.axes[0].set_ylabel("mean normalised regret")
        figure.axes[0].set_ylim(0, 1)
        figure.axes[1].legend(loc="upper right")
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--first", type=int, nargs="+", default=[1, 3, 5, 10])
    parser.add_argument("--seconds", type=float, nargs="+", default=[5.0, 20.0])
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    items = measured(open_store(f"sqlite:///{arguments.store}", create_missing=False))
    archives = [archive(items, kind) for kind in TaskKind if sum(i.dataset.kind is kind for i in items) > 3]
    first, seconds = arguments.first, arguments.seconds
    if arguments.plot is not None:
        draw(judged_all(archives, FIRST_DRAWN, SECONDS_DRAWN, list(DRAWN), arguments.seeds), arguments.plot)
        return
    rows = judged_all(archives, first, seconds, arguments.only or list(VARIANTS), arguments.seeds)
    sizes = ", ".join(f"{len(one.names)} of {len(one.pipelines)} pipelines" for one in archives)
    print(f"datasets of each kind: {sizes}; mean normalised regret (standard error against global)")
    head = [f"k = {k}" for k in first] + [f"{s:g} s" for s in seconds]
    print("| | " + " | ".join(head) + " |\n|---|" + "---|" * len(head))
    base = np.array(rows.get("global", rows["fixed"]))
    for name, values in rows.items():
        mean, error = np.mean(values, axis=0), np.std(np.array(values) - base, axis=0) / np.sqrt(len(values))
        print(f"| {name} | " + " | ".join(f"{m:.3f} ({e:.3f})" for m, e in zip(mean, error, strict=True)) + " |")


if __name__ == "__main__":
    main()
