"""All that other layers use of the experience; importing this loads SQLAlchemy."""

from automl_cli.experience.address import default_path, find_url, path_of, shown
from automl_cli.experience.exchange import export, merge, take_in
from automl_cli.experience.queries import (
    Listed,
    every_run,
    find_dataset,
    forget,
    known_datasets,
    listed,
    runs_on,
    totals,
    tried,
)
from automl_cli.experience.recall import earlier_winners, recall
from automl_cli.experience.records import (
    Dataset,
    Evaluation,
    Neighbour,
    Recalled,
    RunRecord,
    evaluation_of,
    from_json,
    to_json,
)
from automl_cli.experience.store import Store, open_prior, open_store, reading, writing
from automl_cli.experience.writing import add, forget_waiting, keep_for_later, left_waiting, remember

__all__ = [
    "Dataset",
    "Evaluation",
    "Listed",
    "Neighbour",
    "Recalled",
    "RunRecord",
    "Store",
    "add",
    "default_path",
    "earlier_winners",
    "evaluation_of",
    "every_run",
    "export",
    "find_dataset",
    "find_url",
    "forget",
    "forget_waiting",
    "from_json",
    "keep_for_later",
    "known_datasets",
    "left_waiting",
    "listed",
    "merge",
    "open_prior",
    "open_store",
    "path_of",
    "reading",
    "recall",
    "remember",
    "runs_on",
    "shown",
    "take_in",
    "to_json",
    "totals",
    "tried",
    "writing",
]
