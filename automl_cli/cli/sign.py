"""``automl sign``: say with a key who made a model file."""

from pathlib import Path
from typing import Annotated

import typer

from automl_cli.cli.options import Debug, Model, Quiet, say
from automl_cli.cli.settings import check_settings

WAIT = 10.0  # seconds for another signature of the same file; a fit takes longer


def sign(
    context: typer.Context,
    model: Model,
    key: Annotated[
        Path,
        typer.Option(
            "--key",
            "-k",
            metavar="KEYFILE",
            envvar="AUTOML_KEY",
            help="A private Ed25519 key, as ssh-keygen writes it or in PEM; its passphrase: AUTOML_KEY_PASSPHRASE.",
        ),
    ],
    quiet: Quiet = False,
    debug: Debug = False,
) -> int:
    """Sign a model file where it stands, so that commands with --require-signature accept it."""
    check_settings(context)
    import os

    from automl_cli.artifact import read_signer, sign_artifact
    from automl_cli.files import check_writable, locked
    from automl_cli.runs import output_lock

    signer = read_signer(key, os.environ)
    check_writable(model, only_file=True)
    with locked(output_lock(model), str(model), wait_seconds=WAIT, hint="sign it when that has ended"):
        changed = sign_artifact(model, signer)
    if not quiet:
        word = "is" if changed else "was already"
        say(f"{model} {word} signed by {signer.key.fingerprint}")
    return 0
