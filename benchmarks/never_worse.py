"""What the ways of using a source cost and gain on random shifts: the promise "never worse than the target alone".

    python -m benchmarks.never_worse [--shifts 30] [--draws 4] [--families linear lightgbm]

Each shift is drawn: its kind, its strength, the columns, the rows of source and target. Then both tables are drawn
several times, and the same few pipelines are fitted on the target alone and with each way of using the source, as a fit
does, folds, journal and weights included. An ensemble is chosen once among the first and once among all, and both are
scored on 2,000 other rows of the target. What is printed is the logarithm of the ratio of their losses, below 0 where
the source helps: its mean over draws, and its standard error.
"""

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automl_cli.evaluate import evaluate
from automl_cli.families import find_families
from automl_cli.features.frame import Frame, frame_from_table
from automl_cli.job import Job, choose_families, prepare
from automl_cli.members import Chosen, OofCache, choose_members
from automl_cli.metrics import Array, TaskKind
from automl_cli.named import read_with_sources
from automl_cli.options import FitOptions
from automl_cli.runs import open_run
from automl_cli.sourced import find_encoding, load_model
from automl_cli.space import default_pipelines, ways_of
from automl_cli.table import read_with_schema
from automl_cli.transfer.adaptation import encoder_of
from automl_cli.trial import Proposal, Trial
from automl_cli.trialfiles import fold_folders

KINDS = ("none", "covariate", "label", "concept", "scale", "unrelated")
N_TEST = 2_000
FAMILIES = ("linear", "lightgbm")
"""Few and quick: a choice among few candidates by few rows is where a source could do harm."""


@dataclass(frozen=True)
class RandomShift:
    """How a source differs from its target.

    Attributes
    ----------
    kind : str
        One of `KINDS`; ``unrelated``: the source's labels follow other columns; ``scale``: its values are larger.
    strength : float
        0: not at all.
    """

    kind: str
    task: TaskKind
    strength: float
    n_columns: int
    n_source: int
    n_target: int
    seed: int

    def rows(self, n: int, rng: np.random.Generator, *, source: bool) -> tuple[Array, Array]:
        """Draw rows (n, n_columns) and their targets."""
        fixed = np.random.default_rng(self.seed)
        slopes, bend = fixed.normal(size=self.n_columns), fixed.normal(size=self.n_columns)
        others = fixed.normal(size=self.n_columns)
        X = rng.normal(size=(n, self.n_columns))
        if source and self.kind == "covariate":
            X = X + self.strength * others / np.linalg.norm(others)
        if source and self.kind == "unrelated":
            slopes, bend = others, fixed.normal(size=self.n_columns)
        if source and self.kind == "concept":
            turned = slopes + self.strength * others
            slopes = turned * np.linalg.norm(slopes) / np.linalg.norm(turned)
        value = (X @ slopes + np.sin(2 * X) @ bend) / np.sqrt(self.n_columns)
        if self.task is TaskKind.REGRESSION:
            y = value + 0.5 * rng.normal(size=n)
            return X, y * (1 + self.strength) + self.strength if source and self.kind == "scale" else y
        if source and self.kind in ("label", "scale"):
            value = value + self.strength
        return X, (value + 0.5 * rng.logistic(size=n) > 0).astype(np.int64)


def draw_shift(seed: int) -> RandomShift:
    """Draw a shift."""
    rng = np.random.default_rng([seed, 7])
    return RandomShift(
        kind=KINDS[seed % len(KINDS)],
        task=TaskKind.REGRESSION if rng.random() < 0.5 else TaskKind.BINARY,
        strength=float(rng.uniform(0.2, 2.0)),
        n_columns=int(rng.integers(3, 13)),
        n_source=int(rng.integers(300, 2_000)),
        n_target=int(rng.integers(40, 200)),
        seed=seed,
    )


