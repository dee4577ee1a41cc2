"""The contract on the rabbitmq broker, and what is special to its server.

With RABBITMQ_URL the tests run on that server instead of one of their own; those that would take it down are skipped.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pika  # type: ignore[import-untyped]  # it has no types
import pytest

import broker
from broker.base import Broker
from broker.engine.report import MOST_WORDS
from broker.errors import BrokerError, NoSubscriber, PublishError, Reject
from broker.message import MAX_BODY_BYTES, Event, Message
from broker.names import LOWER, MAX_NAME_BYTES, encode
from broker.rabbitmq import RabbitMQBroker, topology, wire
from broker.testing import BrokerContract, Harness, Recorder, eventually, surely
from broker.testing.case import QUICK, Case, numbered, only_this_arrives, texts
from tests.contract.in_time import all_raise_in_time, in_time, raises_in_a_fork, raises_in_time
from tests.servers.process import ServerProcess, reserved_port
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import WRITE_NAMES, RabbitMQOverTls, RabbitMQServer
from tests.servers.stranger import stranger

NO_DEAD_QUEUES = ".*(?<!:dead)$"  #: what a user may declare when dead letters are forbidden
PASSWORD = "s@cret/: %"
HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"
SMTP = b"220 mail.example ESMTP\r\n"


class RabbitMQHarness(Harness):
    """A server that the tests of one worker share, behind a proxy of the test's own; or a reader's server."""

    promises = RabbitMQBroker.promises

    def __init__(self, server: RabbitMQServer | None, proxy: Proxy | None) -> None:
        super().__init__(f"rabbitmq://127.0.0.1:{proxy.port}/" if proxy else os.environ["RABBITMQ_URL"])
        self._own = server
        self._proxy = proxy

    @property
    def server(self) -> RabbitMQServer:
        """Our own one, to be used as we like."""
        if self._own is None:
            pytest.skip("RABBITMQ_URL is a server that is not ours to stop")
        return self._own

    @contextmanager
    def channel(self) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
        """A channel of another program."""
        with closing(pika.BlockingConnection(RabbitMQBroker(self.address)._parameters())) as connection:
            yield connection.channel()

    def paused(self) -> AbstractContextManager[None]:
        return self.server.paused()

    @contextmanager
    def dead_letters_unreachable(self) -> Iterator[None]:
        server = self.server
        server.control("set_permissions", "guest", NO_DEAD_QUEUES, ".*", ".*")
        try:
            yield
        finally:
            server.control("set_permissions", "guest", ".*", ".*", ".*")

    def lose_group(self, topic: str, queue: str) -> None:
        with self.channel() as channel:
            channel.queue_delete(topology.group_names(topic, queue).queue)

    def cut(self) -> None:
        if self._proxy is None:
            pytest.skip("RABBITMQ_URL is a server whose connections are not ours to cut")
        self._proxy.cut()

    def stop(self) -> None:
        self.server.kill()

    def start(self) -> None:
        self.server.start()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQServer | None]:
    """One for all tests of a worker; none when there is a reader's."""
    if os.environ.get("RABBITMQ_URL"):
        yield None
        return
    with RabbitMQServer(tmp_path_factory.mktemp("rabbitmq")) as server:
        yield server


@pytest.fixture
def harness(server: RabbitMQServer | None) -> Iterator[RabbitMQHarness]:
    """Connections that no other test has."""
    if server is None:
        with RabbitMQHarness(None, None) as harness:
            yield harness
        return
    with Proxy(server.port) as proxy, RabbitMQHarness(server, proxy) as harness:
        yield harness


class TestRabbitMQ(BrokerContract):
    """Every promise, on a real server."""

    @pytest.fixture
    def harness(self, harness: RabbitMQHarness) -> Harness:
        return harness


class OnRabbitMQ(Case):
    """What the tests below start from."""

    @pytest.fixture
    def harness(self, harness: RabbitMQHarness) -> RabbitMQHarness:
        return harness


