"""``automl inspect``: what a model file says about itself."""

import typer

from automl_cli.cli.options import Debug, Json, Model, print_json
from automl_cli.cli.settings import check_settings


def inspect(context: typer.Context, model: Model, json: Json = False, debug: Debug = False) -> int:
    """Show a model's schema, metric, members and origin; no model is loaded."""
    check_settings(context)
    from automl_cli.artifact import open_artifact

    with open_artifact(model) as artifact:
        manifest = artifact.manifest.data
    if json:
        print_json(manifest)
    else:
        from automl_cli.console.tell import tell_manifest

        tell_manifest(manifest, size=model.stat().st_size)
    return 0
