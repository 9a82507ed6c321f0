"""Do rows without labels ask for an adaptation, and which: found once in a worker, before the search."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automl_cli.adapting import FLATTENED
from automl_cli.comparing import Compared, compared_columns, not_compared
from automl_cli.families import find_families
from automl_cli.families.family import Family, FoldData, Limits, Shape
from automl_cli.features.encodings import ENCODINGS
from automl_cli.features.frame import Frame, joined, open_frame
from automl_cli.features.matrix import Array
from automl_cli.metrics import METRICS, TaskKind
from automl_cli.rundata import RunData, open_rundata
from automl_cli.transfer.density import effective_size, finished, mean_one, ratio_weights, worth_weighting
from automl_cli.transfer.domain import Domain, tell_apart
from automl_cli.transfer.judge import (
    Verdict,
    circular_losses,
    judge_label_shift,
    judge_without_labels,
    row_losses,
    weighted_gain,
)
from automl_cli.transfer.labels import fit_mlls
from automl_cli.transfer.learner import LabelFit, Predict
from automl_cli.transfer.shift import FAR, Shift, Side, find_shift
from automl_cli.transfer.source import cross_fitted_with

NEW = "new"
"""The folder of the new rows beside the run's data."""
WEIGHTS_FILE = "new_weights.npy"
NONE, WEIGHTS, SHARES = "none", "weights", "label shares"
ALIKE = "the new rows look like those that were learned from"
TELLING = "lightgbm"
MOST_ROWS = 10_000  # of either table that are looked at
LEAST_ROWS = 30  # of either table: with fewer nothing can be told
ROWS_PER_SECOND = 800  # of 20 columns and two outputs, on one slow core, with everything that is asked of them
LEAST_TIMED = 500  # rows that are looked at even where there is little time
RATE = 0.15  # coarse enough that boosting many times over takes no long
STOPPING = 6  # one of so many training rows says when boosting stops


@dataclass(frozen=True)
class Asked:
    """How an adaptation is looked for.

    Attributes
    ----------
    judge : str
        The family whose losses decide whether weights gain.
    unlike : tuple of str
        Columns that are not compared, such as the one that orders the rows.
    groups : ndarray or None
        Of the run's rows.
    seconds : float or None
        What it may take; None where trials are counted.
    """

    judge: str
    seed: int
    unlike: tuple[str, ...] = ()
    groups: Array | None = None
    seconds: float | None = None


def find_adaptation(run_folder: str, asked: Asked) -> dict[str, Any]:
    """Tell which shift lies between a run's rows and the new ones, and decide what is done about it.

    Where weights are, those of all of the run's rows are left beside its data.

    Returns
    -------
    dict
        ``shift`` (JSON of `Shift`, or None), ``sentences``, ``verdict`` and ``adapted``.
    """
    began = time.perf_counter()
    folder = Path(run_folder) / "data"
    data, new = open_rundata(folder), open_frame(folder / NEW)

    def check() -> None:
        if asked.seconds is not None and time.perf_counter() - began > asked.seconds:
            raise TimeoutError

    if min(data.n_rows, new.n_rows) < LEAST_ROWS:
        fewer = "new rows" if new.n_rows <= data.n_rows else "labelled rows"
        return told(None, Verdict(False, f"{min(data.n_rows, new.n_rows)} {fewer} are too few to tell", {}), NONE)
    shift: Shift | None = None
    apart: tuple[str, ...] = ()
    try:
        case = _Case.drawn(data, new, asked, check)
        shift, apart = case.shift, case.columns.apart
        verdict, adapted = case.decide()
        if adapted == WEIGHTS:
            np.save(folder / WEIGHTS_FILE, case.all_weights(data))
    except TimeoutError:
        return told(shift, Verdict(False, "it could not be judged in the time there is", {}), NONE, apart)
    return told(shift, verdict, adapted, apart)


def told(shift: Shift | None, verdict: Verdict, adapted: str, apart: Sequence[str] = ()) -> dict[str, Any]:
    """Return what was found as JSON values; ``apart`` are columns that were not compared."""
    return {
        "setting": "transductive",
        "shift": None if shift is None else shift.to_json(),
        "sentences": [] if shift is None else [*shift.sentences(), *not_compared(apart)],
        "verdict": verdict.to_json(),
        "adapted": adapted,
    }


