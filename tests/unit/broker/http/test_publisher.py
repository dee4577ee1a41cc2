"""The publishing side: the spool outlives its publisher, and a bad answer is no delivery."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import broker
from broker.base import Broker
from broker.http.registry import FileRegistry, Member
from broker.http.spool import Spool, _Ticket
from broker.http.wire import read_secret
from broker.message import Message
from broker.testing import Recorder, eventually


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Broker]:
    """An http broker."""
    with broker.connect("http", data_dir=tmp_path) as connected:
        yield connected


def test_a_backlog_drains_without_another_publish(b: Broker) -> None:
    """However long it is; nothing is dropped while nobody is there."""
    b.subscribe("t", Recorder(), group="g").unsubscribe()
    for n in range(10):
        b.publish("t", *(Message(f"{n}/{m}".encode()) for m in range(50)))
    seen = Recorder()
    b.subscribe("t", seen, group="g")
    seen.wait(500)
    assert seen.texts == [f"{n}/{m}" for n in range(10) for m in range(50)]


def test_what_a_dead_publisher_left_is_delivered_by_a_live_one(b: Broker, tmp_path: Path) -> None:
    """Its rows are adopted, also those that were with a member; nobody has to publish."""
    left = Spool(tmp_path / "broker" / "spool.db", "dead", timeout_seconds=5)
    left.beat()
    left.add("t", ["g"], [Message(b"with a member"), Message(b"waiting")])
    assert len(left.claim("t", "g", 1)) == 1
    left.close()  # from now on it counts as dead
    seen = Recorder()
    b.subscribe("t", seen, group="g")
    seen.wait(2)
    assert [(r.text, r.attempt) for r in seen.received] == [("with a member", 2), ("waiting", 1)]


def test_an_observer_delivers_nothing_that_others_left(tmp_path: Path) -> None:
    """It sees what waits, and leaves it where it is."""
    with broker.connect("http", data_dir=tmp_path) as publisher:
        publisher.subscribe("t", Recorder(), group="g").unsubscribe()
        publisher.publish("t", Message(b"x"))
    with broker.connect("http", data_dir=tmp_path, observer=True) as observer:
        assert observer.backlog("t", "g") == 1
        assert "http-beat" not in [thread.name for thread in threading.enumerate()]


def test_an_unknown_registry_is_refused_before_anything_is_tried() -> None:
    """It can never work, so nobody has to connect to hear of it."""
    with pytest.raises(broker.BrokerError, match="unknown registry 'carrier'; known: file"):
        broker.new("http", registry="carrier")


def test_a_group_is_found_by_a_publisher_that_was_never_up_with_it(tmp_path: Path) -> None:
    """Groups are remembered in the registry, not by publishers."""
    with broker.connect("http", data_dir=tmp_path) as consumer:
        consumer.subscribe("t", Recorder(), group="g")
    with broker.connect("http", data_dir=tmp_path) as publisher:
        publisher.publish("t", Message(b"x"), mandatory=True)
        assert publisher.backlog("t", "g") == 1


def test_the_next_message_goes_to_the_member_with_less_to_do(b: Broker) -> None:
    """It does not wait behind a long handler while another member is idle."""
    seen, done = Recorder(), threading.Event()

    def long(event: broker.Event) -> None:
        seen(event)
        done.wait()

    for _ in range(2):
        b.subscribe("t", long, group="g")
    try:
        for n in range(2):
            b.publish("t", Message(f"{n}".encode()))
            seen.wait(n + 1)
    finally:
        done.set()


def test_a_spool_that_was_busy_does_not_stop_delivery(tmp_path: Path) -> None:
    """What waited is delivered afterwards without another publish."""
    with broker.connect("http", data_dir=tmp_path, publish_timeout_seconds=5) as b:
        seen = Recorder()
        b.subscribe("t", Recorder(), group="g").unsubscribe()
        b.publish("t", Message(b"x"))
        with closing(sqlite3.connect(tmp_path / "broker" / "spool.db", isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            b.subscribe("t", seen, group="g")
            with pytest.raises(broker.PublishError, match=r"cannot be written|was busy"):
                b.publish("t", Message(b"refused"))
            db.execute("ROLLBACK")
        seen.wait_for("x")


def test_a_damaged_entry_in_the_registry_holds_up_nobody(b: Broker, tmp_path: Path) -> None:
    """Half-written by a power cut, or a desktop's own file."""
    folder = tmp_path / "broker" / "registry"
    seen = Recorder()
    b.subscribe("t", seen, group="g")
    for name in ("members/t/half.one.json", "members/t/.DS_Store", "groups/.DS_Store", "groups/t/.DS_Store"):
        (folder / name).write_text("")
    b.publish("t", Message(b"x"), mandatory=True)
    seen.wait_for("x")
    assert [(group.topic, group.name) for group in b.groups()] == [("t", "g")]


