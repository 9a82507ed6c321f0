"""A table of networks that were trained in full, on which strategies of architecture search are replayed in seconds.

usage: python -m benchmarks.nas_table build FOLDER --names A B C [--table docs/benchmarks/nas-table.csv]
       python -m benchmarks.nas_table replay [--table docs/benchmarks/nas-table.csv] [--seeds 30] [--budgets 30 100]
       python -m benchmarks.nas_table replay --synthetic

`build` trains each of the 120 networks of `SPACE` on each table (FOLDER as for limits.py), twice, on all training rows
and on shares of them, at most 10 s each, one thread, and adds a line to the CSV for each: what is there is not trained
again. Of a table's rows the first fold of three is held out; one half of it says when to stop and what was lost, the
other is the test. `replay` lets each strategy search in the table: it sees the loss of one training, chosen by its
seed, and is judged by the test of the network it would hand in, the mean over trainings. Regret is its distance from
the best network's, in units of the distance from there to the median network. A budget counts whole trainings; one on
a quarter of the rows is a quarter.
"""

import argparse
import contextlib
import csv
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np

from automl_cli.nas import (
    STRATEGIES,
    Candidate,
    Evolution,
    Space,
    SpaceExhausted,
    Strategy,
    make_strategy,
    random_search,
)
from benchmarks.additive import predicted_ranks

if TYPE_CHECKING:
    from automl_cli.encoded import Encoded
    from automl_cli.families.family import Family
    from automl_cli.features.matrix import Matrix
    from automl_cli.job import Job

SPACE = Space().restrict(
    numbers=("none", "pbld"), number_size=(3,), category_size=(8,), members=(1, 8), depth=(1, 2),
    kind1=("dense", "residual", "gated"), width1=(64, 256), activation1=("silu",), norm1=("none",), dropout1=(0.1,),
    kind2=("dense", "residual"), width2=(64, 256), activation2=("silu",), norm2=("none",), dropout2=(0.1,),
    learning_rate=(0.04,), weight_decay=(0.02,), label_smoothing=(0.0,), schedule=("cosine",), batch_size=(128,),
)  # fmt: skip
"""120 networks."""
COLUMNS = ("table", "candidate", "fidelity", "seed", "loss", "test", "seconds")
FIDELITIES = (1 / 16, 1 / 4, 1.0)
TABLE = Path("docs/benchmarks/nas-table.csv")
MOST_SECONDS = 10.0
YARDSTICK = "random, whole"


@dataclass(frozen=True)
class Line:
    """One training."""

    table: str
    candidate: str
    fidelity: float
    seed: int
    loss: float
    test: float
    seconds: float

    def key(self) -> tuple[str, str, float, int]:
        return self.table, self.candidate, self.fidelity, self.seed


@dataclass(frozen=True)
class Trained:
    """All trainings on one table.

    Attributes
    ----------
    losses : mapping of (candidate, fidelity) to list of float
        What a strategy may be told.
    regret : mapping of candidate to float
        By the test, scaled.
    """

    name: str
    losses: Mapping[tuple[str, float], list[float]]
    regret: Mapping[str, float]


def read_lines(path: Path) -> list[Line]:
    """Read what `build` has written; a line that was cut by a kill is ignored."""
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    rows = csv.DictReader(whole.splitlines())
    return [
        Line(row["table"], row["candidate"], float(row["fidelity"]), int(row["seed"]),
             float(row["loss"]), float(row["test"]), float(row["seconds"]))
        for row in rows
    ]  # fmt: skip


def tables_of(lines: Sequence[Line]) -> list[Trained]:
    """Group trainings by table; one on which networks are missing is left out, and said so."""
    tables = []
    wanted = {str(SPACE.decode(indices)) for indices in SPACE.every()}
    for name in dict.fromkeys(line.table for line in lines):
        own = [line for line in lines if line.table == name]
        losses: dict[tuple[str, float], list[float]] = {}
        tests: dict[str, list[float]] = {}
        for line in own:
            losses.setdefault((line.candidate, line.fidelity), []).append(line.loss)
            if line.fidelity == 1.0:
                tests.setdefault(line.candidate, []).append(line.test)
        missing = wanted - set(tests)
        if missing:
            print(f"{name} is left out: {len(missing)} networks are not trained yet")
            continue
        tables.append(Trained(name, losses, scaled({c: float(np.mean(values)) for c, values in tests.items()})))
    return tables


