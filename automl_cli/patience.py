"""When to end a search early: so many trials in a row improved nothing.

A `Patience` is to trials what a `Deadline` is to seconds: one object that everybody who must end asks. It reads no
clock and knows nothing of processes, so that the trials of a counted run, heard in number order, always end it at the
same one.
"""

import math
from dataclasses import dataclass

from automl_cli.trial import Success, Trial

__all__ = ["LISTED", "NOISE", "PORTFOLIO", "RECALLED", "REPEATED", "WINNER", "Patience", "gains"]

# Of the loss: half of what racing may cost a table (docs/early-stopping.md), and far below the standard error of any
# loss on fewer than 100,000 rows. Losses are held against the one at the last gain, so that small steps add up.
NOISE = 1e-3
PORTFOLIO, WINNER, RECALLED = "portfolio", "winner", "recalled"
LISTED = frozenset({PORTFOLIO, WINNER, RECALLED})
"""Origins of what is tried whatever came of the trials before: what serves all tables, what won on this one, and what
did well on tables like it."""
REPEATED = "again"  # origin of a pipeline that is tried a second time, with more seconds


def gains(loss: float, reference: float) -> bool:
    """Whether ``loss`` is lower than ``reference`` by more than noise.

    >>> gains(0.2, math.inf), gains(0.1997, 0.2), gains(0.1999, 0.2), gains(0.0, 0.0)
    (True, True, False, False)
    """
    return loss < reference * (1.0 - NOISE)


@dataclass
class Patience:
    """Counts the trials that ended one after the other without improving the model.

    A trial improves it where it is complete and its loss is lower than that of the best one at the last gain; one that
    failed, was given up or was cut before its last fold does not. Nothing is counted

    - before the first complete trial: until there is a model, there is nothing to gain on;
    - before the end of the portfolio, whose pipelines differ the most: a small ``most`` must not keep whole families
      from being tried, and a run of poor ones says nothing of the next;
    - for the second try of a pipeline that was cut by its seconds: two tries are one trial.

    Attributes
    ----------
    most : int or None
        Trials in a row without a gain after which the search ends; None: never.
    waited : int
        Trials since the last gain.
    best : float
        Loss of the best complete trial at the last gain of a trial.
    model : float
        Loss of the model so far, the weighted trials together, at its last gain.

    Examples
    --------
    >>> from automl_cli.trial import Pipeline, Proposal
    >>> patience = Patience(2)
    >>> for number, loss in enumerate([0.3, 0.2, 0.25, 0.2]):
    ...     proposal = Proposal(number, Pipeline("linear", "one_hot", {"C": 1.0}), "smac", seed=0, threads=1)
    ...     patience.hear(Success(proposal, (loss,), seconds=1.0, complete=True))
    ...     print(patience.waited, patience.out)
    0 False
    0 False
    1 False
    2 True
    """

    most: int | None = None
    waited: int = 0
    best: float = math.inf
    model: float = math.inf

    @property
    def out(self) -> bool:
        """Whether the search should end."""
        return self.most is not None and self.waited >= self.most

    def hear(self, trial: Trial) -> None:
        """Count a trial that has ended."""
        loss = trial.loss if isinstance(trial, Success) and trial.complete else math.inf
        if gains(loss, self.best):
            self.best, self.waited = loss, 0
        elif trial.proposal.origin in LISTED:
            self.waited = 0
        elif math.isfinite(self.best) and trial.proposal.origin != REPEATED:
            self.waited += 1

    def hear_model(self, loss: float) -> None:
        """Begin anew where the trials together have gained: one that is no better alone may err differently.

        When the model is weighed depends on the clock, so that only a timed run may tell of it. A model of partial
        trials says nothing: its loss is that of some of the folds.
        """
        if math.isfinite(self.best) and gains(loss, self.model):
            self.model, self.waited = loss, 0
