"""A network in torch: an architecture and the shape of its inputs become a module."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_cli.features.matrix import Array
from automl_cli.neural.architecture import Architecture, Block
from automl_cli.neural.counts import N_LOOKS, TOKEN, InputShape, category_sizes, input_width, tensors
from automl_cli.neural.counts import Tensor as Spec

_SPREAD = 0.1  # standard deviation of the first frequencies, in turns per unit of a scaled number (RealMLP's)
_HEAD = 0.1  # the heads start small: predictions begin near the shares of the classes or the mean
_MOMENTUM = 0.1
_MOST_DROPPED = 230  # of 256
_ACTIVATIONS = {
    "relu": functional.relu,
    "selu": functional.selu,
    "silu": functional.silu,
    "mish": functional.mish,
}


class Network(nn.Module):
    """Members that share their weights, as in TabM; with one member a plain network.

    Its parameters and buffers are those of `automl_cli.neural.counts.tensors`, under the same names.

    Attributes
    ----------
    dropout : float
        Factor of every block's dropout.
    chance : torch.Generator
        What dropout draws from.
    """

    def __init__(self, architecture: Architecture, shape: InputShape, chance: torch.Generator) -> None:
        super().__init__()
        self.architecture, self.shape, self.chance = architecture, shape, chance
        self.dropout = 1.0
        self.specs = tensors(architecture, shape)
        for name, spec in self.specs.items():
            empty = torch.zeros(spec.shape, device=chance.device)
            if spec.learned:
                self.register_parameter(name, nn.Parameter(empty))
            else:
                self.register_buffer(name, empty)
        for name, places in _places(architecture, shape).items():
            self.register_buffer(name, torch.as_tensor(places, device=chance.device), persistent=False)

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor by its name in `tensors`."""
        found: Tensor = getattr(self, name)
        return found

    def forward(self, numbers: Tensor, flags: Tensor, codes: Tensor) -> Tensor:
        """Return scores of shape (n_rows, members, n_outputs).

        Parameters
        ----------
        numbers, flags : float32 of shapes (n_rows, n_numbers) and (n_rows, n_flags)
        codes : int64 of shape (n_rows, n_categories)
        """
        embedded = self._numbers(numbers)
        parts = [embedded.flatten(1), flags]
        if self.shape.levels:
            cells = self["cells"] + codes[:, self["column"]] * self["step"]
            parts.append(functional.embedding(cells, self["categories/table"][:, None])[:, :, 0])
        inputs = (torch.cat(parts, dim=1) * self["scale"])[:, None]  # (n_rows, 1, width)
        tokens = self._tokens(embedded, codes)
        outputs = [inputs.expand(-1, self.architecture.members, -1)]
        for number, block in enumerate(self.architecture.blocks, 1):
            x = outputs[-1]
            if block.skip:
                x = x + self._as_wide(f"block{number}/skip", outputs[block.skip])
            outputs.append(self._block(f"block{number}", block, x, inputs, tokens))
        scores = torch.einsum("nkd,kdo->nko", outputs[-1], self["head/weight"])
        return scores + self["head/bias"]

    def _numbers(self, x: Tensor) -> Tensor:
        """Return each number and its embedding, (n_rows, n_numbers, 1 + size)."""
        beside = [x[:, :, None]]
        if "numbers/mix" in self.specs:
            angles = 2 * math.pi * x[:, :, None] * self["numbers/frequency"] + self["numbers/phase"]
            beside.append(torch.einsum("ncw,cwe->nce", torch.cos(angles), self["numbers/mix"]) + self["numbers/shift"])
        elif "numbers/edges" in self.specs:
            edges = self["numbers/edges"]
            low, span = edges[:, :-1], edges[:, 1:] - edges[:, :-1]
            # between equal quantiles there is nothing but a step
            above = (x[:, :, None] - low) / torch.where(span > 0, span, 1.0)
            step = (x[:, :, None] >= low).to(x.dtype)
            beside.append(torch.where(span > 0, above.clamp(0.0, 1.0), step))
        return torch.cat(beside, dim=2) if len(beside) > 1 else beside[0]

    def _tokens(self, embedded: Tensor, codes: Tensor) -> Tensor | None:
        """Return what attention looks at, (n_rows, n_columns, TOKEN); None without attention."""
        found = []
        if "tokens/weight" in self.specs:
            found.append(torch.einsum("nce,cet->nct", embedded, self["tokens/weight"]) + self["tokens/bias"])
        if "tokens/table" in self.specs:
            found.append(functional.embedding(codes + self["first_row"], self["tokens/table"]))
        return torch.cat(found, dim=1) if found else None

    def _block(self, name: str, block: Block, x: Tensor, inputs: Tensor, tokens: Tensor | None) -> Tensor:
        if block.kind == "attention":
            assert tokens is not None
            x = torch.cat([x, self._looks(f"{name}/query", x, tokens)], dim=2)
        out = self._dense(f"{name}/first", block, x)
        if block.kind == "gated":
            out = out * torch.sigmoid(self._linear(f"{name}/gate", x))
        elif block.kind == "cross":
            out = out * self._as_wide(f"{name}/crossed", inputs) + self._as_wide(f"{name}/past", x)
        elif block.kind == "residual":
            out = self._dropped(out, block)
            out = self._dense(f"{name}/second", block, out) + self._as_wide(f"{name}/past", x)
        return self._dropped(out, block)

    def _looks(self, name: str, x: Tensor, tokens: Tensor) -> Tensor:
        """Return `N_LOOKS` weighted means of the columns, as each member asks for them: (n_rows, k, looks * TOKEN)."""
        queries = self._linear(name, x).unflatten(2, (N_LOOKS, TOKEN))
        weights = torch.softmax(torch.einsum("nkqt,nct->nkqc", queries, tokens) / math.sqrt(TOKEN), dim=3)
        return torch.einsum("nkqc,nct->nkqt", weights, tokens).flatten(2)

    def _dense(self, name: str, block: Block, x: Tensor) -> Tensor:
        return _ACTIVATIONS[block.activation](self._normal(name, block.norm, self._linear(name, x)))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        if f"{name}/inputs" not in self.specs:
            return functional.linear(x, self[f"{name}/weight"], self[f"{name}/bias"][0])
        shared = functional.linear(x * self[f"{name}/inputs"], self[f"{name}/weight"])
        return torch.addcmul(self[f"{name}/bias"], shared, self[f"{name}/outputs"])

    def _normal(self, name: str, kind: str, x: Tensor) -> Tensor:
        if kind == "none":
            return x
        gain, shift = self[f"{name}/gain"], self[f"{name}/shift"]
        if kind == "layer":
            return torch.addcmul(shift, functional.layer_norm(x, x.shape[2:]), gain)
        flat = functional.batch_norm(
            x.flatten(1),
            self[f"{name}/mean"].flatten(),
            self[f"{name}/variance"].flatten(),
            gain.flatten(),
            shift.flatten(),
            training=self.training and len(x) > 1,  # a single row has no variance
            momentum=_MOMENTUM,
        )
        return flat.view_as(x)

    def _as_wide(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self[name]) if name in self.specs else x

    def _dropped(self, x: Tensor, block: Block) -> Tensor:
        # in 256ths: a byte of chance for each number takes a tenth of the time of a uniform draw
        share = min(round(256 * block.dropout * self.dropout), _MOST_DROPPED)
        if not self.training or share <= 0:
            return x
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device)
        chance = words.random_(-(2**63), None, generator=self.chance).view(torch.uint8)[: x.numel()].view(x.shape)
        return x * (chance >= share).to(x.dtype).mul_(256 / (256 - share))

    @torch.no_grad()
    def draw(self, generator: torch.Generator) -> None:
        """Fill every tensor with what training starts from; ``generator`` lives on the CPU."""
        for name, spec in self.specs.items():
            self[name].copy_(_drawn(spec, generator))
        if "categories/table" in self.specs:
            self["categories/table"].copy_(self._first_table(generator))

    def _first_table(self, generator: torch.Generator) -> Tensor:
        """Return the categories' table: a dimension for each value where there are as many, else noise."""
        parts = []
        for levels, dims in zip(self.shape.levels, category_sizes(self.architecture, self.shape), strict=True):
            rows = torch.randn(levels, dims, generator=generator) / math.sqrt(dims)
            if dims == levels - 1:
                rows[:] = torch.eye(levels)[:, 1:]
            else:
                rows[0] = 0.0
            parts.append(rows.flatten())
        return torch.cat(parts)

    @torch.no_grad()
    def take(self, weights: Mapping[str, Array]) -> None:
        """Take over tensors of the same name, as far as they overlap; the rest stays as it is.

        What was widened answers as before at first: the weights from its new outputs to what was there are zero. Where
        numbers or categories are embedded otherwise, whatever sees them directly stays as it is.
        """
        layout = ("scale", "categories/table", "numbers/mix")
        own_layout = [self.specs[name].shape for name in layout if name in self.specs]
        same = own_layout == [weights[name].shape for name in layout if name in weights]
        for name, spec in self.specs.items():
            given = weights.get(name)
            if given is None or given.ndim != len(spec.shape) or not (same or not _sees_inputs(name)):
                continue
            overlap = tuple(slice(0, min(sizes)) for sizes in zip(spec.shape, given.shape, strict=True))
            own = self[name]
            own[overlap] = torch.as_tensor(np.array(given[overlap], dtype=np.float32)).to(own.device)
            if spec.role in ("weight", "project", "head"):  # their inputs are the second axis
                own[overlap[0], given.shape[1] :] = 0.0

    def weights(self) -> dict[str, Array]:
        """Return a copy of every tensor, float32."""
        return {name: self[name].detach().cpu().numpy().copy() for name in self.specs}