class TestRabbitMQItself(OnRabbitMQ):
    """What went wrong for others, and what is said of this server alone."""

    def test_mandatory_tells_a_group_from_those_who_merely_listen(self, b: Broker, topic: str) -> None:
        """AMQP's own does not; and a refused message is not heard by the listeners either."""
        everyone = Recorder()
        b.subscribe(topic, everyone)
        with pytest.raises(NoSubscriber) as caught:
            b.publish(topic, *numbered(3), mandatory=True)
        assert len(caught.value.unconfirmed) == 3
        only_this_arrives(b, topic, everyone, before=0)

    def test_a_refused_publish_harms_no_other_on_the_same_connection(self, b: Broker, topic: str) -> None:
        """The refusal closes a channel, and a channel belongs to one publish at a time."""
        seen = Recorder()
        b.subscribe(topic, seen, group="g")
        refused = threading.Event()

        def refuse() -> None:
            while not refused.is_set():
                with pytest.raises(NoSubscriber):
                    b.publish(f"{topic}.nobody", *texts("x"), mandatory=True)

        refusing = threading.Thread(target=refuse)
        refusing.start()
        for message in numbered(100):
            b.publish(topic, message, mandatory=True)
        refused.set()
        refusing.join()
        assert sorted(received.text for received in seen.wait(100)) == sorted(str(n) for n in range(100))

    def test_a_topic_whose_last_group_was_forgotten_has_none(self, b: Broker, topic: str) -> None:
        """Also for a publisher that has published to it before."""
        for queue in ("g", "h"):
            b.subscribe(topic, Recorder(), group=queue).unsubscribe()
        b.group(topic, "g").forget()
        b.publish(topic, *texts("x"), mandatory=True)
        b.group(topic, "h").forget()
        with pytest.raises(NoSubscriber):
            b.publish(topic, *texts("x"), mandatory=True)

    def test_publishing_goes_on_when_somebody_deletes_the_exchange(self, harness: RabbitMQHarness, topic: str) -> None:
        """It is declared once, and again when it is missing; what was on its way then is sent again."""
        b = harness.connect()
        b.publish(topic, *texts("before"))
        with harness.channel() as channel:
            channel.exchange_delete(topology.topic_exchange(topic))
        b.publish(topic, *texts("while it is missing", "still"))
        seen = Recorder()
        b.subscribe(topic, seen, group="g")
        b.publish(topic, *texts("after"))
        seen.wait(1)
        assert seen.texts == ["after"]

    def test_a_queue_with_other_arguments_is_taken_as_it_is(self, harness: RabbitMQHarness, topic: str) -> None:
        """Declaring it with ours would be refused with 406 for ever after."""
        with harness.channel() as channel:
            arguments = {"x-queue-type": "quorum", "x-delivery-limit": 100}
            channel.queue_declare(topology.group_names(topic, "g").queue, durable=True, arguments=arguments)
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, seen, group="g")
        only_this_arrives(b, topic, seen, before=0)

    def test_what_a_slow_member_leaves_goes_to_others(self, harness: RabbitMQHarness, topic: str) -> None:
        """The server sends it as many as `prefetch` says, whether it needs them or not."""
        slow, quick, proceed = harness.connect(), harness.connect(), threading.Event()
        held, seen = Recorder(lambda event: proceed.wait(60)), Recorder()
        slow.subscribe(topic, held, group="g", prefetch=5)
        harness.connect().publish(topic, *numbered(100))
        held.wait(1)
        quick.subscribe(topic, seen, group="g")
        seen.wait(95)
        proceed.set()

    def test_no_number_of_redeliveries_drops_a_message(self, harness: RabbitMQHarness, topic: str) -> None:
        """RabbitMQ 4 drops after 20 unless told otherwise; dead letters are ours to decide."""
        b = harness.connect()
        b.subscribe(topic, Recorder(), group="g").unsubscribe()
        b.publish(topic, *texts("x"))
        with harness.channel() as channel:
            for _ in range(30):
                method, _, _ = channel.basic_get(topology.group_names(topic, "g").queue)
                channel.basic_nack(method.delivery_tag)
        seen = Recorder()
        b.subscribe(topic, seen, group="g", max_attempts=100)
        assert [call.attempt for call in seen.wait(1)] == [31]

    def test_a_long_delay_holds_up_no_short_one(self, b: Broker, topic: str) -> None:
        """With one queue for all delays, what comes first there would have to leave first."""

        def behave(event: Event) -> None:
            if event.attempt == 1 or event.message.body == b"slow":
                raise RuntimeError("again")

        seen = Recorder(behave)
        b.subscribe(topic, seen, group="g", retry_delays=(0.05, 3600))
        b.publish(topic, *texts("slow"))
        seen.wait_for("slow", times=2)
        eventually(lambda: b.backlog(topic, "g") == 1, "the slow one waits")
        b.publish(topic, *texts("quick"))
        seen.wait_for("quick", times=2)

    def test_what_waits_for_its_delay_is_counted_by_everyone(self, harness: RabbitMQHarness, topic: str) -> None:
        """Also by a broker that knows nothing of the delays, and while no member lives; `forget` drops it."""
        b, other = harness.connect(), harness.connect()
        seen = Recorder(fail)
        subscription = b.subscribe(topic, seen, group="g", retry_delays=(3600, 7200))
        b.publish(topic, *numbered(3))
        seen.wait(3)
        subscription.unsubscribe()
        eventually(lambda: other.backlog(topic, "g") == 3, "all wait")
        other.group(topic, "g").forget()
        assert other.backlog(topic, "g") == 0
        with harness.channel() as channel:
            there = [
                q
                for q in (f"{topology.group_names(topic, 'g').queue}:retry:{n}" for n in range(2))
                if exists(channel, q)
            ]
        assert there == []

    def test_a_kill_right_after_the_first_failure_loses_nothing(self, harness: RabbitMQHarness, topic: str) -> None:
        """The queue where a message waits or lies dead was made with its group: the server knows its name by then."""
        b, seen = harness.connect(), Recorder(fail_once)
        b.subscribe(topic, seen, group="g", retry_delays=(3,))
        b.subscribe(topic, Recorder(reject), group="h")
        harness.server.control("eval", WRITE_NAMES)
        b.publish(topic, *texts("x"))
        group = b.group(topic, "h")
        eventually(group.dead_letters, "it lies dead")
        eventually(lambda: told(harness, topic).message_count == 0 and b.backlog(topic, "g") == 1, "it waits")
        ServerProcess.kill(harness.server)
        harness.start()
        assert seen.wait(2)[1].attempt == 2
        eventually(group.dead_letters, "it lies there still")

    def test_backlog_asks_members_elsewhere(self, harness: RabbitMQHarness, topic: str) -> None:
        """What they hold is not told by the server."""
        b, consumer = harness.connect(), harness.connect()
        proceed = threading.Event()
        seen = Recorder(lambda event: proceed.wait(60))
        subscription = consumer.subscribe(topic, seen, group="g")
        b.publish(topic, *numbered(10))
        seen.wait(1)
        assert b.backlog(topic, "g") == 10
        stopping = threading.Thread(target=subscription.unsubscribe)
        stopping.start()  # a member that drains holds one still
        eventually(lambda: told(harness, topic).message_count == 9, "the others are handed back")
        assert b.backlog(topic, "g") == 10
        proceed.set()
        stopping.join()
        assert b.backlog(topic, "g") == 9

    def test_a_group_made_again_counts_once(self, harness: RabbitMQHarness, topic: str) -> None:
        """A member whose queue was deleted leaves nothing behind that would be asked, too."""
        b, proceed = harness.connect(), threading.Event()
        seen = Recorder(lambda event: proceed.wait(60))
        b.subscribe(topic, seen, group="g")
        for n in (1, 2):
            harness.lose_group(topic, "g")
            eventually(lambda: told(harness, topic).consumer_count == 1, "it consumes again")
            b.publish(topic, *texts("x"), mandatory=True)
            eventually(lambda: b.backlog(topic, "g") == 1, f"the message is with the member, time {n}")
        proceed.set()

    def test_dead_letters_are_seen_by_all_who_look_at_once(self, harness: RabbitMQHarness, topic: str) -> None:
        """A quorum queue is read by taking everything out: one after the other, and put back in order."""
        brokers = [harness.connect() for _ in range(3)]
        brokers[0].subscribe(topic, Recorder(reject), group="g")
        brokers[0].publish(topic, *numbered(20))
        eventually(lambda: len(brokers[0].group(topic, "g").dead_letters()) == 20, "all are dead")
        looks: list[list[str]] = []

        def look(b: Broker) -> None:
            group = b.group(topic, "g")
            looks.extend([letter.message.body.decode() for letter in group.dead_letters()] for _ in range(5))

        threads = [threading.Thread(target=look, args=(b,)) for b in brokers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert looks == [[str(n) for n in range(20)]] * 15
        assert {letter.attempts for letter in brokers[0].group(topic, "g").dead_letters()} == {1}

    def test_what_the_server_notes_is_not_copied(self, harness: RabbitMQHarness, topic: str) -> None:
        """An x-death header that comes back confuses newer servers."""
        b = harness.connect()
        b.subscribe(topic, Recorder(fail), group="g", max_attempts=3, retry_delays=QUICK)
        b.publish(topic, *texts("x"))
        eventually(b.group(topic, "g").dead_letters, "there is a dead letter")
        with harness.channel() as channel:
            _, properties, _ = channel.basic_get(topology.group_names(topic, "g").dead)
        assert [name for name in properties.headers if name.startswith("x-") and name != wire.RETURNED] == []

    def test_a_last_attempt_leaves_no_mark(self, harness: RabbitMQHarness, topic: str) -> None:
        """Whether it ends well or not; the mark of one that goes on is there, and no queue is made for it."""
        during = list[int]()

        def behave(event: Event) -> None:
            during.append(marks(harness, topic))
            if event.message.body == b"bad":
                raise RuntimeError("bad")

        b = harness.connect()
        b.subscribe(topic, behave, group="g", max_attempts=1)
        there = {queue for queue in queues(harness) if topic in queue}
        b.publish(topic, *texts("bad", "good"))
        eventually(lambda: len(during) == 2 and not marks(harness, topic), "both marks are gone")
        assert during == [1, 1]
        assert b.backlog(topic, "g") == 0
        assert {queue for queue in queues(harness) if topic in queue} == there

    def test_the_retention_ends(self, harness: RabbitMQHarness, topic: str) -> None:
        """What nobody took in time is dropped by the server."""
        b = harness.connect(retention_seconds=0.1)
        b.subscribe(topic, Recorder(), group="g").unsubscribe()
        b.publish(topic, *numbered(3))
        eventually(lambda: b.backlog(topic, "g") == 0, "nothing is kept")

    def test_a_broadcast_leaves_nothing_and_loses_nothing_in_a_cut(self, harness: RabbitMQHarness, topic: str) -> None:
        """Its queue waits while its consumer is away, and goes when it unsubscribes."""
        b, other, everyone = harness.connect(), harness.connect(), Recorder()
        subscription = b.subscribe(topic, everyone)
        harness.cut()
        eventually(lambda: published(other, topic, "meanwhile"), "publishing works again")
        everyone.wait_for("meanwhile")
        subscription.unsubscribe()
        assert [name for name in queues(harness) if topic in name] == []

    def test_messages_of_other_programs_are_welcome(self, harness: RabbitMQHarness, topic: str) -> None:
        """With the headers they have; what is not as it should be does no harm."""
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, seen, group="g")
        properties = [
            pika.BasicProperties(headers={"ce-id": "1", "n": 7}),
            pika.BasicProperties(message_id="2"),
            pika.BasicProperties(headers={wire.HEADER: "{no json", wire.ATTEMPTS: "many"}, message_id="3"),
            None,
        ]
        with harness.channel() as channel:
            for each in properties:
                channel.basic_publish(topology.topic_exchange(topic), "", b"x", each)
        received = [call.message for call in seen.wait(4)]
        assert [message.id for message in received[:3]] == ["1", "2", "3"]
        assert received[0].header["n"] == "7"

    def test_the_longest_names_are_kept_apart(self, b: Broker, topic: str) -> None:
        """Topic and queue together are longer than AMQP's 255 bytes."""
        ending = "x" * (MAX_NAME_BYTES - len(encode(topic, LOWER)))
        seen = {last: Recorder() for last in "ab"}
        for last, recorder in seen.items():
            b.subscribe(topic + ending, recorder, group="g" * 199 + last, retry_delays=QUICK)
        b.publish(topic + ending, *texts("x"))
        for last, recorder in seen.items():
            recorder.wait(1)
            eventually(lambda last=last: b.backlog(topic + ending, "g" * 199 + last) == 0, "it is acked")  # type: ignore[misc]  # bound now

    def test_a_reason_far_too_long_is_kept_as_far_as_it_goes(self, b: Broker, topic: str) -> None:
        """All headers have to fit into one frame, or the server closes the connection."""

        def behave(event: Event) -> None:
            raise Reject("学" * 100_000)

        b.subscribe(topic, behave, group="g")
        b.publish(topic, Message(b"x", {"h": "\x01" * 8000}))
        eventually(b.group(topic, "g").dead_letters, "there is a dead letter")
        [letter] = b.group(topic, "g").dead_letters()
        assert letter.reason == "学" * MOST_WORDS + "…"
        assert letter.message.header["h"] == "\x01" * 8000

    def test_a_reason_that_is_no_unicode_is_made_some(self) -> None:
        """What an exception says of a file's name, for instance."""
        parcel = wire.receive(pika.spec.Basic.GetOk(), wire.publish(Message()), b"")
        assert wire.dead_letter(parcel, 1, "no \udcff").headers[wire.REASON] == "no ?"

    def test_a_message_whose_retry_cannot_be_stored_comes_again(self, harness: RabbitMQHarness, topic: str) -> None:
        """No lease would ever end while the connection lives: it goes back instead, and is counted."""
        b = harness.connect()
        seen = Recorder(fail_once)
        server = harness.server
        b.subscribe(topic, seen, group="g", retry_delays=QUICK)
        server.control("set_permissions", "guest", ".*(?<!:retry:0)$", ".*", ".*")
        try:
            b.publish(topic, *texts("x"))
            assert [call.attempt for call in seen.wait(2)] == [1, 2]
        finally:
            server.control("set_permissions", "guest", ".*", ".*", ".*")

    def test_a_server_that_hangs_is_let_go_of(self, harness: RabbitMQHarness, topic: str) -> None:
        """Publish, subscribe and disconnect take no longer than they may."""
        b = harness.connect(publish_timeout_seconds=1, drain_seconds=1)
        surely(lambda: b.subscribe(topic, Recorder(), group="g").unsubscribe())
        with harness.paused():
            all_raise_in_time(b, topic, seconds=1, cause="no answer")
            with in_time(2):
                b.disconnect()
        eventually(lambda: "rabbitmq" not in [t.name for t in threading.enumerate()], "its connections end")

    def test_what_is_sent_on_a_channel_that_is_being_closed_is_named(self, b: Broker, topic: str) -> None:
        """All of it: the server would not look at it."""
        assert isinstance(b, RabbitMQBroker)
        b.publish(topic, *texts("x"))
        [channel] = b._publisher._idle  # nothing else closes one just before it is used
        channel.drop()
        messages = tuple(numbered(3))
        with pytest.raises(PublishError) as caught:
            b.publish(topic, *messages)
        assert caught.value.unconfirmed == messages
        b.publish(topic, *messages)

    @pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
    def test_a_forked_process_is_told_that_it_is_one(self, b: Broker, topic: str) -> None:
        """At once: the thread that would answer is in the other process."""
        b.subscribe(topic, Recorder(), group="g")
        b.publish(topic, *texts("x"))
        raises_in_a_fork(b, topic)
        b.publish(topic, *texts("x"))


