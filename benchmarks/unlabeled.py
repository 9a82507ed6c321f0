"""What rows without labels are worth: fits with and without `--unlabeled`, and errors on rows that neither has seen.

usage: python -m benchmarks.unlabeled run FOLDER --out RUNS.jsonl [--names A B] [--labels 100] [--seeds 5] [--first 0]
                                          [--limit 60 | --trials 30] [--metric log_loss]
       python -m benchmarks.unlabeled report RUNS.jsonl

FOLDER holds index.json ({NAME: {task, target}} or groups of such, of which --group names one) and NAME.csv.gz, or a
subfolder of the group's name with them. A third of the rows, drawn by the seed, is scored. Of the others --labels rows,
stratified by class with two of each at least, keep their label; at most --most of the rest lose it:

  labels alone    automl fit labelled.csv
  with unlabeled  automl fit labelled.csv --unlabeled rest.csv

both as whole processes, without experience and with the same limit and seed. Rows of a class that no label tells of are
not scored. Where members have learned once more from the rest, the same model without these pupils is scored too: what
they are worth is told apart from what the seconds were that they took. A run that is in the file already is not
repeated, whether it failed or not.
"""

import argparse
import csv
import gzip
import hashlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from automl_cli.artifact.container import MANIFEST, MANIFEST_DIGEST
from automl_cli.calibration import PLAIN
from automl_cli.metrics import METRICS
from benchmarks.tables import Dataset, find_datasets

ALONE, WITH = "labels alone", "with unlabeled"
SYSTEMS: Mapping[str, Sequence[str]] = {ALONE: (), WITH: ("--unlabeled", "rest.csv")}
TEST_SHARE = 1 / 3
LEAST_OF_A_CLASS = 2
SURELY = 2.0  # standard errors


def split(dataset: Dataset, folder: Path, *, n_labels: int, most: int, seed: int) -> tuple[int, int, int]:
    """Write labelled.csv, rest.csv (without the target) and test.csv; return how many rows each has."""
    read = gzip.open if dataset.source.suffix == ".gz" else open
    with read(dataset.source, "rt", newline="", encoding="utf-8") as file:
        header, *rows = list(csv.reader(file))
    place = header.index(dataset.target)
    rows = [row for row in rows if row[place].strip()]
    chance = random.Random(seed)
    chance.shuffle(rows)
    n_test = round(TEST_SHARE * len(rows))
    test, others = rows[:n_test], rows[n_test:]
    chosen = drawn(others, n_labels, None if dataset.task == "regression" else place)
    labelled = [others[k] for k in chosen]
    kept = set(chosen)
    rest = [row for k, row in enumerate(others) if k not in kept][:most]
    if dataset.task != "regression":
        known = {row[place] for row in labelled}
        test = [row for row in test if row[place] in known]

    def bare(row: Sequence[str]) -> list[str]:
        return [cell for k, cell in enumerate(row) if k != place]

    parts = (("labelled", header, labelled), ("rest", bare(header), map(bare, rest)), ("test", header, test))
    for name, names, lines in parts:
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([names, *lines])
    return len(labelled), len(rest), len(test)


def drawn(rows: Sequence[Sequence[str]], n: int, place: int | None) -> list[int]:
    """Return positions of rows that keep their label; in shuffled rows the first ones are drawn at random.

    Parameters
    ----------
    place : int or None
        Of the class among the cells: each has its share of the labels, and two where it has as many rows.
    """
    if place is None:
        return list(range(min(n, len(rows))))
    by_class: dict[str, list[int]] = defaultdict(list)
    for k, row in enumerate(rows):
        by_class[row[place]].append(k)
    wanted = {label: max(LEAST_OF_A_CLASS, round(n * len(at) / len(rows))) for label, at in by_class.items()}
    return sorted(k for label, at in by_class.items() for k in at[: wanted[label]])


