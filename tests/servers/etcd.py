"""An etcd for a test: a private one, of a single member."""

from __future__ import annotations

from pathlib import Path

import requests
from etcd3gw.client import Etcd3Client

from tests.servers.process import ServerProcess


class EtcdServer(ServerProcess):
    """What it holds outlives a kill."""

    program = "etcd"
    package = "etcd-server"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.url = f"etcd://127.0.0.1:{self.port}"
        self._peer_port = self.reserve_port()

    def command(self) -> list[str]:
        mine, peers = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{self._peer_port}"
        clients = ["--listen-client-urls", mine, "--advertise-client-urls", mine]
        cluster = ["--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers]
        member = ["--name", "test", "--initial-cluster", f"test={peers}", "--data-dir", str(self.folder / "data")]
        return [self.program, *member, *clients, *cluster]

    def is_ready(self) -> bool:
        """It says that it is healthy once it has a leader, which is itself."""
        try:
            health = requests.get(f"http://127.0.0.1:{self.port}/health", timeout=1)
        except requests.RequestException:
            return False
        return "true" in health.text

    def client(self) -> Etcd3Client:
        """What an operator, or a stranger, has."""
        return Etcd3Client("127.0.0.1", self.port, timeout=10, api_path="/v3/")
