"""One database of one service: its tables made on start, its transactions short, its writers taking turns.

    with Database(url, metadata, schema_name="user_service", schema_version=1) as database:
        with database.transaction() as session:     # commits at the end, rolls back when something is raised
            session.add(User(...))
        with database.reading() as session:
            session.get(User, user_id)

SQLite: WAL, so that readers never wait; one writer at a time, in the order they came (they would otherwise collide and
sleep); every commit is on the disk (`synchronous=FULL`, SQLite's default). https://www.sqlite.org/wal.html
MySQL: READ COMMITTED, since a locking read under the default isolation blocks the inserts around it; utf8mb4.
Other databases: as SQLAlchemy sets them up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    StatementError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from broker.private import make_database, make_folder
from chassis.errors import DatabaseError, SchemaMismatch
from chassis.fair_lock import FairLock

TURN_SECONDS = 10  #: how long a writer waits for those of this process that came before, or for a connection
BUSY_SECONDS = 10  #: how long SQLite waits for a writer of another process
CONNECT_SECONDS = 5  #: how long to wait for a database server
ANSWER_SECONDS = 20  #: how long to wait for its answer to a statement; one that hangs would otherwise hang us, too
CREATE_SECONDS = 3  #: how long replicas that start together may take to agree on who makes the tables
POOL_SIZE = 10  #: connections kept open: a few more than the server has threads

VERSIONS = sa.Table(
    "schema_version",
    sa.MetaData(),
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),  # always 1: a database has one service's tables
    sa.Column("service", sa.String(64), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    mysql_charset="utf8mb4",
)


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """A moment with its time zone and microseconds, on databases that would keep neither."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> sa.types.TypeEngine[Any]:
        return mysql.DATETIME(fsp=6) if dialect.name in ("mysql", "mariadb") else sa.DateTime()

    def process_bind_param(self, value: datetime | None, _: sa.Dialect) -> datetime | None:
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _: sa.Dialect) -> datetime | None:
        return value and value.replace(tzinfo=UTC)


