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
    if "taught" in found:
        return [_taught_words(found["taught"])]
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


def _taught_words(taught: Mapping[str, Any] | None) -> str:
    """Say what members gained that learned once more, with labels of the ensemble on rows that have none."""
    if taught is None:
        return "rows without labels are left aside: no member came to an end with them in the time there was"
    gain, error, share = taught["gain"], taught["error"], taught["share"]
    sure = "on one holdout, without an error to go by" if error is None else f"give or take {taught['share_error']:.0%}"
    members = "1 member" if taught["n_pupils"] == 1 else f"{taught['n_pupils']} members"
    how = f"{members} learned once more, with the model's labels on {taught['n_rows']:,} of them"
    if not taught["kept"]:
        return f"rows without labels cost {-share:.0%} of the error, {sure}, and are left aside ({how})"
    verb = "gain" if error is not None and gain > error else "are no sure gain:"
    return f"rows without labels {verb} {share:.0%} of the error, {sure}: {how}"