def gain(shift: RandomShift, draw: int, place: Path, include: Sequence[str] = FAMILIES) -> float:
    """Return the logarithm of the loss with the source over the loss without, on new rows of the target."""
    rng = np.random.default_rng([shift.seed, draw, 1])
    tables = {"old": (shift.n_source, True), "new": (shift.n_target, False), "later": (N_TEST, False)}
    for name, (n, source) in tables.items():
        X, y = shift.rows(n, rng, source=source)
        heads = ",".join([f"x{k}" for k in range(X.shape[1])] + ["y"])
        np.savetxt(place / f"{name}.csv", np.column_stack([X, y]), "%.6g", ",", header=heads, comments="")
    options = FitOptions(
        str(place / "new.csv"), "y", place / "never.automl", n_trials=1, folds=4, task=shift.task,
        source=(str(place / "old.csv"),), include=tuple(include),
    )  # fmt: skip
    table, sources = read_with_sources(options)
    families = choose_families(options.include, ())
    with open_run(place / "run", stem="new", identity=options.identity(), resume=False) as run:
        job = prepare(options, table, families, run, sources)
        trials = _trials(job)
        alone = [trial for trial in trials if ":" not in trial.proposal.pipeline.encoding]
        cache = OofCache(run.folder, job.data)
        new = read_with_schema(str(place / "later.csv"), table.schema, verbatim=("y",))
        frame = frame_from_table(new, job.frame_schema)
        truth = np.array([float(text) for text in new.texts("y") if text is not None])
        truth = truth if shift.task is TaskKind.REGRESSION else truth.astype(np.int64)
        losses = []
        for among in (trials, alone):
            chosen = choose_members(among, cache)
            if chosen is None:
                raise ValueError(f"no trial of {shift} ended: {trials}")
            losses.append(job.data.metric.loss(truth, _said(chosen, run.folder, frame), None))
    return float(np.log(losses[0] / losses[1]))


def _trials(job: Job) -> list[Trial]:
    """Fit each family's first default in every way."""
    plain = {p.family: p for p in reversed(default_pipelines(job.families, job.shape))}
    pipelines = [p for way in ways_of(list(plain.values()), job.families, job.shape).values() for p in way]
    folder = str(job.run.folder.resolve())
    return [evaluate(Proposal(k, p, "portfolio", k, 1), folder) for k, p in enumerate(pipelines)]


def _said(chosen: Chosen, run: Path, frame: Frame) -> Array:
    """Return what an ensemble says of rows."""
    total: Array | float = 0.0
    for trial, weight in chosen.members:
        pipeline, answers = trial.proposal.pipeline, []
        for folder in fold_folders(run, trial):
            encoder = find_encoding(encoder_of(pipeline.encoding)).load(folder / "encoder")
            model = load_model(find_families()[pipeline.family], pipeline.encoding, folder / "model")
            answers.append(model.predict(encoder.transform(frame), 1))
        total = total + weight * chosen.mixing.terms(np.mean(answers, axis=0))
    return np.asarray(chosen.decision.calibrated(chosen.mixing.joined(np.asarray(total))))


def gains(shift: RandomShift, n_draws: int, include: Sequence[str] = FAMILIES) -> Array:
    """Return what several draws of the tables of a shift gain, shape (n_draws,)."""
    found = []
    for draw in range(n_draws):
        with tempfile.TemporaryDirectory() as place:
            found.append(gain(shift, draw, Path(place), include))
    return np.array(found)


def mean_and_error(values: Sequence[float] | Array) -> tuple[float, float]:
    """Return a mean and its standard error."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def main() -> None:
    """Print what each shift and each kind gains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shifts", type=int, default=30)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--families", nargs="+", default=FAMILIES)
    args = parser.parse_args()
    by_kind: dict[str, list[float]] = defaultdict(list)
    worse = 0
    print("| shift | task | strength | columns | source | target | log ratio | standard error |\n" + "|---" * 8 + "|")
    for seed in range(args.shifts):
        shift = draw_shift(seed)
        found = gains(shift, args.draws, args.families)
        mean, error = mean_and_error(found)
        worse += mean > 2 * error
        by_kind[shift.kind].extend(found)
        size = f"{shift.n_columns} | {shift.n_source} | {shift.n_target}"
        print(
            f"| {shift.kind} | {shift.task} | {shift.strength:.2f} | {size} | {mean:+.3f} | {error:.3f} |", flush=True
        )
    print("\n| kind | mean | standard error | 95th percentile |\n|---|---|---|---|")
    for kind, values in by_kind.items():
        mean, error = mean_and_error(values)
        print(f"| {kind} | {mean:+.3f} | {error:.3f} | {np.quantile(values, 0.95):+.3f} |")
    print(f"\n{worse} of {args.shifts} shifts are worse with the source by more than two standard errors")


if __name__ == "__main__":
    main()
