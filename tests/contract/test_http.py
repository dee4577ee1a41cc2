"""The contract on the http broker with the file registry."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from broker.http import HttpBroker
from broker.names import LOWER, encode
from broker.testing import BrokerContract, Harness

REFUSE = """
CREATE TRIGGER refuse BEFORE UPDATE ON spooled WHEN new.state = 'dead'
BEGIN SELECT RAISE(ABORT, 'no room for the dead'); END
"""


class HttpHarness(Harness):
    """A data folder of its own; its spool can be locked, and its connections broken."""

    promises = HttpBroker.promises

    def __init__(self, data_dir: Path) -> None:
        super().__init__("http")
        self._data_dir = data_dir

    def options(self) -> dict[str, object]:
        return {"data_dir": self._data_dir}

    def environ(self) -> dict[str, str]:
        return {"DATA_DIR": str(self._data_dir)}

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._spool() as db:
            db.execute("BEGIN IMMEDIATE")
            yield
            db.execute("ROLLBACK")

    @contextmanager
    def dead_letters_unreachable(self) -> Iterator[None]:
        with self._spool() as db:
            db.execute(REFUSE)
            yield
            db.execute("DROP TRIGGER refuse")

    def lose_group(self, topic: str, queue: str) -> None:
        (self._data_dir / "broker" / "registry" / "groups" / encode(topic, LOWER) / encode(queue, LOWER)).unlink()

    def cut(self) -> None:
        for made in self._brokers:
            server = made._server if isinstance(made, HttpBroker) else None
            for channel in list(server._server.active_channels.values()) if server else []:
                with suppress(OSError):
                    channel.socket.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def _spool(self) -> Iterator[sqlite3.Connection]:
        path = self._data_dir / "broker" / "spool.db"
        with closing(sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)) as db:
            yield db


class TestHttp(BrokerContract):
    """Every promise, peer to peer."""

    @pytest.fixture
    def harness(self, tmp_path: Path) -> Iterator[Harness]:
        """A folder that no other test has."""
        with HttpHarness(tmp_path) as harness:
            yield harness
