"""What is said of an adaptation to other rows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.text import Text

from automl_cli.console.streams import make_console

if TYPE_CHECKING:
    from automl_cli.readapting import Adapted

MOST_CLASSES = 6
ADAPTED = {
    "weights": "rows count by how much they look like the new ones",
    "label shares": "probabilities are corrected for the shares of the classes in the new rows",
    "none": "no adaptation",
}


def shift_words(transfer: Mapping[str, Any]) -> list[str]:
    """Say which shift there is, and what is done about it; nothing of another setting.

    >>> verdict = {"accepted": False, "reason": "the new rows look like those that were learned from"}
    >>> found = {"setting": "transductive", "sentences": ["No shift is seen."], "verdict": verdict, "adapted": "none"}
    >>> shift_words(found)
    ['No shift is seen.', 'no adaptation: the new rows look like those that were learned from']
    """
    if transfer.get("setting") != "transductive":
        return []
    return [*transfer.get("sentences", []), adapted_words(transfer)]


def adapted_words(transfer: Mapping[str, Any]) -> str:
    """Say what is done about a shift, and why, in one line; nothing of another setting."""
    if transfer.get("setting") != "transductive":
        return ""
    adapted = str(transfer.get("adapted", "none"))
    reason = (transfer.get("verdict") or {}).get("reason")
    return ADAPTED.get(adapted, adapted) + (f": {reason}" if reason else "")


def share_words(classes: Sequence[Mapping[str, Any]] | None) -> str:
    """Say which shares the classes had and have; nothing where they are not known.

    >>> share_words([{"label": "no", "before": 0.5, "after": 0.8}, {"label": "yes", "before": 0.5, "after": 0.2}])
    'shares of the classes: no 50.0% before, 80.0% now; yes 50.0% before, 20.0% now'
    """
    if not classes:
        return ""
    said = [f"{one['label']} {one['before']:.1%} before, {one['after']:.1%} now" for one in classes[:MOST_CLASSES]]
    more = f" and {len(classes) - MOST_CLASSES} more" if len(classes) > MOST_CLASSES else ""
    return f"shares of the classes: {'; '.join(said)}{more}"


def score_words(transfer: Mapping[str, Any], metric: str) -> str:
    """Say what the correction is worth by estimate; nothing where that is not known."""
    scores = transfer.get("scores")
    if not scores:
        return ""
    without = f"without the correction {scores['without']:.5g}"
    return f"on the new rows, by estimate: {metric} {scores['score']:.5g}, {without}"


def last_words(transfer: Mapping[str, Any] | None, metric: str) -> list[str]:
    """Return what was not yet known at the beginning."""
    if not transfer:
        return []
    lines = end_words(transfer, metric)
    return lines if transfer.get("withdrawn") else lines[1:]


def end_words(transfer: Mapping[str, Any] | None, metric: str) -> list[str]:
    """Return what is known of the new rows once the model is there."""
    if transfer is None or transfer.get("setting") != "transductive":
        return []
    said = (adapted_words(transfer), share_words(transfer.get("classes")), score_words(transfer, metric))
    return [line for line in said if line]


def tell_adapted(found: "Adapted") -> None:
    """Say on stderr which shift there is, and what became of the model."""
    console = make_console()
    for line in [*shift_words(found.transfer), *last_words(found.transfer, found.metric)]:
        console.print(Text(line))
    if found.out is None:
        console.print(Text(f"{found.model} stays as it is; nothing is written", style="bold"))
    else:
        console.print(Text(f"saved to {found.out}", style="bold"))
