"""The demo: the whole application on this machine, and the story of each event as it travels.

Needs nothing but Python and what `make setup` installed.

    make demo                                   # or: python -m demo
    make demo ARGS="--broker memory"            # another broker; both services in one process
    make demo ARGS="--database mysql://root@127.0.0.1/demo"

You should see three people registered, an email sent to each, a fourth refused because the address is taken, and a last
line from the ledger that says that nothing was lost. In a terminal it then stays up for you to play with.
Exit status: 0 when all of that happened, 1 when not; 2 when the demo itself failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

import broker
import email_service.settings
import user_service.settings
from broker import BrokerError
from broker.address import without_secrets
from chassis.database import parse_url, usable
from chassis.errors import ChassisError
from chassis.settings import read
from chassis.text import shown
from contracts.events import USER_REGISTERED
from demo.api_client import ClientError, NewUser, Refused, Services
from demo.command import Screen, run
from demo.ledger import Balance, Ledger, LedgerError
from demo.processes import Stage, StageError, free_ports
from email_service.consumer import GROUP

CAST = ("学院君", "Ada Lovelace", "Zoë 🦊")
PATIENCE_SECONDS = 30.0
DEFAULT_PORTS, ANY_PORTS = (8000, 8001), (0, 0)  #: of the user service, of the email service
PYTHON = ".venv/bin/python"  #: as whoever reads the demo's last lines would type it
COLOURS = {"client": "cyan", "user-service": "green", "email-service": "magenta", "demo": "bold", "ledger": "bold"}
LOUD = {"warning": "yellow", "error": "red", "critical": "red"}  #: level of a log line → colour of its text


class Story:
    """Prints who did what, one line each, from any thread."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def tell(self, who: str, what: str, style: str = "", at: datetime | None = None, event_id: str = "") -> None:
        """One line: time, who, what, and the beginning of the event's id."""
        time = (at or datetime.now(UTC)).astimezone().strftime("%H:%M:%S.%f")[:-3]
        parts: list[tuple[str, str]] = [(f"{time}  ", "dim"), (f"{who:<15}", COLOURS.get(who, "")), (what, style)]
        if event_id:
            parts.append((f"  event {event_id[:8]}", "dim"))
        self._console.print(Text.assemble(*((shown(text), colour) for text, colour in parts)))

    def line(self, process: str, line: str) -> None:
        """A line that a service printed: a log line in JSON, or something for its user."""
        who = process.replace("_", "-")
        try:
            entry: dict[str, Any] = json.loads(line)
            style = LOUD.get(entry["level"], "")
            at = datetime.fromisoformat(entry["timestamp"])
            self.tell(_speaker(entry), entry["event"], style, at, entry.get("event_id", ""))
        except (ValueError, KeyError, TypeError):
            self.tell(who, line, "bold" if line.startswith("[") else "")


def _speaker(entry: Mapping[str, Any]) -> str:
    """The service whose code logged it; in one process they share everything else."""
    package = str(entry.get("logger", "")).partition(".")[0].replace("_", "-")
    return package if package in COLOURS else str(entry["service"])


def play(services: Services, story: Story) -> None:
    """Several people sign up; a `ClientError` when something is not as it should be."""
    users = [sign_up(services, name, story) for name in CAST]
    taken = users[0]["email"]
    story.tell("client", f"somebody else signs up with {taken}")
    try:
        services.register(NewUser("Somebody Else", email=taken))
    except Refused as refusal:
        story.tell("client", f"refused, as it should be: {refusal}")
    else:
        raise ClientError(f"{taken} was registered twice")


def sign_up(services: Services, name: str, story: Story) -> dict[str, Any]:
    """One person signs up, and waits for the email."""
    story.tell("client", f"{name} signs up")
    user = services.register(NewUser(name))
    story.tell("client", f"{name} <{user['email']}> is registered")
    email = services.email(user["id"])
    story.tell("client", f"{name} has mail: “{email['subject']}”", "bold", event_id=email["event_id"])
    return user


@contextmanager
def folder(keep: Path | None) -> Iterator[Path]:
    """Where this run's data is: a folder that stays, or one that goes."""
    if keep:
        yield keep.resolve()
    else:
        with tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True) as temporary:
            yield Path(temporary)


def environments(options: argparse.Namespace, data: Path) -> dict[str, dict[str, str]]:
    """The settings of each service; what this process's environment says of anything else holds."""
    users_port, emails_port = free_ports(*(ANY_PORTS if options.free_ports else DEFAULT_PORTS))
    services = {}
    for name, port in (("email_service", emails_port), ("user_service", users_port)):
        services[name] = {
            "BROKER": options.broker,
            "DATA_DIR": str(data),
            "DATABASE_URL": own_database(options.database, name) if options.database else "",
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "LOG_FORMAT": "json",
        }
    return services


