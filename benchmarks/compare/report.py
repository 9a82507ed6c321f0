"""Finished runs -> a report in Markdown."""

import itertools
import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from automl_cli.errors import BadData
from benchmarks.compare.boards import Board, Pair, Ranks, board_of, lost_of, pair_of, ranks_of
from benchmarks.compare.rows import Row

OFF = 0.05


@dataclass(frozen=True)
class Reference:
    """An error that somebody measured before."""

    dataset: str
    system: str
    error: float
    limit_s: float | None


@dataclass(frozen=True)
class Report:
    """All that is said, and what plots are drawn from."""

    rows: tuple[Row, ...]
    systems: tuple[str, ...]
    baseline: str
    boards: tuple[Board, ...]

    def pairs(self, board: Board) -> list[Pair]:
        """Return each system against all that are named after it."""
        return [pair_of(board, a, b) for a, b in itertools.combinations(self.systems, 2)]


def report_of(rows: Sequence[Row], *, systems: Sequence[str] | None = None, baseline: str | None = None) -> Report:
    """Gather what is to be compared.

    Parameters
    ----------
    systems : sequence of str or None
        In this order; None: all there are, in the order of their first run.
    baseline : str or None
        What ratios are to; None: the last of the systems.
    """
    known = list(dict.fromkeys(row.system for row in sorted(rows, key=lambda row: row.begun)))
    chosen = list(systems or known)
    for name in [*chosen, *([baseline] if baseline else [])]:
        if name not in known:
            raise BadData(f"there is no run of {name!r}", hint=f"there are runs of {', '.join(known) or 'nothing'}")
    if baseline and baseline not in chosen:
        chosen.append(baseline)
    kept = [row for row in rows if row.system in chosen]
    boards = [board_of(kept, chosen, limit) for limit in sorted({row.limit_s for row in kept})]
    return Report(tuple(kept), tuple(chosen), baseline or chosen[-1], tuple(boards))