def scaled(errors: Mapping[str, float]) -> dict[str, float]:
    """Return 0 for the best and 1 for the median."""
    best, middle = min(errors.values()), float(np.median(list(errors.values())))
    return {candidate: (error - best) / ((middle - best) or 1.0) for candidate, error in errors.items()}


def synthetic_table(seed: int, *, noise: float = 0.02, fidelities: Sequence[float] = FIDELITIES) -> Trained:
    """Make up a table: effects of single options and of pairs of them, and noise that is larger at low fidelities."""
    rng = np.random.default_rng(seed)
    single: dict[object, float] = {}
    pairs: dict[object, float] = {}
    errors, losses = {}, {}
    for indices in SPACE.every():
        chosen = sorted(SPACE.options(indices).items())
        error = sum(single.setdefault(choice, rng.normal(0, 0.1)) for choice in chosen)
        error += sum(
            pairs.setdefault((one, other), rng.normal(0, 0.02)) for one in chosen for other in chosen if one < other
        )
        candidate = str(SPACE.decode(indices))
        errors[candidate] = error
        for fidelity in fidelities:
            losses[candidate, fidelity] = list(error + rng.normal(0, noise / math.sqrt(fidelity), size=2))
    return Trained(f"synthetic {seed}", losses, scaled(errors))


HANDED_IN = ("the lowest loss", "the best by an additive model of the losses")


def regrets(table: Trained, strategy: Strategy, budgets: Sequence[float], seed: int) -> list[tuple[float, float]]:
    """Let a strategy search; return the regrets of what it would hand in at each budget, by each rule of `HANDED_IN`.

    Only networks at the highest fidelity it has reached are handed in.
    """
    rng = np.random.default_rng(seed)
    seen: dict[tuple[str, float], float] = {}
    told: dict[float, dict[Candidate, float]] = {}
    spent, found = 0.0, []
    for budget in sorted(budgets):
        while spent < budget:
            try:
                suggestion = strategy.ask()
            except SpaceExhausted:
                break
            key = (str(suggestion.candidate), suggestion.fidelity)
            if key not in seen:
                seen[key] = float(rng.choice(table.losses[key]))
            spent += suggestion.fidelity
            if spent > budget + 1e-9:  # does not end in time
                break
            strategy.tell(suggestion, seen[key], suggestion.fidelity)
            told.setdefault(suggestion.fidelity, {})[suggestion.candidate] = seen[key]
        if told:
            lowest, modelled = handed_in(told[max(told)])
            found.append((table.regret[str(lowest)], table.regret[str(modelled)]))
        else:
            found.append((math.nan, math.nan))
    return found


def handed_in(losses: Mapping[Candidate, float]) -> tuple[Candidate, Candidate]:
    """Return the luckiest network, and the one that an additive model puts first."""
    known = [(SPACE.encode(candidate), loss) for candidate, loss in losses.items()]
    scores = predicted_ranks(known, [indices for indices, _ in known], SPACE)
    return min(losses, key=lambda candidate: (losses[candidate], str(candidate))), list(losses)[int(np.argmin(scores))]


def contenders(fidelities: Sequence[float]) -> dict[str, Callable[[int], Strategy]]:
    """Return what is compared, by name: strategies made from a seed."""

    def named(name: str) -> Callable[[int], Strategy]:
        return lambda seed: make_strategy(name, SPACE, seed=seed)

    low = set(FIDELITIES) <= set(fidelities)
    names = [name for name in STRATEGIES if low or name != "random"]
    begun_small = {"auto, begun small": lambda seed: make_strategy("auto", SPACE, seed=seed, looks=True)}
    return {
        YARDSTICK: lambda seed: random_search(SPACE, seed=seed),
        **{name: named(name) for name in names},
        **(begun_small if low else {}),
        "evolution, half crossed": lambda seed: Evolution(SPACE, seed=seed, crossing=0.5),
        "evolution, 16 and 3": lambda seed: Evolution(SPACE, seed=seed, population=16, sample=3),
    }


