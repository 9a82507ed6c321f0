"""Which weights models get, and how their mix is decided.

On few rows a selection takes what fits these by chance. There the weights are a mean of several selections, and where
there are classes the best models have a share in equal parts, the larger the fewer rows; see docs/ensemble.md.
"""

from dataclasses import dataclass, replace

import numpy as np

from automl_cli.calibration import PLAIN, Decision, Learned, learn_decision
from automl_cli.ensemble import (
    Gain,
    Lent,
    Truth,
    combine,
    complete_models,
    greedy_weights,
    measure_gain,
    mixed_shares,
    shares_of_picks,
    with_lent,
)
from automl_cli.features.matrix import Array
from automl_cli.metrics import METRICS, Metric
from automl_cli.stacking import Rows

FIRST_PICKS = 10  # of a mix that is good enough to learn thresholds from
FEW_ROWS = 2_000  # rows up to which the members are a mean of several selections; measured up to 1,500
EQUAL_ROWS = 100  # that equal parts of the best candidates count as, where there are classes
SURELY, MUCH = 2.0, 0.25  # standard errors, and a share of the loss, by which equal parts may look worse
# metrics of ranks: the models of two folds need not be on one scale, which ranks of all rows together would punish
BY_FOLD = ("roc_auc", "average_precision")
# in a mean of several selections, which has many members that a single one of them has picked once
LEAST_WEIGHT = 0.03
NO_LOSS = 1e-3  # more of the loss that leaving them out may cost


@dataclass(frozen=True)
class Known:
    """The targets of the rows with out-of-fold predictions, and how they are judged.

    Attributes
    ----------
    y : ndarray of shape (n_rows,)
        Class indices, or values.
    weight : ndarray of shape (n_rows,) or None
    folds, parts : ndarray of shape (n_rows,)
        Whose models predicted a row; which rows are judged by what is learned on the others.
    lent : Lent or None
        Rows of a source that help to weigh.
    """

    y: Array
    weight: Array | None
    folds: Array
    parts: Array
    metric: Metric
    lent: Lent | None = None

    def at_thresholds(self, multipliers: Array) -> "Known":
        """Return the same with what is said of lent rows multiplied, as what is said of the run's own is."""
        return self if self.lent is None else replace(self, lent=replace(self.lent, oof=self.lent.oof * multipliers))


def mix(oof: Array, known: Known, *, calibrate: bool) -> tuple[Array, Learned, Gain | None]:
    """Weigh models and learn how their mix is decided, at the thresholds that a metric of labels will be served with.

    At other thresholds its selection would be blind: F1 of a rare class is 0 for every model that never reaches 0.5.

    Parameters
    ----------
    oof : ndarray of shape (n_models, n_rows, n_outputs)
        Out-of-fold predictions, as for `greedy_weights`.
    calibrate : bool
        Whether a temperature or multipliers of the classes may follow.

    Returns
    -------
    ndarray of shape (n_models,), summing to 1
    Learned
        How the mix is decided.
    Gain or None
        See `measure_gain`; its `equal_share` is what the best models have.

    Raises
    ------
    NoModel
        No model has finite predictions for all rows.
    """
    plain = Learned(PLAIN, ())
    if not calibrate:
        weights, gain = _weigh(oof, known, calibrate=False)
        return weights, plain, gain
    if known.metric.needs == "labels":
        first = greedy_weights(oof, known.y, METRICS["log_loss"], known.weight, n_picks=FIRST_PICKS, lent=known.lent)
        thresholds = _learn(combine(oof, first), known).decision
        if thresholds != PLAIN:
            multipliers = np.asarray(thresholds.multipliers, dtype=oof.dtype)
            weights, gain = _weigh(oof * multipliers, known.at_thresholds(multipliers), calibrate=True)
            together = combine(oof, weights)
            learned = _learn(together, known)
            complete = np.flatnonzero(complete_models(oof))
            best_alone = min(known.metric.loss(known.y, oof[model], known.weight) for model in complete)
            if decided_loss(together, known, learned.decision) <= best_alone:
                return weights, learned, gain
    weights, gain = _weigh(oof, known, calibrate=True)
    return weights, _learn(combine(oof, weights), known), gain


def _learn(together: Array, known: Known) -> Learned:
    return learn_decision(together, known.y, known.metric, known.weight, parts=known.parts)


def decided_loss(together: Array, known: Known, decision: Decision) -> float:
    """Score a mix of all rows as it is decided."""
    decided = decision.judged(decision.calibrated(together), known.metric)
    return float(known.metric.loss(known.y, decided, known.weight))


