"""``automl evaluate``: score a model on labelled rows."""

from dataclasses import asdict
from typing import Annotated

import typer

from automl_cli.cli.options import Data, Debug, Json, Model, Quiet, RequireSignature, Threads, print_json, trusted_by
from automl_cli.cli.settings import check_settings


def evaluate(
    context: typer.Context,
    model: Model,
    data: Data,
    metric: Annotated[
        str | None, typer.Option("--metric", envvar="AUTOML_METRIC", help="Default: the one the model was chosen by.")
    ] = None,
    threads: Threads = None,
    require_signature: RequireSignature = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Score a model on rows whose target is known."""
    check_settings(context)
    trusted = trusted_by(require_signature)
    from automl_cli.lean import arrow_without_pandas

    arrow_without_pandas()
    from automl_cli.console.tell import tell_notices, tell_scores
    from automl_cli.machine import usable_cores
    from automl_cli.prediction import evaluate_model

    scores = evaluate_model(model, data, metric=metric, threads=threads or usable_cores(), trusted=trusted)
    if not quiet:
        tell_notices(scores.notices)
    if json:
        print_json(asdict(scores))
    else:
        tell_scores(scores)
    return 0