def rank_correlations(table: Trained) -> dict[float, float]:
    """Return Spearman's correlation of what was lost at each fidelity with the regret."""
    from scipy.stats import spearmanr

    candidates = list(table.regret)
    judged = [table.regret[candidate] for candidate in candidates]
    return {
        fidelity: float(spearmanr([np.mean(table.losses[c, fidelity]) for c in candidates], judged).statistic)
        for fidelity in sorted({fidelity for _, fidelity in table.losses})
        if all((c, fidelity) in table.losses for c in candidates)
    }


def interval(differences: np.ndarray, draws: int = 2000) -> tuple[float, float]:
    """Return a 95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(0)
    means = rng.choice(differences, size=(draws, len(differences))).mean(axis=1)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def replay(
    tables: Sequence[Trained], budgets: Sequence[float], n_seeds: int, names: Sequence[str] | None = None
) -> dict[str, np.ndarray]:
    """Return regrets of shape (n_tables, n_seeds, n_budgets, 2) for each strategy, or those named beside random."""
    fidelities = {fidelity for table in tables for _, fidelity in table.losses}
    return {
        name: np.array([[regrets(table, make(seed), budgets, seed) for seed in range(n_seeds)] for table in tables])
        for name, make in contenders(sorted(fidelities)).items()
        if not names or name == YARDSTICK or name in names
    }


def report(found: Mapping[str, np.ndarray], budgets: Sequence[float]) -> Iterator[str]:
    """Yield Markdown: mean regret and its difference from random search's, paired by table and seed."""
    yield "| strategy | budget | mean regret | 95 % | minus random | 95 % |"
    yield "|---|---|---|---|---|---|"
    for name, values in found.items():
        for k, budget in enumerate(sorted(budgets)):
            # a seed's mean over tables: tables are few and given, seeds are what chance is over
            mean = values[:, :, k].mean(axis=0)
            difference = mean - found[YARDSTICK][:, :, k].mean(axis=0)
            low, high = interval(mean)
            less, more = interval(difference)
            yield (
                f"| {name} | {budget:g} | {mean.mean():.3f} | {low:.3f} to {high:.3f} "
                f"| {difference.mean():+.3f} | {less:+.3f} to {more:+.3f} |"
            )


def build(args: argparse.Namespace) -> None:
    """Train what is missing, tables in turns, and add lines."""
    from automl_cli.evaluate import open_run
    from automl_cli.families import find_families
    from benchmarks.curves import open_table
    from benchmarks.tables import find_datasets

    done = {line.key() for line in read_lines(args.table)}
    datasets = find_datasets(args.folder, args.group)
    family = find_families()["neural"]
    candidates = [SPACE.decode(indices) for indices in SPACE.every()]
    with contextlib.ExitStack() as stack:
        jobs = {name: open_table(stack, datasets[name], args) for name in args.names or datasets}
        runs = {name: open_run(str(job.run.folder)) for name, job in jobs.items()}
        file = stack.enter_context(open_csv(args.table))
        writer = csv.writer(file, lineterminator="\n")
        began = time.monotonic()
        for seed in range(args.trainings):
            for candidate in candidates:
                for name, job in jobs.items():
                    for fidelity in args.fidelities:
                        if (name, str(candidate), fidelity, seed) in done:
                            continue
                        if time.monotonic() - began > 60 * args.minutes:
                            return
                        line = train(family, job, runs[name].encode(family.encodings[0], 0), candidate, fidelity, seed)
                        row = [name, candidate, fidelity, seed, *(float(f"{figure:.5g}") for figure in line)]
                        writer.writerow(row)
                        file.flush()
                        print(*row, flush=True)


