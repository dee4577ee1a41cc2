"""What a chaos run attacks: every process of the application, the broker's server, the mail server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from tests.end_to_end.processes import Service
from tests.servers.brokers import BrokerServer, broker_server
from tests.servers.mailbox import Mailbox
from tests.servers.mariadb import MariaDbServer

EMAIL_REPLICAS = 3
USER_REPLICAS = {"sqlite": 1, "mariadb": 2}  #: several need a database that several processes may write to

#: Short leases, so that what a dead process had in hand comes soon; short delays, so that a run ends soon. No event
#: may become a dead letter for being killed often: then chaos would have won by our own rules.
SETTINGS = {"LEASE_SECONDS": "4", "DRAIN_SECONDS": "5"}
EMAIL_SETTINGS = {"CLAIM_SECONDS": "4", "RETRY_DELAYS": "0.2,0.5,1,2", "MAX_ATTEMPTS": "1000"}


@dataclass(frozen=True)
class Town:
    """Everything, running."""

    users: tuple[Service, ...]
    emails: tuple[Service, ...]
    server: BrokerServer | None
    mailbox: Mailbox


@contextmanager
def town(broker: str, database: str, delivery: str, folder: Path) -> Iterator[Town]:
    """On a broker and a database of its own; all its files are in the folder, and nothing is left running."""
    with ExitStack() as ending:
        server = None if broker == "http" else ending.enter_context(broker_server(broker, folder / broker))
        mailbox = ending.enter_context(Mailbox())
        mariadb = ending.enter_context(_mariadb(folder) if database == "mariadb" else nullcontext())
        url = mariadb.url if mariadb else lambda name: ""
        users = [_service("user_service", folder, n, url("users")) for n in range(USER_REPLICAS[database])]
        emails = [_service("email_service", folder, n, url("emails")) for n in range(EMAIL_REPLICAS)]
        for service in (*emails, *users):
            service.set(BROKER=server.url if server else "http", **SETTINGS)
            ending.callback(service.close)
        for service in users:
            service.set(DELIVERY=delivery)
        for service in emails:
            service.set(MAIL_URL=mailbox.url, **EMAIL_SETTINGS)
        for service in (*emails, *users):
            service.start()
        yield Town(tuple(users), tuple(emails), server, mailbox)


def _mariadb(folder: Path) -> MariaDbServer:
    (folder / "mariadb").mkdir()
    return MariaDbServer(folder / "mariadb")


def _service(name: str, folder: Path, number: int, database_url: str) -> Service:
    service = Service(name, folder, f"-{number + 1}")
    if database_url:
        service.set(DATABASE_URL=database_url)
    return service


Say = Callable[[str, str], None]  #: (who, what), for the timeline
