"""How a run uses the machine and its time, decided once from the data and the limit."""

from dataclasses import dataclass

from automl_cli.families.family import Shape

CELLS_FOR_THREADS = 3_000_000  # below it two fits side by side beat one fit with two threads
SHORTEST_FOR_SMAC = 20.0  # importing it costs 2 to 3 seconds of a core; a shorter run is over with its portfolio


@dataclass(frozen=True)
class Resources:
    """Fits side by side, and threads of each."""

    workers: int
    threads: int


def share_cores(shape: Shape, cores: int, workers: int | None) -> Resources:
    """Decide between many small fits and few large ones.

    The threads depend on the data and the machine, never on ``workers``: the number of threads can change the
    last bits of a model, and ``--workers`` must not change the result.
    """
    outputs = shape.n_outputs if shape.n_outputs > 2 else 1
    cells = shape.n_rows * max(1, shape.n_columns) * outputs
    threads = 1 if cells < CELLS_FOR_THREADS or shape.n_rows < 10_000 else min(2, cores)
    return Resources(workers=workers or max(1, cores // threads), threads=threads)


def first_trial_seconds(limit: float) -> float:
    """Return the limit of the first trial: a complete model has to be there within seconds."""
    return min(10.0, max(1.2, 0.04 * limit))


def kill_seconds(seconds: float, left: float, *, encodes_texts: bool) -> float:
    """Return after how many seconds a trial is killed that should end after ``seconds``.

    Parameters
    ----------
    left : float
        Seconds until the run ends.
    encodes_texts : bool
        Whether it may have to encode a fold's texts first, which takes as long as it takes: a worker that is killed
        meanwhile leaves nothing of them, and the next trial begins anew.
    """
    usual = 1.5 * seconds + 2.0  # a worker keeps its own time; being killed is for code that does not come back
    return max(usual, left / 2) if encodes_texts else usual


def reserve_seconds(limit: float, ending: float) -> float:
    """Return what to keep for weighing, saving and leaving.

    Parameters
    ----------
    ending : float
        Seconds that weighing, refitting and saving are expected to take.
    """
    return max(1.3, min(3.0, 0.025 * limit)) + ending