def markdown(report: Report, references: Sequence[Reference] = ()) -> str:
    """Return the whole report."""
    parts = [_head(report)]
    for board in report.boards:
        parts.append(f"## Limit {board.limit_s:g} s\n")
        if board.unfinished:
            parts.append(f"Left out, not run by all of them: {', '.join(board.unfinished)}.\n")
        if board.datasets:
            parts += [_errors(report, board), *_comparisons(report, board)]
        parts.append(_keeping(report, board.limit_s))
    if len(report.boards) > 1:
        parts.append(_by_limit(report))
    if references:
        parts.append(_to_look_into(report, references))
    return "\n".join(parts)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; a bar in a cell is escaped, a line break is a blank."""
    rows = [head, ["---"] * len(head), *lines]
    cells = ([" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows)
    return "".join("| " + " | ".join(row) + " |\n" for row in cells)


def _head(report: Report) -> str:
    days = sorted({row.begun[:10] for row in report.rows})
    machines = sorted({f"{row.machine}; {row.cores} of the cores used" for row in report.rows})
    lines = []
    for system in report.systems:
        rows = [row for row in report.rows if row.system == system]
        versions = {name: v for row in rows for name, v in row.details.get("versions", {}).items()}
        said = ", ".join(f"{name} {v}" for name, v in versions.items())
        sources = sorted({f"{row.commit} ({row.source})" if row.commit else row.source for row in rows})
        lines.append([system, ", ".join(sources), said])
    return (
        "# Comparison\n\n"
        f"{' to '.join(sorted({days[0], days[-1]})) if days else 'no runs'}. {'; '.join(machines)}. "
        "Error is 1 - ROC AUC (binary), log loss (multiclass) or root mean squared error (regression) on the test "
        "rows, the mean over seeds; lower is better. A failed run counts as a guess that ignores all columns, or as "
        "the worst system where that is worse.\n\n" + table(["system", "commit or digest", "versions"], lines)
    )


def _errors(report: Report, board: Board) -> str:
    others = [system for system in report.systems if system != report.baseline]
    head = ["set", "task", "rows", "seeds", *report.systems, *(f"{name} / {report.baseline}" for name in others)]
    facts = {row.dataset: row for row in report.rows}
    lines = []
    for i, dataset in enumerate(board.datasets):
        row = facts[dataset]
        marks = ["" if n == 0 else f" ({n} failed)" for n in board.failed[i]]
        errors = [f"{error:.5g}{mark}" for error, mark in zip(board.errors[i], marks, strict=True)]
        against = board.column(report.baseline)[i]
        ratios = [f"{board.column(name)[i] / against:.3f}" for name in others]
        lines.append([dataset, row.task, f"{row.n_train:,}", str(board.n_seeds[i]), *errors, *ratios])
    return "### Errors\n\n" + table(head, lines)


def _comparisons(report: Report, board: Board) -> list[str]:
    if len(report.systems) < 2:
        return []
    return [_pairs(report.pairs(board)), _lost(board, report.systems[0]), _ranks(ranks_of(board))]


def _pairs(pairs: list[Pair]) -> str:
    head = [
        "system",
        "against",
        "error ratio (95 %)",
        "won",
        "lost",
        "undecided",
        "won of decided (95 %)",
        "Wilcoxon p",
    ]
    lines = [
        [
            pair.first,
            pair.second,
            f"{pair.ratio:.4f} {_span(pair.ratio_interval, '.4f')}",
            str(pair.won),
            str(pair.lost),
            str(pair.undecided),
            f"{pair.win_rate:.0%} {_span(pair.win_interval, '.0%')}" if pair.won + pair.lost else "none decided",
            f"{pair.p_value:.2g}",
        ]
        for pair in pairs
    ]
    return (
        "### Pairs\n\nError ratio: geometric mean over sets, below 1 the first system is better; bootstrap over sets. "
        "Decided: errors differ by more than 0.5 %.\n\n" + table(head, lines)
    )


def _lost(board: Board, system: str) -> str:
    lost = lost_of(board, system)
    head = ["set", "best", f"{system} / best"]
    return (
        f"### Sets that {system} lost\n\n{len(lost)} of {len(board.datasets)}, to the best of the others by more than "
        f"2 %.\n\n" + (table(head, [[dataset, best, f"{ratio:.3f}"] for dataset, best, ratio in lost]) if lost else "")
    )


def _span(interval: tuple[float, float], form: str) -> str:
    low, high = interval
    return "" if math.isnan(low) else f"({low:{form}} to {high:{form}})"


def _ranks(ranks: Ranks) -> str:
    order = sorted(zip(ranks.average, ranks.systems, strict=True))
    friedman = f"; Friedman's test: p = {ranks.p_value:.2g}" if not math.isnan(ranks.p_value) else ""
    return (
        f"### Ranks\n\nOver {ranks.n_datasets} sets; average ranks less than {ranks.critical:.2f} apart may differ by "
        f"chance (Nemenyi, 5 %){friedman}.\n\n"
        + table(["system", "average rank"], [[name, f"{rank:.2f}"] for rank, name in order])
    )


def _keeping(report: Report, limit_s: float) -> str:
    head = ["system", "runs", "failed", "over the limit: fit", "over the limit: start to saved model",
            "median and longest to a model", "predictions (median)", "most memory", "reasons"]  # fmt: skip
    lines = []
    for system in report.systems:
        rows = [row for row in report.rows if row.system == system and row.limit_s == limit_s]
        to_model = [row.model_s for row in rows if row.model_s is not None]
        predict = [row.predict_s for row in rows if row.predict_s is not None]
        reasons = dict.fromkeys(f"{row.dataset}: {row.failure}" for row in rows if row.error is None)
        lines.append(
            [
                system,
                str(len(rows)),
                str(sum(row.error is None for row in rows)),
                str(sum(row.fit_s is not None and row.fit_s > limit_s for row in rows)),
                str(sum(row.model_s is None or row.model_s > limit_s for row in rows)),
                f"{statistics.median(to_model):.1f} s, {max(to_model):.1f} s" if to_model else "none",
                f"{statistics.median(predict):.1f} s" if predict else "none",
                f"{max((row.peak_bytes for row in rows), default=0) / 1e6:.0f} MB",
                "; ".join(reasons),
            ]
        )
    return (
        "### Failures and limits\n\nFit: the call that fits and saves, which is what other systems' limits are about; "
        "of automl it is the whole command. A run without a model is over the limit too.\n\n" + table(head, lines)
    )


def curves(report: Report) -> tuple[list[str], dict[str, list[tuple[float, float]]]]:
    """Return the datasets finished at every limit, and each system's error ratio to the baseline's at the last limit.

    Returns
    -------
    list of str, mapping of system to list of (limit in seconds, geometric mean of ratios)
    """
    shared = [name for name in report.boards[0].datasets if all(name in board.datasets for board in report.boards)]
    last = report.boards[-1]
    against = {name: last.column(report.baseline)[last.datasets.index(name)] for name in shared}
    lines: dict[str, list[tuple[float, float]]] = {system: [] for system in report.systems}
    for board, system in itertools.product(report.boards, report.systems):
        ratios = [board.column(system)[board.datasets.index(name)] / against[name] for name in shared]
        if ratios:
            lines[system].append((board.limit_s, statistics.geometric_mean(ratios)))
    return shared, lines


def _by_limit(report: Report) -> str:
    shared, lines = curves(report)
    head = ["system", *(f"{board.limit_s:g} s" for board in report.boards)]
    return (
        f"## Error against limit\n\nGeometric mean, over the {len(shared)} sets finished at every limit, of the error "
        f"over that of {report.baseline} at {report.boards[-1].limit_s:g} s.\n\n"
        + table(head, [[name, *(f"{ratio:.4f}" for _, ratio in line)] for name, line in lines.items() if line])
    )


def read_references(path: Path) -> list[Reference]:
    """Read rows of ``{"dataset", "system", "error"}``, where ``seconds`` may say the limit; no error, no figure."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = data if isinstance(data, list) else data["rows"]
        return [
            Reference(row["dataset"], row["system"], float(row["error"]), row.get("seconds"))
            for row in rows
            if row.get("error") is not None
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadData(f"{path} holds no reference figures: {error}", hint="rows of dataset, system, error") from error


def off_reference(rows: Sequence[Row], references: Sequence[Reference]) -> list[tuple[Row, Reference]]:
    """Return the runs that failed or are more than 5 % off the figure for the same set, system and limit."""
    return [
        (row, reference)
        for row, reference in with_reference(rows, references)
        if row.error is None or abs(row.error - reference.error) > OFF * reference.error
    ]


def with_reference(rows: Sequence[Row], references: Sequence[Reference]) -> list[tuple[Row, Reference]]:
    """Return the runs of which there is a figure for the same set, system and limit.

    A figure may call a system that is run with its defaults NAME_default.
    """
    known = {(r.dataset, r.system.removesuffix("_default"), r.limit_s): r for r in references}
    found = []
    for row in rows:
        name = row.system.removesuffix("_default")
        reference = known.get((row.dataset, name, row.limit_s)) or known.get((row.dataset, name, None))
        if reference:
            found.append((row, reference))
    return found


def _to_look_into(report: Report, references: Sequence[Reference]) -> str:
    lines = [
        [row.system, row.dataset, f"{row.limit_s:g} s", str(row.seed), f"{reference.error:.5g}",
         "failed" if row.error is None else f"{row.error:.5g}",
         "" if row.error is None else f"{row.error / reference.error - 1:+.1%}"]
        for row, reference in off_reference(report.rows, references)
    ]  # fmt: skip
    head = ["system", "set", "limit", "seed", "reference", "here", "off by"]
    n_compared = len(with_reference(report.rows, references))
    said = f"## To look into\n\n{len(lines)} of {n_compared} runs that have a reference figure are more than 5 % off it"
    return f"{said}:\n\n{table(head, lines)}" if lines else f"{said}.\n"
