"""What kind of shift lies between two tables: of the columns, of the labels, or of what the one says of the other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from automl_cli.features.matrix import Array
from automl_cli.metrics import TaskKind
from automl_cli.reference import bins_of_codes, bins_of_numbers, column_reference, compared, counts_by_bin
from automl_cli.transfer.density import effective_size, ratio_weights
from automl_cli.transfer.domain import Domain, Standard, tell_apart
from automl_cli.transfer.labels import LabelShift, class_shares, fit_bbse, label_shift_test
from automl_cli.transfer.probabilities import raw_outputs
from automl_cli.transfer.source import fit_recalibration

SAME, FAR = 0.55, 0.9
"""Domain AUC up to which rows may be pooled, and from which on source rows have nothing to say about target rows."""
LEVEL = 0.01
LARGE = 0.1
"""Jensen-Shannon distance, as for drift."""
MOST_SHOWN = 5
LEAST_LABELLED = 20
MOST_DRAWN = 10_000


@dataclass(frozen=True)
class Moved:
    """How far a column has moved: Jensen-Shannon distance, 0 to 1, and the p-value of a chi-squared test."""

    name: str
    size: float
    p: float


@dataclass(frozen=True)
class Shift:
    """What was found.

    Attributes
    ----------
    kinds : tuple of str
        ``covariate``, ``label``, ``concept``; none where the tables look alike.
    domain_auc : (float, float, float)
        How well rows are told apart, with a 95 % interval: 0.5 is not at all.
    effective_rows : float
        Of the source, under the weights that make it look like the target.
    moved : tuple of Moved
        Columns, the largest distance first.
    classes_before, classes_after : tuple of float
        Shares of the classes, the second known from labels or estimated; none for a regression.
    label_p : float or None
        Of the hypothesis that nothing but the shares of the classes has changed.
    concept_p : float or None
        Of the hypothesis that rows mean the same in both tables; None without labels in the target.
    n_repeated : int
        Source rows that are in the target too.
    """

    n_source: int
    n_target: int
    kinds: tuple[str, ...]
    domain_auc: tuple[float, float, float]
    effective_rows: float
    moved: tuple[Moved, ...]
    classes_before: tuple[float, ...] = ()
    classes_after: tuple[float, ...] = ()
    label_p: float | None = None
    concept_p: float | None = None
    n_repeated: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**vars(self), "moved": [vars(column) for column in self.moved]}

    def sentences(self) -> list[str]:
        """Say it plainly."""
        auc, low, high = self.domain_auc
        interval = f"{low:.2f} to {high:.2f}; 0.5: not at all"
        said = [f"Rows of the two tables are told apart with an AUC of {auc:.2f} ({interval})."]
        if high > SAME:
            share = self.effective_rows / max(1, self.n_source)
            said.append(
                f"Made to look like the target, the source counts as {self.effective_rows:,.0f} rows ({share:.0%})."
            )
        large = [column.name for column in self.moved if column.size > LARGE and column.p < LEVEL]
        if large:
            more = f" and {len(large) - MOST_SHOWN} more" if len(large) > MOST_SHOWN else ""
            said.append(f"Columns that moved: {', '.join(large[:MOST_SHOWN])}{more}.")
        same = "" if "concept" in self.kinds else ", of the same meaning as far as can be seen"
        meaning = {
            "covariate": f"Other rows than before{same}: a covariate shift.",
            "label": "The classes have other shares: a label shift.",
            "concept": "Rows of the same values have another target than before: a concept shift.",
        }
        said += [meaning[kind] for kind in self.kinds] or ["No shift is seen."]
        if auc > FAR:
            said.append("Hardly any source row could be a target row, so weights cannot help.")
        if self.n_repeated:
            rows = "1 row is" if self.n_repeated == 1 else f"{self.n_repeated:,} rows are"
            said.append(f"{rows} in both tables, and must not train what is scored on them.")
        return said


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two tables.

    Attributes
    ----------
    X : ndarray of shape (n_rows, n_features)
        Numbers with NaN; codes 0, 1, ... where a feature is categorical, -1 missing, -2 unknown.
    y : ndarray of shape (n_rows,) or None
        Class indices or values, where they are known.
    outputs : ndarray of shape (n_rows, n_outputs) or None
        Of models of the source that have not seen the row, the same for both sides: see `cross_fitted_with`.
    """

    X: Array
    y: Array | None = None
    outputs: Array | None = None


