"""The model is written to its place; under limits single models are fitted, and the file is measured first."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from automl_cli.anytime import SUMMARY_BYTES, ModelSoFar
from automl_cli.artifact import NOTHING, Attachment, Signer, open_artifact
from automl_cli.attached import Kept, attachments
from automl_cli.background import Background
from automl_cli.bags import thinned_bags
from automl_cli.ending import Ending, further_models, refit_members
from automl_cli.errors import AutomlError, LimitNotMet, TooLarge
from automl_cli.evaluate import open_run
from automl_cli.executors import submitted
from automl_cli.members import Chosen
from automl_cli.rowtime import seconds_of
from automl_cli.seen import SeenRows
from automl_cli.small import NO_CEILING, Ceiling, Cost, Costs, Footprint, Small, Unlimited
from automl_cli.summary import Summary
from automl_cli.table import Notice
from automl_cli.teaching import Taught
from automl_cli.trialfiles import fold_folders

logger = logging.getLogger(__name__)
MOST_ATTEMPTS = 8
CAUTION = 1.5  # more of it with each attempt after the second
MEASURED_ROWS = 10_000  # are predicted at once; see docs/small-models.md
MEASURED_CELLS = 20_000_000  # of wide tables fewer rows
LEAST_MEASURED = 200
MEASURING_SHARE = 0.5  # of the seconds that nothing else needs
AGAIN = 0.5  # seconds: what takes less is measured again, since a machine that is busy only ever makes it slower
REPEATS = 3  # at most, of which the fastest counts
WEIGHING_SLACK = 0.3  # seconds left beside the weighing that says what a model without limits would be
CORRECTION = 1.02  # at least, of what was measured to be too much
SOME_ROWS = 0.125  # of the hashes of rows, where there is no room for all
FORGOTTEN = Notice(
    "forgotten", "--max-size has no room for the rows that the model was trained on: --champion cannot compare it"
)


@dataclass(frozen=True)
class Delivered:
    """The folders that stand in for those of members' folds, by trial number; how large and fast the model is.

    Attributes
    ----------
    taught : Taught or None
        What models are worth that learned from rows without labels.
    """

    fitted: Mapping[int, tuple[Path, ...]]
    footprint: Footprint
    taught: Taught | None = None


def deliver(ending: Ending, model: ModelSoFar) -> Delivered:
    """Fit the last models: as many as gain, or as few as the limits on the model leave room for.

    Raises
    ------
    LimitNotMet
        No model keeps the limits.
    """
    if model.costs is not None:
        return _make_small(ending, model, model.costs)
    further = further_models(ending, model.cache, model.again, model.workers, calibrate=model.calibrate)
    if further.chosen is not ending.chosen:  # else it may have been corrected since
        model.chosen = further.chosen
    footprint = _usual_footprint(further.chosen, further.folders, ending.run_folder)
    return Delivered(further.folders, footprint, further.taught)


def _usual_footprint(chosen: Chosen, fitted: Mapping[int, tuple[Path, ...]], run_folder: Path) -> Footprint:
    """Sum up how fast a model without limits is, by what its trials took."""
    encoders: dict[tuple[str, str], float] = {}
    seconds, n_models, known = 0.0, 0, True
    for trial, _ in chosen.members:
        folders = fitted.get(trial.proposal.number) or fold_folders(run_folder, trial)
        n_models += len(folders)
        known = known and trial.row_seconds is not None
        encoding, predicting = trial.row_seconds or (0.0, 0.0)
        encoders |= {(trial.proposal.pipeline.encoding, folder.name): encoding for folder in folders}
        seconds += len(folders) * predicting
    return Footprint(n_models, seconds + sum(encoders.values()) if known else None)


def _make_small(ending: Ending, model: ModelSoFar, costs: Costs) -> Delivered:
    """Fit the single models, measure the file, and choose anew where it is more than was thought."""
    draft = ending.run_folder / "draft.automl"
    found, tried = Cost(), dict[object, Cost]()
    try:
        for attempt in range(MOST_ATTEMPTS):
            small = _small(model)
            if attempt and _is_late(ending, model):
                costs.by_fold |= small.singles - costs.refitted.keys()
                found = costs.of([trial for trial, _ in small.chosen.members], small.singles)
                # No row is timed any more, so that what is thought of them decides; saving tells what the file takes.
                if costs.ceiling.fits(replace(found, n_bytes=0.0)):
                    return _delivered(ending, model, found, measured=False)
                break
            found = small.cost
            if not _fit_singles(replace(ending, chosen=small.chosen), small, costs):
                model.choose()  # what the new models take is known by now
                continue
            folders = costs.single_folders(small)
            if (key := (small.chosen.members, tuple(sorted(folders.items())))) in tried:
                # Nothing else is left to try: what the file keeps of its table goes before the model does.
                found = tried[key]
                bare = found.n_bytes - model.later_bytes(costs.ceiling) + SUMMARY_BYTES
                if costs.ceiling.fits(replace(found, n_bytes=bare)):
                    return _delivered(ending, model, found, measured=False)
                break
            found, measured = _measure(ending, model, draft, small)
            tried[key] = found
            if costs.ceiling.fits(found):
                return _delivered(ending, model, found, measured=measured)
            _correct(small, costs, found)
            # Else one candidate after another might be tried that is a little too much, and never a much smaller one.
            costs.caution *= 1.0 if attempt == 0 else CAUTION
            model.choose()
        raise _not_met(costs.ceiling, found)
    finally:
        draft.unlink(missing_ok=True)


def _is_late(ending: Ending, model: ModelSoFar) -> bool:
    """Whether there is no time to write and weigh once more before the model is saved."""
    spare = ending.spare_seconds()
    return spare is not None and spare < model.write_seconds() + 2 * model.weighing_seconds


def _delivered(ending: Ending, model: ModelSoFar, found: Cost, *, measured: bool) -> Delivered:
    folders = _costs(model).single_folders(_small(model))
    fitted = {number: (folder,) for number, folder in folders.items()}
    return Delivered(fitted, _footprint(ending, model, found, measured=measured))


def _costs(model: ModelSoFar) -> Costs:
    if model.costs is None:
        raise ValueError("the model has no limits")
    return model.costs


def _small(model: ModelSoFar) -> Small:
    if model.small is None:
        raise ValueError("no members were chosen")
    return model.small


def _fit_singles(ending: Ending, small: Small, costs: Costs) -> bool:
    """Fit single models on all rows, and return whether they are as small as was thought.

    Where one cannot be had, or is too large even alone, the model of its best fold stands in for it.
    """
    missing = small.singles - costs.refitted.keys() - costs.by_fold
    if not costs.ceiling.fits(small.cost):  # nothing fits as it is: the least there is
        costs.by_fold |= missing
        return True
    found = refit_members(ending, missing) if missing else {}
    costs.refitted |= {number: folder for number, (folder,) in found.items()}
    costs.by_fold |= missing - found.keys()
    trials = [trial for trial, _ in small.chosen.members]
    if len(trials) == 1 and not costs.ceiling.fits(costs.of(trials, small.singles)):
        for number in small.singles & costs.refitted.keys():
            del costs.refitted[number]
            costs.by_fold.add(number)
    return costs.ceiling.fits(costs.of(trials, small.singles))


def _measure(ending: Ending, model: ModelSoFar, draft: Path, small: Small) -> tuple[Cost, bool]:
    """Write the model, and have a worker predict with it; return what it costs, and whether the time was measured."""
    costs = _costs(model)
    thought = costs.of([trial for trial, _ in small.chosen.members], small.singles)
    try:
        model.write(draft, {})
    except AutomlError:  # the disk of the run's folder is full, say; --out may be elsewhere
        logger.warning("the model could not be measured", exc_info=True)
        return thought, False
    n_bytes = draft.stat().st_size + model.later_bytes(costs.ceiling)
    spare = ending.spare_seconds()
    seconds = None if spare is None else MEASURING_SHARE * spare
    if ending.interrupted() or (seconds is not None and seconds < LEAST_MEASURED * thought.row_seconds):
        return Cost(n_bytes, thought.row_seconds), False
    n_rows = MEASURED_ROWS
    if seconds is not None:
        n_rows = int(min(n_rows, seconds / max(3 * thought.row_seconds, 1e-9)))
    arguments = (str(draft), str(ending.run_folder), max(LEAST_MEASURED, n_rows))
    future = submitted(ending.executor, time_a_row, *arguments, timeout=seconds)
    try:
        return Cost(n_bytes, future.result(timeout=seconds)), True
    except Exception:  # what the trials took is known
        logger.info("the time of a row could not be measured", exc_info=True)
        future.cancel()
        return Cost(n_bytes, thought.row_seconds), False


def time_a_row(model: str, run_folder: str, n_rows: int) -> float:
    """Return the mean seconds of a row where so many are predicted at once, on one thread, encoders included."""
    data = open_run(run_folder).data
    n_rows = max(1, min(n_rows, MEASURED_CELLS // max(1, len(data.frame.schema.names))))
    frame = data.frame.take(np.resize(np.arange(data.n_rows), n_rows))
    with open_artifact(Path(model)) as artifact, threadpool_limits(1):
        artifact.predict_unchecked(frame.take(np.arange(min(n_rows, 10))), 1)  # loads the models
        taken: list[float] = []
        while len(taken) < REPEATS and sum(taken) < AGAIN:
            taken.append(seconds_of(lambda: artifact.predict_unchecked(frame, 1)))
    return min(taken) / n_rows


def _correct(small: Small, costs: Costs, found: Cost) -> None:
    """Note that these members are larger or slower than was thought."""
    thought = costs.of([trial for trial, _ in small.chosen.members], small.singles)
    ceiling, base = costs.ceiling, costs.base.n_bytes
    larger = (found.n_bytes - base) / max(1.0, thought.n_bytes - base)
    slower = found.row_seconds / max(1e-12, thought.row_seconds)
    for trial, _ in small.chosen.members:
        number = trial.proposal.number
        if ceiling.n_bytes is not None and found.n_bytes > ceiling.n_bytes:
            costs.larger[number] = costs.larger.get(number, 1.0) * max(CORRECTION, larger)
        if ceiling.row_seconds is not None and found.row_seconds > ceiling.row_seconds:
            costs.slower[number] = costs.slower.get(number, 1.0) * max(CORRECTION, slower)


def _footprint(ending: Ending, model: ModelSoFar, found: Cost, *, measured: bool) -> Footprint:
    small, costs = _small(model), _costs(model)
    n_models = sum(
        1 if trial.proposal.number in small.singles else len(trial.losses) for trial, _ in small.chosen.members
    )
    known = measured or all(trial.row_seconds is not None for trial, _ in small.chosen.members)
    row_seconds = found.row_seconds if known else None
    return Footprint(n_models, row_seconds, measured, costs.ceiling, _unlimited(ending, model))


def _unlimited(ending: Ending, model: ModelSoFar) -> Unlimited | None:
    """Return what the model would have been without limits, where there is time to weigh it."""
    spare = ending.spare_seconds()
    if ending.interrupted() or (spare is not None and spare < 2 * model.weighing_seconds + WEIGHING_SLACK):
        return None
    chosen = model.without_limits()
    if chosen is None:
        return None
    costs, trials = _costs(model), [trial for trial, _ in chosen.members]
    plain = Costs(costs.cache, NO_CEILING, costs.base)
    singles = [trial.proposal.number for trial in trials] if costs.cache.data.plan.refit else []
    cost = plain.of(trials, singles)
    return Unlimited(
        n_members=len(trials),
        n_models=len(singles) or sum(len(trial.losses) for trial in trials),
        n_bytes=round(cost.n_bytes),
        row_seconds=cost.row_seconds if all(trial.row_seconds is not None for trial in trials) else None,
        score=costs.cache.data.metric.natural(chosen.shown_loss),
    )


def _not_met(ceiling: Ceiling, found: Cost) -> LimitNotMet:
    """Say which limit is not met, and what can be reached."""
    least, options = [], []
    if ceiling.n_bytes is not None and found.n_bytes > ceiling.n_bytes:
        least.append(f"takes {found.n_bytes / 1e3:.3g} kB, more than {ceiling.n_bytes / 1e3:g} kB")
        options.append(f"--max-size {math.ceil(1.05 * found.n_bytes / 1e3)}kB")
    if ceiling.row_seconds is not None and found.row_seconds > ceiling.row_seconds:
        asked = 1e6 * ceiling.row_seconds
        least.append(f"takes {1e6 * found.row_seconds:.3g} us a row, more than {asked:.3g} us")
        options.append(f"--max-latency {math.ceil(1.2e6 * found.row_seconds)}us")
    return LimitNotMet(
        f"no model keeps the limits: the least one {' and '.join(least)}; nothing is saved",
        hint=f"its trials are kept, add --resume {' '.join(options)}",
    )


def _save_small(
    model: ModelSoFar,
    out: Path,
    summary: Summary,
    fitted: Mapping[int, tuple[Path, ...]],
    attached: Mapping[str, Attachment],
    signer: Signer | None,
) -> tuple[Notice, ...]:
    """Write the model to its place, never with more bytes than it may have: what the file says of its table goes first.

    Returns
    -------
    What there is to say about what had to go.

    Raises
    ------
    LimitNotMet
        It is too large even so.
    """
    most_bytes = _costs(model).ceiling.n_bytes
    found = summary.to_manifest()
    short = {**found, "leaderboard": [], "failures": [], "experience": {}, "warnings": []}
    fewer = {key: value for key, value in attached.items() if key != "outputs"}
    least = {key: value for key, value in fewer.items() if key != "rows"}
    some_rows = {**fewer, "rows": _some_rows(fewer["rows"])} if "rows" in fewer else fewer
    ways = ((found, attached), (found, fewer), (found, some_rows), (found, least), (found, NOTHING), (short, NOTHING))
    n_bytes = 0
    for more, some in ways:
        try:
            model.write(out, more, fitted, attached=some, signer=signer, most_bytes=most_bytes)
            return (FORGOTTEN,) if "rows" in attached and "rows" not in some else ()
        except TooLarge as error:
            n_bytes = error.n_bytes
    raise _not_met(_costs(model).ceiling, Cost(n_bytes))


def _some_rows(rows: Attachment) -> Attachment:
    """Keep a part of the hashes: of many new rows enough can still judge."""
    facts, content = rows
    seen = SeenRows.from_parts(facts, content)
    seen = seen.first(max(1, int(SOME_ROWS * len(seen.hashes))))
    return seen.to_json(), seen.to_bytes()


def attached_in_time(
    kept: Background[Kept], model: ModelSoFar, chosen: Chosen, *, share: float
) -> Mapping[str, Attachment]:
    """Return what the file keeps of the table; in a timed run a share of the seconds that are left is waited for it."""
    deadline = model.deadline
    try:
        found = kept.result_within(share * deadline.seconds_left() if deadline.limited else math.inf)
        return attachments(found, chosen, model.cache)
    except Exception:  # it serves later comparisons, and must not cost the model
        logger.warning("the table could not be described", exc_info=True)
        return {}


def save(
    model: ModelSoFar,
    out: Path,
    summary: Summary,
    fitted: Mapping[int, tuple[Path, ...]],
    attached: Mapping[str, Attachment],
    signer: Signer | None,
) -> tuple[Notice, ...]:
    """Write the model to its place; where more models of the members have no room, with those of their folds alone.

    Returns
    -------
    What there is to say about what had to go; see `_save_small`.
    """
    if model.costs is not None:
        return _save_small(model, out, summary, fitted, attached, signer)
    try:
        model.write(out, summary.to_manifest(), _bags(model, fitted), attached=attached, signer=signer)
    except AutomlError:
        if not fitted:
            raise
        logger.warning("the model is written without further models of its members", exc_info=True)
        model.write(out, summary.to_manifest(), attached=attached, signer=signer)
    return ()


def _bags(model: ModelSoFar, fitted: Mapping[int, tuple[Path, ...]]) -> Mapping[int, tuple[Path, ...]]:
    """Return the models of each member as they are saved."""
    if model.chosen is None:
        return fitted
    classify = model.cache.data.n_outputs > 1
    return thinned_bags(model.cache.run_folder, model.chosen, fitted, classify=classify)
