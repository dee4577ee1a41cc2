"""A Redis server for a test: a private one that loses nothing it has confirmed, or the reader's own."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from broker.names import encode
from tests.servers.certificate import make_certificate
from tests.servers.process import ServerProcess


class Operator:
    """What an operator does to a server, whoever started it."""

    url: str

    def call(self, *command: str | bytes | int) -> Any:
        """One command, as one would type it."""
        with closing(redis.Redis.from_url(self.url, socket_timeout=10, retry=Retry(NoBackoff(), 0))) as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]  # the library's

    def sweep(self, topic: str) -> None:
        """Remove what there is of the topics that start like that."""
        keys = self.call("KEYS", f"broker:*:{encode(topic)}*")
        names = [name for name in self.call("SMEMBERS", "broker:groups") if name.startswith(encode(topic).encode())]
        if keys:
            self.call("DEL", *keys)
        if names:
            self.call("SREM", "broker:groups", *names)


class RedisServer(ServerProcess, Operator):
    """Set as the head of `broker/redis/broker.py` says."""

    program = "redis-server"
    package = "redis-server"

    def __init__(self, folder: Path, *settings: str) -> None:
        super().__init__(folder)
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._settings = settings

    def command(self) -> list[str]:
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        keep = ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        return [self.program, *place, *keep, *self._settings]

    def is_ready(self) -> bool:
        try:
            return bool(self.call("PING"))
        except redis.RedisError:
            return False


class RedisOverTls(RedisServer):
    """The same over TLS, with a certificate of its own for `localhost`, which clients have to show as well."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        self.url = f"rediss://localhost:{self.port}/0"
        self._settings = ("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "yes")
        for name, path in (("cert", self.certificate), ("key", self.key), ("ca-cert", self.certificate)):
            self._settings += (f"--tls-{name}-file", str(path))
        make_certificate(self.certificate, self.key)

    def call(self, *command: str | bytes | int) -> Any:
        files = {"ssl_ca_certs": self.certificate, "ssl_certfile": self.certificate, "ssl_keyfile": self.key}
        with closing(redis.Redis.from_url(self.url, **{name: str(path) for name, path in files.items()})) as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]  # the library's


class ReadersRedis(Operator):
    """A server that somebody else runs; it is not stopped, paused or set in another way."""

    def __init__(self, url: str) -> None:
        self.url = url
