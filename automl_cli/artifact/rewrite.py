"""A model file with another manifest: what it holds beside that stays as it is."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automl_cli import __version__
from automl_cli.artifact.check import mark_checked, private_folder
from automl_cli.artifact.manifest import blobs_of, format_of, parse_manifest
from automl_cli.artifact.read import Artifact
from automl_cli.artifact.signing import Signer
from automl_cli.artifact.write import manifest_text, write_zip
from automl_cli.files import write_whole


def rewrite_artifact(artifact: Artifact, path: Path, changes: Mapping[str, Any], *, signer: Signer | None) -> None:
    """Write a model to another file, or to its own, with other values of some keys of its manifest.

    Signatures are of the old manifest and are left behind. The file at ``path`` is there whole or not at all.

    Parameters
    ----------
    artifact : Artifact
        Whose models have been checked.

    Raises
    ------
    BadArtifact
        Anything in it is damaged.
    NoSpace, UsageError
        See `write_artifact`.
    """
    data = {**artifact.manifest.data, **changes, "product": __version__}
    data["format"] = format_of(data)
    text = manifest_text(data)
    digest = hashlib.sha256(text).hexdigest()
    manifest = parse_manifest(text, digest)
    names = sorted(blobs_of(manifest))
    with private_folder() as folder:
        artifact.extract([(name, name) for name in names], folder)
        with write_whole(path) as file:
            signature = None if signer is None else signer.sign(digest)
            write_zip(file, text, digest, {name: folder / name for name in names}, signature, compress=True)
    mark_checked(digest)
