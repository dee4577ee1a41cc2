"""The ledger: every user is accounted for, and a loss is stated neither too early nor never."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete

import broker
import email_service.tables
import user_service.tables
from broker import Broker, Event, Message, Reject
from broker.testing import eventually
from chassis.database import Database, sqlite_url
from contracts.events import USER_REGISTERED, UserRegistered
from demo import ledger
from demo.command import FAILED
from demo.ledger import Balance, Ledger, LedgerError, Store
from email_service.consumer import GROUP
from email_service.tables import InboxRow
from user_service.tables import OutboxRow, User

NOW = datetime(2026, 1, 31, 8, 15, 30, tzinfo=UTC)


class World:
    """What the ledger looks at, and ways to change it."""

    def __init__(self, folder: Path, bus: Broker) -> None:
        self.bus = bus
        self.users_url = sqlite_url(folder / "users.db")
        self.emails_url = sqlite_url(folder / "emails.db")
        self.ledger = Ledger(self.users_url, self.emails_url, bus.group(USER_REGISTERED, GROUP))
        self.users = Database(
            self.users_url, user_service.tables.Base.metadata, schema_name="user_service", schema_version=1
        )
        self.emails = Database(
            self.emails_url, email_service.tables.Base.metadata, schema_name="email_service", schema_version=1
        )

    def register(self, user_id: str) -> Message:
        """A user, and nothing else; the event that should tell of it."""
        with self.users.transaction() as session:
            session.add(
                User(id=user_id, name="学院君", email="", email_key=user_id, password_hash="", created_at=NOW),
            )
        return UserRegistered(user_id, "学院君", f"{user_id}@example.com", NOW).to_message()

    def put_into_outbox(self, message: Message, sent_at: datetime | None = None) -> None:
        """A row as the user service keeps it."""
        row = OutboxRow(topic=USER_REGISTERED, header=dict(message.header), body=message.body, created_at=NOW)
        row.sent_at = sent_at
        with self.users.transaction() as session:
            session.add(row)

    def email(self, user_id: str, sent_at: datetime | None = NOW, duplicates: int = 0) -> None:
        """A row as the email service keeps it."""
        row = InboxRow(event_id=str(uuid.uuid4()), user_id=user_id, recipient="", subject="", duplicates=duplicates)
        row.sent_at = sent_at
        with self.emails.transaction() as session:
            session.add(row)

    def reject_all(self) -> None:
        """Let everything that waits become a dead letter."""

        def reject(event: Event) -> None:
            raise Reject("no reason")

        subscription = self.bus.subscribe(USER_REGISTERED, reject, group=GROUP)
        eventually(lambda: self.bus.backlog(USER_REGISTERED, GROUP) == 0, "nothing waits")
        subscription.unsubscribe()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Both services' databases, empty, and a broker with the email service's group."""
    with broker.connect(f"memory://{uuid.uuid4()}") as bus:
        world = World(tmp_path, bus)
        with world.users, world.emails:
            bus.subscribe(USER_REGISTERED, lambda _: None, group=GROUP).unsubscribe()
            yield world


def at_once(world: World) -> Balance:
    """How it stands when two looks in a row are all the quiet that is asked for."""
    balances = world.ledger.watch(settle_seconds=0)
    next(balances)
    return next(balances)


def test_everybody_emailed_is_balanced_at_once(world: World) -> None:
    """No settling: there is nobody who could be lost."""
    for user_id in ("1", "2"):
        world.register(user_id)
        world.email(user_id, duplicates=2)
    balance = world.ledger.settle(wait_seconds=0)
    expected = "LEDGER  users 2 · emailed 2 · on its way 0 · dead-lettered 0 · LOST 0 · duplicates suppressed 4"
    assert str(balance) == expected
    assert balance.status == ledger.BALANCED


def test_a_user_of_whom_nothing_is_left_is_lost_and_named(world: World) -> None:
    """The tutorial's own loss: committed, and the event never published; also when its outbox row was marked sent."""
    world.put_into_outbox(world.register("1"), sent_at=NOW)
    world.register("2")
    world.email("2")
    balance = at_once(world)
    expected = "LEDGER  users 2 · emailed 1 · on its way 0 · dead-lettered 0 · LOST 1 · duplicates suppressed 0"
    assert str(balance) == expected
    assert balance.lost == ("1",)
    assert balance.status == ledger.LOST


def in_the_outbox(world: World, message: Message) -> None:
    """Not published yet."""
    world.put_into_outbox(message)


