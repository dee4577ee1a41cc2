"""The database, on real SQLite files and a real MariaDB."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from broker.testing import eventually
from chassis.database import Database, UtcDateTime
from chassis.errors import DatabaseError, SchemaMismatch
from tests.servers.mariadb import Operator, on_each_database, on_mariadb

METADATA = sa.MetaData()
COUNTERS = sa.Table(
    "counters",
    METADATA,
    sa.Column("name", sa.String(20), primary_key=True),
    sa.Column("value", sa.Integer, nullable=False),
    sa.Column("at", UtcDateTime),
)


#: A process that waits for a line, then does what a service does first.
START = """
import sys
import sqlalchemy as sa
from chassis.database import Database

print("ready", flush=True)
sys.stdin.readline()
Database(sys.argv[1], sa.MetaData(), schema_name="counting", schema_version=1).open()
"""


def new(url: str, name: str = "counting", version: int = 1) -> Database:
    """The database there, not opened."""
    return Database(url, METADATA, schema_name=name, schema_version=version)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """One that is open, with a counter `a` at 0."""
    with new(database_url) as opened:
        with opened.transaction() as session:
            session.execute(COUNTERS.insert().values(name="a", value=0))
        yield opened


def value(database: Database) -> int:
    """The counter's value."""
    with database.reading() as session:
        return int(session.execute(sa.select(COUNTERS.c.value)).scalar_one())


@on_mariadb
def test_a_statement_that_is_refused_is_an_error_without_it(database: Database) -> None:
    """What a caller passes on, into a dead letter perhaps, quotes neither SQL nor the row."""

    def write_too_much() -> None:
        with database.transaction() as session:
            session.execute(COUNTERS.insert().values(name="geheim" * 10, value=0))

    with pytest.raises(DatabaseError, match=r"refuses a statement: DataError 1406$") as refusal:
        write_too_much()
    assert not any(part in str(refusal.value) for part in ("geheim", "INSERT", "SQL"))


@on_each_database
def test_a_transaction_that_raises_leaves_nothing(database: Database) -> None:
    """All or nothing."""

    def write_and_raise() -> None:
        with database.transaction() as session:
            session.execute(COUNTERS.update().values(value=7))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_raise()
    assert value(database) == 0


@on_each_database
def test_no_increment_of_eight_threads_and_two_processes_worth_of_connections_is_lost(database_url: str) -> None:
    """Read, then write, with the connections of two replicas: nobody collides, nobody is late."""
    counter = sa.select(COUNTERS.c.value).with_for_update()  # SQLite, with one writer at a time, needs and knows none
    with new(database_url) as one, new(database_url) as other:
        with one.transaction() as session:
            session.execute(COUNTERS.insert().values(name="a", value=0))

        def increment(number: int) -> None:
            with (one, other)[number % 2].transaction() as session:
                before = session.execute(counter).scalar_one()
                session.execute(COUNTERS.update().values(value=before + 1))

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(increment, range(200)))
        assert value(one) == 200


@on_each_database
def test_readers_and_a_writer_do_not_wait_for_each_other(database: Database) -> None:
    """Whoever reads sees what is committed; what is being written is nobody else's to see."""
    with database.reading() as reader:
        reader.execute(sa.select(COUNTERS.c.value)).scalar_one()
        with database.transaction() as session:
            session.execute(COUNTERS.update().values(value=7))
            assert value(database) == 0
        assert value(database) == 7


def test_a_reader_of_sqlite_sees_one_moment(database: Database) -> None:
    """WAL: what was committed when it began, also after somebody commits; on MySQL, see the head."""
    with database.reading() as reader:
        before = reader.execute(sa.select(COUNTERS.c.value)).scalar_one()
        with database.transaction() as session:
            session.execute(COUNTERS.update().values(value=7))
        assert reader.execute(sa.select(COUNTERS.c.value)).scalar_one() == before


