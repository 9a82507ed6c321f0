"""The saved model: one zip file that is read without running code."""

from automl_cli.artifact.manifest import FORMAT, Manifest, MemberEntry
from automl_cli.artifact.read import Artifact, open_artifact
from automl_cli.artifact.rewrite import rewrite_artifact
from automl_cli.artifact.signing import (
    PublicKey,
    Signer,
    TrustedKeys,
    read_signer,
    read_trusted,
    sign_artifact,
)
from automl_cli.artifact.write import NOTHING, Attachment, Member, packed_bytes, packed_per_second, write_artifact

__all__ = [
    "FORMAT",
    "NOTHING",
    "Artifact",
    "Attachment",
    "Manifest",
    "Member",
    "MemberEntry",
    "PublicKey",
    "Signer",
    "TrustedKeys",
    "open_artifact",
    "packed_bytes",
    "packed_per_second",
    "read_signer",
    "read_trusted",
    "rewrite_artifact",
    "sign_artifact",
    "write_artifact",
]
