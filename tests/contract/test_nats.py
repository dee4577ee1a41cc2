"""The contract on the NATS broker, and what is special to JetStream.

On a private server; with NATS_URL on yours, which is neither stopped nor set in another way.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Self

import pytest
from nats.aio.msg import Msg

import broker
from broker.base import Broker
from broker.errors import BrokerError, PublishError, Reject
from broker.message import MAX_BODY_BYTES, MAX_HEADER_BYTES, Event, Message
from broker.nats import NatsBroker, wire
from broker.nats.pull import ASK_SECONDS, PullConsumer, Request
from broker.testing import BrokerContract, Harness, Recorder, eventually, surely
from broker.testing.case import QUICK, Case, numbered, only_this_arrives, texts
from tests.contract.in_time import all_raise_in_time, raises_in_a_fork, raises_in_time
from tests.servers.certificate import make_certificate
from tests.servers.nats import NatsServer, ReadersNats
from tests.servers.process import reserved_port
from tests.servers.proxy import Proxy
from tests.servers.stranger import stranger

HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"
SMTP = b"220 mail.example ESMTP\r\n"
PASSWORD = "p@ss/w:rd"
QUOTED = "p%40ss%2Fw%3Ard"
AUTHORIZED = f'authorization {{ user: learner, password: "{PASSWORD}" }}\njetstream {{ store_dir: "%s" }}'


class NatsHarness(Harness):
    """A server that the tests of one worker share, and put back as it was."""

    promises = NatsBroker.promises

    def __init__(self, server: NatsServer | ReadersNats) -> None:
        self.server = server
        self._proxy = Proxy(server.port) if isinstance(server, NatsServer) else None
        super().__init__(f"nats://127.0.0.1:{self._proxy.port}" if self._proxy else server.url)

    @property
    def private(self) -> NatsServer:
        """The server, if it is ours to break."""
        if not isinstance(self.server, NatsServer):
            pytest.skip("NATS_URL is not stopped, paused or set in another way")
        return self.server

    def paused(self) -> AbstractContextManager[None]:
        return self.private.paused()

    @contextmanager
    def dead_letters_unreachable(self) -> Iterator[None]:
        dead = wire.dead_stream()
        self.private.call(lambda jetstream: jetstream.add_stream(dead))
        self.private.call(lambda jetstream: jetstream.update_stream(dead, max_msg_size=1))
        try:
            yield
        finally:
            self.private.call(lambda jetstream: jetstream.update_stream(dead))

    def lose_group(self, topic: str, group: str) -> None:
        name, consumer = wire.TOPIC + wire.token(topic), wire.token(group)
        self.server.call(lambda jetstream: jetstream.delete_consumer(name, consumer))

    def lose_stream(self, topic: str) -> None:
        """The same with the whole topic."""
        self.server.call(lambda jetstream: jetstream.delete_stream(wire.TOPIC + wire.token(topic)))

    def cut(self) -> None:
        if self._proxy is None:
            pytest.skip("the connections to NATS_URL are not cut")
        self._proxy.cut()

    def stop(self) -> None:
        self.private.kill()

    def start(self) -> None:
        self.private.start()

    def __enter__(self) -> Self:
        if self._proxy:
            self._proxy.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(None, None, None)
        if self._proxy:
            self._proxy.__exit__(None, None, None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer | ReadersNats]:
    """One for all tests of a worker."""
    if url := os.environ.get("NATS_URL"):
        yield ReadersNats(url)
        return
    with NatsServer(tmp_path_factory.mktemp("nats")) as started:
        yield started


class OnNats(Case):
    """What all classes of tests start from."""

    @pytest.fixture
    def harness(self, server: NatsServer | ReadersNats) -> Iterator[NatsHarness]:
        """The shared server."""
        with NatsHarness(server) as harness:
            yield harness


class TestNats(OnNats, BrokerContract):
    """Every promise."""


class TestNatsItself(OnNats):
    """What went wrong for others, and what only this broker can do."""

    def test_a_publish_that_timed_out_is_stored_once(self, harness: NatsHarness, topic: str) -> None:
        """The server had received it, and stores it after all; published again, it is a duplicate."""
        b, hasty = harness.connect(), harness.connect(publish_timeout_seconds=0.5)
        surely(lambda: hasty.subscribe(topic, Recorder(), group="g").unsubscribe())
        messages = numbered(3)
        with harness.paused(), pytest.raises(PublishError) as caught:
            hasty.publish(topic, *messages)
        assert caught.value.unconfirmed == tuple(messages)
        eventually(lambda: b.backlog(topic, "g") == 3, "what was sent is stored")
        b.publish(topic, *messages)
        assert b.backlog(topic, "g") == 3

    def test_a_publish_that_failed_while_disconnected_is_not_stored_later(
        self, harness: NatsHarness, topic: str
    ) -> None:
        """Nothing is kept in the client for a connection to come."""
        b = harness.connect(publish_timeout_seconds=0.5)
        surely(lambda: b.subscribe(topic, Recorder(), group="g").unsubscribe())
        with harness.outage():
            eventually(lambda: not published(b, topic, "noticed"), "the connection is known to be broken")
            with pytest.raises(PublishError, match="no connection"):
                b.publish(topic, *texts("lost"))
        eventually(lambda: published(b, topic, "kept"), "publishing works again")
        assert harness.connect().backlog(topic, "g") == 1

    def test_a_crowd_that_waits_for_another_attempt_holds_up_nobody(
        self, b: Broker, topic: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """JetStream stops delivering after 1000 unacked messages unless told otherwise. All of them are counted."""
        seen = Recorder(fail_bad)
        caplog.set_level(logging.ERROR, "broker.engine.report")
        b.subscribe(topic, seen, group="g", retry_delays=(3600,), concurrency=8)
        b.publish(topic, *texts(*["bad"] * 1100), *texts("good"))
        seen.wait_for("good")
        eventually(lambda: b.backlog(topic, "g") == 1100, "just those wait")

    def test_a_member_that_leaves_brings_nothing_back_to_life(self, harness: NatsHarness, topic: str) -> None:
        """A nak that finds only its own member's request makes the server deliver the latest message again."""
        b, seen, later = harness.connect(), Recorder(), Recorder()
        finish = threading.Event()
        consumer = harness.connect(drain_seconds=0.5)
        b.subscribe(topic, seen, group="g").unsubscribe()
        b.publish(topic, *numbered(10))
        slow = Recorder(lambda event: finish.wait(60) if event.message.body == b"0" else None)
        consumer.subscribe(topic, slow, group="g", concurrency=2)
        slow.wait(10)
        eventually(lambda: b.backlog(topic, "g") == 1, "all others are acked")
        with pytest.raises(broker.DrainTimeout):
            consumer.disconnect()
        finish.set()
        b.subscribe(topic, later, group="g")
        assert [(call.text, call.attempt) for call in later.wait(1)] == [("0", 2)]
        only_this_arrives(b, topic, later, before=1)

    def test_an_idle_member_always_asks(self, harness: NatsHarness, b: Broker, topic: str) -> None:
        """Its next request is there before the last one expires, or the same would happen."""
        b.subscribe(topic, Recorder(), group="g")
        waiting = []
        until = time.monotonic() + 2 * ASK_SECONDS
        name = wire.TOPIC + wire.token(topic)
        eventually(lambda: asking(harness, name), "it asks")
        while time.monotonic() < until:
            waiting.append(asking(harness, name))
        assert min(waiting) >= 1
        assert max(waiting) <= 2

    def test_what_is_acked_when_the_backlog_is_empty_outlives_a_kill(self, harness: NatsHarness, topic: str) -> None:
        """Also for another member than the one that acked it: the backlog is empty once that is on disk."""
        b, consumer, seen = harness.connect(), harness.connect(), Recorder()
        for round_ in range(3):
            subscription = consumer.subscribe(f"{topic}{round_}", seen, group="g")
            b.publish(f"{topic}{round_}", *numbered(50))
            eventually(lambda n=round_: b.backlog(f"{topic}{n}", "g") == 0, "the backlog is empty")  # type: ignore[misc]  # bound now
            with harness.outage():
                pass
            subscription.unsubscribe()
            another, heir = harness.connect(), Recorder()
            another.subscribe(f"{topic}{round_}", heir, group="g")
            only_this_arrives(another, f"{topic}{round_}", heir, before=0)

    def test_what_a_killed_server_forgot_is_not_handled_again(self, harness: NatsHarness, topic: str) -> None:
        """It writes acks down late; the member that acked them remembers."""
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, seen, group="g")
        for n in range(5):
            b.publish(topic, *numbered(20, f"{n}/"))
            seen.wait_for(f"{n}/19")
            with harness.outage():
                pass
            eventually(lambda n=n: published(b, topic, f"after {n}"), "publishing works again")  # type: ignore[misc]  # bound now
            seen.wait_for(f"after {n}")
        eventually(lambda: b.backlog(topic, "g") == 0, "all is acked")
        assert len(seen.texts) == len(set(seen.texts))

    def test_a_deleted_stream_is_made_again(self, harness: NatsHarness, b: Broker, topic: str) -> None:
        """Group and broadcast go on, though its numbers begin anew."""
        seen, everyone = Recorder(), Recorder()
        b.subscribe(topic, seen, group="g")
        b.subscribe(topic, everyone)
        b.publish(topic, *numbered(5))
        seen.wait(5)
        everyone.wait(5)
        harness.lose_stream(topic)
        b.publish(topic, *texts("after"))
        seen.wait_for("after")
        assert [received.text for received in everyone.wait_for("after")] == ["0", "1", "2", "3", "4", "after"]
        assert (topic, "g") in [(group.topic, group.name) for group in b.groups()]

    def test_what_was_with_a_member_when_its_stream_was_deleted_takes_no_other_message_along(
        self, harness: NatsHarness, b: Broker, topic: str
    ) -> None:
        """Though it is acked when another message has its place in the new stream."""
        arrived, finished = threading.Event(), threading.Event()

        def handle(event: Event) -> None:
            text = event.message.body.decode()
            if text == "old":
                arrived.wait(60)
                finished.set()
            elif text == "beside it":
                arrived.set()
                finished.wait(60)
            elif event.attempt == 1:
                eventually(lambda: b.backlog(topic, "g") <= 1, "the two others are acked")
                raise ValueError("not yet")

        seen = Recorder(handle)
        b.subscribe(topic, seen, group="g", concurrency=3, retry_delays=QUICK)
        b.publish(topic, *texts("old"))
        seen.wait(1)
        harness.lose_stream(topic)
        b.publish(topic, *texts("in its place", "beside it"))
        seen.wait_for("in its place", times=2)

    def test_a_group_deleted_while_its_only_message_is_handled_is_made_again(
        self, harness: NatsHarness, b: Broker, topic: str
    ) -> None:
        """Even when its member has no room to ask for more before that one is acked."""
        proceed = threading.Event()
        seen = Recorder(lambda event: proceed.wait(60))
        b.subscribe(topic, seen, group="g", prefetch=1)
        b.publish(topic, *texts("x"))
        seen.wait(1)
        harness.lose_group(topic, "g")
        proceed.set()
        b.publish(topic, *texts("y"))
        seen.wait_for("y")

    def test_a_group_deleted_without_its_member_being_told_is_made_again(
        self, b: Broker, harness: NatsHarness, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As when its request came too late for that: the server answers none to a consumer that is not there."""
        came, seen = PullConsumer._came, Recorder()

        async def deaf(pull: PullConsumer, request: Request, message: Msg) -> None:
            if message.reply:
                await came(pull, request, message)

        monkeypatch.setattr(PullConsumer, "_came", deaf)
        b.subscribe(topic, seen, group="g")
        b.publish(topic, *texts("x"))
        seen.wait(1)
        harness.lose_group(topic, "g")
        b.publish(topic, *texts("y"))
        seen.wait_for("y")

    def test_a_broadcast_misses_nothing_and_repeats_nothing(self, harness: NatsHarness, topic: str) -> None:
        """Whatever is published while it is not connected, across cuts and a restart."""
        b, listener, everyone = harness.connect(), harness.connect(), Recorder()
        listener.subscribe(topic, everyone)
        for n in range(10):
            eventually(lambda n=n: published(b, topic, str(n)), "it is published")  # type: ignore[misc]  # bound now
            if n == 5:
                everyone.wait_for("5")
                with harness.outage():
                    pass
            harness.cut()
        everyone.wait_for("9")
        assert everyone.texts == [str(n) for n in range(10)]

    def test_the_largest_message_fits_also_as_a_dead_letter(self, b: Broker, topic: str) -> None:
        """With the headers that take most room, every byte of them written in % signs."""
        padding = {"\x01": "\n" * (MAX_HEADER_BYTES - 200), "é\x02": "🎉", "%": "%41", "": "no name", "a:b c": "?"}
        message = Message(b"\xff" * MAX_BODY_BYTES, padding)
        b.subscribe(topic, reject, group="g")
        b.publish(topic, message)
        group = b.group(topic, "g")
        eventually(group.dead_letters, "there is a dead letter")
        [letter] = group.dead_letters()
        assert letter.message == message
        assert letter.reason.startswith("学学学")

    def test_a_header_means_nothing_to_the_server(self, b: Broker, topic: str) -> None:
        """Its own are kept apart from those of a message."""
        header = {"Nats-Msg-Id": "1", "Nats-Rollup": "all", "Nats-Expected-Last-Sequence": "7", "Status": "404"}
        seen = Recorder()
        b.subscribe(topic, seen, group="g")
        for _ in range(2):
            b.publish(topic, Message(b"x", header))
        for received in seen.wait(2):
            assert header.items() <= received.message.header.items()

    def test_messages_are_kept_for_the_retention(self, harness: NatsHarness, topic: str) -> None:
        """Then a group that was away does not get them any more."""
        b = harness.connect(retention_seconds=1)
        b.subscribe(topic, Recorder(), group="g").unsubscribe()
        b.publish(topic, *numbered(3))
        name = wire.TOPIC + wire.token(topic)
        state = harness.server.call(lambda jetstream: jetstream.stream_info(name)).state
        assert state.last_seq == 3, "they were there"
        eventually(lambda: b.backlog(topic, "g") == 0, "they have gone")

    def test_a_message_of_another_program_is_delivered(self, harness: NatsHarness, b: Broker, topic: str) -> None:
        """One that was published with any client, to the subject of the topic."""
        seen = Recorder(fail_once)
        b.subscribe(topic, seen, group="g", retry_delays=QUICK)
        harness.server.call(
            lambda jetstream: jetstream.publish(wire.subject("topic", topic), b"hello", headers={"name": "学院君 100%"})
        )
        first, second = seen.wait(2)
        assert first.text == second.text == "hello"
        assert second.message.header["name"] == "学院君 100%"
        assert first.message.id == second.message.id

    def test_nobody_else_logs(self, harness: NatsHarness, topic: str, caplog: pytest.LogCaptureFixture) -> None:
        """Neither the client nor its event loop, whatever happens to the connection."""
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, seen, group="g")
        harness.cut()
        with harness.outage():
            pass
        eventually(lambda: published(b, topic, "after"), "publishing works again")
        seen.wait_for("after")
        b.disconnect()
        assert {record.name for record in caplog.records if record.levelno >= logging.INFO} <= {
            "broker.engine.subscription",
            "broker.engine.report",
        }

    def test_a_frozen_server_is_given_up_within_the_timeout(self, harness: NatsHarness, topic: str) -> None:
        """Publishing, subscribing and connecting alike."""
        b, late = harness.connect(publish_timeout_seconds=1), harness.new(publish_timeout_seconds=1)
        with harness.paused():
            all_raise_in_time(b, topic, seconds=1, cause="answer in time")
            raises_in_time(late.connect, 1, "answer in time")

    def test_many_may_begin_at_once(self, tmp_path: Path, topic: str) -> None:
        """On a server where nothing is yet: publishers, members and operators of ten brokers."""

        def begin(b: Broker) -> None:
            b.publish(topic, *texts("x"))
            b.group(topic, "g").dead_letters()
            b.subscribe(topic, reject, group="g", max_attempts=1)
            eventually(lambda: len(b.group(topic, "g").dead_letters()) == 10, "all are dead letters", 60)

        with NatsServer(tmp_path) as fresh, contextlib.ExitStack() as stack, ThreadPoolExecutor(10) as pool:
            brokers = [stack.enter_context(broker.connect(fresh.url)) for _ in range(10)]
            list(pool.map(begin, brokers))

    def test_a_full_stream_refuses_and_says_so(self, harness: NatsHarness, b: Broker, topic: str) -> None:
        """At once; the messages are named, and go through once there is room."""
        b.publish(topic, *texts("first"))
        stream, messages = wire.topic_stream(topic, b.options.retention_seconds), texts("a", "b")
        full = stream.evolve(max_msgs=2, discard="new")
        harness.server.call(lambda jetstream: jetstream.update_stream(full))
        with pytest.raises(PublishError, match=r"nats broker at .*maximum messages exceeded") as caught:
            b.publish(topic, *messages)
        assert caught.value.unconfirmed == (messages[1],)
        harness.server.call(lambda jetstream: jetstream.update_stream(stream))
        b.publish(topic, *messages)

    def test_what_the_server_finds_too_large_is_refused(self, tmp_path: Path, topic: str) -> None:
        """By us, for the server would close the connection."""
        settings = f'max_payload: 10000\njetstream {{ store_dir: "{tmp_path}" }}'
        with NatsServer(tmp_path, settings) as small, broker.connect(small.url) as b:
            fine, large = Message(b"x"), Message(b"x" * 9_990)
            with pytest.raises(PublishError, match="maximum payload") as caught:
                b.publish(topic, fine, large)
            assert large in caught.value.unconfirmed
            b.publish(topic, fine)


class TestNatsBadInput(OnNats):
    """One error that names broker, address and cause, never a password, within the timeout."""

    @pytest.mark.parametrize(
        ("address", "cause"),
        [
            ("nats://nobody.invalid:4222", "nobody.invalid"),
            (f"nats://{'x' * 70}", "nats broker at"),
            ("nats:", "begins like nats://"),
            ("nats://user:secret@host:sixthousand", "a host or a port"),
            ("nats://user:se/cret@host", "/ as %2F"),
            ("nats://user:se#cret@host", "# as %23"),
            ("nats://user:secret@host/path", "no path"),
            ("nats://user:secret@host?replicas=3", "no option"),
        ],
    )
    def test_an_address_that_is_none(self, address: str, cause: str) -> None:
        """An unknown host, a port that is no number, a password that should have been quoted."""
        with pytest.raises(BrokerError, match=cause) as caught:
            broker.connect(address)
        assert str(caught.value).startswith("nats broker at nats:")
        assert "cret" not in str(caught.value)

    def test_nobody_listens(self) -> None:
        """The port is closed."""
        with (
            reserved_port() as port,
            pytest.raises(BrokerError, match=r"nats broker at .*(refused|Connect call failed)"),
        ):
            broker.connect(f"nats://127.0.0.1:{port}")

    @pytest.mark.parametrize("login", ["", "learner:wrong-secret@", f"somebody:{QUOTED}@", "wrong-secret@"])
    def test_wrong_credentials(self, tmp_path: Path, login: str) -> None:
        """None at all, or those of nobody."""
        violation = pytest.raises(BrokerError, match=r"nats broker at .*Authorization Violation")
        with NatsServer(tmp_path, AUTHORIZED % tmp_path) as closed, violation as caught:
            broker.connect(f"nats://{login}127.0.0.1:{closed.port}")
        assert "secret" not in str(caught.value)
        assert "p%40ss" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_right_credentials_and_what_happens_when_they_change(self, tmp_path: Path, topic: str) -> None:
        """A password with every letter that means something in a URL; publish and subscribe notice its end."""
        with NatsServer(tmp_path, AUTHORIZED % tmp_path) as closed:
            address = f"nats://learner:{QUOTED}@127.0.0.1:{closed.port}"
            with surely(lambda: broker.connect(address, publish_timeout_seconds=1)) as b:
                surely(lambda: b.publish(topic, *texts("x")))
                assert "p%40ss" not in repr(b)
                closed.kill()
                closed.settings = closed.settings.replace(PASSWORD, "another")
                closed.start()
                eventually(lambda: not published(b, topic, "x"), "it is not let in")
                all_raise_in_time(b, topic, seconds=1, cause="Authorization Violation")

    def test_a_server_without_jetstream(self, tmp_path: Path) -> None:
        """It could not keep anything."""
        with NatsServer(tmp_path, "") as bare, pytest.raises(BrokerError, match=r"nats broker at .*nats-server -js"):
            broker.connect(bare.url)

    @pytest.mark.parametrize(
        ("greeting", "answer", "cause"), [(b"", HTTP, "answer in time"), (SMTP, b"", "expecting INFO")]
    )
    def test_a_server_of_another_kind(self, greeting: bytes, answer: bytes, cause: str) -> None:
        """It waits to be asked, or says something else."""
        with stranger(greeting, answer) as port:
            address = f"nats://127.0.0.1:{port}"
            error = raises_in_time(lambda: broker.connect(address, publish_timeout_seconds=1), 1, cause)
        assert str(error).startswith(f"nats broker at {address}: ")

    def test_another_server_in_its_place(self, tmp_path: Path, topic: str) -> None:
        """Publish and subscribe notice as connect does."""
        with (
            NatsServer(tmp_path) as private,
            surely(lambda: broker.connect(private.url, publish_timeout_seconds=1)) as b,
        ):
            private.kill()
            for greeting, cause in ((b"", "no connection|answer in time"), (SMTP, "expecting INFO")):
                with stranger(greeting, b"", private.port):
                    eventually(lambda: not published(b, topic, "x"), "the stranger takes its place")
                    all_raise_in_time(b, topic, seconds=1, cause=cause)

    def test_tls_and_a_login_by_the_address_alone(self, tmp_path: Path, topic: str) -> None:
        """Both sides show a certificate, a user logs in; an authority that is not trusted is named as the cause."""
        certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
        make_certificate(certificate, key)
        files = f'cert_file: "{certificate}", key_file: "{key}", ca_file: "{certificate}", verify: true'
        with NatsServer(tmp_path, f"tls {{ {files} }}\n{AUTHORIZED % tmp_path}") as private:
            address = f"tls://learner:{QUOTED}@localhost:{private.port}"
            with broker.connect(f"{address}?ca={certificate}&cert={certificate}&key={key}") as b:
                seen = Recorder()
                b.subscribe(topic, seen, group="g")
                b.publish(topic, Message(b"x" * MAX_BODY_BYTES))
                assert len(seen.wait(1)[0].message.body) == MAX_BODY_BYTES
            with pytest.raises(BrokerError, match="certificate verify failed"):
                broker.connect(address)
            with pytest.raises(BrokerError, match="nats broker at"):
                broker.connect(f"{address}?ca={certificate}", publish_timeout_seconds=2)

    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_a_forked_process_is_told_that_it_is_one(self, b: Broker, topic: str) -> None:
        """At once: the thread that would answer is in the other process."""
        b.subscribe(topic, Recorder(), group="g")
        raises_in_a_fork(b, topic)
        b.publish(topic, *texts("x"))

    def test_plain_text_where_tls_is_expected(self, harness: NatsHarness) -> None:
        """It is refused before anything is said."""
        b = broker.new(harness.address.replace("nats:", "tls:"))
        with pytest.raises(BrokerError, match="secure connection not available"):
            b.connect()

    def test_nothing_works_after_disconnecting(self, harness: NatsHarness, topic: str) -> None:
        """Not even through what was made before."""
        b = harness.connect()
        group = b.group(topic, "g")
        b.disconnect()
        with pytest.raises(BrokerError, match="disconnected"):
            group.backlog()


def fail_once(event: Event) -> None:
    """What a handler does that works the second time."""
    if event.attempt == 1:
        raise RuntimeError("once")


def fail_bad(event: Event) -> None:
    """What a handler does that cannot do with some."""
    if event.message.body == b"bad":
        raise RuntimeError("bad")


def reject(event: Event) -> None:
    """What a handler does to what no attempt will mend, at length."""
    raise Reject("学" * 5000)


def published(b: Broker, topic: str, text: str) -> bool:
    """Whether it was confirmed; the same message when it is tried again."""
    try:
        b.publish(topic, Message(text.encode(), {"ce-id": f"{topic} {text}"}))
    except PublishError:
        return False
    return True


def asking(harness: NatsHarness, stream: str) -> int:
    """How many requests of the group `g` wait at the server."""
    return harness.server.call(lambda jetstream: jetstream.consumer_info(stream, "g")).num_waiting or 0
