"""Signatures of model files: who made one, by Ed25519 keys as `ssh-keygen` makes them.

A signature is an entry ``signatures/<SHA-256 of the public key>.sig`` of the zip, in OpenSSH's format [1]_, over the
manifest's SHA-256; the manifest names the SHA-256 of everything else. So a signature fits no other file, and
`ssh-keygen -Y verify` can judge it without this program.

References
----------
.. [1] PROTOCOL.sshsig, in the sources of OpenSSH.
"""

import base64
import hashlib
import importlib.util
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from automl_cli.artifact.container import Container
from automl_cli.artifact.manifest import blobs_of, read_manifest
from automl_cli.errors import BadArtifact, MissingExtra, UsageError
from automl_cli.files import write_whole

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SIGNATURES = "signatures/"
NAMESPACE = b"automl-model"
"""Part of what is signed, so that the signature of an email or a commit is none of a model, nor the other way round."""
PASSPHRASE = "AUTOML_KEY_PASSPHRASE"
MAX_SIGNATURE_BYTES = 4096
MOST_SIGNATURES = 100
MAX_KEY_BYTES = 1 << 20

INSTALL = "pip install 'automl-cli[signing]'"
MAKE_ONE = "make one with ssh-keygen -t ed25519"
DOUBTFUL = "do not use this file unless you know who made it"

_ED25519 = b"ssh-ed25519"
_HASH = b"sha256"
_OPENSSH_KEY = b"openssh-key-v1\0"
_N_KEY, _N_SIGNATURE = 32, 64  # bytes
_KEY_AT = 33  # where the key begins in an envelope
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_ENTRY = re.compile(re.escape(SIGNATURES) + r"[0-9a-f]{64}\.sig")
_OTHER_TYPES = re.compile(r"(ssh-(rsa|dss)|(sk-)?ecdsa-sha2-\S+|sk-ssh-\S+)\s")
_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 key to verify by.

    Attributes
    ----------
    raw : bytes
        Its 32 bytes.
    """

    raw: bytes

    @property
    def blob(self) -> bytes:
        """The key as SSH writes it, before base64."""
        return _strings(_ED25519, self.raw)

    @property
    def fingerprint(self) -> str:
        """What `ssh-keygen -lf` prints.

        >>> PublicKey(bytes(32)).fingerprint
        'SHA256:kmYcvdi2GkPeWxB6XLjrZB8JHsy2Hm8luHMFp9GMvqk'
        """
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def entry(self) -> str:
        """Name of the zip's entry that holds its signature."""
        return f"{SIGNATURES}{hashlib.sha256(self.blob).hexdigest()}.sig"


@dataclass(frozen=True)
class Signature:
    """What a file says that a key has signed; whether it has is for `fits` to say.

    Attributes
    ----------
    raw : bytes
        Its 64 bytes.
    """

    key: PublicKey
    raw: bytes

    def fits(self, digest: str) -> bool:
        """Whether the key's owner has signed the manifest with this SHA-256."""
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  (an extra)
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

        try:
            Ed25519PublicKey.from_public_bytes(self.key.raw).verify(self.raw, _message(digest))
        except (InvalidSignature, ValueError):
            return False
        return True

    def to_bytes(self) -> bytes:
        """Return it as `ssh-keygen -Y sign` writes it."""
        text = base64.b64encode(_envelope(self.key) + self.raw).decode()
        lines = [text[start : start + 70] for start in range(0, len(text), 70)]
        return "\n".join([_BEGIN, *lines, _END, ""]).encode()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Signature":
        """Read what `to_bytes` gave.

        Raises
        ------
        ValueError
            It is something else, such as a signature of another kind of key or of another namespace.
        """
        text = content.decode("ascii").strip()
        if not (text.startswith(_BEGIN) and text.endswith(_END)):
            raise ValueError("not an SSH signature")
        body = text.removeprefix(_BEGIN).removesuffix(_END)
        blob = base64.b64decode("".join(body.split()), validate=True)
        key = PublicKey(blob[_KEY_AT : _KEY_AT + _N_KEY])
        # nothing in it may vary but the key and the 64 bytes at its end
        if len(key.raw) != _N_KEY or blob[:-_N_SIGNATURE] != _envelope(key):
            raise ValueError(f"not an Ed25519 signature in the namespace {NAMESPACE.decode()}")
        return cls(key, blob[-_N_SIGNATURE:])


@dataclass(frozen=True)
class TrustedKeys:
    """Keys of which one must have signed a file, and the file that lists them."""

    source: Path
    keys: frozenset[PublicKey]


@dataclass(frozen=True)
class Signer:
    """A private key, ready to sign."""

    key: PublicKey
    private: "Ed25519PrivateKey"

    def sign(self, digest: str) -> Signature:
        """Sign the manifest with this SHA-256."""
        return Signature(self.key, self.private.sign(_message(digest)))