def test_a_listener_that_pauses_misses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry has expired, and it has not left."""
    seen = Recorder()
    with broker.connect("http", data_dir=tmp_path) as b, broker.connect("http", data_dir=tmp_path) as publisher:
        subscription = b.subscribe("t", seen)
        with monkeypatch.context() as paused:
            paused.setattr("broker.http.registry.file.MEMBER_SECONDS", -1.0)
            b._announce_all()  # type: ignore[attr-defined]  # as its entry looks after a pause
            publisher.publish("t", Message(b"x"))
            eventually(lambda: not publisher._pump._members("t", ""), "nobody is seen")  # type: ignore[attr-defined]  # as above
        seen.wait_for("x")
        subscription.unsubscribe()


def test_an_interrupted_commit_confirms_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the thread that writes for others: they are told, and the file is not locked afterwards."""
    spool = Spool(tmp_path / "spool.db", "me", timeout_seconds=5)
    ticket = _Ticket([("me", "t", "g", "waiting", "1", "{}", b"", 0.0)])
    spool._queue.append(ticket)
    with monkeypatch.context() as interrupted:
        interrupted.setattr(spool, "_durable", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            spool._write_queue()
    assert ticket.error is not None
    spool.add("t", ["g"], [Message(b"x")])
    assert spool.backlog("t", "g") == 1
    spool.close()


class Interrupted:
    """A connection that is interrupted at its first statement."""

    in_transaction = False

    def execute(self, statement: str) -> None:
        raise KeyboardInterrupt


def test_what_nobody_took_within_the_retention_is_dropped(tmp_path: Path) -> None:
    """By the next prune; dead letters are not."""
    spool = Spool(tmp_path / "spool.db", "me", timeout_seconds=5)
    spool.add("t", ["g"], [Message(b"x")])
    assert spool.prune(keep_seconds=60) == 0
    assert spool.prune(keep_seconds=-1) == 1
    spool.close()


def test_a_spool_that_cannot_be_written_is_a_publish_error(b: Broker, tmp_path: Path) -> None:
    """It names the file, and the messages."""
    b.subscribe("t", Recorder(), group="g").unsubscribe()
    message = Message(b"x")
    with closing(sqlite3.connect(tmp_path / "broker" / "spool.db")) as db:
        db.execute("CREATE TRIGGER full BEFORE INSERT ON spooled BEGIN SELECT RAISE(ABORT, 'disk full'); END")
        with pytest.raises(broker.PublishError, match=r"spool\.db cannot be written: disk full") as caught:
            b.publish("t", message)
    assert caught.value.unconfirmed == (message,)


def test_a_spool_that_is_gone_does_not_keep_the_broker_from_closing(tmp_path: Path) -> None:
    """Every thread and file is let go of; the cause is told."""
    before = set(threading.enumerate())
    b = broker.connect("http", data_dir=tmp_path)
    with closing(sqlite3.connect(tmp_path / "broker" / "spool.db")) as db:
        db.execute("DROP TABLE spooled")
    with pytest.raises(broker.BrokerError, match="no such table"):
        b.disconnect()
    b.disconnect()
    assert set(threading.enumerate()) <= before


def test_a_data_folder_that_cannot_be_used_is_one_clear_error(tmp_path: Path) -> None:
    """Naming the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(broker.BrokerError, match="file/data/broker"):
        broker.connect("http", data_dir=tmp_path / "file" / "data")


def test_two_that_make_the_secret_at_once_have_the_same(tmp_path: Path) -> None:
    """And nobody else may read it."""
    secrets: list[str] = []
    threads = [threading.Thread(target=lambda: secrets.append(read_secret(tmp_path / "secret"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(secrets)) == 1
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_a_member_that_does_not_renew_is_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry is ignored once it has expired; its group stays."""
    registry = FileRegistry(tmp_path)
    registry.add_group("t", "g")
    registry.renew(Member("m", "t", "g", "http://127.0.0.1:1", prefetch=1, requests=1, lease_seconds=1))
    assert [member.id for member in registry.members_of("t")] == ["m"]
    monkeypatch.setattr("broker.http.registry.file.MEMBER_SECONDS", -1.0)
    registry.renew(Member("m", "t", "g", "http://127.0.0.1:1", prefetch=1, requests=1, lease_seconds=1))
    assert registry.members_of("t") == []
    assert registry.groups() == [("t", "g")]


def test_disconnect_says_what_stays_for_the_next_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is there to deliver it to, so it does not wait for its deadline either."""
    b = broker.connect("http", data_dir=tmp_path, drain_seconds=60)
    b.subscribe("t", Recorder(), group="g").unsubscribe()
    b.publish("t", Message(b"x"))
    b.disconnect()
    assert "1 messages stay in the spool" in caplog.text


def test_disconnect_delivers_first_what_can_be_delivered(tmp_path: Path) -> None:
    """Everything that a live member takes before the deadline."""
    with broker.connect("http", data_dir=tmp_path) as consumer:
        seen = Recorder()
        consumer.subscribe("t", seen, group="g")
        with broker.connect("http", data_dir=tmp_path) as publisher:
            publisher.publish("t", *(Message(b"x") for _ in range(300)))
        eventually(lambda: consumer.backlog("t", "g") == 0, "all are acked")
    assert len(seen.received) == 300
