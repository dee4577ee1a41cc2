"""The contract on the Kafka broker, and what is special to Kafka."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from confluent_kafka import KafkaError, Producer

import broker
from broker.address import Address
from broker.base import Broker
from broker.errors import BrokerError, PublishError
from broker.kafka import KafkaBroker, cluster, group, progress, sender
from broker.kafka.member import KafkaSource
from broker.kafka.progress import MOST_OPEN, Progress
from broker.kafka.wire import MAX_NAME, dead_name, group_name, settings, topic_name
from broker.message import Event, Message
from broker.testing import BrokerContract, Harness, Recorder, eventually, surely
from broker.testing.case import QUICK, Case, numbered, only_this_arrives, texts
from tests.contract.in_time import all_raise_in_time, in_time, raises_in_time
from tests.servers.kafka import MockKafka, ReadersKafka
from tests.servers.process import reserved_port
from tests.servers.stranger import stranger

Server = MockKafka | ReadersKafka
REFUSED = "refused"  #: a topic that nothing can be stored in


class KafkaHarness(Harness):
    """Brokers on the server of this worker, which goes down and up, but is never killed: it is in memory."""

    promises = KafkaBroker.promises

    def __init__(self, server: Server) -> None:
        super().__init__(server.url)
        self.server = server

    @property
    def mock(self) -> MockKafka:
        """The server, when it is ours."""
        if not isinstance(self.server, MockKafka):
            pytest.skip("KAFKA_BOOTSTRAP names a cluster that is not ours to break; unset it to test this")
        return self.server

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self.mock.paused():
            yield

    @contextmanager
    def dead_letters_unreachable(self) -> Iterator[None]:
        self.mock.tell("error", REFUSED, KafkaError.TOPIC_AUTHORIZATION_FAILED)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(group, "dead_name", lambda topic, queue: REFUSED)
            yield

    def lose_group(self, topic: str, group: str) -> None:
        """Kafka refuses to delete a group that has members; with its topic, what it has committed is gone as well."""
        self.server.delete(topic_name(topic))

    def cut(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        self.mock.tell("down")

    def start(self) -> None:
        self.mock.tell("up")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One for all tests of this worker."""
    if bootstrap := os.environ.get("KAFKA_BOOTSTRAP"):
        yield ReadersKafka(bootstrap)
    else:
        with MockKafka() as server:
            yield server


class OnKafka(Case):
    """Base of the parts."""

    @pytest.fixture
    def harness(self, server: Server) -> Iterator[Harness]:
        """Connections that no other test has."""
        with KafkaHarness(server) as harness:
            yield harness


class TestKafka(OnKafka, BrokerContract):
    """Every promise, on librdkafka's mock or the cluster in KAFKA_BOOTSTRAP."""


