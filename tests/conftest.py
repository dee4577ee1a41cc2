"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.servers import mariadb as servers
from tests.servers.etcd import EtcdServer

pytest_plugins = ["broker.testing.plugin"]

# The same inputs in every run, however slow the machine, and no database of examples left behind.
# Others: make test ARGS="--hypothesis-profile=default".
hypothesis.settings.register_profile("ours", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("ours")


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Operator]:
    """One for all tests of a worker, started for the first that asks; with MYSQL_URL yours, which is not stopped."""
    if url := os.environ.get("MYSQL_URL"):
        yield servers.ReadersMySql(url)
        return
    with servers.MariaDbServer(tmp_path_factory.mktemp("mariadb")) as started:
        yield started


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    """One for all tests of a worker, started for the first that asks; not to be stopped."""
    with EtcdServer(tmp_path_factory.mktemp("etcd")) as started:
        yield started


@pytest.fixture
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of this test's own: on SQLite, unless it is marked `on_each_database` or `on_mariadb`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        yield f"sqlite:///{tmp_path / 'new folder' / 'test.db'}"
        return
    with request.getfixturevalue("mariadb").new_database() as url:
        yield url
