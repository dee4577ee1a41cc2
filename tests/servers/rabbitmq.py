"""A private RabbitMQ server: a node of its own, without plugins, beside any other on this machine."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

from tests.servers.certificate import make_certificate
from tests.servers.process import ServerProcess

#: RabbitMQ before 4.0 writes the name of a new quorum queue up to a second after it said that the queue is declared,
#: and a kill in between loses the queue for good: https://github.com/rabbitmq/ra/pull/443
WRITE_NAMES = "#{names := #{directory_rev := Table}} = ra_system:fetch(quorum_queues), dets:sync(Table)."

#: As `broker/rabbitmq/broker.py` advises; a test would otherwise wait three minutes for such a retry.
ARGUMENTS = "-rabbit dead_letter_worker_publisher_confirm_timeout 5000"

DEBIAN = Path("/usr/lib/rabbitmq/bin")  #: the scripts themselves; those on the PATH change to another user first
GREETING = b"AMQP\x00\x00\x09\x01"
SETTINGS = """
loopback_users = none
disk_free_limit.absolute = 1MB
"""


class RabbitMQServer(ServerProcess):
    """As it comes: user and password are `guest`, the vhost is `/`."""

    program = "rabbitmq-server"
    package = "rabbitmq-server"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._distribution_port = self.reserve_port()
        (folder / "plugins").write_text("[].")
        (folder / "rabbitmq.conf").write_text(SETTINGS)

    def command(self) -> list[str]:
        return [_script("rabbitmq-server")]

    def environ(self) -> Mapping[str, str]:
        return {
            "HOME": str(self.folder),  # for the cookie, which lets `control` in
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": os.devnull,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ARGUMENTS,
        }

    def kill(self) -> None:
        """As a power cut would, though not within a second after a queue was declared."""
        if self.runs:
            self.control("eval", WRITE_NAMES)
        super().kill()

    def is_ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as probe:
                probe.sendall(GREETING)
                return probe.recv(1) == b"\x01"  # a method frame: connection.start
        except OSError:
            return False

    def control(self, *arguments: str) -> str:
        """What `rabbitmqctl` says, as an operator would use it."""
        command = [_script("rabbitmqctl"), "--quiet", *arguments]
        environ = {**os.environ, **self.environ()}
        return subprocess.run(command, env=environ, check=True, capture_output=True, text=True, timeout=180).stdout


class RabbitMQOverTls(RabbitMQServer):
    """The same, also over TLS, with a certificate of its own for `localhost`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.certificate, key = folder / "certificate.pem", folder / "key.pem"
        port = self.reserve_port()
        self.url = f"rabbitmq://localhost:{port}/"
        make_certificate(self.certificate, key)
        files = f"ssl_options.certfile = {self.certificate}\nssl_options.keyfile = {key}\n"
        listeners = f"listeners.ssl.1 = 127.0.0.1:{port}\n{files}"
        (folder / "rabbitmq.conf").write_text(SETTINGS + listeners)


def _script(name: str) -> str:
    return str(DEBIAN / name) if (DEBIAN / name).exists() else name
