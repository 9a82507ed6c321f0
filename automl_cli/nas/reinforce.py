"""A controller that draws networks and is taught by what they lose: REINFORCE, with limits kept by rejection."""

import numpy as np

from automl_cli.nas.decisions import Fits, Indices, Space, anything
from automl_cli.nas.policy import Policy, Vector
from automl_cli.nas.strategy import Earlier, Suggestion, best_first, new_one, pop_new

_STRAY = 20  # draws that are refused or known before what is drawn is changed in a decision, then in two ...
_LARGEST_ADVANTAGE = 3.0  # in mean deviations: one disaster must not decide


class Adam:
    """Adam [1]_, uphill.

    References
    ----------
    .. [1] Kingma and Ba, Adam: a method for stochastic optimization, ICLR 2015.
    """

    def __init__(self, size: int, rate: float) -> None:
        self._rate = rate
        self._mean, self._square = np.zeros(size), np.zeros(size)
        self._steps = 0

    def step(self, gradient: Vector) -> Vector:
        """Return what to add to the parameters."""
        self._steps += 1
        self._mean += 0.1 * (gradient - self._mean)
        self._square += 0.001 * (gradient**2 - self._square)
        mean, square = self._mean / (1 - 0.9**self._steps), self._square / (1 - 0.999**self._steps)
        return np.asarray(self._rate * mean / (np.sqrt(square) + 1e-8))


class Reinforce:
    """Draws from a policy and moves it along ``advantage * grad log [P(y) / P(V)]`` [1]_ [2]_.

    V are the candidates that fit. What does not fit is drawn again, so that the network asked for has probability
    ``P(y) / P(V)``; without the denominator the policy drifts to wherever its draws were refused least. Its gradient is
    estimated from further draws, of which those in V count. The advantage is how far a loss is below a moving mean, in
    mean deviations: losses of any scale teach alike.

    Parameters
    ----------
    space : Space
        Where candidates are from.
    policy : Policy
        `Factorised`, or the recurrent controller.
    seed : int
        The same seed gives the same sequence.
    rate : float
        Of Adam. A dozen networks must move the logits.
    entropy : float
        Weight of the bonus that keeps the policy from settling early.
    decay : float
        Of the moving mean.
    draws : int
        For the probability of V.
    repeats : bool
        Ask for what the policy draws, known or not: where losses are cheap ones under shared weights, and thousands. A
        policy that was taught so can be handed to another of these, which trains what it draws.
    name : str
        Origin of its suggestions: results of that origin are its own, in an earlier run as well.
    fits : callable
        Limits.
    earlier : sequence of (Candidate, float)
        The policy is raised towards the best four, which are also asked for first.

    References
    ----------
    .. [1] Yang et al., TabNAS: rejection sampling for neural architecture search on tabular datasets, NeurIPS 2022.
    .. [2] Zoph and Le, Neural architecture search with reinforcement learning, ICLR 2017.
    """

    def __init__(
        self,
        space: Space,
        policy: Policy,
        *,
        seed: int,
        rate: float = 0.1,
        entropy: float = 0.01,
        decay: float = 0.9,
        draws: int = 64,
        repeats: bool = False,
        name: str = "reinforce",
        fits: Fits = anything,
        earlier: Earlier = (),
    ) -> None:
        self.policy = policy
        self._space = space
        self._rng = np.random.default_rng(seed)
        self._adam = Adam(len(policy.theta), rate)
        self._entropy = entropy
        self._decay = decay
        self._draws = draws
        self._repeats = repeats
        self._name = name
        self._fits = fits
        self._starts = best_first(earlier, space, fits, 4)
        self._seen: set[Indices] = set()
        self._drawn: set[Indices] = set()  # and still in training
        self._mean: float | None = None
        self._deviation = 0.0
        self._worst = -np.inf
        for _ in range(8 if self._starts else 0):
            self._climb(np.mean([policy.gradient(start, 1.0, entropy) for start in self._starts], axis=0))

    def ask(self) -> Suggestion:
        """Return an earlier candidate, or what the policy draws."""
        found = pop_new(self._starts, self._space, self._fits, self._seen)
        if found is None:
            known = set() if self._repeats else self._seen
            found = new_one(self._draw, self._space, self._fits, known)
            self._drawn.add(found)
        return Suggestion(self._space.decode(found), origin=self._name)

    def tell(self, suggestion: Suggestion, loss: float | None, cost: float) -> None:
        """Move the policy by what its own draws lost; others set the measure only. A failure is as bad as the worst.

        What a part of a training lost is not comparable, and teaches nothing.
        """
        indices = self._space.encode(suggestion.candidate)
        self._seen.add(indices)
        if loss is not None and suggestion.fidelity < 1.0:
            return
        own = indices in self._drawn or suggestion.origin == self._name
        self._drawn.discard(indices)
        if loss is None and self._mean is None:
            return
        self._worst = self._worst if loss is None else max(self._worst, loss)
        advantage = self._advantage(self._worst if loss is None else loss)
        if own:
            self._climb(advantage * self.direction(indices) + self.policy.gradient(indices, 0.0, self._entropy))

    def direction(self, indices: Indices) -> Vector:
        """Estimate the gradient of ``log [P(indices) / P(V)]``."""
        gradient = self.policy.gradient(indices, 1.0, 0.0)
        if self._fits is anything:
            return gradient
        others = [self.policy.draw(self._rng) for _ in range(self._draws)]
        inside = [other for other in others if self._fits(self._space.decode(other))]
        # where everything fits log P(V) is 0, and an estimate of its gradient only noise
        if inside and len(inside) < len(others):
            gradient -= np.mean([self.policy.gradient(other, 1.0, 0.0) for other in inside], axis=0)
        return gradient

    def _draw(self, attempt: int) -> Indices:
        indices = self.policy.draw(self._rng)
        for _ in range(attempt // _STRAY):
            indices = self._space.mutate(indices, self._rng)
        return indices

    def _advantage(self, loss: float) -> float:
        """Hold a loss against the moving mean, then move it."""
        if self._mean is None:
            self._mean = loss
            return 0.0
        below = self._mean - loss
        self._deviation = abs(below) if not self._deviation else self._deviation
        advantage = below / self._deviation if self._deviation else 0.0
        self._mean -= (1 - self._decay) * below
        self._deviation += (1 - self._decay) * (abs(below) - self._deviation)
        return float(np.clip(advantage, -_LARGEST_ADVANTAGE, _LARGEST_ADVANTAGE))

    def _climb(self, gradient: Vector) -> None:
        self.policy.theta += self._adam.step(gradient)
