"""Results of profile, evaluate, predict and inspect as tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table as Grid
from rich.text import Text

from automl_cli.console.shifts import end_words
from automl_cli.console.streams import make_console
from automl_cli.console.transfers import transfer_words

if TYPE_CHECKING:
    from automl_cli.champion import Verdict
    from automl_cli.prediction import Scores
    from automl_cli.table import Notice

MOST_ROWS = 60


def tell_notices(notices: "Sequence[Notice]") -> None:
    """Say on stderr what was odd."""
    console = make_console()
    for notice in notices:
        console.print(Text(f"warning: {notice.message}", style="yellow"))


def tell_scores(scores: "Scores") -> None:
    """Print the scores of a model, its own metric first."""
    console = make_console(answer=True)
    low, high = scores.interval
    left_out = f", {scores.n_left_out:,} without a target left out" if scores.n_left_out else ""
    own = scores.scores[scores.metric]
    console.print(Text(f"{scores.metric} {own:.5g} (95 % interval over rows {low:.5g} to {high:.5g})", style="bold"))
    console.print(Text(f"a guess that ignores all columns reaches {scores.naive:.5g}"))
    console.print(Text(f"{scores.n_rows:,} rows{left_out}" + (", weighted" if scores.weighted else "")))
    for name, value in scores.scores.items():
        if name != scores.metric:
            console.print(Text(f"  {name:18} {value:.5g}"))


def tell_profile(data: Mapping[str, Any], notices: "Sequence[Notice]") -> None:
    """Print a profile: one line a column, then what is odd."""
    console = make_console(answer=True)
    console.print(Text(f"{data['n_rows']:,} rows, {len(data['columns'])} columns", style="bold"))
    grid = Grid(box=None, pad_edge=False, header_style="bold")
    for title in ("column", "kind", "missing", "distinct", "values", "why"):
        grid.add_column(title, overflow="fold")
    for column in data["columns"][:MOST_ROWS]:
        grid.add_row(
            Text(str(column["name"])),
            str(column["kind"]),
            f"{column['missing']:.1%}",
            str(column["distinct"]),
            Text(_values(column)),
            Text(str(column["reason"])),
        )
    console.print(grid)
    if len(data["columns"]) > MOST_ROWS:
        console.print(Text(f"and {len(data['columns']) - MOST_ROWS:,} more columns; --json lists all"))
    for message in [*(notice.message for notice in notices), *(w["message"] for w in data["warnings"])]:
        console.print(Text(f"odd: {message}", style="yellow"))


def verdict_words(verdict: "Verdict", champion: Path) -> list[str]:
    """Say how a challenger fared, and whether it took the champion's place."""
    lines = []
    if verdict.champion is not None and verdict.challenger is not None and verdict.certainty is not None:
        lines.append(
            f"on {verdict.n_judged:,} rows that neither has seen: {verdict.metric_title} {verdict.challenger:.5g}, "
            f"the champion {verdict.champion:.5g}; better in {verdict.certainty:.0%} of resamples"
        )
    if verdict.installed:
        lines.append(f"{champion} is installed: {verdict.reason}")
    else:
        lines.append(f"the champion {champion} is kept: {verdict.reason}")
    return lines


def _values(column: Mapping[str, Any]) -> str:
    """Return a column's range or its commonest values in a few words."""
    if column.get("min") is not None:
        return f"{column['min']:.6g} to {column['max']:.6g}, mean {column['mean']:.6g}"
    return ", ".join(f"{value} {share:.0%}" for value, share in (column.get("top") or [])[:3])


def tell_manifest(data: Mapping[str, Any], size: int, signed_by: Mapping[str, bool]) -> None:
    """Print what a model file says about itself.

    Parameters
    ----------
    signed_by : mapping of fingerprint to whether that key's signature was verified
    """
    console = make_console(answer=True)
    task = data["task"]
    lines = {
        "predicts": f"{task['target']} ({task['kind']})"
        + (f", classes {_few(task['classes'])}" if task["classes"] else ""),
        "reaches": _score(data),
        "labels": _labels(data),
        "adapted": _adapted(data),
        "ensemble": "; ".join(filter(None, (_gain(data.get("ensemble")), _mixing(data.get("mixing"))))),
        "trained on": f"{data.get('n_rows') or 0:,} rows; validated by {data.get('validation') or '?'}",
        "made": f"{data['created']} by automl {data['product']}; file {size / 1e6:.2f} MB",
        "signed": signed_words(signed_by),
        "libraries": ", ".join(f"{name} {version}" for name, version in data["libraries"].items()),
        "time": ", ".join(f"{name} {s:.1f} s" for name, s in (data.get("timings") or {}).items() if s is not None),
        "size": "; ".join(size_words(data.get("footprint"), None, len(data["members"]))),
        "racing": _racing(data.get("racing") or {}),
        "ended early": early_words(data.get("ended_early")),
        "overhead": _overhead(data),
        "peak memory": f"{(data.get('peak_memory_bytes') or 0) / 1e6:.0f} MB",
        "data": data.get("fingerprint") or "?",
        "mattered": ", ".join(f"{name} {share:.0%}" for name, share in data.get("mattered") or []),
    }
    grid = Grid.grid(padding=(0, 2))
    for name, value in lines.items():
        if value:
            grid.add_row(Text(name, style="bold"), Text(value))
    console.print(grid)
    for title, rows in (("members", _members(data)), ("leaderboard", _board(data)), ("columns", _columns(data))):
        console.print(Text(f"\n{title}", style="bold"))
        console.print(rows)
    for line in transfer_words(data.get("transfer") or {}):
        console.print(Text(line))
    for message in data.get("warnings") or []:
        console.print(Text(f"odd in the data: {message}", style="yellow"))


