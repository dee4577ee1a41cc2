"""The http broker under test: on each registry, plain and over TLS."""

from __future__ import annotations

import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from broker.http import HttpBroker
from broker.http.certificates import make_certificates
from broker.http.registry import open_registry
from broker.testing import Harness
from broker.testing.case import Case

SECRET = "a secret for tests"
LOOPBACK = "mdns://127.0.0.1"  #: nothing of a test leaves this machine

REFUSE = """
CREATE TRIGGER refuse BEFORE UPDATE ON spooled WHEN new.state = 'dead'
BEGIN SELECT RAISE(ABORT, 'no room for the dead'); END
"""


class HttpHarness(Harness):
    """A data folder of its own; its spool can be locked, and its connections broken."""

    promises = HttpBroker.promises

    def __init__(self, data_dir: Path, registry: str = "file", certificates: Path | None = None) -> None:
        super().__init__(f"https://127.0.0.1?certificates={certificates}" if certificates else "http")
        self._data_dir = data_dir
        self._registry = registry

    def options(self) -> dict[str, object]:
        return {"data_dir": self._data_dir, "registry": self._registry, "secret": SECRET}

    def environ(self) -> dict[str, str]:
        return {"DATA_DIR": str(self._data_dir), "REGISTRY": self._registry, "BROKER_SECRET": SECRET}

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

    def lose_group(self, topic: str, group: str) -> None:
        with closing(open_registry(self._registry, self._data_dir / "broker" / "registry", SECRET)) as registry:
            registry.forget_group(topic, group)

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


class OnHttp(Case):
    """What all classes of tests start from."""

    registry = "file"
    tls = False

    @pytest.fixture
    def harness(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[HttpHarness]:
        """A folder that no other test has."""
        registry = {"file": "file", "mdns": LOOPBACK}.get(self.registry) or request.getfixturevalue("etcd").url
        certificates = make_certificates(tmp_path / "certificates", ["127.0.0.1"], days=1)[0] if self.tls else None
        with HttpHarness(tmp_path, registry, certificates) as harness:
            yield harness