def read_signer(path: Path, environment: Mapping[str, str]) -> Signer:
    """Read a private key in the format of OpenSSH or in PEM (PKCS8).

    Parameters
    ----------
    environment : Mapping
        Holds the passphrase of the key, where it has one, as ``AUTOML_KEY_PASSPHRASE``.

    Raises
    ------
    UsageError
        The file cannot be read, holds no private Ed25519 key, or one whose passphrase is missing or wrong.
    MissingExtra
    """
    _need_cryptography()
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # noqa: PLC0415

    content = _read_key_file(path)
    if "PRIVATE KEY-----" not in content:
        hint = "name the file without .pub" if content.startswith("ssh-") else MAKE_ONE
        raise UsageError(f"{path} holds no private key", hint=hint)
    private = _load_private(path, content, environment.get(PASSPHRASE))
    if not isinstance(private, Ed25519PrivateKey):
        kind = type(private).__name__.removeprefix("_").removesuffix("PrivateKey")
        raise UsageError(f"{path} is a key of the type {kind}, not Ed25519", hint=MAKE_ONE)
    return Signer(PublicKey(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)), private)


def _load_private(path: Path, content: str, passphrase: str | None) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415

    is_ssh = "BEGIN OPENSSH PRIVATE KEY" in content
    is_locked = _is_locked(content) if is_ssh else "ENCRYPTED" in content
    if is_locked and not passphrase:
        raise UsageError(f"{path} has a passphrase", hint=f"put it into the environment variable {PASSPHRASE}")
    load = serialization.load_ssh_private_key if is_ssh else serialization.load_pem_private_key
    try:
        return load(content.encode(), passphrase.encode() if is_locked and passphrase else None)
    except UnsupportedAlgorithm as error:
        if is_locked and importlib.util.find_spec("bcrypt") is None:
            raise MissingExtra(f"the passphrase of {path} needs the package bcrypt", hint=INSTALL) from error
        raise UsageError(f"{path} is a key of a type that cannot sign ({_first_line(error)})", hint=MAKE_ONE) from error
    except (ValueError, TypeError) as error:
        if is_locked:
            raise UsageError(f"the passphrase in {PASSPHRASE} does not open {path}", hint="correct it") from error
        raise UsageError(
            f"{path} holds no private key that can be read ({_first_line(error)})", hint=MAKE_ONE
        ) from error


def _is_locked(content: str) -> bool:
    """Whether a private key in the format of OpenSSH has a passphrase: it names a cipher then."""
    block = _PEM.search(content)
    try:
        # what stands around the base64 are five dashes twice
        body = base64.b64decode("" if block is None else block[0].split("-----")[2])
    except ValueError:
        return False
    return body.startswith(_OPENSSH_KEY) and not body.startswith(_OPENSSH_KEY + _strings(b"none"))


def read_trusted(path: Path) -> TrustedKeys:
    """Read public keys: lines as in ``.pub`` and ``authorized_keys`` files, or PEM. Keys of other types are left out.

    Raises
    ------
    UsageError
        The file cannot be read, or holds something that is no public key, or no Ed25519 key at all.
    MissingExtra
    """
    _need_cryptography()
    content = _read_key_file(path)
    if "PRIVATE KEY-----" in content:
        raise UsageError(f"{path} is a private key", hint="name the public one, with .pub at its end")
    found = _pem_keys(path, content) if "-----BEGIN" in content else _ssh_keys(path, content)
    keys = frozenset(found)
    if not keys:
        raise UsageError(f"{path} holds no public Ed25519 key", hint=MAKE_ONE)
    return TrustedKeys(path, keys)


