"""The parts of a search that can be left out, one at a time, to see what each is worth."""

from enum import StrEnum


class Part(StrEnum):
    """What ``--without`` takes out of a search; everything else stays as it is."""

    RACING = "racing"
    """Every candidate is validated on all folds."""
    PORTFOLIO = "portfolio"
    """Only the first pipeline is known beforehand; the optimizer starts from nothing."""
    GENERATED = "generated"
    """No family sees generated features; the other encodings stay."""
    SMAC = "smac"
    """Configurations are drawn at random instead of by the surrogate."""
    BANDIT = "bandit"
    """One surrogate over the joint space of all families, instead of one for each and a bandit between them."""
    STACKING = "stacking"
    """Members are weighed by the greedy selection alone, and their mean is the prediction."""
    CALIBRATION = "calibration"
    """No temperature follows the weights, and the likeliest class is the label."""
    REPEATS = "repeats"
    """The members keep the models of the folds that all trials share; none are fitted on other folds."""
    TEACHING = "teaching"
    """Members do not learn once more from rows that the ensemble labels; other ways of using such rows are searched."""
