"""``automl inspect``: what a model file says about itself."""

from typing import Annotated

import typer

from automl_cli.cli.options import Debug, Json, Model, RequireSignature, print_json, trusted_by
from automl_cli.cli.settings import check_settings
from automl_cli.errors import UsageError


def inspect(
    context: typer.Context,
    model: Model,
    require_signature: RequireSignature = None,
    architecture: Annotated[
        bool, typer.Option("--architecture", envvar="AUTOML_ARCHITECTURE", help="Draw the model's networks.")
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show a model's schema, metric, members, origin and signatures; no model is loaded."""
    check_settings(context)
    from automl_cli.artifact import open_artifact

    with open_artifact(model, trusted_by(require_signature)) as artifact:
        manifest = artifact.manifest.data
        signed_by = {found.key.fingerprint: found.key in artifact.verified for found in artifact.signatures()}
    if architecture and json:
        raise UsageError("--architecture draws, which JSON cannot hold", hint="give one of them")
    if architecture:
        from automl_cli.console.drawing import tell_networks

        tell_networks(artifact.manifest)
        return 0
    if json:
        found = [{"key": key, "verified": verified} for key, verified in signed_by.items()]
        print_json({**manifest, "signatures": found})
    else:
        from automl_cli.console.tell import tell_manifest

        tell_manifest(manifest, size=model.stat().st_size, signed_by=signed_by)
    return 0
