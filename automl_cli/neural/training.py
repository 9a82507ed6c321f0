"""Training a network: AdamW under a schedule, kept at its best epoch, and drawn together where seconds are short."""

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from automl_cli.features.matrix import Array
from automl_cli.neural.architecture import Architecture
from automl_cli.neural.counts import InputShape, cost, widest
from automl_cli.neural.counts import Tensor as Spec
from automl_cli.neural.modules import Network, loaded_network, new_network
from automl_cli.neural.recipe import SCHEDULES, Columns, Examples, Means, Recipe, Trained, flat_cos, settled_loss

_BETAS, _EPSILON = (0.9, 0.95), 1e-8
_LONGEST_GRADIENT = 1.0
_FIRST_LOOK = 8  # steps after which, and seconds, those of one are known well enough: the first ones warm up
_FIRST_SECONDS = 0.2
_STEPS_BETWEEN_LOOKS = 8
_SHARE_BETWEEN_PLANS = 0.05  # of the seconds, after which the schedule is drawn again within an epoch
# what each role's rate is multiplied by; weights are divided by the root of their inputs instead
_RATES = {"scale": 0.6, "table": 0.3}
_OTHER_RATE = 0.1
_DECAYING = ("weight", "project", "head")
_WORTH_A_GPU = 2e10
"""Multiply-adds of an epoch below which moving to a graphics card is not worth it."""
_BLOCK_NUMBERS = 2**22  # of the largest array at a time, when predicting