@dataclass(frozen=True)
class _Case:
    """A sample of both tables, what shift was found between them, and what can be fitted on it."""

    asked: Asked
    rows: Array  # of the run
    new: Frame
    columns: Compared
    frame: Frame  # the sample's rows, then the new ones
    y: Array
    own: Array  # the user's weights
    kind: TaskKind
    n_outputs: int
    domain: Domain
    shift: Shift
    outputs: tuple[Array, Array] | None
    check: Callable[[], None]

    @classmethod
    def drawn(cls, data: RunData, new: Frame, asked: Asked, check: Callable[[], None]) -> "_Case":
        rng = np.random.default_rng(asked.seed)
        most = most_rows(asked.seconds, len(data.frame.schema.names), data.n_outputs)
        rows, others = (_drawn(n, most, rng) for n in (data.n_rows, new.n_rows))
        own, new = data.frame.take(rows), new.take(others)
        columns = compared_columns(own, new, asked.unlike)
        y = np.asarray(data.y)[rows]
        weight = np.ones(len(rows)) if data.weight is None else np.asarray(data.weight)[rows]
        frame = joined([own, new])
        domain = tell_apart(columns.source, columns.target, categorical=columns.categorical, seed=asked.seed)
        check()
        outputs = None
        if data.kind is not TaskKind.REGRESSION:
            learner = learner_of(frame, find_families()[TELLING], data.kind, data.n_outputs, asked.seed, check)
            source, target = np.arange(len(rows)), np.arange(len(rows), frame.n_rows)
            groups = None if asked.groups is None else asked.groups[rows]
            outputs = cross_fitted_with(
                lambda at, w: learner(at, y[at], w), source, target, weight, groups=groups, seed=asked.seed
            )
        sides = (None, None) if outputs is None else outputs
        shift = find_shift(
            Side(columns.source, y, sides[0]),
            Side(columns.target, outputs=sides[1]),
            kind=data.kind,
            names=columns.names,
            categorical=columns.categorical,
            seed=asked.seed,
            domain=domain,
        )
        check()
        return cls(
            asked, rows, new, columns, frame, y, weight, data.kind, data.n_outputs, domain, shift, outputs, check
        )

    def decide(self) -> tuple[Verdict, str]:
        """Return whether to adapt, and how."""
        if "label" in self.shift.kinds:
            verdict = self._judged_shares()
            return verdict, SHARES if verdict.accepted else NONE
        if "covariate" not in self.shift.kinds:
            return Verdict(False, ALIKE, {}), NONE
        full = ratio_weights(self.domain)
        if self.shift.domain_auc[0] > FAR:
            reason = "hardly any row that was learned from could be one of the new ones, so weights cannot help"
            return Verdict(False, reason, {}), NONE
        if not worth_weighting(full):
            reason = f"weights would leave only {effective_size(full):,.0f} of {len(full):,} rows"
            return Verdict(False, reason, {}), NONE
        verdict = self._judged_weights(full)
        return verdict, WEIGHTS if verdict.accepted else NONE

    def _judged_shares(self) -> Verdict:
        assert self.outputs is not None
        found = fit_mlls(self.outputs[0], self.y, self.outputs[1])
        before, after = (row_losses(self.y, p, self.kind) for p in (self.outputs[0], found.correct(self.outputs[0])))
        return judge_label_shift(self.shift.kinds, weighted_gain(before, after, self.own * found.weights[self.y]))

    def _judged_weights(self, full: Array) -> Verdict:
        """Fit with and without weights; losses are those of the new rows where they are weighed by all of the ratio."""
        groups = None if self.asked.groups is None else self.asked.groups[self.rows]
        fit = learner_of(
            self.frame, find_families()[self.asked.judge], self.kind, self.n_outputs, self.asked.seed, self.check
        )
        source, target = np.arange(len(self.rows)), np.arange(len(self.rows), self.frame.n_rows)

        flattened = mean_one(self.own * finished(full, gamma=FLATTENED, clip=1.0))
        scored_by = self.own * full

        def at_home(weights: Array) -> Array:
            def on(at: Array, w: Array) -> Predict:
                return fit(at, self.y[at], w)

            outputs, _ = cross_fitted_with(on, source, target[:0], weights, groups=groups, seed=self.asked.seed)
            return row_losses(self.y, outputs, self.kind)

        def in_a_circle(weights: Array) -> Array:
            away = fit(source, self.y, weights)(target)
            return circular_losses(away, self.y, fit, source=source, target=target, kind=self.kind)

        weighted = weighted_gain(at_home(self.own), at_home(flattened), scored_by)
        if not weighted.sure:  # the other score could not change that
            return Verdict(False, "no gain is seen by the importance-weighted loss", {"weighted": weighted})
        circular = weighted_gain(in_a_circle(self.own), in_a_circle(flattened), scored_by)
        return judge_without_labels(circular, weighted)

    def all_weights(self, data: RunData) -> Array:
        """Return flattened weights of all of the run's rows, of mean one."""
        if len(self.rows) == data.n_rows:
            return ratio_weights(self.domain, gamma=FLATTENED)
        columns = compared_columns(data.frame, self.new, self.asked.unlike)
        domain = tell_apart(
            columns.source,
            columns.target,
            categorical=columns.categorical,
            seed=self.asked.seed,
            most_rows=len(self.rows),
        )
        self.check()
        return ratio_weights(domain, gamma=FLATTENED)


