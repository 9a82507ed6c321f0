"""The store: opened, brought up to date, written by many processes at once, and never in the way of a fit."""

import contextlib
import secrets
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DatabaseError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from automl_cli.errors import AutomlError
from automl_cli.experience.address import default_path, on_network, path_of, shown
from automl_cli.experience.records import salted
from automl_cli.experience.tables import (
    SCHEMA_VERSION,
    bring_up_to_date,
    create,
    has_tables,
    is_empty,
    read_facts,
    refuse_newer,
)

WAIT_SECONDS = 5.0  # for another writer
PRIOR = "prior.sqlite"
_WRITES = "automl_writes"
# SQLite keeps any value in any column: a text may stand where a number must.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, IndexError)


@dataclass(frozen=True)
class Store:
    """An open store.

    Attributes
    ----------
    salt : bytes
        Of this store's digests of names.
    """

    engine: Engine
    url: str
    salt: bytes

    @property
    def name(self) -> str:
        """How it is called on the screen."""
        return shown(self.url)


def open_store(url: str, *, create_missing: bool = True, wait: float = WAIT_SECONDS) -> Store:
    """Open a store, making it where there is none and migrating an older one.

    Parameters
    ----------
    create_missing : bool
        Whether a store may be made or changed; without it nothing is written.
    wait : float
        Seconds to wait for other writers.

    Raises
    ------
    AutomlError
        It cannot be reached or read, is damaged, or a newer program made it: one line, what and where.
    """
    path = path_of(url)
    with _explained(url):
        if path is not None and not create_missing and not path.exists():
            raise AutomlError(f"there is no experience at {path}", hint="it is made by the first automl fit")
        if path is not None and create_missing:
            path.parent.mkdir(parents=True, exist_ok=True)
        engine = _engine(url, wait)
        with engine.connect() as connection:
            facts = {} if is_empty(connection) else read_facts(connection)
            foreign = False
            if not facts and has_tables(connection):  # unless another process has made them just now
                facts = {} if is_empty(connection) else read_facts(connection)
                foreign = not facts
        if not facts and (foreign or not create_missing):
            raise AutomlError(f"{shown(url)} holds no experience", hint="is it another program's database?")
        store = Store(engine, url, bytes.fromhex(facts.get("salt", "")))
        if not facts:
            return _made(store)
        refuse_newer(int(facts["version"]), shown(url))
        if path is not None and create_missing and on_network(path):
            _choose_journal(store, path)  # older versions of the program chose another one there
        if create_missing and int(facts["version"]) < SCHEMA_VERSION:  # only then: it takes the writers' lock
            with writing(store) as connection:
                bring_up_to_date(connection)
        return store


def open_prior() -> Store | None:
    """Open the experience that comes with the program, read-only; None in a build without one."""
    path = Path(__file__).with_name(PRIOR)
    if not path.is_file():
        return None
    url = f"sqlite:///file:{quote(str(path))}?mode=ro&immutable=1&uri=true"
    engine = create_engine(url, poolclass=NullPool)
    with _explained(str(path)), engine.connect() as connection:
        facts = read_facts(connection)
        refuse_newer(int(facts["version"]), str(path))
    return Store(engine, str(path), bytes.fromhex(facts["salt"]))


def _made(store: Store) -> Store:
    """Make the tables, unless another process has done so meanwhile."""
    path = path_of(store.url)
    try:
        if path is not None:
            _choose_journal(store, path)
        with writing(store) as connection:
            if is_empty(connection):
                create(connection, secrets.token_bytes(16))
            return Store(store.engine, store.url, bytes.fromhex(read_facts(connection)["salt"]))
    except AutomlError as error:  # a server has no lock for it: another process was first
        if isinstance(error.__cause__, DBAPIError):
            with contextlib.suppress(AutomlError), reading(store) as connection:  # it may not have ended yet
                return Store(store.engine, store.url, bytes.fromhex(read_facts(connection)["salt"]))
        raise