def _ssh_keys(path: Path, content: str) -> Iterator[PublicKey]:
    for number, line in enumerate(content.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#") or _OTHER_TYPES.match(line.lstrip()):
            continue
        raw = _raw_of(words[1]) if words[0] == _ED25519.decode() and len(words) > 1 else None
        if raw is None:
            # options of a line limit what its key is good for: passing over them would trust it with more
            raise UsageError(f"line {number} of {path} is no public key", hint="write ssh-ed25519 AAAA... NAME")
        yield PublicKey(raw)


def _raw_of(word: str) -> bytes | None:
    try:
        blob = base64.b64decode(word, validate=True)
    except ValueError:
        return None
    key = PublicKey(blob[-_N_KEY:])
    return key.raw if blob == key.blob and len(key.raw) == _N_KEY else None


def _pem_keys(path: Path, content: str) -> Iterator[PublicKey]:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        PublicFormat,
        load_pem_public_key,
    )

    for block in _PEM.finditer(content):
        try:
            key = load_pem_public_key(block[0].encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UsageError(f"{path} holds no public key that can be read ({_first_line(error)})") from error
        if isinstance(key, Ed25519PublicKey):
            yield PublicKey(key.public_bytes(Encoding.Raw, PublicFormat.Raw))


def signatures_of(container: Container) -> tuple[Signature, ...]:
    """Return the signatures that a file bears; none of them is verified by that.

    Raises
    ------
    BadArtifact
        There is something else among them, or there are too many.
    """
    names = sorted(name for name in container.sizes if name.startswith(SIGNATURES))
    if len(names) > MOST_SIGNATURES:
        raise container.damaged(f"it bears more than {MOST_SIGNATURES} signatures")
    found = []
    for name in names:
        if not _ENTRY.fullmatch(name) or container.sizes[name] > MAX_SIGNATURE_BYTES:
            raise container.damaged(f"entry {name[:80]} is no signature")
        try:
            signature = Signature.from_bytes(container.read(name))
        except ValueError as error:
            raise container.damaged(f"entry {name} is no signature") from error
        if signature.key.entry != name:
            raise container.damaged(f"entry {name} is the signature of another key")
        found.append(signature)
    return tuple(found)


def check_signed(container: Container, digest: str, trusted: TrustedKeys) -> frozenset[PublicKey]:
    """Return the trusted keys, one at least, whose signature of the manifest with this SHA-256 the file bears.

    Raises
    ------
    BadArtifact
        It bears none, none by a trusted key, or one that does not fit.
    """
    path, found = container.path, signatures_of(container)
    if not found:
        raise BadArtifact(f"{path} is not signed", hint="automl sign signs it; " + DOUBTFUL)
    theirs = [signature for signature in found if signature.key in trusted.keys]
    if not theirs:
        names = ", ".join(signature.key.fingerprint for signature in found[:3])
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise BadArtifact(
            f"{path} is signed by {names}{more}, and none of these keys is in {trusted.source}", hint=DOUBTFUL
        )
    verified = frozenset(signature.key for signature in theirs if signature.fits(digest))
    if not verified:
        problem = f"the signature of {path} by {theirs[0].key.fingerprint} does not fit it"
        raise BadArtifact(problem, hint="it was changed since, or the signature is another file's: do not use it")
    return verified


def sign_artifact(path: Path, signer: Signer) -> bool:
    """Sign a model file where it stands; all other bytes of its entries stay, and so does its mode.

    A signature that the key has made before is replaced, those of other keys stay. A process that is killed on the way
    leaves the old file, whole.

    Returns
    -------
    bool
        False where the file bears this signature already, and was left alone.

    Raises
    ------
    BadArtifact
        It is no model, or damaged: no signature shall vouch for that.
    NoSpace, UsageError
        It cannot be written.
    """
    container = Container(path)
    try:
        manifest = read_manifest(container)
        signature = signer.sign(manifest.digest)
        if signature in signatures_of(container):
            return False
        container.check_blobs(blobs_of(manifest))
        with write_whole(path, like=container.status()) as file:
            container.copy(file)
            with zipfile.ZipFile(file, "a") as archive:
                _drop(archive, signer.key.entry)
                add_signature(archive, signature)
    finally:
        container.close()
    return True


def add_signature(archive: zipfile.ZipFile, signature: Signature) -> None:
    """Add a signature to a model file that is open for writing."""
    # as in all entries no time is written
    archive.writestr(zipfile.ZipInfo(signature.key.entry), signature.to_bytes())


def _drop(archive: zipfile.ZipFile, name: str) -> None:
    """Take an entry out of the list of entries; its few bytes stay where they are, unread."""
    if name in archive.NameToInfo:
        archive.filelist.remove(archive.NameToInfo.pop(name))


def _message(digest: str) -> bytes:
    """Return what is signed of the manifest with this SHA-256."""
    return b"SSHSIG" + _strings(NAMESPACE, b"", _HASH, bytes.fromhex(digest))


def _envelope(key: PublicKey) -> bytes:
    """Return what stands before the 64 bytes of a signature in OpenSSH's format."""
    head = b"SSHSIG" + struct.pack(">I", 1) + _strings(key.blob, NAMESPACE, b"", _HASH)
    inner = _strings(_ED25519) + struct.pack(">I", _N_SIGNATURE)
    return head + struct.pack(">I", len(inner) + _N_SIGNATURE) + inner


def _strings(*parts: bytes) -> bytes:
    """Return byte strings, each after its length, as SSH writes them."""
    return b"".join(struct.pack(">I", len(part)) + part for part in parts)


def _need_cryptography() -> None:
    try:
        import cryptography  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingExtra(
            "signatures need the package cryptography", hint="pip install 'automl-cli[signing]'"
        ) from error


def _read_key_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_KEY_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot read the key file {path} ({reason})", hint="check its name and permissions"
        ) from error
    if len(content) > MAX_KEY_BYTES:
        raise UsageError(f"{path} is too large for a file of keys", hint=MAKE_ONE)
    return content.decode("utf-8", "replace").removeprefix("\ufeff")


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:100]