def _sees_inputs(name: str) -> bool:
    return name.startswith(("scale", "numbers/", "categories/", "tokens/", "block1/")) or name.endswith("/crossed")


def _places(architecture: Architecture, shape: InputShape) -> dict[str, Array]:
    """Return where a category's code is found: cell ``cells + codes[column] * step`` of the table."""
    if not shape.levels:
        return {}
    levels, sizes = np.array(shape.levels), np.array(category_sizes(architecture, shape))
    starts, rows = np.cumsum(levels * sizes) - levels * sizes, np.cumsum(levels) - levels
    dimension = np.concatenate([np.arange(size) for size in sizes])
    return {
        "column": np.repeat(np.arange(len(sizes)), sizes),
        "step": np.repeat(sizes, sizes),
        "cells": np.repeat(starts, sizes) + dimension,
        "first_row": rows,
    }


def _drawn(spec: Spec, generator: torch.Generator) -> Tensor:
    shape = spec.shape
    if spec.role in ("weight", "project", "head"):
        # He et al., 2015; what no activation follows keeps its variance without the factor
        gain = {"weight": math.sqrt(2.0), "project": 1.0, "head": _HEAD}[spec.role]
        return torch.randn(shape, generator=generator) * (gain / math.sqrt(max(spec.fan_in, 1)))
    if spec.role == "bias":
        return (2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(max(spec.fan_in, 1))
    if spec.role == "sign":
        return torch.randint(0, 2, shape, generator=generator) * 2.0 - 1.0
    if spec.role == "frequency":
        return _SPREAD * torch.randn(shape, generator=generator)
    if spec.role == "phase":
        return math.pi * (2 * torch.rand(shape, generator=generator) - 1)
    if spec.role == "table":
        return torch.randn(shape, generator=generator) / math.sqrt(TOKEN)
    if spec.role in ("scale", "one", "gain", "variance"):
        return torch.ones(shape)
    return torch.zeros(shape)


def new_network(architecture: Architecture, shape: InputShape, *, device: str = "cpu", seed: int = 0) -> Network:
    """Return a network whose tensors are drawn by the seed."""
    network = Network(architecture, shape, torch.Generator(device).manual_seed(seed))
    network.draw(torch.Generator("cpu").manual_seed(seed))
    return network


def loaded_network(architecture: Architecture, shape: InputShape, weights: Mapping[str, Array]) -> Network:
    """Return a network that predicts with given weights, all of the right shapes."""
    network = Network(architecture, shape, torch.Generator("cpu"))
    network.take(weights)
    network.eval()
    return network


__all__ = ["Network", "input_width", "loaded_network", "new_network"]