def find_shift(
    source: Side,
    target: Side,
    *,
    kind: TaskKind,
    names: Sequence[str],
    categorical: tuple[int, ...] = (),
    n_repeated: int = 0,
    seed: int = 0,
    domain: Domain | None = None,
) -> Shift:
    """Tell which shift it is, by what is known of the target.

    A label shift also makes the rows look different. So where the rows differ, it is held to be one if the classes'
    shares have moved, the target's predictions are a mixture of those of the source's classes, and source rows that are
    drawn in the new shares can no longer be told from the target's. Otherwise it is a covariate shift. With labels in
    the target, it is (also) a concept shift where a model of the source errs there in a way that it does not at home.
    Rows that belong together, such as visits of one patient, must not be split between the folds of ``outputs``: they
    make a model look better at home than it is, and the target strange.

    Parameters
    ----------
    domain : Domain or None
        How the rows are told apart, where that is known.
    """
    domain = domain or tell_apart(source.X, target.X, categorical=categorical, seed=seed)
    differs = domain.auc[1] > SAME
    label, label_p, mixed = _label_shift(source, target, kind, categorical, seed)
    concept_p = _concept_p(source, target, kind, label if mixed else None)
    kinds = [name for name, found in (("label", mixed), ("covariate", differs and not mixed)) if found]
    if concept_p is not None and concept_p < LEVEL:
        kinds.append("concept")
    return Shift(
        n_source=len(source.X),
        n_target=len(target.X),
        kinds=tuple(kinds),
        domain_auc=domain.auc,
        effective_rows=effective_size(ratio_weights(domain, clip=1.0)),
        moved=moved_columns(source.X, target.X, names, categorical),
        classes_before=() if label is None else tuple(map(float, label.before)),
        classes_after=() if label is None else tuple(map(float, label.after)),
        label_p=label_p,
        concept_p=concept_p,
        n_repeated=n_repeated,
    )


def moved_columns(
    source: Array, target: Array, names: Sequence[str], categorical: tuple[int, ...] = ()
) -> tuple[Moved, ...]:
    """Compare the columns one by one, in bins of about equal size in the source, or by category."""
    found = []
    for j, name in enumerate(names):
        old, new = source[:, j], target[:, j]
        if j in categorical:
            codes = [np.nan_to_num(values, nan=-1).astype(np.int64) for values in (old, new)]
            n_levels = max(int(values.max(initial=-1)) for values in codes) + 1
            reference = column_reference(name, "categorical", codes[0], n_levels)
            bins = [bins_of_codes(values, n_levels) for values in codes]
        else:
            reference = column_reference(name, "numeric", np.asarray(old, dtype=np.float64))
            bins = [bins_of_numbers(values, np.array(reference.edges)) for values in (old, new)]
        before, now = (counts_by_bin(values, reference) for values in bins)
        size, p = compared(before, now, reference.kind)
        found.append(Moved(name, size, p))
    return tuple(sorted(found, key=lambda column: -column.size))


def _label_shift(
    source: Side, target: Side, kind: TaskKind, categorical: tuple[int, ...], seed: int
) -> tuple[LabelShift | None, float | None, bool]:
    """Return the shares, the p-value of "nothing but the shares", and whether that explains what is seen."""
    if kind is TaskKind.REGRESSION or source.y is None or source.outputs is None or target.outputs is None:
        return None, None, False
    test = label_shift_test(source.outputs, source.y, target.outputs)
    found = fit_bbse(source.outputs, source.y, target.outputs)
    if target.y is not None:
        found = LabelShift(found.before, class_shares(target.y, len(found.before)))
    if test.moved_p >= LEVEL or test.p < LEVEL:
        return found, test.p, False
    chances = found.weights[source.y] / found.weights.max()
    drawn = np.random.default_rng(seed).random(len(source.y)) < chances  # no row twice: it would be known again
    _, low, _ = tell_apart(source.X[drawn], target.X, categorical=categorical, seed=seed, most_rows=MOST_DRAWN).auc
    return found, test.p, low <= SAME


def _concept_p(source: Side, target: Side, kind: TaskKind, label: LabelShift | None) -> float | None:
    """Return the smaller p-value, times two, of two ways in which a source model may err on the target.

    Its outputs need another slope or base than at home, or what they leave over follows from the columns in a way that
    it does not at home.
    """
    if target.y is None or target.outputs is None or source.y is None or source.outputs is None:
        return None
    if len(target.y) < LEAST_LABELLED:
        return None
    outputs = target.outputs if label is None else label.correct(target.outputs)
    raw = [raw_outputs(of, kind) for of in (source.outputs, outputs)]
    home = fit_recalibration(raw[0], source.y, kind)
    left = [_left_over(home.predict(of), y, kind) for of, y in zip(raw, (source.y, target.y), strict=True)]
    p_scale = _other_scale_p(raw[0], source.y, raw[1], target.y, kind)
    return min(1.0, 2 * min(p_scale, _other_columns_p(source.X, left[0], target.X, left[1])))


