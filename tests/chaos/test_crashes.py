"""The crash matrix: a service dies at each point that `demo/faults.py` names, on each broker and database.

Whatever the point, after a restart every user has an email, and just one; but for `after-send`, which is the window
that stays open: the mail server has the email, and nobody has noted that. Then it comes again with its Message-ID.

`make test` runs each point on http and SQLite, and elsewhere those that touch what is different; `make matrix` all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from itertools import product
from pathlib import Path

import psutil
import pytest
from _pytest.mark import ParameterSet

from broker.testing import eventually
from demo.api_client import NewUser, NotYet, Services
from demo.faults import POINTS
from tests.end_to_end.processes import Application, Service
from tests.servers.brokers import WITH_SERVER, BrokerServer, broker_server
from tests.servers.mailbox import Mailbox

BURST = 8  #: people who sign up at a time
PAUSE_SECONDS = 0.5  #: until the next burst
LEASE_SECONDS = "5"  #: of what a dead process had in hand; longer than any stall of a busy machine

ON_BROKER = ("mid-batch", "after-publish", "after-receive", "before-ack")
ON_DATABASE = ("before-commit", "after-commit", "after-publish", "before-send", "after-send")

#: what `DELIVERY=direct` makes of a crash at this point: whether somebody is lost
DIRECT = {"before-commit": False, "after-commit": True, "before-publish": True, "after-publish": False}


def matrix() -> Iterator[ParameterSet]:
    """Every broker, database and point; marked where only `make matrix` goes."""
    points = [point for of_one in POINTS.values() for point in of_one]
    for broker, database, point in product(("http", *WITH_SERVER), ("sqlite", "mariadb"), points):
        chosen = {
            ("http", "sqlite"): points,
            ("http", "mariadb"): ON_DATABASE,
        }.get((broker, database), ON_BROKER if database == "sqlite" else ())
        yield pytest.param(broker, database, point, marks=() if point in chosen else pytest.mark.matrix)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """Where the emails go."""
    with Mailbox() as running:
        yield running


@pytest.fixture
def app(tmp_path: Path, mailbox: Mailbox) -> Iterator[Application]:
    """Both services, not started yet."""
    application = Application(tmp_path)
    application.set(LEASE_SECONDS=LEASE_SECONDS)
    # one email at a time: of several, others might be in the window of `after-send` when it dies elsewhere
    application.emails.set(CLAIM_SECONDS=LEASE_SECONDS, MAIL_URL=mailbox.url, CONCURRENCY="1")
    yield application
    application.close()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], BrokerServer]]:
    """A broker's server, started for the first test of a worker that asks; each test leaves it empty."""
    started: dict[str, BrokerServer] = {}
    with ExitStack() as ending:

        def server(broker: str) -> BrokerServer:
            if broker not in started:
                folder = tmp_path_factory.mktemp(broker) / "server"
                started[broker] = ending.enter_context(broker_server(broker, folder))
            return started[broker]

        yield server


@pytest.mark.parametrize(("broker", "database", "point"), list(matrix()))
def test_a_crash_costs_nobody_an_email(
    app: Application,
    mailbox: Mailbox,
    servers: Callable[[str], BrokerServer],
    request: pytest.FixtureRequest,
    broker: str,
    database: str,
    point: str,
) -> None:
    """The client tries again, with the same ids; the ledger balances; nobody has two emails."""
    if broker != "http":
        app.set(BROKER=servers(broker).url)
    with ExitStack() as ending:
        if database == "mariadb":
            for service in (app.users, app.emails):
                new = request.getfixturevalue("mariadb").new_database()
                service.set(DATABASE_URL=ending.enter_context(new))
        ending.callback(app.close)
        people = crash(app, point)
        ledger = app.ledger()
        assert ledger.returncode == 0, ledger.stdout
        assert f"users {len(people)} · emailed {len(people)} · on its way 0 · dead-lettered 0 · LOST 0" in ledger.stdout
    emails = mailbox.by_recipient
    received = [emails[user.form()["email"]] for user in people]
    assert all(len(set(message_ids)) == 1 for message_ids in received)
    assert {len(message_ids) for message_ids in received} == ({1, 2} if point == "after-send" else {1})


@pytest.mark.parametrize(("point", "loses"), list(DIRECT.items()))
def test_the_tutorials_delivery_loses_at_these_points(app: Application, point: str, loses: bool) -> None:
    """`DELIVERY=direct`: the user is stored, the event is gone, and the ledger names who waits for ever."""
    app.users.set(DELIVERY="direct")
    people = crash(app, point, burst=1)  # of several, others might be between commit and publish when it dies
    ledger = app.ledger("--settle-seconds", LEASE_SECONDS)
    lost = set(re.findall(r"^LOST user (\S+)$", ledger.stdout, re.MULTILINE))
    assert ledger.returncode == (1 if loses else 0), ledger.stdout
    assert bool(lost) == loses
    assert lost <= {user.id for user in people}
    assert f"LOST {len(lost)} " in ledger.stdout


def crash(app: Application, point: str, burst: int = BURST) -> list[NewUser]:
    """People sign up until a service has died at the point; it is started again, and everybody is registered."""
    victim = next(getattr(app, name.partition("_")[0] + "s") for name in POINTS if point in POINTS[name])
    victim.set(DEMO_FAULTS=point)
    app.start()
    people = sign_up_until_it_dies(app, victim, burst)
    assert f"this process dies at {point}" in victim.output
    victim.set(DEMO_FAULTS="")
    victim.start()
    assert all(sign_up(app, people, patience_seconds=60))
    return people


def sign_up_until_it_dies(app: Application, victim: Service, burst: int) -> list[NewUser]:
    """Bursts of people, some of whom may get no answer."""
    people: list[NewUser] = []

    def has_died() -> bool:
        new = [NewUser(f"Person {len(people) + number}") for number in range(burst)]
        people.extend(new)
        sign_up(app, new)
        with suppress(psutil.TimeoutExpired):
            victim.process.wait(PAUSE_SECONDS)
        return victim.process.poll() is not None

    eventually(has_died, "it has died")
    return people


def sign_up(app: Application, people: Sequence[NewUser], patience_seconds: float = 0) -> list[bool]:
    """All at once; whether each has an answer that confirms it."""

    def one(user: NewUser) -> bool:
        with closing(Services(app.users.url, "", patience_seconds)) as services:
            try:
                return bool(services.register(user))
            except NotYet:
                return False

    with ThreadPoolExecutor(BURST) as pool:
        return list(pool.map(one, people))