def fit(system: str, dataset: Dataset, folder: Path, args: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Fit and score in processes of their own; return the error, or why there is none."""
    environment = {**os.environ, "AUTOML_EXPERIENCE": "off", "XDG_STATE_HOME": str(folder / "state")}
    limit = ["--trials", str(args.trials)] if args.trials else ["--time", f"{args.limit}s"]
    metric = [] if args.metric is None or dataset.task == "regression" else ["--metric", args.metric]
    task = ["--task", dataset.task]
    began = time.perf_counter()
    line = ["fit", "labelled.csv", "-t", dataset.target, "--seed", str(seed), "-q", "--json", "-o", "model.automl"]
    told = _automl([*line, *limit, *metric, *task, *SYSTEMS[system]], folder, environment)
    wall = time.perf_counter() - began
    if told.returncode:
        return {"failure": told.stderr[-300:], "wall_s": wall}
    judged = _automl(["evaluate", "model.automl", "test.csv", "--json"], folder, environment)
    if judged.returncode:
        return {"failure": judged.stderr[-300:], "wall_s": wall}
    scores, fitted = json.loads(judged.stdout), json.loads(told.stdout)
    board = json.loads(_automl(["inspect", "model.automl", "--json"], folder, environment).stdout)
    n_pupils = n_pupils_of(board)
    found = {
        "metric": scores["metric"],
        "error": error_of(scores["metric"], scores["scores"][scores["metric"]]),
        "scores": scores["scores"],
        "n_trials": fitted["n_trials"],
        "shares": shares_of(board["members"], n_pupils),
        "wall_s": wall,
    }
    if n_pupils and is_undecided(folder / "model.automl"):
        without_pupils(folder / "model.automl", folder / "members.automl", n_pupils)
        alone = json.loads(_automl(["evaluate", "members.automl", "test.csv", "--json"], folder, environment).stdout)
        found["members_error"] = error_of(scores["metric"], alone["scores"][scores["metric"]])
    return found


def n_pupils_of(board: Mapping[str, Any]) -> int:
    """Return how many of a model's members, the last ones, have learned from rows without labels."""
    taught = (board.get("transfer") or {}).get("taught") or {"kept": False}
    return int(taught["n_pupils"]) if taught["kept"] else 0


def shares_of(members: Sequence[Mapping[str, Any]], n_pupils: int) -> dict[str, float]:
    """Return which part of a model learned from rows without labels, and how."""
    ways: dict[str, float] = defaultdict(float)
    for k, member in enumerate(members):
        is_pupil = k >= len(members) - n_pupils
        ways["pupils" if is_pupil else member["encoding"].partition(":")[2] or "plain"] += abs(member["weight"])
    total = sum(ways.values()) or 1.0
    return {way: round(share / total, 4) for way, share in ways.items()}


def is_undecided(model: Path) -> bool:
    """Whether no temperature or multipliers were learned: those of the members alone would be others."""
    with zipfile.ZipFile(model) as file:
        decision = json.loads(file.read(MANIFEST))["decision"]
    return bool(decision == PLAIN.to_json())


def without_pupils(model: Path, target: Path, n_pupils: int) -> None:
    """Copy a model, leaving out its last members: the weights of the others are those that they had without them."""
    with zipfile.ZipFile(model) as old:
        content = {name: old.read(name) for name in old.namelist()}
    manifest = json.loads(content[MANIFEST])
    own, pupils = manifest["members"][:-n_pupils], manifest["members"][-n_pupils:]
    scale = 1.0 / (1.0 - sum(pupil["weight"] for pupil in pupils))
    manifest["members"] = [{**member, "weight": scale * member["weight"]} for member in own]
    manifest["mixing"]["offsets"] = [scale * offset for offset in manifest["mixing"]["offsets"]]
    text = json.dumps(manifest).encode()
    content |= {MANIFEST: text, MANIFEST_DIGEST: hashlib.sha256(text).hexdigest().encode()}
    with zipfile.ZipFile(target, "w") as new:
        for name, data in content.items():
            new.writestr(name, data)


def _automl(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    program = [sys.executable, "-m", "automl_cli", *words]
    return subprocess.run(program, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def error_of(metric: str, value: float) -> float:
    """Return a metric as an error."""
    return 1.0 - value if METRICS[metric].greater_is_better else value


def run_all(args: argparse.Namespace) -> None:
    datasets = find_datasets(args.folder, args.group)
    limit = f"{args.trials} trials" if args.trials else f"{args.limit} s"
    setting = {"labels": args.labels, "limit": limit, "optimised": args.metric or "default"}
    done = {key_of(row) for row in rows_of(args.out)} if args.out.exists() else set()
    for name in args.names or datasets:
        for seed in range(args.first, args.first + args.seeds):
            about = {"name": name, "seed": seed, **setting}
            left = [system for system in SYSTEMS if key_of({**about, "system": system}) not in done]
            if not left:
                continue
            with tempfile.TemporaryDirectory() as place:
                sizes = split(datasets[name], Path(place), n_labels=args.labels, most=args.most, seed=seed)
                for system in left if seed % 2 else left[::-1]:  # neither always runs on a warmer machine
                    found = fit(system, datasets[name], Path(place), args, seed)
                    row = {**about, "system": system, "sizes": sizes, **found}
                    with args.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
                    print(name, seed, system, found.get("error", found.get("failure")), flush=True)


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what is run once."""
    return tuple(row[name] for name in ("name", "seed", "labels", "limit", "optimised", "system"))


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    yield from map(json.loads, path.read_text(encoding="utf-8").splitlines())


def report(path: Path) -> str:
    """Return paired differences for each set and setting, and how often they are to either side, as Markdown."""
    groups: dict[tuple[Any, ...], dict[str, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows_of(path):
        group = (row["labels"], row["limit"], row["optimised"], row["name"])
        groups[group][row["system"]][row["seed"]] = row
    lines = []
    for setting in dict.fromkeys(group[:3] for group in groups):
        own = {group[3]: systems for group, systems in groups.items() if group[:3] == setting}
        lines += [f"{setting[0]} labels, {setting[1]}, {setting[2]} metric", "", *table_of(own), ""]
    return "\n".join(lines)


def table_of(own: Mapping[str, Mapping[str, Mapping[int, Mapping[str, Any]]]]) -> list[str]:
    """Return the lines of one setting."""
    lines = [
        f"| table | metric | seeds | {ALONE} | {WITH} | difference | standard error | in the model |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lower = worse = better = n_sets = 0
    for name, systems in own.items():
        finished = [{seed for seed, row in systems.get(which, {}).items() if "error" in row} for which in SYSTEMS]
        seeds = sorted(set.intersection(*finished))
        n_failed = sum("error" not in row for rows in systems.values() for row in rows.values())
        if not seeds:
            lines.append(f"| {name} | | 0 | | | | | {n_failed} failed |")
            continue
        alone, beside = ([systems[which][seed]["error"] for seed in seeds] for which in (ALONE, WITH))
        differences = [b - a for a, b in zip(alone, beside, strict=True)]
        mean, error = statistics.mean(differences), standard_error(differences)
        n_sets, lower = n_sets + 1, lower + (mean < 0)
        if error is not None:
            worse, better = worse + (mean > SURELY * error), better + (mean < -SURELY * error)
        shares: dict[str, float] = defaultdict(float)
        for seed in seeds:
            for way, share in systems[WITH][seed]["shares"].items():
                shares[way] += share / len(seeds)
        cells = [
            name, systems[WITH][seeds[0]]["metric"], str(len(seeds)), f"{statistics.mean(alone):.5g}",
            f"{statistics.mean(beside):.5g}", f"{mean:+.4g}", "-" if error is None else f"{error:.4g}",
            ", ".join(f"{share:.0%} {way}" for way, share in sorted(shares.items(), key=lambda item: -item[1]))
            + (f"; {n_failed} failed" if n_failed else ""),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    counted = f"lower on {lower} of {n_sets}, by more than {SURELY:g} standard errors on {better}"
    return [*lines, "", f"{counted}; worse by more than {SURELY:g} on {worse}", *_ratios(own)]


def _ratios(own: Mapping[str, Mapping[str, Mapping[int, Mapping[str, Any]]]]) -> list[str]:
    """Return geometric means of errors: of all, and of models with pupils to the same models without."""
    pairs = [
        (row["error"], systems.get(ALONE, {}).get(seed, {}).get("error"), row.get("members_error"))
        for systems in own.values()
        for seed, row in systems.get(WITH, {}).items()
        if "error" in row
    ]
    beside = [math.log(error / alone) for error, alone, _ in pairs if error and alone]
    pupils = [math.log(error / members) for error, _, members in pairs if error and members]
    said = ((f"{WITH} to {ALONE}", beside), ("with pupils to the same members alone", pupils))
    return [
        f"{what}: {math.exp(statistics.mean(logs)):.4f} (standard error {standard_error(logs) or math.nan:.4f}, "
        f"{sum(value < 0 for value in logs)} of {len(logs)} lower)"
        for what, logs in said
        if logs
    ]


def standard_error(differences: Sequence[float]) -> float | None:
    """Return that of a mean; None for a single value.

    >>> standard_error([1.0, 3.0])
    1.0
    """
    n = len(differences)
    return statistics.stdev(differences) / n**0.5 if n > 1 else None


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = made.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("folder", type=Path)
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--group", default="dev")
    run.add_argument("--names", nargs="+")
    run.add_argument("--labels", type=int, default=100)
    run.add_argument("--most", type=int, default=20_000, help="rows without a label")
    run.add_argument("--seeds", type=int, default=5)
    run.add_argument("--first", type=int, default=0, help="the first seed")
    run.add_argument("--limit", type=int, default=60, help="seconds")
    run.add_argument("--trials", type=int, help="in place of seconds")
    run.add_argument("--metric", help="of classes; default automl's own")
    commands.add_parser("report").add_argument("runs", type=Path)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    args = parser().parse_args(arguments)
    if args.command == "run":
        run_all(args)
    else:
        print(report(args.runs))


if __name__ == "__main__":
    main()