class TestRabbitMQBadInput(OnRabbitMQ):
    """One error that names broker, address and cause, never a password, within the timeout."""

    @pytest.mark.parametrize(
        ("address", "cause"),
        [
            ("rabbitmq://nobody.invalid", "not known|resolution|resolve"),
            ("amqp://user:secret@nobody.invalid", "not known|resolution|resolve"),
            ("rabbitmq://user:secret@host:fivethousand/", "a port cannot be used"),
            ("rabbitmq://user:se/cret@host/", "special character"),
            ("rabbitmq://[::1", "a host or a port"),
        ],
    )
    def test_an_address_that_is_none(self, address: str, cause: str) -> None:
        """An unknown host, a port that is no number, a password that should have been quoted."""
        with pytest.raises(BrokerError, match=f"({cause})") as caught:
            broker.connect(address)
        assert str(caught.value).startswith("rabbitmq broker at ")
        assert "cret" not in str(caught.value)

    def test_nobody_listens(self) -> None:
        """The port is closed."""
        with reserved_port() as port, pytest.raises(BrokerError, match=r"rabbitmq broker at .*refused"):
            broker.connect(f"rabbitmq://127.0.0.1:{port}")

    @pytest.mark.parametrize(
        ("login", "vhost", "cause"),
        [("guest:wrong-secret@", "", "user and password"), ("", "elsewhere", "elsewhere.*not found|vhost")],
    )
    def test_wrong_credentials(self, harness: RabbitMQHarness, login: str, vhost: str, cause: str) -> None:
        """A password that is not theirs, a vhost that is not there."""
        with pytest.raises(BrokerError, match=f"rabbitmq broker at .*({cause})") as caught:
            broker.connect(f"rabbitmq://{login}127.0.0.1:{harness.server.port}/{vhost}")
        assert "wrong-secret" not in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_right_credentials_and_what_happens_when_they_end(self, harness: RabbitMQHarness, topic: str) -> None:
        """A password and a vhost with letters that mean something in a URL; publish and subscribe notice the end."""
        server, vhost = harness.server, "a/b 学"
        for command in (["add_vhost", vhost], ["add_user", topic, PASSWORD]):
            server.control(*command)
        server.control("set_permissions", "-p", vhost, topic, ".*", ".*", ".*")
        where = f"{harness.address.removeprefix('rabbitmq://')}{quote(vhost, safe='')}"
        address = f"rabbitmq://{topic}:{quote(PASSWORD, safe='')}@{where}"
        with surely(lambda: broker.connect(address, publish_timeout_seconds=2)) as b:
            surely(lambda: b.subscribe(topic, Recorder(), group="g").unsubscribe())
            surely(lambda: b.publish(topic, *texts("x")))
            assert "cret" not in repr(b)
            server.control("clear_permissions", "-p", vhost, topic)
            harness.cut()  # a channel that is busy remembers what it was allowed
            eventually(lambda: not published(b, topic, "x"), "it is not let in")
            all_raise_in_time(b, topic, seconds=2, cause="access")
        server.control("delete_vhost", vhost)

    @pytest.mark.parametrize(("greeting", "answer"), [(b"", HTTP), (SMTP, b""), (b"", b"")])
    def test_a_server_of_another_kind(self, greeting: bytes, answer: bytes) -> None:
        """It answers something else, does not wait to be asked, or says nothing at all."""
        with stranger(greeting, answer) as port:
            address = f"rabbitmq://127.0.0.1:{port}"
            error = raises_in_time(lambda: broker.connect(address, publish_timeout_seconds=1), 1, "AMQP|answer")
        assert str(error).startswith(f"rabbitmq broker at {address}: ")

    def test_tls_is_verified_and_carries_more_than_the_server_takes_at_once(self, tmp_path: Path, topic: str) -> None:
        """With a file that the address names; without TLS, such a server does not answer."""
        seen, count = Recorder(), 20
        with RabbitMQOverTls(tmp_path) as private:
            address = private.url.replace("rabbitmq:", "amqps:")
            with broker.connect(f"{address}?ca={private.certificate}") as b:
                b.subscribe(topic, seen, group="g")
                b.publish(topic, *(Message(bytes([n]) * MAX_BODY_BYTES) for n in range(count)), *texts("last"))
                assert [r.message.body[0] for r in seen.wait(count + 1)] == [*range(count), ord("l")]
            for untrusted, cause in ((address, "certificate verify failed"), (private.url, "lost|in time|AMQP")):
                with pytest.raises(BrokerError, match=cause):
                    broker.connect(untrusted, publish_timeout_seconds=2)

    def test_another_server_in_its_place(self, harness: RabbitMQHarness, topic: str) -> None:
        """Publish and subscribe notice as connect does."""
        server = harness.server
        with Proxy(server.port) as proxy:
            b = surely(lambda: broker.connect(f"rabbitmq://127.0.0.1:{proxy.port}", publish_timeout_seconds=1))
            for greeting, answer in ((b"", HTTP), (b"", b"")):
                with stranger(greeting, answer) as port:
                    proxy._target = ("127.0.0.1", port)
                    proxy.cut()
                    eventually(lambda: not published(b, topic, "x"), "the stranger takes its place")
                    all_raise_in_time(b, topic, seconds=1, cause="AMQP|answer|lost")
            b.disconnect()

    def test_nothing_works_after_disconnecting(self, harness: RabbitMQHarness, topic: str) -> None:
        """Not even through what was made before."""
        b = harness.connect()
        group = b.group(topic, "g")
        b.disconnect()
        with pytest.raises(BrokerError, match="disconnected"):
            group.backlog()