def _weigh(oof: Array, known: Known, *, calibrate: bool) -> tuple[Array, Gain | None]:
    """Weigh models, and measure what the weights gain on rows they were not chosen on."""
    y, metric, weight = known.y, known.metric, known.weight
    scales = known.folds if metric.name in BY_FOLD else None
    gain = measure_gain(oof, y, metric, weight, parts=known.parts, folds=scales, lent=known.lent)
    weights = greedy_weights(oof, y, metric, weight, folds=scales, lent=known.lent)
    if gain is not None and not gain.sampled and len(y) <= FEW_ROWS:
        if oof.shape[2] > 1 and known.lent is None:
            gain = _with_equals(oof, known, gain, calibrate=calibrate)
        weights = steadied(weights, gain, oof, y, metric, weight, folds=scales, lent=known.lent)
    return weights, gain


def _with_equals(oof: Array, known: Known, gain: Gain, *, calibrate: bool) -> Gain:
    """Give the best candidates their share in equal parts, unless that is surely or much worse on the parts."""
    shared = replace(gain, equal_share=min(0.5, EQUAL_ROWS / (EQUAL_ROWS + len(known.y))))
    losses = []
    for weights in (shared, gain):
        said = crossed_mix(oof, known, weights)
        learned = _learn(said, known) if calibrate else Learned(PLAIN, ())
        judged = learned.judged(said, known.metric, known.parts)
        losses.append(Rows(known.y, known.weight, known.parts).part_losses(judged, known.metric))
    costs = np.subtract(losses[0], losses[1])
    cost, error = float(np.mean(costs)), float(np.std(costs, ddof=1)) / len(costs) ** 0.5
    bound = min(SURELY * error, MUCH * abs(float(np.mean(losses[1]))))
    return shared if cost <= bound else gain  # what is not a number says nothing for it


def crossed_mix(oof: Array, known: Known, gain: Gain) -> Array:
    """Return the mix in which each part's weights were chosen without it."""
    together = np.empty(oof.shape[1:])
    for part, weights in enumerate(gain.weights_by_part(len(oof))):
        rows = np.flatnonzero(known.parts == part)
        together[rows] = combine(oof[:, rows], weights)
    return together


def steadied(
    weights: Array,
    gain: Gain,
    oof: Array,
    y: Array,
    metric: Metric,
    weight: Array | None,
    *,
    folds: Array | None,
    lent: Lent | None = None,
) -> Array:
    """Return weights that fit the rows less by chance than those chosen on all of them.

    On few rows a selection takes what fits these by chance, and a mean of several selections less so, as a bagged model
    varies less than one [1]_. So the weights chosen without each part are averaged. They stay as they are where that
    mean is worse on all rows than the best complete model, and where a model that lacks rows has weight: which choices
    could take it depends on the part that each left out.

    Then the ten best complete models get a share in equal parts, as a selection may start from the best ones together
    [2]_. Of few rows the best mix is the luckiest one, and what it gains on them no ground to pass the others over.

    Members of less than 3 % are left out where that costs next to nothing.

    References
    ----------
    .. [1] Breiman, Bagging predictors, Machine Learning 1996; Caruana et al., Getting the most out of ensemble
       selection, ICDM 2006, section 3.
    .. [2] Sorted ensemble initialization: Caruana et al., ICML 2004, section 2.2, where the selection goes on from it.
    """
    truth, oof = with_lent(Truth(y, weight, folds, metric), oof, lent)
    n_models, complete = len(oof), complete_models(oof)
    mean = np.asarray(np.mean([shares_of_picks(picks, n_models) for picks in gain.picks_by_part], axis=0))
    best = min(truth.loss(oof[model].astype(np.float64)) for model in np.flatnonzero(complete))
    steady = complete[(mean > 0) | (weights > 0)].all() and truth.loss(combine(oof, mean)) <= best
    if not steady and not gain.equal_share:
        return weights
    equal = np.asarray(np.mean([shares_of_picks(models, n_models) for models in gain.best_by_part], axis=0))
    together = mixed_shares(mean if steady else weights, equal, gain.equal_share)
    most = (1 + NO_LOSS) * truth.loss(combine(oof, together))
    fewer = np.where(together >= min(LEAST_WEIGHT, together.max()), together, 0.0)
    fewer /= fewer.sum()
    return fewer if truth.loss(combine(oof, fewer)) <= (most if gain.equal_share else min(best, most)) else together