@contextlib.contextmanager
def reading(store: Store) -> Iterator[Connection]:
    """Read from one state of the store."""
    options = {} if path_of(store.url) is not None else {"isolation_level": "REPEATABLE READ"}
    with _explained(store.url), store.engine.connect().execution_options(**options) as connection:
        yield connection


@contextlib.contextmanager
def writing(store: Store) -> Iterator[Connection]:
    """Write all or nothing; in SQLite the lock is taken at once, since a later upgrade of it fails without waiting."""
    with (
        _explained(store.url),
        store.engine.connect().execution_options(**{_WRITES: True}) as connection,
        connection.begin(),
    ):
        yield connection


def _engine(url: str, wait: float) -> Engine:
    if path_of(url) is None:
        return create_engine(url, poolclass=NullPool, connect_args=_server_arguments(url, wait))
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": wait})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _server_arguments(url: str, wait: float) -> dict[str, Any]:
    if not url.startswith("postgresql"):
        return {}
    milliseconds = max(1_000, int(1_000 * wait))
    limits = f"-c statement_timeout={4 * milliseconds} -c lock_timeout={milliseconds}"
    return {"connect_timeout": max(2, int(wait)), "options": limits, "tcp_user_timeout": 4 * milliseconds}


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _choose_journal(store: Store, path: Path) -> None:
    """Let readers and a writer work side by side; on a file system that cannot do that, one after another.

    A write-ahead log needs memory that all processes share: those of two hosts do not, and damage the store unnoticed
    where both have mounted its file system.
    """
    with store.engine.connect() as opened, contextlib.suppress(sqlite3.OperationalError):  # another process holds it
        connection: Any = opened.connection.dbapi_connection
        if on_network(path):
            connection.execute("PRAGMA journal_mode = DELETE").fetchone()
            return
        try:
            connection.execute("PRAGMA journal_mode = WAL").fetchone()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                connection.execute("PRAGMA journal_mode = DELETE").fetchone()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextlib.contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn what a database raises, and what its content does where it cannot be, into one line."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error, OSError, *_MALFORMED) as error:
        problem, hint = _reason(error, url)
        raise AutomlError(problem, hint=hint) from error


def _reason(error: Exception, url: str) -> tuple[str, str]:
    place = shown(url)
    said = " ".join(str(getattr(error, "orig", None) or error).split())[:200]
    if isinstance(error, OperationalError) and "locked" in said:
        return f"the experience at {place} is held by another process", "try again"
    if isinstance(error, OperationalError) and ("readonly" in said or "unable to open" in said):
        return f"the experience at {place} cannot be written ({said})", "name another place with --experience"
    if isinstance(error, OperationalError) and ("full" in said or "disk I/O" in said):
        return f"the experience at {place} cannot be written ({said})", "free some space, or name another --experience"
    if path_of(url) is None and isinstance(error, DBAPIError):
        return f"the experience at {place} cannot be used ({said})", "check the URL, or --experience off"
    if isinstance(error, (DatabaseError, *_MALFORMED)):
        hint = "name another file, or move it away if it was a store"
        return f"the experience at {place} is damaged or no store of this program ({said})", hint
    if isinstance(error, OSError):
        return f"the experience at {place} cannot be opened ({error.strerror or error})", "name another place"
    return f"the experience at {place} cannot be used ({said})", "name another place with --experience"


def is_locked(error: AutomlError) -> bool:
    """Whether it would work a little later."""
    return isinstance(error.__cause__, OperationalError) and "locked" in str(error.__cause__.orig)


def waiting_folder(url: str) -> Path:
    """Return where runs wait that could not be written; see `remember`."""
    path = path_of(url)
    if path is not None:
        return path.with_name(f"{path.name}.waiting")
    return default_path().with_name(f"experience-{salted(url, b'')[:12]}.waiting")