@on_each_database
def test_replicas_may_start_together(database_url: str) -> None:
    """Whoever comes first makes the tables; the others find them."""
    together = threading.Barrier(6)

    def start(_: int) -> None:
        replica = new(database_url)
        together.wait(60)
        with replica:
            assert replica.ping()

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(start, range(6)))


@on_mariadb
def test_replicas_may_start_together_as_processes(database_url: str) -> None:
    """As they do after a deployment."""
    replicas = [
        subprocess.Popen([sys.executable, "-c", START, database_url], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    for replica in replicas:
        assert replica.stdout is not None
        assert replica.stdout.readline() == b"ready\n"
    for replica in replicas:
        replica.communicate(b"go\n", timeout=60)
    assert [replica.returncode for replica in replicas] == [0] * 3
    assert new(database_url).ping()


@on_each_database
@pytest.mark.parametrize(("name", "version"), [("counting", 2), ("other_service", 1)])
def test_another_schema_is_refused_and_left_as_it_is(
    database: Database, database_url: str, name: str, version: int
) -> None:
    """One line says which tables are there."""
    with pytest.raises(SchemaMismatch, match="holds the tables of counting, version 1"):
        new(database_url, name, version).open()
    assert database.ping()


def test_of_two_services_that_start_together_on_one_database_one_is_refused(mariadb: Operator) -> None:
    """A `DATABASE_URL` that was meant for one of them; MySQL has no transaction around the making of tables."""
    together = threading.Barrier(2)

    def start(url: str, name: str) -> str:
        together.wait(60)
        try:
            new(url, name).open()
        except SchemaMismatch:
            return "refused"
        return "started"

    for _ in range(5):
        with mariadb.new_database() as url, ThreadPoolExecutor(2) as threads:
            assert sorted(threads.map(start, [url] * 2, ["one", "other"])) == ["refused", "started"]


@on_each_database
def test_a_moment_keeps_its_microseconds_and_becomes_utc(database: Database) -> None:
    """SQLite and MySQL know no time zones."""
    moment = datetime(2026, 1, 31, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=8)))
    with database.transaction() as session:
        session.execute(COUNTERS.update().values(at=moment))
    with database.reading() as session:
        read = session.execute(sa.select(COUNTERS.c.at)).scalar_one()
    assert (read, read.tzinfo) == (moment, UTC)


