"""``automl check``: whether a model is still at home in today's data."""

import typer

from automl_cli.cli.options import Data, Debug, Json, Model, Quiet, RequireSignature, Threads, print_json, trusted_by
from automl_cli.cli.settings import check_settings

DRIFT = 8  # exit code


def check(
    context: typer.Context,
    model: Model,
    data: Data,
    threads: Threads = None,
    require_signature: RequireSignature = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Compare a table with the one that a model was trained on; exit code 8 says that it has drifted."""
    check_settings(context)
    trusted = trusted_by(require_signature)
    from automl_cli.lean import arrow_without_pandas

    arrow_without_pandas()
    from automl_cli.console.drift import tell_check
    from automl_cli.drift import check as run_check
    from automl_cli.machine import usable_cores

    found = run_check(model, data, threads=threads or usable_cores(), trusted=trusted)
    if json:
        print_json(found.to_json())
    elif not quiet:
        tell_check(found)
    return DRIFT if found.drift else 0
