"""A MariaDB server for a test, where this project says MySQL: a private one, or the reader's own.

The private one reads no settings but ours, and keeps what it has committed when it is killed.
https://mariadb.com/kb/en/mariadb-install-db/
"""

from __future__ import annotations

import os
import subprocess
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pymysql
import pytest
import sqlalchemy as sa

from tests.servers.process import ServerProcess

ANSWER_SECONDS = 30  #: how long an operator waits for an answer

#: Small, so that making and starting it takes a second. The socket stands in the data folder, under a short name. The
#: folder for temporary tables is its own, since a server that starts removes all those that it finds.
SETTINGS = """
[mysqld]
datadir={folder}/data
port={port}
bind-address=127.0.0.1
socket=socket
tmpdir={folder}/temporary
pid-file=pid
skip-name-resolve
innodb-flush-log-at-trx-commit=1
innodb-buffer-pool-size=16M
innodb-log-file-size=4M
innodb-data-file-path=ibdata1:4M:autoextend
innodb-autoextend-increment=1
innodb-undo-tablespaces=0
aria-log-file-size=8M
"""

#: Marks a test whose `database_url` is to be on SQLite and on MariaDB in turn; without it, it is on SQLite alone.
on_each_database = pytest.mark.parametrize("database_url", ["sqlite", "mariadb"], indirect=True)

#: The same for what SQLite, with its one writer at a time, has nothing to show for.
on_mariadb = pytest.mark.parametrize("database_url", ["mariadb"], indirect=True)


class Operator(ABC):
    """What an operator does to a server, whoever started it."""

    address: sa.URL

    @abstractmethod
    def down(self) -> AbstractContextManager[None]:
        """Meanwhile nobody listens; then it is back, with all that was committed."""

    @abstractmethod
    def paused(self) -> AbstractContextManager[None]:
        """Meanwhile it takes connections and answers nobody."""

    def url(self, database: str) -> str:
        """The URL of that database, which is made unless it is there."""
        self.call(f"CREATE DATABASE IF NOT EXISTS `{database}` CHARACTER SET utf8mb4")
        return self.address.set(database=database).render_as_string(hide_password=False)

    @contextmanager
    def new_database(self) -> Iterator[str]:
        """The URL of a database that nobody else has; afterwards it is gone."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        yield self.url(name)
        self.call(f"DROP DATABASE `{name}`")

    def call(self, statement: str) -> None:
        """One statement, by a login of its own."""
        login = pymysql.connect(
            host=self.address.host,
            port=self.address.port or 3306,
            user=self.address.username,
            password=self.address.password or "",
            connect_timeout=ANSWER_SECONDS,
            read_timeout=ANSWER_SECONDS,
        )
        with closing(login), login.cursor() as cursor:
            cursor.execute(statement)


class MariaDbServer(ServerProcess, Operator):
    """`root` may come in from this machine without a password."""

    program = "mariadbd"
    package = "mariadb-server"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.address = sa.make_url(f"mysql+pymysql://root@127.0.0.1:{self.port}")
        self._settings = folder / "my.cnf"
        self._settings.write_text(SETTINGS.format(folder=folder, port=self.port))

    def command(self) -> list[str]:
        return [self.program, *self._options()]

    def is_ready(self) -> bool:
        """By a real login: `mariadb-admin ping` is content with one that was refused."""
        try:
            self.call("SELECT 1")
        except pymysql.Error:
            return False
        return True

    def start(self) -> None:
        if not (self.folder / "data").exists():
            self._install()
        super().start()

    @contextmanager
    def down(self) -> Iterator[None]:
        self.kill()
        try:
            yield
        finally:
            self.start()

    def _install(self) -> None:
        (self.folder / "temporary").mkdir()
        how = ["--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(["mariadb-install-db", *self._options(), *how], check=True, capture_output=True)

    def _options(self) -> list[str]:
        """The file first, as the programs demand; as root they run only when told so."""
        as_root = ["--user=root"] if os.geteuid() == 0 else []
        return [f"--defaults-file={self._settings}", *as_root]


class ReadersMySql(Operator):
    """A server that somebody else runs; it is not stopped, and each database made on it is dropped."""

    def __init__(self, url: str) -> None:
        self.address = sa.make_url(url)

    def down(self) -> AbstractContextManager[None]:
        pytest.skip("MYSQL_URL is not stopped")

    def paused(self) -> AbstractContextManager[None]:
        pytest.skip("MYSQL_URL is not paused")