@contextlib.contextmanager
def open_csv(path: Path) -> Iterator[TextIO]:
    """Open for adding lines, after a header; a line that was cut is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    with path.open("a", newline="", encoding="utf-8") as file:
        if not whole:
            file.write(",".join(COLUMNS) + "\n")
        yield file


def train(
    family: "Family", job: "Job", encoded: "Encoded", candidate: Candidate, fidelity: float, seed: int
) -> tuple[float, float, float]:
    """Train one network; return what it lost on the rows it stopped on and on the others, and processor seconds."""
    from threadpoolctl import threadpool_limits

    from automl_cli.families.family import FoldData, Limits

    data = job.data
    train_rows, held_rows = data.folds[0]
    order = np.random.default_rng(0).permutation(len(held_rows))
    valid, test = np.array_split(order, 2)
    some = np.random.default_rng(seed).permutation(len(train_rows))[: max(32, round(fidelity * len(train_rows)))]
    y = data.y[held_rows]

    def part(matrix: "Matrix", rows: np.ndarray) -> "Matrix":
        return replace(matrix, X=np.ascontiguousarray(matrix.X[rows]))

    fold = FoldData(
        kind=data.kind, n_outputs=data.n_outputs,
        train=part(encoded.train, some), y=data.y[train_rows][some], weight=None,
        valid=part(encoded.valid, valid), y_valid=y[valid], weight_valid=None,
        loss=data.metric.loss, metric=data.metric.name,
    )  # fmt: skip
    hyperparameters = {**family.defaults(job.shape)[0], **candidate.hyperparameters()}
    began = time.process_time()
    with threadpool_limits(1):
        model = family.fit(fold, hyperparameters, Limits(threads=1, seed=seed, seconds=MOST_SECONDS))
        seconds = time.process_time() - began
        losses = [
            float(data.metric.loss(y[rows], model.predict(part(encoded.valid, rows), 1), None))
            for rows in (valid, test)
        ]
    return losses[0], losses[1], seconds


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    building = commands.add_parser("build")
    building.add_argument("folder", type=Path)
    building.add_argument("--names", nargs="*")
    building.add_argument("--group", default="dev")
    building.add_argument("--table", type=Path, default=TABLE)
    building.add_argument("--trainings", type=int, default=2, help="of each network, from different seeds")
    building.add_argument("--fidelities", nargs="*", type=float, default=FIDELITIES)
    building.add_argument("--rows", type=int, default=3000)
    building.add_argument("--folds", type=int, default=3)
    building.add_argument("--minutes", type=float, default=math.inf, help="stop then; the next call goes on")
    building.add_argument("--splits", type=Path, default=Path(tempfile.gettempdir()) / "automl-splits")
    building.set_defaults(run=build, exclude=[])
    playing = commands.add_parser("replay")
    playing.add_argument("--table", type=Path, default=TABLE)
    playing.add_argument("--synthetic", action="store_true", help="on three made-up tables")
    playing.add_argument("--seeds", type=int, default=30)
    playing.add_argument("--names", nargs="*", help="only these strategies, beside random search")
    playing.add_argument("--budgets", nargs="*", type=float, default=(30, 100))
    playing.set_defaults(run=None)
    args = parser.parse_args(arguments)
    if args.run is not None:
        args.run(args)
        return
    tables = [synthetic_table(seed) for seed in range(3)] if args.synthetic else tables_of(read_lines(args.table))
    if not tables:
        parser.error(f"{args.table} has no complete table: build it first, or try --synthetic")
    print("rank correlation of losses at each share of the rows with the test of whole trainings:")
    for table in tables:
        print(f"- {table.name}: " + ", ".join(f"{share:g}: {r:.2f}" for share, r in rank_correlations(table).items()))
    found = replay(tables, args.budgets, args.seeds, args.names)
    for k, which in enumerate(HANDED_IN):
        print(f"\n{len(tables)} tables, {args.seeds} seeds, handing in {which}\n")
        for text in report({name: values[..., k] for name, values in found.items()}, args.budgets):
            print(text)


if __name__ == "__main__":
    main()
