"""Members' bags as a model file takes them: a forest keeps as many trees as its bag needs."""

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from automl_cli.errors import AutomlError
from automl_cli.families import find_families
from automl_cli.families.family import Family
from automl_cli.files import link_files
from automl_cli.members import Chosen
from automl_cli.sourced import OffsetModel, load_model, save_model
from automl_cli.trial import Success
from automl_cli.trialfiles import fold_folders, trial_folder

logger = logging.getLogger(__name__)
LEAST_MODELS = 3  # of a bag: with fewer each needs all that it has
MOST_OF_A_CLASSIFIER = 0.5  # of all weight


def thinned_bags(
    run_folder: Path, chosen: Chosen, fitted: Mapping[int, tuple[Path, ...]], *, classify: bool
) -> dict[int, tuple[Path, ...]]:
    """Return ``fitted`` with thinned copies in place of the models of large bags, where a family has a way.

    It is done here, and not where a fold is fitted, because only now is known how many models a bag has: folds may be
    unfinished, others be added, or one model stand for all.

    Probabilities of fewer trees scatter more. `automl adapt` compares those of new rows, by one model of each member,
    with those kept from the training, and would take that for a shift where most of a classifier's weight is on
    forests: such a model is left whole.

    Parameters
    ----------
    fitted : mapping of trial number to folders with ``encoder/`` and ``model/``
        Of members whose models are other ones than those of their finished folds.
    classify : bool
        Whether the members predict probabilities.
    """
    bags, families = dict(fitted), find_families(include_missing=True)
    thinnable = [
        (trial, abs(weight)) for trial, weight in chosen.members if families[trial.proposal.pipeline.family].thinned
    ]
    share = sum(weight for _, weight in thinnable) / sum(abs(weight) for _, weight in chosen.members)
    if classify and share > MOST_OF_A_CLASSIFIER:
        return bags
    for trial, _ in thinnable:
        number, family = trial.proposal.number, families[trial.proposal.pipeline.family]
        folders = fitted.get(number) or fold_folders(run_folder, trial)
        if len(folders) < LEAST_MODELS:
            continue
        try:
            bags[number] = _thinned(run_folder, trial, family, folders)
        except (AutomlError, OSError):  # the disk is full, say: the whole models are there
            logger.warning("the models of trial %d are saved whole", number, exc_info=True)
    return bags


def _thinned(run_folder: Path, trial: Success, family: Family, folders: tuple[Path, ...]) -> tuple[Path, ...]:
    encoding, made = trial.proposal.pipeline.encoding, []
    for folder in folders:
        place = trial_folder(run_folder, trial.proposal.number) / "thinned" / folder.name
        shutil.rmtree(place, ignore_errors=True)  # left by a run that was killed at its very end
        (place / "model").mkdir(parents=True)
        model = load_model(family, encoding, folder / "model")
        assert family.thinned is not None
        if isinstance(model, OffsetModel):
            part = replace(model, model=family.thinned(model.model, len(folders)))
        else:
            part = family.thinned(model, len(folders))
        save_model(family, part, place / "model")
        link_files(folder / "encoder", place / "encoder")
        made.append(place)
    return tuple(made)
