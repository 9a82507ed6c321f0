"""Members that make up much of a prediction's price and gain next to nothing are left out of the last model."""

from collections.abc import Callable

from automl_cli.members import Chosen, OofCache, chosen_among
from automl_cli.trial import Success

MUCH = 0.25
"""Of what all members cost: only such members are worth a question."""
NOTHING = 0.001
"""Of the loss, that all members which are left out may cost together."""


def trimmed(
    chosen: Chosen,
    cache: OofCache,
    price: Callable[[Success], float],
    *,
    calibrate: bool = True,
    stacking: bool = True,
) -> Chosen:
    """Leave out dear members, the dearest first, as long as the others lose next to nothing without them.

    Those that stay are weighed anew. A regression on the members' predictions gives weights of a few percent to many of
    them; one of these, a thousand rounds of boosting, can take most of a prediction's time.

    Parameters
    ----------
    price : callable
        What predicting a row with a trial's models takes, in any unit.
    """
    kept = chosen
    asked: set[int] = set()
    while len(kept.members) > 1:
        trials = [trial for trial, _ in kept.members]
        prices = {trial.proposal.number: price(trial) for trial in trials}
        dear = [number for number in prices if number not in asked and prices[number] > MUCH * sum(prices.values())]
        if not dear:
            break
        dearest = max(dear, key=prices.__getitem__)
        asked.add(dearest)
        others = [trial for trial in trials if trial.proposal.number != dearest]
        if not any(trial.complete for trial in others):
            continue
        oof = cache.stack(others)
        lent = cache.lent(others, oof)
        without = chosen_among(others, oof, cache.data, lent, calibrate=calibrate, stacking=stacking)
        if without.mean_loss <= (1 + NOTHING) * chosen.mean_loss:
            kept = without
    return kept
