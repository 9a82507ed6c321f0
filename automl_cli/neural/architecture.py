"""A network as data: a few blocks in a row with skips, which reads and writes as one line of text.

    pbld16 cat8 k16 | dense256 silu batch d0.1 | residual256 mish layer d0.2 | gated128 relu none d0 +1

Numbers are embedded (or not), categories too, ``k`` networks share all weights but cheap factors of their own
(BatchEnsemble [1]_, as in TabM [2]_), and the blocks follow one another; ``+1`` adds the output of the first block to
the input of this one.

References
----------
.. [1] Wen, Tran and Ba, BatchEnsemble, ICLR 2020.
.. [2] Gorishniy, Kotelnikov and Babenko, TabM, ICLR 2025.
"""

import re
from dataclasses import dataclass

KINDS = ("dense", "residual", "gated", "cross", "attention")
"""``dense``: linear, norm, activation, dropout. ``residual``: two of them, added to their input. ``gated``: dense,
times the sigmoid of another linear map. ``cross``: dense, times the network's input, added to the block's own (DCN-V2).
``attention``: the input asks for weighted means of the columns' embeddings and gets them beside it; then as dense."""
ACTIVATIONS = ("relu", "selu", "silu", "mish")
NORMS = ("none", "batch", "layer")
EMBEDDINGS = ("none", "pbld", "pwl")
"""Of numbers, beside the number itself: nothing; waves and a linear map (PBLD: Holzmüller et al., NeurIPS 2024); where
between the quantiles of training it lies (piecewise linear: Gorishniy et al., NeurIPS 2022)."""
MOST_BLOCKS = 8
WIDEST = 4096
MOST_MEMBERS = 64
LARGEST_EMBEDDING = 64

_NUMBERS = re.compile(r"(?:none|(pbld|pwl)([1-9]\d*))")
_BLOCK = re.compile(
    rf"({'|'.join(KINDS)})([1-9]\d*) ({'|'.join(ACTIVATIONS)}) ({'|'.join(NORMS)}) d(0|0\.\d+)(?: \+([1-9]\d*))?"
)


@dataclass(frozen=True)
class Block:
    """One step of a network.

    Attributes
    ----------
    width : int
        Outputs.
    dropout : float
        Share of outputs that a step of training leaves out.
    skip : int
        Number of the earlier block, from 1, whose output is added to this one's input, brought to its width by a linear
        map where it differs; 0: none.
    """

    kind: str
    width: int
    activation: str = "relu"
    norm: str = "none"
    dropout: float = 0.0
    skip: int = 0

    def __str__(self) -> str:
        skip = f" +{self.skip}" if self.skip else ""
        return f"{self.kind}{self.width} {self.activation} {self.norm} d{self.dropout:g}{skip}"


@dataclass(frozen=True)
class Architecture:
    """A network.

    Attributes
    ----------
    numbers : str
        How numbers are embedded, one of `EMBEDDINGS`.
    number_size : int
        Dimensions of a number's embedding; 0 where it has none.
    category_size : int
        Most dimensions of a category's embedding.
    members : int
        Networks that share their weights but for factors of each input and output; their predictions are averaged.

    Raises
    ------
    ValueError
        A part is not of the values above.
    """

    blocks: tuple[Block, ...]
    numbers: str = "none"
    number_size: int = 0
    category_size: int = 8
    members: int = 1

    def __post_init__(self) -> None:
        known = self.numbers in EMBEDDINGS and (self.number_size > 0) == (self.numbers != "none")
        sizes = 0 <= self.number_size <= LARGEST_EMBEDDING and 1 <= self.category_size <= LARGEST_EMBEDDING
        if not (known and sizes and 1 <= self.members <= MOST_MEMBERS and 1 <= len(self.blocks) <= MOST_BLOCKS):
            raise ValueError("no such architecture")
        for number, block in enumerate(self.blocks, 1):
            kinds = block.kind in KINDS and block.activation in ACTIVATIONS and block.norm in NORMS
            if not (kinds and 1 <= block.width <= WIDEST and 0 <= block.dropout < 1 and 0 <= block.skip < number):
                raise ValueError(f"no such block: {block}")

    def __str__(self) -> str:
        numbers = self.numbers if self.numbers == "none" else f"{self.numbers}{self.number_size}"
        head = f"{numbers} cat{self.category_size} k{self.members}"
        return " | ".join([head, *map(str, self.blocks)])


def parse_architecture(text: str) -> Architecture:
    """Read what ``str`` of an architecture gave.

    Raises
    ------
    ValueError
        It is no architecture.

    >>> line = "pbld16 cat8 k16 | dense256 silu batch d0.1 | gated128 relu none d0 +1"
    >>> str(parse_architecture(line)) == line
    True
    """
    head, *rest = text.split(" | ")
    numbers, categories, members = _words(head, 3)
    embedded = _NUMBERS.fullmatch(numbers)
    blocks = [_BLOCK.fullmatch(line) for line in rest]
    if len(text) > 1000 or embedded is None or None in blocks or not rest:
        raise ValueError(f"no architecture: {text[:80]!r}")
    return Architecture(
        blocks=tuple(
            Block(found[1], int(found[2]), found[3], found[4], float(found[5]), int(found[6] or 0))
            for found in blocks
            if found is not None
        ),
        numbers=embedded[1] or "none",
        number_size=int(embedded[2] or 0),
        category_size=_after("cat", categories),
        members=_after("k", members),
    )


def _words(text: str, n: int) -> list[str]:
    words = text.split(" ")
    if len(words) != n:
        raise ValueError(f"no architecture: {text[:80]!r}")
    return words


def _after(prefix: str, word: str) -> int:
    digits = word.removeprefix(prefix)
    if not word.startswith(prefix) or not digits.isascii() or not digits.isdigit() or len(digits) > 6:
        raise ValueError(f"no architecture: {word[:80]!r}")
    return int(digits)
