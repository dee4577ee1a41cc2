"""Real processes of the application: started, listened to, stopped, killed, and never left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

import psutil
import requests

from broker.testing import eventually
from demo.api_client import NewUser, Services

ROOT = Path(__file__).parents[2]
RUN_SECONDS = 700  #: only against hanging: whatever is run gives up before
STOP_SECONDS = 60  #: a drain takes ten, and a busy machine some more
PATIENCE_SECONDS = 90
NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """What a program gets to see: nothing of this machine but the PATH, and these settings."""
    return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", "BCRYPT_COST": "4", **settings}


def run(*arguments: str, settings: Mapping[str, str] = NO_SETTINGS) -> subprocess.CompletedProcess[str]:
    """Run `python …` to its end; its standard input is empty."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_SECONDS,
        check=False,
    )


class Program:
    """`python …` as a process of its own, with everything that it prints in a file."""

    def __init__(self, arguments: Sequence[str], output: Path, settings: dict[str, str]) -> None:
        self._arguments = arguments
        self._output = output
        self.settings = settings
        self._process: psutil.Popen | None = None

    def set(self, **settings: str) -> None:
        """Settings for the next start."""
        self.settings.update(settings)

    def start(self, stdin: int = subprocess.DEVNULL) -> None:
        """Start it."""
        with self._output.open("ab") as output:
            self._process = psutil.Popen(
                [sys.executable, *self._arguments],
                cwd=ROOT,
                env=environment(self.settings),
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def process(self) -> psutil.Popen:
        """The process that runs, or ran last."""
        assert self._process is not None, "start() it first"
        return self._process

    @property
    def output(self) -> str:
        """Everything that it has printed, in all its lives."""
        return self._output.read_text(encoding="utf-8") if self._output.exists() else ""

    def says(self, words: str) -> bool:
        """Whether it has printed that; a failure when it ended without."""
        found = words in self.output
        assert found or self.process.poll() is None, f"it ended without saying {words!r}: {self.output}"
        return found

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end; its exit status."""
        self.process.send_signal(number)
        return int(self.process.wait(STOP_SECONDS))

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def close(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self.kill()


class Service(Program):
    """One of the two services, on a port of its own choosing; `replica` tells it from others of its name."""

    def __init__(self, name: str, data: Path, replica: str = "") -> None:
        settings = {"DATA_DIR": str(data), "BROKER": "http", "PORT": "0"}
        super().__init__(["-m", name], data / f"{name}{replica}.log", settings)
        self._name = name
        self.url = ""

    def start(self, stdin: int = subprocess.DEVNULL) -> None:
        """Start it, and wait until it is ready."""
        before = len(self.output)
        self._arguments = ["-m", *(["demo.service"] if self.settings.get("DEMO_FAULTS") else []), self._name]
        super().start(stdin)
        self.url = eventually(lambda: self._listening(before), f"{self._name} listens")
        eventually(self.is_ready, f"{self._name} is ready")

    def is_ready(self) -> bool:
        """Whether it says that it should get requests."""
        try:
            return requests.get(f"{self.url}/health/ready", timeout=5).ok
        except requests.RequestException:  # so busy that it does not answer in time
            return False

    def _listening(self, start: int) -> str:
        assert self.process.poll() is None, f"{self._name} ended: {self.output[start:]}"
        # the http broker's member listens too, under another name
        match = re.search(r'"listening on (http://[^"]+)"', self.output[start:])
        return match[1] if match else ""


def ledger(users: Service, emails: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """What `ledger.py` says of these two."""
    urls = {
        "USERS_DATABASE_URL": users.settings.get("DATABASE_URL", ""),
        "EMAILS_DATABASE_URL": emails.settings.get("DATABASE_URL", ""),
    }
    shared = {name: users.settings[name] for name in ("DATA_DIR", "BROKER")}
    return run("ledger.py", *arguments, settings={**shared, **urls})


class Application:
    """Both services with one data folder, each started when a test says so, and the client's view of them."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.users = Service("user_service", data)
        self.emails = Service("email_service", data)

    def set(self, **settings: str) -> None:
        """Settings of both, for the next start."""
        self.users.set(**settings)
        self.emails.set(**settings)

    def start(self) -> None:
        """Start both."""
        self.emails.start()
        self.users.start()

    def register(self, *names: str) -> list[NewUser]:
        """Register these people."""
        users = [NewUser(name) for name in names]
        with closing(Services(self.users.url, "", PATIENCE_SECONDS)) as services:
            for user in users:
                services.register(user)
        return users

    def wait_for_emails(self, users: Sequence[NewUser]) -> None:
        """Return when each of them has mail, or fail."""
        with closing(Services("", self.emails.url, PATIENCE_SECONDS)) as services:
            for user in users:
                services.email(user.id)

    def times_sent(self, user: NewUser) -> int:
        """How often the simulated mailer has sent to somebody of that name."""
        return self.emails.output.count(f"[SENDING A EMAIL TO {user.name}...]")

    def ledger(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """What `ledger.py` says of them."""
        return ledger(self.users, self.emails, *arguments)

    def event_id(self, user: NewUser) -> str:
        """The event that told of somebody who has mail."""
        emails = requests.get(f"{self.emails.url}/emails", params={"user_id": user.id}, timeout=5).json()["emails"]
        return str(emails[0]["event_id"])

    def story(self, event_id: str) -> list[tuple[str, str]]:
        """What `grep` finds of an event in the logs of both: who said what, in each process's order."""
        lines = [*self.users.output.splitlines(), *self.emails.output.splitlines()]
        found = [json.loads(line) for line in lines if event_id in line]
        assert {line["event_id"] for line in found} == {event_id}
        return [(line["service"], line["event"]) for line in found]

    def close(self) -> None:
        """Leave nothing behind."""
        self.users.close()
        self.emails.close()
