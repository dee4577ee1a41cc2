"""The contract on the redis broker, and what is special to it.

On a private server; with REDIS_URL on yours, which is neither stopped nor set in another way.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

import broker
from broker.base import Broker
from broker.engine.source import Delivery
from broker.errors import BrokerError, PublishError
from broker.message import MAX_BODY_BYTES, Event, Message
from broker.names import encode
from broker.redis import RedisBroker
from broker.redis.source import Receipt, RedisSource
from broker.redis.wire import Keys
from broker.testing import BrokerContract, Harness, Recorder, eventually, surely
from broker.testing.case import Case, numbered, texts
from tests.contract.in_time import all_raise_in_time, raises_in_time
from tests.servers.process import reserved_port
from tests.servers.redis import ReadersRedis, RedisOverTls, RedisServer
from tests.servers.stranger import stranger

HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"
SMTP = b"220 mail.example ESMTP\r\n"


class RedisHarness(Harness):
    """A server that the tests of one worker share, and put back as it was."""

    promises = RedisBroker.promises

    def __init__(self, server: RedisServer | ReadersRedis, topic: str) -> None:
        super().__init__(server.url)
        self.server = server
        self._topic = topic

    @property
    def private(self) -> RedisServer:
        """The server, if it is ours to break."""
        if not isinstance(self.server, RedisServer):
            pytest.skip("REDIS_URL is not stopped, paused or set in another way")
        return self.server

    def paused(self) -> AbstractContextManager[None]:
        return self.private.paused()

    @contextmanager
    def dead_letters_unreachable(self) -> Iterator[None]:
        dead = Keys(self._topic, "g").dead
        self.server.call("SET", dead, "no stream")
        try:
            yield
        finally:
            self.server.call("DEL", dead)

    @contextmanager
    def set(self, name: str, value: str) -> Iterator[None]:
        """Meanwhile a setting of the server is another."""
        before = self.private.call("CONFIG", "GET", name)[name.encode()]
        self.private.call("CONFIG", "SET", name, value)
        try:
            yield
        finally:
            self.private.call("CONFIG", "SET", name, before)

    def lose_group(self, topic: str, group: str) -> None:
        self.server.call("XGROUP", "DESTROY", Keys(topic).stream, encode(group))

    def cut(self) -> None:
        self.private.call("CLIENT", "KILL", "TYPE", "normal")

    def stop(self) -> None:
        self.private.kill()

    def start(self) -> None:
        self.private.start()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer | ReadersRedis]:
    """One for all tests of a worker."""
    if url := os.environ.get("REDIS_URL"):
        yield ReadersRedis(url)
        return
    with RedisServer(tmp_path_factory.mktemp("redis")) as started:
        yield started


class OnRedis(Case):
    """What both classes of tests start from."""

    @pytest.fixture
    def harness(self, server: RedisServer | ReadersRedis, topic: str) -> Iterator[RedisHarness]:
        """The shared server, swept afterwards."""
        with RedisHarness(server, topic) as harness:
            yield harness
        server.sweep(topic)


class TestRedis(OnRedis, BrokerContract):
    """Every promise."""


class TestRedisItself(OnRedis):
    """What went wrong for others, and what only this broker can do."""

    def test_a_delay_longer_than_the_lease_is_kept(self, b: Broker, topic: str) -> None:
        """What waits for its next attempt is idle for long, and still nobody's to take over."""
        seen = Recorder(fail_once)
        b.subscribe(topic, seen, group="g", lease_seconds=0.2, retry_delays=(1.5,), jitter=0)
        b.publish(topic, *texts("x"))
        first, second = seen.wait(2)
        assert second.attempt == 2
        assert second.at - first.at >= 1.4

    def test_what_is_handed_back_comes_again_in_its_order(
        self, harness: Harness, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also when it is many, and published in the same millisecond."""
        monkeypatch.setattr("broker.engine.inflight.AT_FIRST", 300)
        b, consumer = harness.connect(), harness.connect()
        proceed = threading.Event()
        held, seen = Recorder(lambda event: proceed.wait(60)), Recorder()
        b.publish(topic, *numbered(500))
        subscription = consumer.subscribe(topic, held, group="g", prefetch=300)
        held.wait(1)
        subscription.stop()
        proceed.set()
        subscription.unsubscribe()
        b.subscribe(topic, seen, group="g")
        assert seen.wait(499)[0].attempt == 1
        assert seen.texts == [str(n) for n in range(1, 500)]

    def test_a_member_that_leaves_takes_nothing_with_it(self, harness: RedisHarness, topic: str) -> None:
        """Redis drops what is pending with a consumer that is deleted; so it is handed back before."""
        b, consumer = harness.connect(), harness.connect(drain_seconds=0.1)
        finish = threading.Event()
        seen, heir = Recorder(lambda event: finish.wait(60)), Recorder()
        consumer.subscribe(topic, seen, group="g")
        b.publish(topic, *numbered(3))
        seen.wait(1)
        eventually(lambda: sum(consumers(harness, topic).values()) == 3, "all are with the member")
        with pytest.raises(broker.DrainTimeout):
            consumer.disconnect()
        finish.set()
        assert consumers(harness, topic) == {b"~": 3}
        b.subscribe(topic, heir, group="g")
        assert {(call.text, call.attempt) for call in heir.wait(3)} == {("0", 2), ("1", 1), ("2", 1)}

    def test_what_was_still_on_its_way_when_a_member_left_counts_no_attempt(self, b: Broker, topic: str) -> None:
        """A server that stalls may answer after the member has stopped waiting for it."""
        slow, heir = source(b, topic, lease_seconds=30), Recorder()
        b.publish(topic, *numbered(2))
        assert [delivery.message.body for delivery in slow.fetch(1, 5)] == [b"0"]
        assert [delivery.message.body for delivery in slow._read(1, 5)] == [b"1"]
        slow.close()
        b.subscribe(topic, heir, group="g")
        assert {(call.text, call.attempt) for call in heir.wait(2)} == {("0", 2), ("1", 1)}

    def test_a_consumer_that_died_is_removed_once_it_has_nothing(self, harness: RedisHarness, topic: str) -> None:
        """Or they would add up for ever."""
        b = harness.connect()
        b.subscribe(topic, Recorder(), group="g", lease_seconds=0.2)
        harness.server.call("XGROUP", "CREATECONSUMER", Keys(topic).stream, "g", "dead")
        eventually(lambda: b"dead" not in consumers(harness, topic), "the dead one is removed")

    def test_a_member_that_lost_its_lease_changes_nothing(self, harness: Harness, topic: str) -> None:
        """What another has taken over is neither put back, nor renewed, nor buried by the first."""
        b = harness.connect()
        slow, quick = source(b, topic, lease_seconds=0.05), source(b, topic, lease_seconds=0.05)
        b.publish(topic, *texts("x"))
        [lost] = slow.fetch(1, 5)
        [taken] = fetched(quick)
        slow.retry(lost, 0)
        slow.release([lost])
        slow.extend([lost])
        slow.bury(lost, "too late")
        assert (taken.attempt, b.backlog(topic, "g")) == (2, 1)
        assert b.group(topic, "g").dead_letters() == []
        quick.ack([taken])
        assert b.backlog(topic, "g") == 0
        for each in (slow, quick):
            each.close()

    @pytest.mark.parametrize("lost", ["stream", "everything"])
    def test_a_deleted_stream_is_made_again(self, harness: RedisHarness, topic: str, lost: str) -> None:
        """With its group, in the list of groups too; broadcasts go on as well."""
        b, seen, everyone = harness.connect(), Recorder(), Recorder()
        b.subscribe(topic, seen, group="g")
        b.subscribe(topic, everyone)
        b.publish(topic, *texts("before"))
        seen.wait(1)
        everyone.wait(1)
        command = ("DEL", Keys(topic).stream) if lost == "stream" else ("FLUSHALL",)
        harness.private.call(*command)
        b.publish(topic, *texts("after"))
        seen.wait_for("after")
        everyone.wait_for("after")
        assert (topic, "g") in [(group.topic, group.name) for group in b.groups()]

    def test_a_message_deleted_underneath_holds_up_nothing(self, harness: RedisHarness, topic: str) -> None:
        """Its next attempt is given up, and the backlog ends."""
        b, seen = harness.connect(), Recorder(fail_once)
        b.subscribe(topic, seen, group="g", retry_delays=(0.5,))
        b.publish(topic, *texts("x"))
        seen.wait(1)
        [[entry_id, _]] = harness.server.call("XRANGE", Keys(topic).stream, "-", "+")
        harness.server.call("XDEL", Keys(topic).stream, entry_id)
        eventually(lambda: b.backlog(topic, "g") == 0, "nothing waits any more")
        b.publish(topic, *texts("y"))
        seen.wait_for("y")
        assert seen.texts.count("x") == 1

    def test_the_backlog_is_counted_where_the_server_does_not(self, harness: RedisHarness, topic: str) -> None:
        """Before 7.0, and when something was deleted from the middle."""
        b = harness.connect()
        b.subscribe(topic, Recorder(), group="g").unsubscribe()
        b.publish(topic, *numbered(250))
        entries = harness.server.call("XRANGE", Keys(topic).stream, "-", "+")
        harness.server.call("XDEL", Keys(topic).stream, entries[120][0])
        assert b.backlog(topic, "g") == 249

    def test_trimming_spares_what_some_group_has_still_to_ack(self, harness: Harness, topic: str) -> None:
        """However old it is; what everybody has acked goes once the retention is over."""
        b, seen = harness.connect(retention_seconds=0), Recorder()
        stream = Keys(topic).stream
        assert isinstance(b, RedisBroker)
        b.subscribe(topic, Recorder(), group="away").unsubscribe()
        b.subscribe(topic, Recorder(), group="g")
        b.publish(topic, *numbered(1000))
        eventually(lambda: b.backlog(topic, "g") == 0, "one group has acked all")
        b._publisher.trim(topic)
        assert b._connection.call("XLEN", stream) == 1000
        subscription = b.subscribe(topic, seen, group="away")
        seen.wait(1000)
        subscription.unsubscribe()
        harness.lose_group(topic, "away")
        b._publisher.trim(topic)
        assert b._connection.call("XLEN", stream) == 1000, "a group that was deleted starts again at the oldest"
        b.group(topic, "away").forget()
        b._publisher.trim(topic)
        assert b._connection.call("XLEN", stream) <= 100, "all but the last, not quite full, node"

    def test_a_message_of_another_program_is_delivered(self, harness: RedisHarness, b: Broker, topic: str) -> None:
        """A plain `XADD` will do; its id is its `ce-id`, the same on every attempt."""
        seen = Recorder(fail_once)
        b.subscribe(topic, seen, group="g", retry_delays=(0.05,))
        entry_id = harness.server.call("XADD", Keys(topic).stream, "*", "body", "hello")
        first, second = seen.wait(2)
        assert first.text == second.text == "hello"
        assert first.message.id == second.message.id == entry_id.decode()

    def test_a_server_that_may_lose_messages_is_warned_of(
        self, harness: RedisHarness, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Redis as it comes keeps nothing across a crash."""
        with caplog.at_level(logging.WARNING, "broker"):
            harness.private.call("PING")
            harness.connect()
            assert "lose" not in caplog.text
            with harness.set("appendfsync", "everysec"):
                harness.connect()
        assert "everysec" in caplog.text

    def test_a_full_server_refuses_and_says_so(self, harness: RedisHarness, topic: str) -> None:
        """The messages are named, and go through once there is room."""
        b = harness.connect()
        messages = texts("a", "b")
        with harness.set("maxmemory", "1"), pytest.raises(PublishError, match=r"redis broker at .*maxmemory") as caught:
            b.publish(topic, *messages)
        assert caught.value.unconfirmed == tuple(messages)
        b.publish(topic, *messages)

    def test_a_frozen_server_is_given_up_within_the_timeout(self, harness: RedisHarness, topic: str) -> None:
        """Publishing, subscribing and connecting alike."""
        b, late = harness.connect(publish_timeout_seconds=1), harness.new(publish_timeout_seconds=1)
        with harness.paused():
            all_raise_in_time(b, topic, seconds=1, cause="Timeout")
            raises_in_time(late.connect, 1, "Timeout")


class TestRedisBadInput(OnRedis):
    """One error that names broker, address and cause, never a password, within the timeout."""

    @pytest.mark.parametrize(
        ("address", "cause"),
        [
            ("redis://nobody.invalid:6379/0", "nobody.invalid"),
            (f"redis://{'x' * 70}/0", "redis broker at"),
            ("redis://:secret@host:sixthousand/0", "a host or a port"),
            ("redis://:se/cret@host/0", "/ as %2F"),
            ("redis://:secret@host/first", "number of a database"),
            ("redis://host/0?db=5", "no option 'db'; there are: ca, cert, key"),
        ],
    )
    def test_an_address_that_is_none(self, address: str, cause: str) -> None:
        """An unknown host, a port or database that is no number, a password that should have been quoted."""
        with pytest.raises(BrokerError, match=cause) as caught:
            broker.connect(address)
        assert str(caught.value).startswith("redis broker at redis:")
        assert "cret" not in str(caught.value)

    def test_nobody_listens(self) -> None:
        """The port is closed."""
        with reserved_port() as port, pytest.raises(BrokerError, match=r"redis broker at .*refused"):
            broker.connect(f"redis://127.0.0.1:{port}/0")

    @pytest.mark.parametrize("user", ["", "somebody@", ":wrong-secret@", "somebody:wrong-secret@"])
    def test_wrong_credentials(self, harness: RedisHarness, user: str) -> None:
        """None at all, or those of nobody."""
        with with_password(harness), pytest.raises(BrokerError, match="redis broker at") as caught:
            broker.connect(harness.address.replace("//", f"//{user}"))
        assert "secret" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_right_credentials(self, harness: RedisHarness, topic: str) -> None:
        """A password with every letter that means something in a URL."""
        with with_password(harness), broker.connect(f"redis://:s%40%2F%3Acret@{harness.address[8:]}") as b:
            b.publish(topic, *texts("x"))
            assert "cret" not in repr(b)

    def test_a_user_who_may_not(self, harness: RedisHarness, topic: str) -> None:
        """Taken away while connected: publish and subscribe say so."""
        b = harness.connect()
        harness.private.call("ACL", "SETUSER", "default", "resetkeys")
        try:
            all_raise_in_time(b, topic, seconds=10, cause="NOPERM|permission|access")
        finally:
            harness.private.call("ACL", "SETUSER", "default", "allkeys")

    def test_a_database_that_does_not_exist(self, harness: RedisHarness) -> None:
        """The server has sixteen."""
        with pytest.raises(BrokerError, match="DB index"):
            broker.connect(f"{harness.private.url[:-1]}9999")

    @pytest.mark.parametrize(("greeting", "answer"), [(b"", HTTP), (SMTP, b"")], ids=["http", "smtp"])
    def test_a_server_of_another_kind(self, greeting: bytes, answer: bytes) -> None:
        """It answers something else, or does not even wait to be asked."""
        with stranger(greeting, answer) as port, pytest.raises(BrokerError) as caught:
            broker.connect(f"redis://127.0.0.1:{port}")
        assert str(caught.value).startswith(f"redis broker at redis://127.0.0.1:{port}: Protocol error")

    def test_a_server_that_says_nothing(self) -> None:
        """It accepts, and that is all."""
        with stranger() as port:
            address = f"redis://127.0.0.1:{port}"
            raises_in_time(lambda: broker.connect(address, publish_timeout_seconds=1), 1, "Timeout")

    def test_another_server_in_its_place(self, tmp_path: Path, topic: str) -> None:
        """Publish and subscribe notice as connect does."""
        with RedisServer(tmp_path) as private:
            b = surely(lambda: broker.connect(private.url, publish_timeout_seconds=1))
            private.kill()
            for answer, cause in ((b"", "Timeout"), (HTTP, "Protocol error")):
                with stranger(b"", answer, private.port):
                    all_raise_in_time(b, topic, seconds=1, cause=cause)
            b.disconnect()

    @pytest.mark.parametrize(
        ("version", "mode", "cause"), [("6.0.16", "standalone", "6.2"), ("7.4", "cluster", "Cluster")]
    )
    def test_a_server_that_cannot_do_it_is_refused(self, version: str, mode: str, cause: str) -> None:
        """Rather than failing at the first command that is unknown, or needs keys of two nodes."""
        with pytest.raises(BrokerError, match=cause):
            RedisBroker()._must_suit({b"version": version.encode(), b"mode": mode.encode()})

    def test_tls_and_a_login_by_the_address_alone(self, tmp_path: Path, topic: str) -> None:
        """Both sides show a certificate, a user logs in, and the largest message comes through."""
        seen = Recorder()
        with RedisOverTls(tmp_path) as private:
            private.call("ACL", "SETUSER", "app", "on", ">s@/:cret", "~*", "&*", "+@all")
            address = private.url.replace("//", "//app:s%40%2F%3Acret@")
            with broker.connect(
                f"{address}?ca={private.certificate}&cert={private.certificate}&key={private.key}"
            ) as b:
                b.subscribe(topic, seen, group="g")
                b.publish(topic, Message(b"x" * MAX_BODY_BYTES))
                assert len(seen.wait(1)[0].message.body) == MAX_BODY_BYTES
            with pytest.raises(BrokerError, match="certificate verify failed"):
                broker.connect(address)
            with pytest.raises(BrokerError, match="redis broker at rediss://…@localhost"):
                broker.connect(f"{address}?ca={private.certificate}", publish_timeout_seconds=2)

    def test_plain_text_where_tls_is_expected(self, harness: RedisHarness) -> None:
        """The handshake fails, and nothing hangs."""
        b = broker.new(harness.private.url.replace("redis:", "redis+tls:"), publish_timeout_seconds=2)
        raises_in_time(b.connect, 2, "redis broker at")


def fail_once(event: Event) -> None:
    """What a handler does that works the second time."""
    if event.attempt == 1:
        raise RuntimeError("once")


def source(b: Broker, topic: str, lease_seconds: float) -> RedisSource:
    """A member of the group `g`, without the engine."""
    assert isinstance(b, RedisBroker)
    return RedisSource(b._connection, Keys(topic, "g"), lease_seconds)


def fetched(member: RedisSource) -> list[Delivery[Receipt]]:
    """What it gets, once there is something."""
    found: list[Delivery[Receipt]] = []
    eventually(lambda: found.extend(member.fetch(1, 0.1)) or found, "something is fetched")  # type: ignore[func-returns-value]  # None
    return found


def consumers(harness: RedisHarness, topic: str) -> dict[bytes, int]:
    """Each consumer of the group `g`, and how much is pending with it."""
    answer = harness.server.call("XINFO", "CONSUMERS", Keys(topic).stream, "g")
    return {info[b"name"]: info[b"pending"] for info in answer}


@contextmanager
def with_password(harness: RedisHarness) -> Iterator[None]:
    """Meanwhile the server wants the password `s@/:cret`."""
    harness.private.call("CONFIG", "SET", "requirepass", "s@/:cret")
    harness.private.url, before = f"redis://:s%40%2F%3Acret@{harness.address[8:]}", harness.private.url
    try:
        yield
    finally:
        harness.private.call("CONFIG", "SET", "requirepass", "")
        harness.private.url = before