def fail(event: Event) -> None:
    """What a broken handler does."""
    raise RuntimeError("broken")


def fail_once(event: Event) -> None:
    """What a handler does that works the second time."""
    if event.attempt == 1:
        raise RuntimeError("once")


def reject(event: Event) -> None:
    """What a handler does to a message that no attempt will mend."""
    raise Reject("no such type")


def published(b: Broker, topic: str, text: str) -> bool:
    """Whether it was confirmed; the same message when it is tried again."""
    try:
        b.publish(topic, Message(text.encode(), {"ce-id": f"{topic} {text}"}))
    except PublishError:
        return False
    return True


def queues(harness: RabbitMQHarness) -> list[str]:
    """The names of all queues there are."""
    return harness.server.control("list_queues", "name").split()


def marks(harness: RabbitMQHarness, topic: str) -> int:
    """How many last attempts of the group `g` are known to have started."""
    with harness.channel() as channel:
        return int(channel.queue_declare(topology.group_names(topic, "g").last, passive=True).method.message_count)


def exists(channel: pika.adapters.blocking_connection.BlockingChannel, queue: str) -> bool:
    """Whether there is a queue of that name."""
    try:
        channel.connection.channel().queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    return True


def told(harness: RabbitMQHarness, topic: str) -> Any:
    """What the server tells of the queue of the group `g`; nothing of it when there is none."""
    queue = topology.group_names(topic, "g").queue
    with harness.channel() as channel:
        if not exists(channel, queue):
            return pika.spec.Queue.DeclareOk(queue, 0, 0)
        return channel.queue_declare(queue, passive=True).method