def with_the_broker(world: World, message: Message) -> None:
    """Published and not handled yet."""
    world.bus.publish(USER_REGISTERED, message)


@pytest.mark.parametrize("travel", [in_the_outbox, with_the_broker])
def test_an_event_on_its_way_is_never_called_lost(world: World, travel: Callable[[World, Message], None]) -> None:
    """However long it has been quiet."""
    travel(world, world.register("1"))
    balance = at_once(world)
    assert "users 1 · emailed 0 · on its way 1 · dead-lettered 0 · settling (outbox" in str(balance)
    assert balance.lost == ()
    assert balance.status == ledger.SETTLING


def test_a_claimed_email_is_not_a_sent_one(world: World) -> None:
    """The email service died between claim and send, and the broker has forgotten: lost."""
    world.register("1")
    world.email("1", sent_at=None)
    assert at_once(world).lost == ("1",)


def test_a_dead_letter_is_counted_as_such_until_its_email_is_sent(world: World) -> None:
    """It is not lost: it can be read and replayed."""
    world.bus.publish(USER_REGISTERED, world.register("1"))
    world.reject_all()
    assert "dead-lettered 1 · LOST 0" in str(at_once(world))
    world.email("1")
    assert "emailed 1 · on its way 0 · dead-lettered 0 · LOST 0" in str(at_once(world))


def test_a_loss_is_stated_only_after_a_quiet_lease(world: World) -> None:
    """Any change begins it anew: until then it may still be on its way somewhere that is not looked at."""
    world.register("1")
    time = [0.0]
    balances = world.ledger.watch(settle_seconds=30, now=lambda: time[0])

    def after(seconds: float) -> Balance:
        time[0] += seconds
        return next(balances)

    assert not after(0).settled
    assert not after(29).settled
    world.register("2")
    world.email("2")
    assert not after(2).settled
    assert not after(29).settled
    assert after(1).lost == ("1",)


def test_waiting_ends_when_the_last_email_is_sent(world: World) -> None:
    """No longer than that."""
    world.register("1")
    assert world.ledger.settle(wait_seconds=60, on_change=lambda _: world.email("1")).status == ledger.BALANCED


def test_waiting_tells_of_each_change_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """However often it looks."""
    monkeypatch.setattr(ledger, "POLL_SECONDS", 0.01)
    world.register("1")
    told: list[Balance] = []
    assert world.ledger.settle(wait_seconds=0.2, on_change=told.append).status == ledger.SETTLING
    assert len(told) == 1


def test_the_ledger_cannot_write(world: World) -> None:
    """It reads the services' own files, while they run."""

    def write() -> None:
        with Store(world.users_url).reading(User) as session:
            assert session is not None
            session.execute(delete(User))

    with pytest.raises(LedgerError, match="readonly"):
        write()


def test_an_email_service_that_never_ran_has_sent_nothing(tmp_path: Path) -> None:
    """The users wait in the outbox; and counting them has made no file."""
    with broker.connect(f"memory://{uuid.uuid4()}") as bus:
        world = World(tmp_path, bus)
        with world.users:
            world.put_into_outbox(world.register("1"))
        assert at_once(world).status == ledger.SETTLING
    assert [path.name for path in tmp_path.glob("emails.db*")] == []


def test_without_a_user_service_there_is_nothing_to_count(tmp_path: Path) -> None:
    """A wrong folder must not look like a clean slate."""
    with broker.connect(f"memory://{uuid.uuid4()}") as bus, pytest.raises(LedgerError, match=r"users\.db"):
        World(tmp_path, bus).ledger.count()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("DATA_DIR", "nowhere", "nowhere/users.db has no users"),
        ("BROKER", "memory", "one process"),
        ("BROKER", "pigeons", "unknown broker 'pigeons'; known: memory, http"),
        ("USERS_DATABASE_URL", "no url", "DATABASE_URL is not a URL"),
        ("USERS_DATABASE_URL", "mysql://root@a..b/x", "DATABASE_URL mysql+pymysql://root@a..b/x is not possible"),
        ("USERS_DATABASE_URL", "mysql+mysqldb://root@host/x", "needs the package 'MySQLdb'"),
    ],
)
def test_what_cannot_be_counted_is_one_line_and_status_2(
    variable: str,
    value: str,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On standard error, and never a LOST 0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    assert ledger.main(["--no-wait"]) == FAILED
    out, error = capsys.readouterr()
    assert out == ""
    assert line in error
    assert error.count("\n") == 1
