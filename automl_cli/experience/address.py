"""Where the experience lies: a file of the user's, a server, or nowhere."""

import os
from pathlib import Path

from automl_cli.errors import MissingExtra, UsageError

VARIABLE = "AUTOML_EXPERIENCE"
OFF = "off"
MOUNTS = Path("/proc/mounts")
NETWORK = frozenset(
    ("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4",
     "ocfs2", "orangefs", "panfs", "pvfs2", "smb3", "smbfs", "fuse.ceph", "fuse.glusterfs", "fuse.juicefs",
     "fuse.rclone", "fuse.s3fs", "fuse.sshfs")
)  # fmt: skip
"""Types of file systems that several hosts may have mounted, as the kernel calls them."""


def default_path() -> Path:
    """Return the user's own store (XDG base directories)."""
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(home) / "automl" / "experience.sqlite"


def find_url(named: str | None) -> str | None:
    """Return the SQLAlchemy URL that a command works with; None for nowhere.

    Parameters
    ----------
    named : str or None
        What the user gave: a URL, the path of a SQLite file, or ``off``; by default the environment's
        ``AUTOML_EXPERIENCE``, and without it a file in the user's data folder.

    Raises
    ------
    UsageError
        It is no URL that SQLAlchemy understands, or its driver is not installed.
    """
    text = named if named is not None else os.environ.get(VARIABLE) or str(default_path())
    if text.strip().lower() == OFF:
        return None
    if not text.strip():
        raise UsageError("--experience is empty", hint="write a path, postgresql://USER@HOST/NAME, or off")
    if "://" not in text:
        from sqlalchemy import URL  # noqa: PLC0415

        path = str(Path(text).expanduser().absolute())
        return URL.create("sqlite", database=path).render_as_string(hide_password=False)
    return _checked(text)


def path_of(url: str) -> Path | None:
    """Return the file of a SQLite store; None for a server."""
    from sqlalchemy import make_url  # noqa: PLC0415

    if "://" not in url:
        return Path(url)
    parsed = make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def on_network(path: Path) -> bool:
    """Whether a path lies on a file system that other hosts may see; False where the system does not say."""
    place = path.resolve()
    try:
        lines = [line.split() for line in MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()]
    except OSError:
        return False
    # Spaces in a name are written as \040. The innermost mount counts, of several at one place the last.
    mounts = [(Path(words[1].replace("\\040", " ")), words[2]) for words in lines if len(words) > 2]
    above = [(len(mount.parts), number, kind) for number, (mount, kind) in enumerate(mounts)
             if place.is_relative_to(mount)]  # fmt: skip
    return bool(above) and max(above)[2] in NETWORK


def shown(url: str) -> str:
    """Return a URL as it may be printed: without its password, a file as its path."""
    from sqlalchemy import make_url  # noqa: PLC0415

    path = path_of(url)
    return str(path) if path is not None else make_url(url).render_as_string(hide_password=True)


def _checked(text: str) -> str:
    from sqlalchemy import make_url  # noqa: PLC0415
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError  # noqa: PLC0415

    try:
        url = make_url(text)
        if url.drivername in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
        url.get_dialect().import_dbapi()
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        hint = "write a path, postgresql://USER@HOST/NAME, or off"
        scheme = text.partition("://")[0]  # what follows may hold a password
        raise UsageError(f"{scheme}://... is no address of a database", hint=hint) from error
    except ImportError as error:
        if url.get_backend_name() != "postgresql":
            hint = "write a path, or postgresql://USER@HOST/NAME"
            raise UsageError(f"experience cannot be kept in {url.get_backend_name()}", hint=hint) from error
        raise MissingExtra(
            f"the driver for {url.drivername} is not installed", hint="pip install 'automl-cli[postgres]'"
        ) from error
    if url.get_backend_name() == "sqlite" and not url.database:
        raise UsageError(f"{text!r} names no file", hint="write the path of a file")
    return url.render_as_string(hide_password=False)