def most_rows(seconds: float | None, n_columns: int, n_outputs: int) -> int:
    """Return how many rows of either table may be looked at in so many seconds."""
    if seconds is None:
        return MOST_ROWS
    work = max(1.0, n_columns / 20) * (n_outputs if n_outputs > 2 else 1)
    return int(np.clip(seconds * ROWS_PER_SECOND / work, LEAST_TIMED, MOST_ROWS))


def _drawn(n_rows: int, most: int, rng: np.random.Generator) -> Array:
    return np.arange(n_rows) if n_rows <= most else np.sort(rng.choice(n_rows, most, replace=False))


def learner_of(
    frame: Frame, family: Family, kind: TaskKind, n_outputs: int, seed: int, check: Callable[[], None]
) -> LabelFit:
    """Return what fits a family's default to rows of a frame; where boosting stops is seen on a part of these."""
    encoding = ENCODINGS[family.encodings[0]]
    metric = METRICS["rmse" if kind is TaskKind.REGRESSION else "log_loss"]
    schema = frame.schema

    def fit(rows: Array, y: Array, weights: Array) -> Predict:
        check()
        if kind is not TaskKind.REGRESSION and len(np.unique(y)) < 2:
            return lambda to: _always(int(y[0]), n_outputs, len(to))
        held = np.random.default_rng([seed, len(rows)]).permutation(len(rows)) % STOPPING == 0
        if kind is not TaskKind.REGRESSION and len(np.unique(y[~held])) < 2:
            held[:] = False
        train, valid = rows[~held], rows[held] if held.any() else rows[:1]
        of_valid = held if held.any() else np.arange(len(rows)) == 0
        encoder, matrix = encoding.fit(frame.take(train), y[~held], kind, n_outputs, seed)
        shape = Shape(kind, len(train), len(schema.names), len(schema.categorical), n_outputs, len(schema.numeric))
        fold = FoldData(
            kind=kind,
            n_outputs=n_outputs,
            train=matrix,
            y=y[~held],
            weight=mean_one(weights[~held]),
            valid=encoder.transform(frame.take(valid)),
            y_valid=y[of_valid],
            weight_valid=mean_one(weights[of_valid]),
            loss=metric.loss,
            metric=metric.name,
        )
        chosen = family.defaults(shape)[0]
        if family.name == TELLING:
            chosen = {**chosen, "learning_rate": RATE}
        model = family.fit(fold, chosen, Limits(1, seed, None))
        return lambda to: model.predict(encoder.transform(frame.take(to)), 1)

    return fit


def _always(label: int, n_outputs: int, n_rows: int) -> Array:
    """Return probabilities that are nearly sure of one class."""
    p = np.full(n_outputs, 0.02 / max(1, n_outputs - 1))
    p[label] = 0.98
    return np.tile(p, (n_rows, 1))


def judge_of(families: Mapping[str, Family]) -> str:
    """Return the family whose losses decide, of those that are searched: what gains with one may cost with another."""
    return TELLING if TELLING in families else next(iter(families))