class TestKafkaGroups(OnKafka):
    """What a group's offsets and their metadata carry from one member to the next."""

    def test_what_follows_an_unfinished_message_is_not_delivered_again(self, harness: Harness, topic: str) -> None:
        """Nor, to the next member, the unfinished one before its delay is over."""
        b, consumer, seen, later = harness.connect(), harness.connect(), Recorder(fail_if_bad), Recorder(fail_if_bad)
        consumer.subscribe(topic, seen, group="g", retry_delays=(3600,))
        b.publish(topic, *texts("bad"), *numbered(20))
        seen.wait(21)
        eventually(lambda: b.backlog(topic, "g") == 1, "only the bad one is left")
        consumer.disconnect()
        assert b.backlog(topic, "g") == 1
        b.subscribe(topic, later, group="g")
        only_this_arrives(b, topic, later, before=0)

    def test_the_next_member_goes_on_counting(self, harness: Harness, topic: str) -> None:
        """Attempts outlive a clean stop; the delay goes on where it was."""
        b, consumer, seen, later = harness.connect(), harness.connect(), Recorder(fail_if_bad), Recorder()
        consumer.subscribe(topic, seen, group="g", retry_delays=(0.05, 5), jitter=0.0)
        b.publish(topic, *texts("bad"))
        before = seen.wait(2)[1]
        consumer.disconnect()
        b.subscribe(topic, later, group="g")
        [again] = later.wait(1)
        assert again.attempt == 3
        assert again.at - before.at >= 5 * 0.95

    def test_a_partition_is_handed_over_only_once_what_runs_is_done(self, harness: Harness, topic: str) -> None:
        """A member that joins meanwhile gets its share, and nothing twice."""
        harness.address = harness.address.replace("session.timeout.ms=6000", "session.timeout.ms=12000")  # none lapses
        b, other = (harness.connect(drain_seconds=60) for _ in range(2))  # the mock shares out only near its end
        finish = threading.Event()
        seen, beside = Recorder(lambda event: finish.wait(60)), Recorder()
        subscription = b.subscribe(topic, seen, group="g", concurrency=8)
        b.publish(topic, *(Message(str(n).encode(), {"ce-partitionkey": str(n)}) for n in range(8)))
        seen.wait(8)
        joined = other.subscribe(topic, beside, group="g")

        def has_a_share() -> bool:
            other.publish(topic, *(Message(b"later", {"ce-partitionkey": str(n)}) for n in range(8)))
            finish.set()
            return "later" in beside.texts

        eventually(has_a_share, "the new member has partitions")
        assert set(beside.texts) == {"later"}
        assert {call.attempt for call in (*seen.received, *beside.received)} == {1}
        assert sorted(set(seen.texts) - {"later"}) == [str(n) for n in range(8)]
        joined.unsubscribe()
        subscription.unsubscribe()

    def test_a_commit_that_is_refused_while_the_group_shares_out_is_made_again(
        self, harness: KafkaHarness, topic: str
    ) -> None:
        """Nobody notices."""
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, seen, group="g")
        b.publish(topic, *texts("before"))
        seen.wait(1)
        eventually(lambda: b.backlog(topic, "g") == 0, "the ack is flushed")
        harness.mock.tell("refuse", "commit", 5, KafkaError.REBALANCE_IN_PROGRESS)
        b.publish(topic, *texts("x"))
        assert [(call.text, call.attempt) for call in seen.wait(2)] == [("before", 1), ("x", 1)]
        eventually(lambda: b.backlog(topic, "g") == 0, "the ack is flushed")

    def test_a_commit_that_fails_counts_nothing_twice(self, harness: KafkaHarness, topic: str) -> None:
        """What could not be counted is not delivered until it can be."""
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, seen, group="g")
        b.publish(topic, *texts("before"))
        seen.wait(1)
        eventually(lambda: b.backlog(topic, "g") == 0, "the ack is flushed")
        harness.mock.tell("refuse", "commit", 2, KafkaError.GROUP_AUTHORIZATION_FAILED)
        b.publish(topic, *texts("x"))
        assert [(call.text, call.attempt) for call in seen.wait(2)] == [("before", 1), ("x", 1)]

    def test_what_cannot_be_counted_yet_holds_up_no_drain(self, harness: KafkaHarness, topic: str) -> None:
        """It has not been delivered, so the next member gets it as its first attempt."""
        b, consumer, seen, heir = (
            harness.connect(),
            harness.connect(publish_timeout_seconds=3600),
            Recorder(),
            Recorder(),
        )
        subscription = consumer.subscribe(topic, seen, group="g")
        b.publish(topic, *texts("before"))
        seen.wait(1)
        eventually(lambda: b.backlog(topic, "g") == 0, "the ack is flushed")
        harness.mock.tell("refuse", "commit", 100_000, KafkaError.REBALANCE_IN_PROGRESS)
        try:
            b.publish(topic, *texts("x"))
            eventually(lambda: subscription._source._out, "it is to be counted")  # type: ignore[attr-defined]  # Kafka's
            subscription.stop()
            eventually(lambda: not subscription._fetcher.is_alive(), "nobody waits for that any more")
        finally:
            harness.mock.tell("accept", "commit")
        subscription.unsubscribe()
        b.subscribe(topic, heir, group="g")
        assert [(call.text, call.attempt) for call in heir.wait(1)] == [("x", 1)]

    def test_a_group_that_may_not_be_joined_is_logged(
        self, harness: KafkaHarness, topic: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Once, and the member goes on trying."""
        b, seen = harness.connect(), Recorder()
        harness.mock.tell("refuse", "join", 2, KafkaError.GROUP_AUTHORIZATION_FAILED)
        b.subscribe(topic, seen, group="g")
        b.publish(topic, *texts("x"))
        seen.wait(1)
        said = [record.getMessage() for record in caplog.records if "cannot fetch" in record.getMessage()]
        assert len(said) == 1
        assert "kafka broker at" in said[0]
        assert "uthorization" in said[0]

    def test_two_hundred_unfinished_messages_hold_up_a_partition(self, b: Broker, topic: str) -> None:
        """As declared: what is known of them has to fit into the offset's metadata. Other partitions go on."""
        seen = Recorder(fail_if_bad)
        b.subscribe(topic, seen, group="g", retry_delays=(3600,), concurrency=4)
        b.publish(topic, *(Message(b"bad", {"ce-partitionkey": "k"}) for _ in range(MOST_OPEN + 1)))
        seen.wait(MOST_OPEN)
        b.publish(topic, *(Message(b"good", {"ce-partitionkey": str(n)}) for n in range(20)))
        seen.wait_for("good")
        assert seen.texts.count("bad") == MOST_OPEN

    def test_the_oldest_messages_may_be_gone_when_a_member_comes(self, harness: KafkaHarness, topic: str) -> None:
        """After the retention; it starts with the oldest that is kept."""
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, Recorder(), group="g").unsubscribe()
        b.publish(topic, *(Message(str(n).encode(), {"ce-partitionkey": "k"}) for n in range(10)))
        for partition in range(4):
            harness.mock.tell("dropped", topic_name(topic), partition, 5 if in_use(b, topic, partition) else 0)
        assert b.backlog(topic, "g") == 5
        b.subscribe(topic, seen, group="g")
        seen.wait_for("9")
        assert seen.texts == ["5", "6", "7", "8", "9"]

    def test_reading_ahead_is_bounded(self, b: Broker, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """And goes on in order where it was held."""
        monkeypatch.setattr(progress, "FULL_BYTES", 5 * progress.WEIGHT_BYTES)
        seen = Recorder()
        b.subscribe(topic, seen, group="g", prefetch=2)
        b.publish(topic, *numbered(200))
        seen.wait(200)
        assert seen.texts == [str(n) for n in range(200)]

    @pytest.mark.parametrize("request_", ["heartbeat", "join"])
    def test_a_member_that_meets_a_fatal_error_joins_again(
        self, harness: KafkaHarness, topic: str, request_: str
    ) -> None:
        """Such as one with a fixed id, when another has taken that; librdkafka's consumer does nothing any more."""
        harness.address += f"&group.instance.id={topic}"
        b, seen = harness.connect(), Recorder()
        if request_ == "join":
            harness.mock.tell("refuse", request_, 1, KafkaError.FENCED_INSTANCE_ID)
        source = b.subscribe(topic, seen, group="g")._source
        assert isinstance(source, KafkaSource)
        b.publish(topic, *texts("before"))
        seen.wait_for("before")
        if request_ == "heartbeat":
            fenced = source._consumer
            harness.mock.tell("refuse", request_, 1, KafkaError.FENCED_INSTANCE_ID)
            eventually(lambda: source._consumer is not fenced, "it has another consumer")
        b.publish(topic, *texts("after"))
        seen.wait_for("after")

    def test_a_surprise_in_a_commit_keeps_nobody_waiting(
        self, b: Broker, topic: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whoever wished for it hears of it; what was not counted comes again."""
        commit, surprises = KafkaSource._commit, iter([SystemExit(1)])

        def surprising(*arguments: object) -> None:
            for surprise in surprises:
                raise surprise
            commit(*arguments)  # type: ignore[arg-type]  # as they came

        monkeypatch.setattr(KafkaSource, "_commit", surprising)
        seen = Recorder()
        b.subscribe(topic, seen, group="g")
        b.publish(topic, *numbered(10))
        eventually(lambda: {str(n) for n in range(10)} <= set(seen.texts), "all arrive")
        eventually(lambda: b.backlog(topic, "g") == 0, "and are acked")

    @pytest.mark.parametrize("surprise", [RuntimeError("surprise"), SystemExit(1)], ids=["error", "exit"])
    def test_a_surprise_in_the_consumer_s_thread_loses_nothing(
        self, b: Broker, topic: str, surprise: BaseException, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was polled and not taken in is read again."""
        arrived, surprises = Progress.arrived, iter([surprise])

        def surprising(*arguments: object) -> object:
            for once in surprises:
                raise once
            return arrived(*arguments)  # type: ignore[arg-type]  # as they came

        monkeypatch.setattr(Progress, "arrived", surprising)
        seen = Recorder()
        b.subscribe(topic, seen, group="g")
        b.publish(topic, *numbered(10))
        seen.wait(10)
        assert seen.texts == [str(n) for n in range(10)]

    def test_a_forgotten_group_comes_back_as_a_new_one(self, b: Broker, topic: str) -> None:
        """From the oldest message, without its dead letters."""
        seen = Recorder(fail_if_bad)
        b.subscribe(topic, Recorder(fail_if_bad), group="g", max_attempts=1)
        b.publish(topic, *texts("bad"))
        forgotten = b.group(topic, "g")
        eventually(forgotten.dead_letters, "there is a dead letter")
        eventually(lambda: forgotten.backlog() == 0, "the original is acked")
        b.disconnect()
        b.connect()
        b.group(topic, "g").forget()
        assert b.group(topic, "g").dead_letters() == []
        b.subscribe(topic, seen, group="g", retry_delays=(3600,))
        b.publish(topic, *texts("good"))
        seen.wait(2)
        assert sorted((call.text, call.attempt) for call in seen.received) == [("bad", 1), ("good", 1)]


class TestKafkaTopics(OnKafka):
    """Topics that others make, delete and write to."""

    def test_a_broadcast_goes_on_when_its_topic_is_deleted(self, harness: KafkaHarness, topic: str) -> None:
        """The topic is made again."""
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, seen)
        b.publish(topic, *texts("before"))
        seen.wait_for("before")
        harness.server.delete(topic_name(topic))

        def arrives() -> bool:
            try:
                b.publish(topic, *texts("after"))
            except PublishError:
                return False
            return "after" in seen.texts

        eventually(arrives, "it receives again")

    @pytest.mark.parametrize("group", ["g", None])
    def test_who_only_receives_makes_a_deleted_topic_again(
        self, harness: KafkaHarness, topic: str, group: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It does not wait for somebody to publish."""
        monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.05)
        b, made = harness.connect(), threading.Event()
        assert isinstance(b, KafkaBroker)
        b.subscribe(topic, Recorder(), group=group)
        make = b._cluster._make

        def note(name: str, compacted: bool) -> None:
            make(name, compacted)
            made.set()

        monkeypatch.setattr(b._cluster, "_make", note)
        harness.server.delete(topic_name(topic))
        assert made.wait(60)
        eventually(lambda: b._cluster.partitions(topic_name(topic)), "there is such a topic again")

    def test_a_broadcast_finds_new_partitions(self, b: Broker, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """From their first message."""
        monkeypatch.setattr(cluster, "LOOK_SECONDS", 0.1)
        assert isinstance(b, KafkaBroker)
        ensure = b._cluster.ensure
        monkeypatch.setattr(b._cluster, "ensure", lambda topic: ensure(topic)[:1])
        seen = Recorder()
        b.subscribe(topic, seen, prefetch=1)
        monkeypatch.undo()
        b.publish(topic, *(Message(str(n).encode(), {"ce-partitionkey": str(n)}) for n in range(20)))
        seen.wait(20)
        assert sorted(seen.texts) == sorted(str(n) for n in range(20))

    def test_a_message_of_another_program_is_delivered(self, harness: KafkaHarness, b: Broker, topic: str) -> None:
        """Its id is its place in the topic, the same on every attempt; what is no text in a header is replaced."""
        seen = Recorder(lambda event: fail_if_bad(event) if event.attempt == 1 else None)
        b.subscribe(topic, seen, group="g", retry_delays=QUICK)
        foreign = Producer({"bootstrap.servers": harness.server.bootstrap})
        foreign.produce(topic_name(topic), b"bad", headers=[("raw", b"\xff"), ("none", None)])
        foreign.flush(10)
        first, second = seen.wait(2)
        assert (first.message.header["raw"], first.message.header["none"]) == ("\ufffd", "")
        assert first.message.id == second.message.id

    def test_names_are_what_kafka_takes_and_stay_apart(self) -> None:
        """However long; a topic cannot be called `.`."""
        names = [*("." * n for n in (1, 2, 3)), "a", "a_b", "a.b", "学院君", "x" * 200, "x" * 199]
        made = {function(t, q) for t in names for q in names for function in (group_name, dead_name)}
        made |= {topic_name(name) for name in names}
        assert len(made) == 2 * len(names) ** 2 + len(names)
        assert all(0 < len(name) <= MAX_NAME and name.strip(".") for name in made)
        assert topic_name("user.registered") == "user.registered"
        assert group_name("user.registered", "email-service") == "user.registered__email-service"


class TestKafkaProducer(OnKafka):
    """A producer that fails is replaced, and nobody waits for it."""

    @pytest.mark.parametrize(
        "code",
        [
            KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,  # fatal to the producer; the others end the batch alone
            KafkaError.INVALID_PRODUCER_EPOCH,
            KafkaError.PRODUCER_FENCED,
            KafkaError.INVALID_TXN_STATE,
        ],
    )
    def test_an_error_that_ends_a_producer_ends_no_publisher(
        self, harness: KafkaHarness, topic: str, code: int
    ) -> None:
        """Each publish returns, or names in time what is not confirmed; the next one works, and nothing is lost."""
        b, seen = harness.connect(), Recorder()
        b.subscribe(topic, seen, group="g")
        b.publish(topic, *texts("before"))
        harness.mock.tell("refuse", "produce", 2, code)
        batches = [numbered(size, prefix=f"{size}-") for size in (1, 2, 3, 50)]
        try:
            with in_time(b.options.publish_timeout_seconds), ThreadPoolExecutor(len(batches)) as pool:
                unconfirmed = list(pool.map(lambda batch: failed_of(b, topic, batch), batches))
            for failed, batch in zip(unconfirmed, batches, strict=True):
                assert all_texts(failed) <= all_texts(batch)
        finally:
            harness.mock.tell("accept", "produce")
        b.publish(topic, *(message for failed in unconfirmed for message in failed), *texts("after"))
        eventually(lambda: {"before", *all_texts(*batches), "after"} == set(seen.texts), "all arrive")

    def test_what_is_not_confirmed_is_named_with_the_cause(self, harness: KafkaHarness, topic: str) -> None:
        """The one message that the failed producer had, at once and in the server's words."""
        b, [message] = harness.connect(), texts("x")
        b.publish(topic, *texts("before"))
        harness.mock.tell("refuse", "produce", 1, KafkaError.UNKNOWN_PRODUCER_ID)  # it takes another number
        b.publish(topic, *texts("before"))
        harness.mock.tell("refuse", "produce", 1, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
        with pytest.raises(PublishError, match=r"kafka broker at .*: 1 of 1 .*desynchronization") as caught:
            b.publish(topic, message)
        assert caught.value.unconfirmed == (message,)
        b.publish(topic, message)

    def test_a_producer_that_gets_no_number_is_replaced(self, harness: KafkaHarness, topic: str) -> None:
        """Without one an idempotent producer never sends; the next one may get a number."""
        harness.mock.tell("refuse", "number-producer", 1, KafkaError.CLUSTER_AUTHORIZATION_FAILED)
        b = harness.connect()
        with in_time(b.options.publish_timeout_seconds), suppress(PublishError):
            b.publish(topic, *texts("x"))  # it works when the failed producer was replaced before
        b.publish(topic, *texts("x"))

    def test_a_dead_letter_is_stored_by_the_next_producer(self, harness: KafkaHarness, topic: str) -> None:
        """The original is acked only then."""
        b = harness.connect()
        b.subscribe(topic, fail_if_bad, group="g", max_attempts=1)
        b.publish(topic, *texts("before"))
        harness.mock.tell("refuse", "produce", 1, KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER)
        publisher = harness.connect()
        publisher.publish(topic, *failed_of(publisher, topic, texts("bad")))
        eventually(b.group(topic, "g").dead_letters, "there is a dead letter")
        eventually(lambda: b.backlog(topic, "g") == 0, "the original is acked")

    @pytest.mark.parametrize("surprise", [RuntimeError("a bug"), SystemExit(1)], ids=["error", "exit"])
    def test_nobody_waits_for_a_thread_that_has_ended(
        self, harness: KafkaHarness, topic: str, surprise: BaseException, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whatever ended the one that receives confirms, the next publish has another."""
        b, surprises, settle = harness.connect(), iter([surprise]), sender.Sending.settle

        def surprising(*arguments: object) -> None:
            for once in surprises:
                raise once
            settle(*arguments)  # type: ignore[arg-type]  # as they came

        monkeypatch.setattr(sender.Sending, "settle", surprising)
        with in_time(b.options.publish_timeout_seconds), pytest.raises(PublishError):
            b.publish(topic, *texts("x"))
        b.publish(topic, *texts("x"))

    def test_a_publish_ends_when_its_broker_is_disconnected(self, harness: KafkaHarness, topic: str) -> None:
        """It says so, long before its timeout."""
        b = harness.connect(publish_timeout_seconds=3600)
        b.publish(topic, *texts("before"))
        assert isinstance(b, KafkaBroker)
        live = b._cluster._sender._live
        assert live
        with harness.paused(), ThreadPoolExecutor(1) as pool:
            publishing = pool.submit(b.publish, topic, *texts("x"))
            eventually(lambda: live._sendings, "it waits for its confirm")
            b.disconnect()
            with pytest.raises(PublishError):
                publishing.result(60)


class TestKafkaMetadata:
    """What is written into an offset can be read, and is never too much."""

    def test_it_comes_back_as_it_was(self) -> None:
        """Attempts, last attempts, delays, and what is finished in between."""
        before = Progress(0, 100, "")
        letters = [letter for n in range(100, 120) if (letter := fetched(before, n))]
        for letter in letters:
            letter.attempt = 1 + letter.offset % 3
        letters[4].last_started, letters[5].due, letters[6].due = True, 2_000_000_000, 2_000_000_007
        for letter in (*letters[:3], *letters[8:12]):
            before.finish(letter)
        offset, metadata = before.snapshot()
        after = Progress(0, offset, metadata)
        assert offset == 103
        assert after.snapshot() == (offset, metadata)
        assert [after.arrived(n, Message(), 0) is not None for n in range(103, 121)] == [
            n not in range(108, 112) for n in range(103, 121)
        ]

    def test_all_that_may_be_open_fits_into_what_a_server_takes(self) -> None:
        """4096 bytes, `offset.metadata.max.bytes`; every second message failing, each with a delay of its own."""
        crowded = Progress(0, 10**12, "")
        for n in range(2 * MOST_OPEN):
            if letter := fetched(crowded, 10**12 + n * 1000):
                letter.attempt, letter.due = -100 * (n % 2), int(time.time()) + 100 * n
        assert fetched(crowded, 10**12 + 10**9) is None
        assert len(crowded.snapshot()[1]) <= 4096

    @pytest.mark.parametrize("metadata", ["reset by me", "7", "[]", "[1]", '{"a": 1}', "[1,2,3]", '["1",0]'])
    def test_metadata_of_another_program_is_ignored(self, metadata: str) -> None:
        """The offset counts."""
        assert Progress(0, 7, metadata).snapshot() == (7, "")


class TestKafkaBadInput(OnKafka):
    """One error that names broker, address and cause, never a password, within the timeout."""

    @pytest.mark.parametrize(
        ("address", "cause"),
        [
            ("kafka:", "begins like"),
            ("kafka://app:Secr3tA#x@host", "# as %23"),
            ("kafka://nobody.invalid:9092", "nobody.invalid"),
            ("kafka://127.0.0.1:9092?no.such=1", "No such configuration property"),
            ("kafka://127.0.0.1:9092?sasl.mechanism=NONE&security.protocol=x", "Invalid value"),
            ("kafka://127.0.0.1:9092?sasl.password=cret", "stands before the host"),
        ],
    )
    def test_an_address_that_is_none(self, address: str, cause: str) -> None:
        """No host, an unknown one, settings that librdkafka does not know or take, a password in the wrong place."""
        error = raises_in_time(lambda: broker.connect(address, publish_timeout_seconds=1), 1, cause)
        assert str(error).startswith("kafka broker")
        assert "cret" not in str(error)
        assert "\n" not in str(error)

    def test_nobody_listens(self) -> None:
        """The port is closed."""
        with reserved_port() as port:
            address = f"kafka://127.0.0.1:{port}"
            cause = f"kafka broker at {address}: .*refused"
            raises_in_time(lambda: broker.connect(address, publish_timeout_seconds=1), 1, cause)

    def test_a_server_that_wants_no_login(self, harness: KafkaHarness) -> None:
        """All that the mock can show of credentials that are not taken."""
        address = f"kafka://learner:s%40%2Fcret@{harness.mock.bootstrap}"
        error = raises_in_time(
            lambda: broker.connect(address, publish_timeout_seconds=1), 1, "kafka broker at kafka://….*SASL"
        )
        assert "cret" not in str(error)
        assert "learner" not in repr(broker.new(address))

    def test_a_server_of_another_kind(self) -> None:
        """It answers, but nothing that is of Kafka."""
        answer = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        with stranger(answer=answer) as port:
            address = f"kafka://127.0.0.1:{port}"
            error = raises_in_time(lambda: broker.connect(address, publish_timeout_seconds=1), 1, "Invalid response")
        assert str(error).startswith(f"kafka broker at {address}: ")

    def test_a_server_that_says_nothing(self) -> None:
        """It accepts, and that is all."""
        with stranger() as port:
            address = f"kafka://127.0.0.1:{port}"
            raises_in_time(lambda: broker.connect(address, publish_timeout_seconds=1), 1, "kafka broker at")

    @pytest.mark.parametrize("frozen", [False, True], ids=["down", "frozen"])
    def test_a_server_that_has_gone(self, harness: KafkaHarness, topic: str, *, frozen: bool) -> None:
        """Publish, subscribe and an operator's question notice as connect does."""
        b = harness.connect(publish_timeout_seconds=1)
        surely(lambda: b.publish(topic, *texts("x")))
        with harness.paused() if frozen else harness.outage():
            all_raise_in_time(b, topic, seconds=1, cause="")
            for ask in (
                lambda: b.backlog(topic, "g"),
                lambda: b.group(topic, "g").dead_letters(),
                harness.new(publish_timeout_seconds=1).connect,
            ):
                raises_in_time(ask, 1, "kafka broker at")

    def test_a_topic_that_refuses(self, harness: KafkaHarness, topic: str) -> None:
        """The server's own words."""
        b = harness.connect()
        harness.mock.tell("error", topic_name(topic), KafkaError.TOPIC_AUTHORIZATION_FAILED)
        with pytest.raises(PublishError, match=r"kafka broker at .*uthorization"):
            b.publish(topic, *texts("x"))
        with pytest.raises(BrokerError, match=r"kafka broker at .*uthorization"):
            b.subscribe(topic, Recorder(), group="g")

    def test_what_the_server_refuses_is_named(self, harness: KafkaHarness, topic: str) -> None:
        """Which of the batch, and why."""
        b = harness.connect()
        b.publish(topic, *texts("x"))
        harness.mock.tell("refuse", "produce", 1, KafkaError.INVALID_RECORD)
        [message] = texts("refused")
        with pytest.raises(PublishError, match=r"kafka broker at .*: 1 of 1 messages are not confirmed: ") as caught:
            b.publish(topic, message)
        assert caught.value.unconfirmed == (message,)
        b.publish(topic, message)

    def test_tls_and_login_are_passed_on(self) -> None:
        """All hosts, the files, user and password; what stands after the `?` wins."""
        where = Address.parse("kafka+tls://u:p%40@one,two:1", port=9092)
        made = settings(where, "sasl.mechanism=SCRAM-SHA-512&ca=a.pem&cert=c.pem&key=k.pem")
        assert made["bootstrap.servers"] == "one:9092,two:1"
        assert (made["sasl.username"], made["sasl.password"], made["sasl.mechanism"]) == ("u", "p@", "SCRAM-SHA-512")
        assert made["security.protocol"] == "SASL_SSL"
        files = (made["ssl.ca.location"], made["ssl.certificate.location"], made["ssl.key.location"])
        assert files == ("a.pem", "c.pem", "k.pem")
        assert settings(Address.parse("kafka://one", port=9092), "")["security.protocol"] == "PLAINTEXT"


def failed_of(b: Broker, topic: str, messages: Sequence[Message]) -> tuple[Message, ...]:
    """Publish them; those that were not confirmed."""
    try:
        b.publish(topic, *messages)
    except PublishError as error:
        return error.unconfirmed
    return ()


def all_texts(*batches: Sequence[Message]) -> set[str]:
    """Their bodies."""
    return {message.body.decode() for batch in batches for message in batch}


def fail_if_bad(event: Event) -> None:
    """What a handler does to some messages."""
    if event.message.body == b"bad":
        raise RuntimeError("bad")


def fetched(of: Progress, offset: int) -> progress.Letter | None:
    """The message of that offset, arrived and taken; None when too many are open."""
    letter = of.arrived(offset, Message(), 0)
    assert letter is not None
    of.put(letter)
    return of.take()


def in_use(b: Broker, topic: str, partition: int) -> bool:
    """Whether there is anything in that partition."""
    assert isinstance(b, KafkaBroker)
    return b._cluster.ends(topic_name(topic), [partition])[partition] > 0
