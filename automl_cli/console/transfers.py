"""What a source, or rows without labels, were worth, in words."""

from collections.abc import Mapping
from typing import Any


def transfer_words(found: Mapping[str, Any]) -> list[str]:
    """Say what the source is like and what it, or rows without labels, gained; nothing where there were none.

    >>> transfer_words({})
    []
    """
    if found.get("setting") not in ("inductive", "unlabelled"):
        return []
    unlabelled = found.get("setting") == "unlabelled"
    name, gains, are = ("rows without labels", "gain", "are") if unlabelled else ("the source", "gains", "is")
    it = "them" if unlabelled else "it"
    said = list((found.get("shift") or {}).get("said", ()))
    tried, gain = found.get("tried") or [], found.get("gain")
    plain = next((way for way in tried if way["adaptation"] == "target only"), None)
    adapted = next((way for way in tried if way["adaptation"] != "target only"), None)
    if plain is None or adapted is None or gain is None:
        which = "with" if adapted is None else "without"
        worth = f"what {'they are' if unlabelled else 'it is'} worth is not known"
        return [*said, f"no trial {which} {name} was finished: {worth}"]
    error = gain["share_error"]
    sure = "on one holdout, without an error to go by" if error is None else f"give or take {error:.0%}"
    words = f"{gain['share']:.0%} of the error, {sure}"
    least = gain["standard_error"]
    verb = gains if least is not None and gain["mean"] > least else f"{are} no sure gain:"
    both = f"{adapted['score']:.5g} ({adapted['pipeline']}) against {plain['score']:.5g} ({plain['pipeline']}) without"
    shares = ", ".join(f"{way['share']:.0%} {way['adaptation']}" for way in tried if way["share"] > 0)
    shares = shares.replace("target only", "labels only") if unlabelled else shares
    return [*said, f"{name} {verb} {words}: {both}", f"ways of using {it} in the model: {shares}"]