@contextlib.contextmanager
def _threads(n: int) -> Iterator[None]:
    """Fix the threads, on which the last bits depend.

    Nothing else does on a processor: every operation of a network is one of torch's deterministic ones. (To ask torch
    for these alone imports its compiler.)
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, n))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def train(
    architecture: Architecture,
    shape: InputShape,
    recipe: Recipe,
    rows: Examples,
    valid: Examples | None,
    means: Means,
    *,
    initial: Mapping[str, Array] | None = None,
) -> Trained:
    """Train a network and keep its best epoch.

    Parameters
    ----------
    valid : Examples or None
        None only together with ``means.exactly``.
    initial : Mapping of name to array, optional
        Tensors to start from: what overlaps with a tensor of the same name is taken over.

    Raises
    ------
    ValueError
        Not one epoch ended with a finite loss.
    """

    def trained_on(device: str) -> Trained:
        network = new_network(architecture, shape, device=device, seed=means.seed)
        _fit_to_rows(network, rows)
        if initial:
            network.take({name: array for name, array in initial.items() if name != "numbers/edges"})
        return _Training(network, recipe, means, _on(rows, device), _on(valid, device) if valid else None).run()

    with _threads(means.threads):
        if torch.cuda.is_available() and cost(architecture, shape) * len(rows.y) > _WORTH_A_GPU:
            # the card may be too small, shared with others, or not what this torch was built for
            with contextlib.suppress(RuntimeError):
                return trained_on("cuda")
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()
        return trained_on("cpu")


@torch.no_grad()
def _fit_to_rows(network: Network, rows: Examples) -> None:
    """Set what the training rows decide: the quantiles of the embedded numbers, the shares of the classes."""
    if "numbers/edges" in network.specs:
        n_edges = network["numbers/edges"].shape[1]
        edges = np.quantile(rows.columns.numbers, np.linspace(0, 1, n_edges), axis=0).T.astype(np.float32)
        network["numbers/edges"].copy_(torch.as_tensor(np.ascontiguousarray(edges)))
    if rows.classify:
        shares = np.bincount(rows.y, weights=rows.weight, minlength=network.shape.n_outputs) + 1e-3
        network["head/bias"].copy_(torch.as_tensor(np.log(shares / shares.sum())))


@dataclass(frozen=True)
class _OnDevice:
    """Rows as tensors."""

    numbers: Tensor
    flags: Tensor
    codes: Tensor
    y: Tensor
    weight: Tensor

    def batch(self, rows: Tensor | slice) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor, Tensor]:
        return (self.numbers[rows], self.flags[rows], self.codes[rows]), self.y[rows], self.weight[rows]


def _on(rows: Examples, device: str) -> _OnDevice:
    columns = rows.columns
    arrays = (columns.numbers, columns.flags, columns.codes, rows.y, rows.weight)
    return _OnDevice(*(torch.as_tensor(array, device=device) for array in arrays))


class _Training:
    """One training: the network, its optimizer, and how far it is."""

    def __init__(
        self, network: Network, recipe: Recipe, means: Means, rows: _OnDevice, valid: _OnDevice | None
    ) -> None:
        self.network, self.recipe, self.means, self.rows, self.valid = network, recipe, means, rows, valid
        self.batch_size = min(recipe.batch_size, len(rows.y))
        self.steps_per_epoch = max(1, len(rows.y) // self.batch_size)  # the rest of an order waits for the next one
        whole = recipe.epochs * self.steps_per_epoch
        self.wanted = whole, min(means.exactly or recipe.epochs, recipe.epochs) * self.steps_per_epoch
        self.steps = 0
        self.looked: float | None = None  # seconds on the deadline's clock at which the schedule was last drawn
        self.planned, self.last = self.wanted  # where the schedule and where the training end
        self.cut = False
        self.started = means.deadline.elapsed()
        self.optimizer = _AdamW(network)
        self.orders = torch.Generator("cpu").manual_seed(means.seed + 1)

    def run(self) -> Trained:
        """Train to the end, to the end of the patience, or to that of the seconds."""
        losses: list[float] = []
        kept, epoch = self.network.weights(), 0
        while self.steps < self.last and not self._late():
            self._epoch()
            loss = self._validation() if self.valid is not None else -float(len(losses))
            if not math.isfinite(loss):
                break  # it diverged: the best epoch so far is kept
            losses.append(loss)
            if not epoch or self._settled(losses) < self._settled(losses[:epoch]):
                kept, epoch = self.network.weights(), len(losses)
            if len(losses) - epoch >= self.recipe.patience:
                break
            self._plan_again()
        if not losses:
            raise ValueError("the network diverged")
        return Trained(kept, epoch, tuple(losses) if self.valid is not None else (), self.cut)

    def _settled(self, losses: list[float]) -> float:
        """Return what the last of some epochs is chosen by, under the schedule as it is drawn now."""
        if self.valid is None:
            return losses[-1]
        return settled_loss(losses, round(self.planned / self.steps_per_epoch))

    def _epoch(self) -> None:
        """Go over the rows once in a new order, or until the plan or the seconds end."""
        self.network.train()
        order = torch.randperm(len(self.rows.y), generator=self.orders).to(self.rows.y.device)
        for step in range(self.steps_per_epoch):
            self._step(order[step * self.batch_size : (step + 1) * self.batch_size])
            self.steps += 1
            if self.steps == 1:
                self.started = self.means.deadline.elapsed()  # the first one also wakes the library
            if self._time_to_look():
                self._plan_again()
            if self.steps >= self.last or (step % _STEPS_BETWEEN_LOOKS == 0 and self._late()):
                return

    def _step(self, rows: Tensor) -> None:
        done = self.steps / max(self.planned, 1)
        rate, falling = self.recipe.rate * SCHEDULES[self.recipe.schedule](done), flat_cos(done)
        self.network.dropout = self.recipe.dropout * falling
        inputs, y, weight = self.rows.batch(rows)
        loss = (_losses(self.network(*inputs), y, self.recipe) * weight).mean()
        loss.backward()
        self.optimizer.step(rate, falling * self.recipe.weight_decay)

    @torch.no_grad()
    def _validation(self) -> float:
        """Return the loss of the members' mean, by weight."""
        assert self.valid is not None
        self.network.eval()
        total, whole = 0.0, 0.0
        block = _block(self.network.architecture, self.network.shape)
        for start in range(0, len(self.valid.y), block):
            inputs, y, weight = self.valid.batch(slice(start, start + block))
            answers = _answers(self.network(*inputs), classify=not y.is_floating_point()).double()
            if y.is_floating_point():
                error = answers[:, 0] - y
                each = error.abs() if self.recipe.absolute else 0.5 * error**2
            else:
                each = -answers.gather(1, y[:, None])[:, 0].clamp_min(1e-12).log()
            total += float((each * weight).sum())
            whole += float(weight.sum())
        return total / max(whole, 1e-12)

    def _late(self) -> bool:
        """Whether the seconds are used up; the first step is always made."""
        late = self.steps > 0 and self.steps < self.wanted[1] and self.means.deadline.passed()
        self.cut = self.cut or late
        return late

    def _taken(self) -> float:
        """Return the seconds of all steps but the first."""
        return self.means.deadline.elapsed() - self.started

    def _time_to_look(self) -> bool:
        """Whether to draw the schedule within an epoch: first early, then by and by, for it may be a long one."""
        deadline = self.means.deadline
        if not deadline.limited:
            return False
        if self.looked is None:
            return self.steps >= _FIRST_LOOK and self._taken() >= _FIRST_SECONDS
        if self.steps % _STEPS_BETWEEN_LOOKS:
            return False
        return deadline.elapsed() - self.looked >= _SHARE_BETWEEN_PLANS * deadline.total

    def _plan_again(self) -> None:
        """Draw the schedule together where the rest of it does not fit into the seconds, or apart again where it does.

        Others use the machine as well: a step that waited for them says little of those to come.
        """
        deadline = self.means.deadline
        if not deadline.limited:
            return
        self.looked = deadline.elapsed()
        per_step = self._taken() / max(self.steps - 1, 1)
        if self.steps < self.steps_per_epoch and self.valid is not None:  # a validation is still to come
            per_step *= 1 + len(self.valid.y) / (3 * len(self.rows.y))
        possible = self.steps + int(deadline.seconds_left() / max(per_step, 1e-9))
        self.planned, self.last = self.wanted
        if possible < self.last:
            self.planned = self.last = max(possible, self.steps)
        self.cut = self.last < self.wanted[1]