class Database:
    """Any SQLAlchemy URL. As a context manager it opens and closes."""

    def __init__(self, url: str | sa.URL, metadata: sa.MetaData, *, schema_name: str, schema_version: int) -> None:
        self._url = parse_url(url)
        self._metadata = metadata
        self._schema = (schema_name, schema_version)
        self._turn: AbstractContextManager[None] = FairLock(TURN_SECONDS) if self._is_sqlite else nullcontext()
        self._readers = self._engine()
        self._writers = self._readers.execution_options(begin="BEGIN IMMEDIATE")

    def open(self) -> None:
        """Make the tables that are missing; `DatabaseError` when it cannot be used, or has another version."""
        self._make_file()
        try:
            with self._errors():
                self._try_connecting()
                _until_others_are_done(self._make_tables)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of every connection."""
        self._readers.dispose()

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session whose changes are committed together at the end, or not at all. Keep it short: others wait.

        `DatabaseError` when the database fails; `IntegrityError` is the caller's, since it decides races.
        """
        with self._errors(), self._turn, Session(self._writers, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session to read with; it waits for no writer, and nothing is kept of what it changes."""
        with self._errors(), Session(self._readers) as session:
            yield session

    def ping(self) -> bool:
        """Whether the database answers, and has its tables."""
        try:
            with self.reading() as session:
                session.execute(sa.select(VERSIONS.c.version))
        except (DatabaseError, DBAPIError):
            return False
        return True

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __str__(self) -> str:
        """The URL as it may be shown."""
        return shown_url(self._url)

    @property
    def _is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    def _engine(self) -> sa.Engine:
        # hide_parameters: an error in the log would otherwise quote the row, password hash and all.
        options: dict[str, Any] = {"hide_parameters": True, "pool_pre_ping": True, "pool_size": POOL_SIZE}
        if self._file or not self._is_sqlite:
            options["pool_timeout"] = TURN_SECONDS
        if self._url.get_backend_name() in ("mysql", "mariadb"):
            options["isolation_level"] = "READ COMMITTED"
            options["connect_args"] = {
                "charset": "utf8mb4",
                "connect_timeout": CONNECT_SECONDS,
                "read_timeout": ANSWER_SECONDS,
                "write_timeout": ANSWER_SECONDS,
            }
        with usable(self._url):
            engine = sa.create_engine(self._url, **options)
        if self._is_sqlite:
            sa.event.listen(engine, "connect", _set_up_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        return engine

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """What the database's driver raises, as one line: never with the password, and never with a row or its SQL."""
        try:
            yield
        except IntegrityError:
            raise
        except StatementError as error:
            raise DatabaseError(f"database {self}: {_cause(error)}") from error
        except (TimeoutError, PoolTimeout) as error:
            raise DatabaseError(f"database {self}: {error}") from error

    def _try_connecting(self) -> None:
        """Unreachable is said at once; only what follows is tried again."""
        with usable(self._url):
            self._readers.connect().close()

    @property
    def _file(self) -> Path | None:
        """Where SQLite keeps the database; None of a server, and in memory."""
        name, query = self._url.database or ":memory:", self._url.query
        if not self._is_sqlite or name == ":memory:" or query.get("mode") == "memory":
            return None
        is_uri = name.startswith("file:") and "uri" in query
        return Path(unquote(urlsplit(name).path) if is_uri else name)

    def _make_file(self) -> None:
        """Nobody else may read it, nor what SQLite puts beside it."""
        if file := self._file:
            try:
                make_folder(file.parent)
            except OSError as error:
                raise DatabaseError(f"cannot make the data folder {file.parent}: {error.strerror}") from error
            with suppress(OSError):  # SQLite says it, too, as of any file that it cannot use
                make_database(file)

    def _make_tables(self) -> None:
        """Checks first, so that a database of another version is left as it is.

        The row comes before the tables, since MySQL commits at each of them: who has the row makes them.
        """
        with self._turn, self._writers.begin() as connection:
            VERSIONS.create(connection, checkfirst=True)
            found = connection.execute(sa.select(VERSIONS.c.service, VERSIONS.c.version)).one_or_none()
            if found not in (None, self._schema):
                raise SchemaMismatch(
                    f"database {self} holds the tables of {found[0]}, version {found[1]}; "
                    f"this is {self._schema[0]}, version {self._schema[1]}: give it another database"
                )
            if found is None:
                connection.execute(VERSIONS.insert().values((1, *self._schema)))
            self._metadata.create_all(connection)


def utc_now() -> datetime:
    """The time, with its zone, as `UtcDateTime` stores it."""
    return datetime.now(UTC)


def shown_url(url: sa.URL) -> str:
    """The URL without what may be secret."""
    return url.set(query={}).render_as_string(hide_password=True)


@contextmanager
def usable(url: sa.URL) -> Iterator[None]:
    """Around making an engine, and connecting the first time: what cannot be used or reached is a `DatabaseError`.

    A driver that does not know, or cannot use, a host or an option after the `?` raises whatever its code comes to.
    """
    try:
        yield
    except DBAPIError as error:
        raise DatabaseError(f"database {shown_url(url)}: {_cause(error)}") from error
    except ModuleNotFoundError as error:
        says = f"needs the package {error.name!r}; install it with pip"
        raise DatabaseError(f"DATABASE_URL {shown_url(url)} {says}") from error
    except (ArgumentError, AttributeError, LookupError, OSError, TypeError, ValueError) as error:
        raise DatabaseError(f"DATABASE_URL {shown_url(url)} is not possible: {_without_options(error, url)}") from error


def _without_options(error: Exception, url: sa.URL) -> str:
    text = str(error)
    for values in url.normalized_query.values():
        for value in filter(None, values):
            text = text.replace(value, "***")
    return text


def sqlite_url(path: Path) -> sa.URL:
    """The URL of that very file; written into a string, a `?`, a `%20` or a `#` of its name would be the URL's."""
    return sa.URL.create("sqlite", database=str(path))


def parse_url(url: str | sa.URL) -> sa.URL:
    """A database URL as SQLAlchemy's, with the driver that this project installs for MySQL, unless it names one."""
    try:
        parsed = sa.make_url(url)
    except (ArgumentError, ValueError) as error:
        raise DatabaseError("DATABASE_URL is not a URL such as mysql://user:password@host:3306/users") from error
    if parsed.drivername in ("mysql", "mariadb"):
        return parsed.set(drivername=f"{parsed.drivername}+pymysql")
    return parsed


def _until_others_are_done(make: Callable[[], None]) -> None:
    """Try again when another replica, starting at the same time, made a table between our look and our CREATE."""
    deadline = time.monotonic() + CREATE_SECONDS
    while True:
        try:
            return make()
        except (OperationalError, ProgrammingError, IntegrityError):
            if time.monotonic() > deadline:
                raise
            threading.Event().wait(0.1)


def _set_up_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # we say BEGIN ourselves: the driver would do so only before the first write
    connection.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: sa.Connection) -> None:
    """A transaction that will write takes the lock at once: turning from reader into writer later may fail."""
    connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))


def _cause(error: StatementError) -> object:
    """What the driver said of the connection; of a statement, which it would quote, only its kind and number."""
    arguments = error.orig.args if error.orig else ()
    if isinstance(error, OperationalError | InterfaceError):
        return arguments[-1] if arguments else error.orig  # the last one, after MySQL's error number
    number = arguments[0] if arguments and isinstance(arguments[0], int) else ""
    return f"it refuses a statement: {type(error.orig).__name__} {number}".rstrip()