def _left_over(outputs: Array, y: Array, kind: TaskKind) -> Array:
    """Return what is left of a value, or of the indicator of the last class."""
    if kind is TaskKind.REGRESSION:
        return np.asarray(y - outputs[:, 0])
    last = outputs.shape[1] - 1
    return np.asarray((y == last) - outputs[:, last])


def _other_scale_p(raw: Array, y: Array, raw_there: Array, y_there: Array, kind: TaskKind) -> float:
    """Return the p-value of one slope and base for both domains.

    For classes by the ratio of likelihoods; for values by the difference over its error (Wald), since the noise may
    be of another size there.
    """
    from scipy.stats import chi2  # noqa: PLC0415  (loads slowly)

    domains = [(raw, y), (raw_there, y_there)]
    if kind is TaskKind.REGRESSION:
        found = [_line(of[:, 0], values) for of, values in domains]
        away, error = found[1][0] - found[0][0], found[0][1] + found[1][1]
        return float(chi2.sf(away @ np.linalg.pinv(error) @ away, 2))
    shared = fit_recalibration(np.concatenate([raw, raw_there]), np.concatenate([y, y_there]), kind, pull=1e-3)
    own = [fit_recalibration(of, labels, kind, pull=1e-3) for of, labels in domains]
    gain = sum(
        _log_likelihood(one.predict(of), labels) - _log_likelihood(shared.predict(of), labels)
        for one, (of, labels) in zip(own, domains, strict=True)
    )
    return float(chi2.sf(max(0.0, 2 * gain), max(2, raw.shape[1])))


def _log_likelihood(probabilities: Array, y: Array) -> float:
    return float(np.log(np.clip(probabilities[np.arange(len(y)), y], 1e-15, 1)).sum())


def _line(x: Array, y: Array) -> tuple[Array, Array]:
    """Return base and slope of least squares, and their covariance."""
    design = np.column_stack([np.ones(len(x)), x])
    inverse = np.linalg.pinv(design.T @ design)
    at = inverse @ design.T @ y
    return at, inverse * float(((y - design @ at) ** 2).sum()) / max(1, len(y) - 2)


def _other_columns_p(X: Array, left: Array, X_there: Array, left_there: Array, *, folds: int = 5) -> float:
    """Return the p-value of "a ridge regression of the columns does not predict what is left" in the target.

    What such a regression at home predicts is taken out first: a model that errs in the same way in both has not seen a
    shift. Each row is predicted from other folds' rows.
    """
    from scipy.stats import norm  # noqa: PLC0415

    standard = Standard.fit(X)
    Z, Z_there = standard.apply(X), standard.apply(X_there)
    left_there = left_there - _ridge(Z, left)(Z_there)
    part = np.arange(len(Z_there)) % folds
    products = np.empty(len(Z_there))
    for k in range(folds):
        seen, held = part != k, part == k
        centre = left_there[seen].mean()
        products[held] = (_ridge(Z_there[seen], left_there[seen])(Z_there[held]) - centre) * (left_there[held] - centre)
    error = float(products.std(ddof=1)) / np.sqrt(len(products))
    return float(norm.sf(products.mean() / error)) if error > 0 else 1.0


def _ridge(Z: Array, y: Array) -> Callable[[Array], Array]:
    centre, middle = y.mean(), Z.mean(axis=0)
    moved = Z - middle
    slopes = np.linalg.solve(moved.T @ moved + Z.shape[1] * np.eye(Z.shape[1]), moved.T @ (y - centre))
    return lambda rows: np.asarray((rows - middle) @ slopes + centre)


def repeated_rows(source: Array, target: Array) -> Array:
    """Return the positions of source rows that the target has too, ascending, by 64-bit hashes of both tables' rows.

    Of equal rows as many count as the target has, the first ones: chance makes equal rows too, where columns hold few
    values.

    >>> repeated_rows(np.array([5, 7, 7, 9]), np.array([7, 9, 11]))
    array([1, 3])
    """
    order = np.argsort(source, kind="stable")
    values, first, counts = np.unique(source[order], return_index=True, return_counts=True)
    ordered = np.sort(target)
    n_there = np.searchsorted(ordered, values, side="right") - np.searchsorted(ordered, values, side="left")
    place = np.arange(len(order)) - np.repeat(first, counts)
    return np.sort(order[place < np.repeat(n_there, counts)]).astype(np.int64)