class _AdamW:
    """AdamW (Loshchilov, Hutter, ICLR 2019) on one vector, in which all parameters lie.

    torch.optim would do; but making its first optimizer imports torch's compiler, which takes as long as torch itself.

    Attributes
    ----------
    flat, gradient : float32 (n_parameters,)
        The network's parameters and their gradients are views of these.
    rates : float32 (n_parameters,)
        Factor of the rate.
    decays : float32 (n_parameters,)
        1 where a step shrinks the parameter.
    """

    def __init__(self, network: Network) -> None:
        learned = [(network[name], _rate_of(name, spec)) for name, spec in network.specs.items() if spec.learned]
        sizes = [parameter.numel() for parameter, _ in learned]
        self.flat = torch.cat([parameter.detach().flatten() for parameter, _ in learned])
        self.gradient, self.first, self.second = (torch.zeros_like(self.flat) for _ in range(3))
        self.rates, self.decays, self.steps = torch.ones_like(self.flat), torch.zeros_like(self.flat), 0
        parts = zip(
            *(vector.split(sizes) for vector in (self.flat, self.gradient, self.rates, self.decays)), strict=True
        )
        for (parameter, (rate, decays)), (value, gradient, rates, decay) in zip(learned, parts, strict=True):
            parameter.data, parameter.grad = value.view_as(parameter), gradient.view_as(parameter)
            rates.fill_(rate)
            decay.fill_(float(decays))

    @torch.no_grad()
    def step(self, rate: float, weight_decay: float) -> None:
        """Move the parameters against their gradient, which is used up."""
        self.steps += 1
        norm = float(self.gradient.norm())
        if norm > _LONGEST_GRADIENT:
            self.gradient.mul_(_LONGEST_GRADIENT / norm)
        self.first.lerp_(self.gradient, 1 - _BETAS[0])
        self.second.mul_(_BETAS[1]).addcmul_(self.gradient, self.gradient, value=1 - _BETAS[1])
        self.flat.addcmul_(self.flat, self.decays, value=-rate * weight_decay)
        size = torch.sqrt(self.second, out=self.gradient).div_(math.sqrt(1 - _BETAS[1] ** self.steps)).add_(_EPSILON)
        moved = torch.div(self.first, size, out=size).mul_(self.rates)
        self.flat.sub_(moved, alpha=rate / (1 - _BETAS[0] ** self.steps))
        self.gradient.zero_()


def _rate_of(name: str, spec: Spec) -> tuple[float, bool]:
    """Return the factor of a tensor's rate, and whether it decays."""
    if spec.role in _DECAYING and not name.startswith("numbers/"):
        return 1 / math.sqrt(max(spec.fan_in, 1)), True
    return _RATES.get(spec.role, _OTHER_RATE), False


def _losses(scores: Tensor, y: Tensor, recipe: Recipe) -> Tensor:
    """Return each row's loss, the mean over the members: they learn as if each were alone."""
    n_rows, k, n_outputs = scores.shape
    if y.is_floating_point():
        error = scores[:, :, 0] - y[:, None]
        return (error.abs() if recipe.absolute else 0.5 * error**2).mean(dim=1)
    each = functional.cross_entropy(
        scores.reshape(n_rows * k, n_outputs),
        y.repeat_interleave(k),
        reduction="none",
        label_smoothing=recipe.label_smoothing,
    )
    return each.view(n_rows, k).mean(dim=1)


def _answers(scores: Tensor, *, classify: bool) -> Tensor:
    """Return the mean of the members' probabilities or values, (n_rows, n_outputs)."""
    return (torch.softmax(scores, dim=2) if classify else scores).mean(dim=1)


def _block(architecture: Architecture, shape: InputShape) -> int:
    """Return how many rows are predicted at a time: a multiple of 64, at all of which products were seen to agree."""
    return max(64, min(8192, _BLOCK_NUMBERS // widest(architecture, shape) // 64 * 64))


@torch.no_grad()
def predict(
    architecture: Architecture, shape: InputShape, weights: Mapping[str, Array], columns: Columns, *, classify: bool
) -> Array:
    """Return probabilities or values, float64 of shape (n_rows, n_outputs).

    On one thread, whatever there are: products that are split between threads differ in their last bits.
    """
    with _threads(1):
        network, block = loaded_network(architecture, shape, weights), _block(architecture, shape)
        answers = []
        for start in range(0, max(len(columns), 1), block):
            part = columns.take(slice(start, start + block))  # type: ignore[arg-type]
            inputs = (torch.as_tensor(np.ascontiguousarray(x)) for x in (part.numbers, part.flags, part.codes))
            answers.append(_answers(network(*inputs), classify=classify).double().numpy())
    return np.concatenate(answers)