def signed_words(signed_by: Mapping[str, bool]) -> str:
    """Say by which keys a file is signed, and of which of them that is known.

    >>> signed_words({})
    'no'
    >>> signed_words({"SHA256:a": True, "SHA256:b": False})
    'by SHA256:a (verified) and SHA256:b (not verified)'
    >>> signed_words({"SHA256:a": False})
    'by SHA256:a (not verified: see --require-signature)'
    """
    if not signed_by:
        return "no"
    unknown = "not verified" if any(signed_by.values()) else "not verified: see --require-signature"
    return "by " + " and ".join(f"{key} ({'verified' if known else unknown})" for key, known in signed_by.items())


def _overhead(data: Mapping[str, Any]) -> str:
    found = data.get("overhead") or {}
    if not {"cpu_seconds", "cpu_share", "idle_share"} <= found.keys():
        return ""
    used = f"searching took {found['cpu_seconds']:.1f} s of a core, {found['cpu_share']:.1%} of all cores' time"
    return f"{used}; workers waited {found['idle_share']:.1%}"


def _few(values: Sequence[str]) -> str:
    more = f" and {len(values) - 6} more" if len(values) > 6 else ""
    return ", ".join(values[:6]) + more


def _score(data: Mapping[str, Any]) -> str:
    if data.get("score") is None:
        return ""
    interval = data.get("interval")
    between = f" (95 % interval over folds {interval[0]:.5g} to {interval[1]:.5g})" if interval else ""
    naive = f"; a guess reaches {data['naive_score']:.5g}" if data.get("naive_score") is not None else ""
    return f"{data['task']['metric']} {data['score']:.5g}{between}{naive}"


def _racing(data: Mapping[str, Any]) -> str:
    """Return what giving up trials early left out."""
    if not data.get("n_trials"):
        return ""
    left_out = f"{data['n_folds']} folds, about {data['seconds']:.0f} s of work, left out"
    return f"{data['n_trials']} trials given up early; {left_out}"


def early_words(found: Mapping[str, Any] | None) -> str:
    """Say when, and why, a search ended before its limit; nothing where it did not.

    >>> early_words({"n_trials": 20, "seconds_left": 240.4, "trials_left": None})
    'the search ended after 20 trials in a row without a gain, 240 s before the limit'
    >>> early_words({"n_trials": 1, "seconds_left": None, "trials_left": 7})
    'the search ended after 1 trial without a gain, 7 trials before the limit'
    >>> early_words({"n_trials": 9, "seconds_left": 31.0, "trials_left": None, "reason": "the disk is full"})
    'the search ended after 9 trials, 31 s before the limit: the disk is full'
    """
    if found is None:
        return ""
    n_trials, reason = found["n_trials"], found.get("reason")
    in_a_row = "" if reason or n_trials == 1 else " in a row"
    gainless = _counted(n_trials, "trial") + in_a_row + ("" if reason else " without a gain")
    seconds, trials = found.get("seconds_left"), found.get("trials_left")
    left = [] if seconds is None else [f"{seconds:.0f} s"]
    left += [] if trials is None else [f"{trials:.0f} trial{'' if trials == 1 else 's'}"]
    before = f", {' and '.join(left)} before the limit" if left else ""
    return f"the search ended after {gainless}{before}" + (f": {reason}" if reason else "")


