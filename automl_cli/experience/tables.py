"""The tables of the store, their version, and how an older one is brought up to date."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    inspect,
    select,
    text,
)

from automl_cli.errors import AutomlError

SCHEMA_VERSION = 1
MIGRATIONS: Mapping[int, Sequence[str]] = MappingProxyType({})
"""Statements that turn a store of one version into the next, by the older one's number."""

METADATA = MetaData()

FACTS = Table(
    "fact",
    METADATA,
    Column("name", String(40), primary_key=True),
    Column("value", String(200), nullable=False),
)
FEATURES = Table(
    "feature",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
)
"""Names of meta-features: a dataset's are one value of pairs (number of the name, figure), so that ten thousand past
datasets are read in the blink of an eye, and names come and go with the program's versions."""

DATASETS = Table(
    "dataset",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("uid", String(64), nullable=False, unique=True),
    Column("fingerprint", String(128), nullable=False),
    Column("name", String(200), nullable=False),
    Column("kind", String(20), nullable=False, index=True),
    Column("n_rows", Integer, nullable=False),
    Column("n_columns", Integer, nullable=False),
    Column("n_classes", Integer, nullable=False),
    Column("features", LargeBinary, nullable=False),
    Column("target", String(64), nullable=False, index=True),
    Column("columns", Text, nullable=False),
)
RUNS = Table(
    "run",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("uid", String(64), nullable=False, unique=True),
    Column("dataset", ForeignKey("dataset.id"), nullable=False, index=True),
    Column("metric", String(40), nullable=False),
    Column("plan", String(500), nullable=False),
    Column("n_folds", Integer, nullable=False),
    Column("origin", String(20), nullable=False),
    Column("began", Float, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("limit", Float),
    Column("loss", Float),
    Column("versions", Text, nullable=False),
    Column("members", Text, nullable=False),
)
PIPELINES = Table(
    "pipeline",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("uid", String(64), nullable=False, unique=True),
    Column("text", Text, nullable=False),
)
EVALUATIONS = Table(
    "evaluation",
    METADATA,
    Column("run", ForeignKey("run.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("pipeline", ForeignKey("pipeline.id"), nullable=False),
    Column("loss", Float),
    Column("losses", LargeBinary, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("fidelity", Float, nullable=False),
    Column("cut", Boolean, nullable=False),
    Column("given_up", Boolean, nullable=False),
    Column("origin", String(20), nullable=False),
    UniqueConstraint("run", "number"),
)


def is_empty(connection: Connection) -> bool:
    """Whether a database holds no store yet."""
    return not inspect(connection).has_table(FACTS.name)


def has_tables(connection: Connection) -> bool:
    """Whether a database holds any table at all."""
    return bool(inspect(connection).get_table_names())


def create(connection: Connection, salt: bytes) -> None:
    """Make the tables of the newest version."""
    METADATA.create_all(connection)
    facts = {"version": str(SCHEMA_VERSION), "salt": salt.hex()}
    connection.execute(FACTS.insert(), [{"name": name, "value": value} for name, value in facts.items()])


def read_facts(connection: Connection) -> dict[str, str]:
    """Return version and salt."""
    return {row.name: row.value for row in connection.execute(select(FACTS))}


def bring_up_to_date(
    connection: Connection,
    *,
    newest: int = SCHEMA_VERSION,
    migrations: Mapping[int, Sequence[str]] = MIGRATIONS,
) -> bool:
    """Migrate an older store, step by step within the connection's transaction; return whether anything was done."""
    version = int(read_facts(connection)["version"])
    for step in range(version, newest):
        for statement in migrations[step]:
            connection.execute(text(statement))
        connection.execute(FACTS.update().where(FACTS.c.name == "version").values(value=str(step + 1)))
    return version < newest


def refuse_newer(version: int, place: str) -> None:
    """Refuse a store of a newer program.

    Raises
    ------
    AutomlError
    """
    if version > SCHEMA_VERSION:
        raise AutomlError(
            f"the experience at {place} is of version {version}, this program knows {SCHEMA_VERSION}",
            hint="update the program, or name another --experience",
        )
