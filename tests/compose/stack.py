"""The application in containers: a compose project of a test's own, on free ports, gone with its data in the end."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import requests

from broker.testing import eventually
from demo.api_client import NewUser, Services
from tests.servers.process import missing

ROOT = Path(__file__).parents[2]
COMMAND_SECONDS = 600  #: the first build, on a busy machine
PATIENCE_SECONDS = 120
OURS = "event-driven-users:local"


class Stack:
    """`docker compose` with one broker. Each port is one that was free; it is another after a restart."""

    def __init__(self, broker: str) -> None:
        self._command = [
            "docker",
            "compose",
            "--env-file",
            os.devnull,
            "--project-name",
            f"test-{uuid.uuid4().hex[:8]}",
        ]
        self._environ = {
            **os.environ,
            "BROKER": broker,
            "BCRYPT_COST": "4",
            **dict.fromkeys(["USERS_PORT", "EMAILS_PORTS", "MAILPIT_PORT"], "0"),
        }

    def compose(self, *arguments: str) -> str:
        """Run `docker compose …`; what it printed."""
        return run([*self._command, *arguments], self._environ)

    def up(self, *options: str) -> None:
        """Start what does not run, and wait until all are healthy."""
        self.compose("up", "--detach", "--wait", "--wait-timeout", str(COMMAND_SECONDS // 2), *options)

    def services(self) -> list[str]:
        """The names of those that run."""
        return self.compose("ps", "--services").split()

    def images(self) -> set[str]:
        """The images that others have made."""
        built_on = re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)
        return {*self.compose("config", "--images").split(), *built_on} - {OURS}

    def register(self, name: str) -> NewUser:
        """Somebody signs up, through the published port."""
        user = NewUser(name)
        with closing(Services(self._url("user-service"), "", PATIENCE_SECONDS)) as services:
            services.register(user)
        return user

    def knows(self, user: NewUser) -> bool:
        """Whether the user service has that user."""
        return requests.get(f"{self._url('user-service')}/users/{user.id}", timeout=30).ok

    def emails(self) -> int:
        """How many emails the email service says it has sent."""
        return len(requests.get(f"{self._url('email-service')}/emails?limit=1000", timeout=30).json()["emails"])

    def client(self, *options: str) -> None:
        """Many sign up, by the client in a container of its own; back when all have mail."""
        self.compose("run", "--rm", "-T", "client", f"--timeout={PATIENCE_SECONDS}", *options)

    def mailbox(self) -> list[str]:
        """Who has mail, one entry for each email."""
        answer = requests.get(f"{self._url('mailpit', 8025)}/api/v1/messages?limit=1000", timeout=30).json()
        return [to["Address"] for message in answer["messages"] for to in message["To"]]

    def mailed(self, user: NewUser) -> int:
        """How many emails to that user are in the mailbox."""
        return self.mailbox().count(user.form()["email"])

    def wait_for_mail(self, user: NewUser) -> None:
        """Return when that user has mail."""
        eventually(lambda: self.mailed(user), f"there is mail for {user.name}", PATIENCE_SECONDS)

    def close(self) -> None:
        """Leave nothing behind."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "1")

    def _url(self, service: str, port: int = 8000) -> str:
        return f"http://{self.compose('port', service, str(port)).strip()}"


def run(command: Sequence[str], environ: dict[str, str] | None = None) -> str:
    """What the command printed; when it fails, the test does, with what it said."""
    ended = subprocess.run(
        command, cwd=ROOT, env=environ, capture_output=True, encoding="utf-8", timeout=COMMAND_SECONDS, check=False
    )
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stderr[-3000:]}"
    return ended.stdout


def need_engine() -> None:
    """Docker, its compose plugin and an engine that answers; or the test ends here, saying which is missing."""
    if shutil.which("docker") is None:
        missing("docker is not installed; see https://docs.docker.com/engine/install/")
    for command, what in (
        (
            ["docker", "compose", "version"],
            "docker has no compose plugin; see https://docs.docker.com/compose/install/",
        ),
        (["docker", "info", "--format", "{{.ServerVersion}}"], "no Docker engine answers; start one"),
    ):
        if subprocess.run(command, capture_output=True, timeout=60, check=False).returncode:
            missing(what)


def need_image(image: str) -> None:
    """The image, here or pulled; or the test ends here."""
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True, timeout=60, check=False).returncode:
        pulled = subprocess.run(
            ["docker", "pull", "--quiet", image],
            capture_output=True,
            encoding="utf-8",
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if pulled.returncode:
            missing(f"the image {image} is not here and cannot be pulled: {pulled.stderr.strip()}")