def size_words(found: Mapping[str, Any] | None, n_bytes: int | None, n_members: int) -> list[str]:
    """Say how large and how fast a model is, and what it would be without its limits.

    >>> limits = {"n_bytes": 9_000_000, "row_seconds": None, "one_model": False}
    >>> without = {"n_members": 12, "n_models": 60, "n_bytes": 34e6, "row_seconds": 4e-4, "score": 0.913}
    >>> found = {"n_models": 3, "row_seconds": 2e-5, "measured": True, "ceiling": limits, "unlimited": without}
    >>> size_words(found, 8_000_000, 3)  # doctest: +NORMALIZE_WHITESPACE
    ['8 MB, 3 members (3 models), 20 us a row',
     'without limits: about 34 MB, 12 members (60 models), about 400 us a row, a score of 0.913']
    """
    if found is None:
        return []
    about = "" if found.get("measured") else "about "
    lines = [_size(n_bytes, n_members, found["n_models"], found.get("row_seconds"), "", about)]
    if (other := found.get("unlimited")) is not None:
        size = _size(
            other["n_bytes"], other["n_members"], other["n_models"], other.get("row_seconds"), "about ", "about "
        )
        lines.append(f"without limits: {size}, a score of {other['score']:.5g}")
    return lines


def _size(n_bytes: float | None, n_members: int, n_models: int, seconds: float | None, by: str, about: str) -> str:
    said = [] if n_bytes is None else [f"{by}{n_bytes / 1e6:.3g} MB"]
    said.append(f"{_counted(n_members, 'member')} ({_counted(n_models, 'model')})")
    if seconds is not None:
        said.append(f"{about}{_row_time(seconds)} a row")
    return ", ".join(said)


def _row_time(seconds: float) -> str:
    """Return it in words.

    >>> _row_time(2.4e-7), _row_time(1.2345e-4), _row_time(0.0021)
    ('0.24 us', '123 us', '2.1 ms')
    """
    return f"{1e6 * seconds:.3g} us" if seconds < 0.001 else f"{1e3 * seconds:.3g} ms"


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _labels(data: Mapping[str, Any]) -> str:
    """Say how probabilities become labels, where it is not the likeliest class."""
    decision, classes = data.get("decision") or {}, data["task"]["classes"]
    multipliers = decision.get("multipliers") or []
    said = []
    if decision.get("temperature", 1.0) != 1.0:
        said.append(f"probabilities at temperature {decision['temperature']:.3g}")
    if len(multipliers) == 2:
        said.append(f"{classes[1]} from a probability of {multipliers[0] / sum(multipliers):.3g}")
    elif multipliers:
        times = [f"{label} x {value:.3g}" for label, value in zip(classes, multipliers, strict=True)]
        said.append(f"the likeliest class after {_few(times)}")
    return "; ".join(said)


def _adapted(data: Mapping[str, Any]) -> str:
    """Say to which rows the model is adapted, or why not; nothing where nobody asked for it."""
    transfer = data.get("transfer")
    lines = end_words(transfer, data["task"]["metric"])
    if transfer is None or not lines:
        return ""
    return "; ".join([f"to {transfer['table']}" if transfer.get("table") else "to other rows", *lines])


def _gain(gain: Mapping[str, float] | None) -> str:
    """Say what the members together are worth, on the rows that weighed them and on others."""
    if gain is None:
        return ""
    seen, fresh = gain["in_sample_gain"], gain["cross_fitted_gain"]
    return f"in-sample gain {seen:.3g}, cross-fitted gain {fresh:.3g} over the best member"


def _mixing(mixing: Mapping[str, Any] | None) -> str:
    """Say how members are mixed, where it is not by a weighted mean."""
    if mixing is None or not mixing["offsets"]:
        return ""
    return "stacked: " + ("weights of log-probabilities" if mixing["logarithms"] else "weights of either sign")


def _members(data: Mapping[str, Any]) -> Grid:
    grid = Grid.grid(padding=(0, 2))
    for member in sorted(data["members"], key=lambda m: -abs(m["weight"])):
        values = ", ".join(f"{name}={_short(value)}" for name, value in member["hyperparameters"].items())
        n_models = f"{len(member['folds'])} model{'s' if len(member['folds']) > 1 else ''}"
        grid.add_row(f"{member['weight']:.1%}", member["family"], member["encoding"], n_models, Text(values))
    return grid


def _board(data: Mapping[str, Any]) -> Grid:
    grid = Grid.grid(padding=(0, 2))
    for row in (data.get("leaderboard") or [])[:15]:
        score = "-" if row.get("score") is None else f"{row['score']:.5g}"
        texts = (Text(row.get(key, "")) for key in ("family", "encoding", "origin", "note"))
        grid.add_row(f"#{row['number']}", score, *texts)
    return grid


def _columns(data: Mapping[str, Any]) -> Grid:
    grid = Grid.grid(padding=(0, 2))
    for column in data["schema"][:MOST_ROWS]:
        grid.add_row(Text(column["name"]), str(column.get("kind", "?")), Text(str(column.get("reason", ""))))
    return grid


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