@on_each_database
def test_an_error_does_not_quote_the_row(database: Database) -> None:
    """There may be a password hash in it."""
    with pytest.raises(IntegrityError) as caught, database.transaction() as session:
        session.execute(COUNTERS.insert().values(name="a", value=424242))
    assert "424242" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("mysql://root:geheim@127.0.0.1:1/x?program_name=geheim", r"root:\*\*\*@127.0.0.1:1/x: Can't connect"),
        ("mysql://root:geheim@127.0.0.1:1/x?nosuch=geheim", "is not possible: .*nosuch"),
        ("mysql://root:geheim@127.0.0.1:1/x?connect_timeout=geheim", "x is not possible: invalid literal"),
        ("mysql://root:geheim@127.0.0.1:1/x?ssl_ca=/nosuch", "x is not possible: .*No such file"),
        ("mysql://root:geheim@a..b/x", "a..b/x is not possible: "),
        ("mysql+mysqldb://root:geheim@host/x", "needs the package 'MySQLdb'"),
        ("sqlite:///x.db?timeout=geheim", r"x\.db is not possible: "),
        ("geheim", "not a URL"),
        ("mysql://root:geheim@host:port/x", "not a URL"),
        ("nosuch://root:geheim@host/x", r"root:\*\*\*@host/x is not possible"),
        ("sqlite:////dev/null/users.db", "/dev/null: "),
        ("sqlite:////dev", "unable to open"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_without_the_password(url: str, line: str) -> None:
    """Unreachable, misspelt or unwritable."""
    with pytest.raises(DatabaseError, match=line) as caught:
        Database(url, METADATA, schema_name="counting", schema_version=1).open()
    assert "geheim" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_ping_notices_a_database_that_is_gone(database: Database, tmp_path: Path) -> None:
    """Readiness turns on this."""
    assert database.ping()
    database.close()
    for file in tmp_path.rglob("*.db*"):
        file.unlink()
    assert not database.ping()


@on_mariadb
def test_a_server_that_is_away_is_one_line_and_used_again_when_it_is_back(
    database: Database, mariadb: Operator
) -> None:
    """Nobody has to restart the service."""
    with mariadb.down():
        with pytest.raises(DatabaseError, match=r"database mysql\+pymysql://.*: Can't connect"):
            value(database)
        assert not database.ping()
    assert database.ping()
    assert value(database) == 0


@on_mariadb
def test_a_restart_that_nobody_noticed_fails_nobody(database: Database, mariadb: Operator) -> None:
    """The connections from before are dead, and that is seen before they are used."""
    with mariadb.down():
        """Nobody asks for anything."""
    assert value(database) == 0


@on_mariadb
def test_a_server_that_hangs_is_not_waited_for_for_ever(
    database: Database, database_url: str, mariadb: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on a connection from before nor on a new one, which the operating system takes in its stead."""
    monkeypatch.setattr("chassis.database.ANSWER_SECONDS", 0.5)
    with closing(new(database_url)) as impatient:
        eventually(impatient.ping, "it answers")
        with mariadb.paused():
            assert not impatient.ping()
            with pytest.raises(DatabaseError, match="timed out"):
                value(impatient)
        eventually(impatient.ping, "it answers again")


@on_mariadb
def test_a_transaction_that_is_cut_leaves_nothing_and_what_was_committed_stays(
    database: Database, mariadb: Operator
) -> None:
    """Whoever was writing is told."""

    def write_and_be_cut() -> None:
        with database.transaction() as session:
            session.execute(COUNTERS.update().values(value=7))
            with mariadb.down():
                """It forgets who was connected."""

    with pytest.raises(DatabaseError, match="Lost connection"):
        write_and_be_cut()
    assert value(database) == 0


@pytest.mark.parametrize("url", ["sqlite:///{}", "sqlite:///file:{}?uri=true"])
def test_what_an_earlier_version_left_open_to_others_is_closed(tmp_path: Path, url: str) -> None:
    """Also what SQLite left beside it; a folder that was there is its owner's to open."""
    tmp_path.chmod(0o755)
    file = tmp_path / "test.db"
    with new(url.format(file)):
        for path in tmp_path.iterdir():
            path.chmod(0o644)
        with new(url.format(file)):
            assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
                "test.db": 0o600,
                "test.db-wal": 0o600,
                "test.db-shm": 0o600,
            }
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_opening_a_database_ends_no_lock_on_it(database_url: str) -> None:
    """POSIX drops all locks of a process on a file when it closes any descriptor of that file."""
    with new(database_url) as database, database.transaction() as session:
        session.execute(COUNTERS.insert().values(name="a", value=0))
        database._make_file()
        file = database_url.removeprefix("sqlite:///")
        script = (
            f"import sqlite3; sqlite3.connect({file!r}, timeout=0, isolation_level=None).execute('BEGIN IMMEDIATE')"
        )
        other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "database is locked" in other.stderr


def test_a_turn_or_a_connection_that_does_not_come_is_an_error_of_the_database(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a request gets a 503, and does not hang."""
    monkeypatch.setattr("chassis.database.TURN_SECONDS", 0.05)
    monkeypatch.setattr("chassis.database.POOL_SIZE", 1)
    with new(database_url) as database, ThreadPoolExecutor(1) as threads:
        with database.transaction():
            late = threads.submit(lambda: database.transaction().__enter__())
            with pytest.raises(DatabaseError, match="its turn did not come"):
                late.result(60)
        with closing(database._readers.connect()):
            held = [database._readers.connect() for _ in range(10)]
            with pytest.raises(DatabaseError, match="QueuePool limit"), database.reading() as session:
                session.execute(sa.select(1))
            for connection in held:
                connection.close()