def own_database(url: str, service: str) -> str:
    """The URL of a database for this service alone, next to the one given; made on MySQL when it is not there."""
    server = parse_url(url)
    own = server.set(database=f"{server.database or 'demo'}_{service}")
    if own.get_backend_name() in ("mysql", "mariadb"):
        with usable(server):
            _create_database(server.set(database=""), own.database or "")
    return own.render_as_string(hide_password=False)


def _create_database(server: sa.URL, name: str) -> None:
    engine = sa.create_engine(server, poolclass=sa.NullPool)
    quoted = engine.dialect.identifier_preparer.quote_identifier(name)
    with engine.begin() as connection:
        connection.execute(sa.text(f"CREATE DATABASE IF NOT EXISTS {quoted} CHARACTER SET utf8mb4"))


def balance(settings: Mapping[str, Mapping[str, str]]) -> Balance:
    """What the ledger says of this run. What waits on a memory broker is not seen from here; nothing does any more."""
    users = read(user_service.settings.Settings, settings["user_service"])
    emails = read(email_service.settings.Settings, settings["email_service"])
    with broker.connect(users.broker, data_dir=users.data_dir, observer=True) as bus:
        ledger = Ledger(users.database, emails.database, bus.group(USER_REGISTERED, GROUP))
        return ledger.settle(PATIENCE_SECONDS, on_change=lambda _: None)


def stay(stage: Stage, settings: Mapping[str, str], console: Console) -> None:
    """Keep running until Ctrl-C, and say what there is to try."""
    client = f"client.py --url {stage.url('user_service')} --emails-url {stage.url('email_service')}"
    console.print(
        Text(
            "\nBoth services are running, and this window goes on telling. In another one, in this folder, try\n"
            f"\n  {PYTHON} {client}"
            f"\n  {PYTHON} {client} --count 100 --concurrency 4"
        )
    )
    if stage.pid("email_service") != stage.pid("user_service"):
        console.print(
            Text(
                f"  kill -9 {stage.pid('email_service')}"
                "\n      The email service is dead. Register somebody now: that works, and the email waits."
                f"\n  {_assignments(settings)} {PYTHON} -m email_service"
                "\n      It is back, and sends what it missed."
            )
        )
    console.print(Text("\nCtrl-C in this window ends everything."))
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


def _assignments(settings: Mapping[str, str]) -> str:
    """The settings as one writes them before a command; passwords are left for the reader to fill in."""
    names = [name for name in ("BROKER", "DATA_DIR", "DATABASE_URL", "PORT") if settings[name]]
    return " ".join(f"{name}={shlex.quote(without_secrets(settings[name]))}" for name in names)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; the exit status."""
    return run("demo", lambda: _run(_options(arguments)))


def _run(options: argparse.Namespace) -> int:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))  # leaves every `with` on its way
    try:
        with folder(options.keep) as data:
            return perform(options.broker, environments(options, data), Screen())
    except (ClientError, StageError, LedgerError, ChassisError, BrokerError, SQLAlchemyError) as error:
        print(f"demo: {shown(str(error).splitlines()[0])}", file=sys.stderr)
        return 1


def perform(broker_name: str, settings: Mapping[str, Mapping[str, str]], console: Console) -> int:
    """Both services, the play, and the ledger's word on it; the exit status."""
    story = Story(console)
    kind = broker_name.partition(":")[0]
    story.tell("demo", f"starting both services on the {kind} broker; data in {settings['user_service']['DATA_DIR']}")
    with Stage(settings, one_process=kind == "memory", say=story.line) as stage:
        with closing(Services(stage.url("user_service"), stage.url("email_service"), PATIENCE_SECONDS)) as services:
            play(services, story)
        if sys.stdin.isatty():
            story.tell("ledger", str(balance(settings)), "bold")
            stay(stage, stage.settings["email_service"], console)
            return 0
    result = balance(settings)
    story.tell("ledger", str(result), "bold")
    return result.status


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description="Run the whole application on this machine.")
    parser.add_argument(
        "--broker", default=os.environ.get("BROKER") or "http", help="a short name or a URL (default: http, or $BROKER)"
    )
    parser.add_argument(
        "--database", metavar="URL", help="a SQLAlchemy URL (default: SQLite); each service gets its own"
    )
    parser.add_argument("--free-ports", action="store_true", help="take other ports even when 8000 and 8001 are free")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="where to keep the data (default: they go with the demo)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
