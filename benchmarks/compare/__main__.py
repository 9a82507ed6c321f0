"""Run any set of systems over a folder of tables, turn about on this machine, and report what came out.

usage: python -m benchmarks.compare run FOLDER --systems automl flaml autogluon_best --limits 60 --out RUNS.jsonl
       python -m benchmarks.compare report RUNS.jsonl --baseline autogluon_best --plots PLOTS > REPORT.md

FOLDER holds index.json ({NAME: {task, target}} or groups of such, of which --group names one) and NAME.csv.gz or
NAME.csv. A run that is in the file already is not repeated, whether it failed or not. docs/benchmarks.md says how to
name systems and how to read the report.
"""

import argparse
import logging
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from automl_cli.errors import AutomlError, MissingExtra, UsageError
from automl_cli.files import locked
from automl_cli.machine import usable_cores
from benchmarks.compare.environments import make_environment
from benchmarks.compare.report import markdown, read_references, report_of
from benchmarks.compare.rows import Row, append_row, read_rows
from benchmarks.compare.runs import Place, check_sources, run_one, turns
from benchmarks.compare.systems import environments_of, parse_systems
from benchmarks.tables import Dataset, find_datasets


def parser() -> argparse.ArgumentParser:
    """Return the parser of both commands."""
    top = argparse.ArgumentParser(
        prog="python -m benchmarks.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="fit, predict and score; one line per run")
    run.add_argument("folder", type=Path)
    run.add_argument("--systems", nargs="+", required=True, metavar="[LABEL=]NAME[@CHECKOUT][:OPTION[=VALUE],...]")
    run.add_argument("--limits", type=float, nargs="+", default=[60.0], metavar="SECONDS")
    run.add_argument("--seeds", type=int, nargs="+", default=[0])
    run.add_argument("--names", nargs="+", help="only these tables; default all of the index")
    run.add_argument("--group", default="dev", help="group of the index")
    run.add_argument("--cores", type=int, default=usable_cores(), help="of each system; default all")
    run.add_argument("--out", type=Path, default=Path("compare.jsonl"))
    run.add_argument("--venvs", type=Path, default=Path(".venv-compare"), help="environments of foreign systems")
    run.add_argument("--splits", type=Path, default=Path(tempfile.gettempdir()) / "automl-splits")
    report = commands.add_parser("report", help="Markdown on standard output")
    report.add_argument("files", type=Path, nargs="+")
    report.add_argument("--systems", nargs="+", metavar="LABEL", help="only these, in this order")
    report.add_argument("--baseline", metavar="LABEL", help="what ratios are to; default the last system")
    report.add_argument("--reference", type=Path, help="figures that peers are checked against")
    report.add_argument("--plots", type=Path, metavar="FOLDER", help="draw SVG files (extra: report)")
    return top


def run_all(args: argparse.Namespace) -> None:
    """Run what is not in the file yet."""
    systems = parse_systems(args.systems)
    datasets = _chosen(find_datasets(args.folder, args.group), args.names)
    place = Place(args.venvs, args.splits, args.cores)
    with locked(args.out.with_name(f"{args.out.name}.lock"), str(args.out)):
        rows = read_rows([args.out])
        check_sources(rows, systems)
        for name in environments_of(systems):
            make_environment(name, args.venvs)
        done = {row.key for row in rows}
        for cell, system, position in turns(datasets, args.limits, args.seeds, systems):
            if (system.label, cell.dataset.name, cell.limit_s, cell.seed) not in done:
                row = run_one(cell, system, position, place)
                append_row(args.out, row)
                _tell(row)


def _chosen(datasets: dict[str, Dataset], names: Sequence[str] | None) -> list[Dataset]:
    for name in names or ():
        if name not in datasets:
            raise UsageError(f"index.json has no table {name!r}", hint=f"it has {', '.join(datasets)}")
    return [datasets[name] for name in names or datasets]


def _tell(row: Row) -> None:
    outcome = row.failure if row.error is None else f"error {row.error:.6g}"
    to_model = "" if row.model_s is None else f", model after {row.model_s:.1f} s"
    sys.stderr.write(f"{row.dataset} {row.limit_s:g} s seed {row.seed} {row.system}: {outcome}{to_model}\n")


def report_all(args: argparse.Namespace) -> None:
    """Print the report, and draw where asked to."""
    for path in args.files:
        if not path.is_file():
            raise UsageError(f"{path} does not exist")
    report = report_of(read_rows(args.files), systems=args.systems, baseline=args.baseline)
    references = read_references(args.reference) if args.reference else []
    sys.stdout.write(markdown(report, references))
    if args.plots:
        try:
            from benchmarks.compare.plots import draw_all
        except ImportError as error:
            raise MissingExtra("--plots needs matplotlib", hint="pip install 'automl-cli[report]'") from error
        for path in draw_all(report, args.plots):
            sys.stderr.write(f"{path}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parser().parse_args(arguments)
    try:
        {"run": run_all, "report": report_all}[args.command](args)
    except AutomlError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that the running system is ended too
    raise SystemExit(main())
