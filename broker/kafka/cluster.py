"""What is asked of a Kafka cluster outside of any group: to make topics, to store, to read a topic to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec  # type: ignore[attr-defined]  # they are meant to be

from broker.errors import BrokerError
from broker.kafka.progress import waiting
from broker.kafka.sender import Sender, Sending
from broker.kafka.wire import END, TIMED_OUT, UNSUPPORTED, Errors, Record, Settings, UnknownTopic
from broker.options import Options

PARTITIONS = 4  #: of a topic that we make: so many members of a group can share the work
LOOK_AGAIN_SECONDS = 0.02
LOOK_SECONDS = 5.0  #: how often a subscription looks whether its topic is there
LOOK_WITHIN_SECONDS = 1.0  #: how long it may be kept from its work by that
READER = "broker__reader"  #: the group of consumers that are in no group; librdkafka wants a name


class Cluster:
    """One process's connections. `describe` makes a line for people, with broker and address, of a cause."""

    def __init__(self, settings: Settings, options: Options, describe: Callable[[object], str]) -> None:
        self.timeout_seconds = options.publish_timeout_seconds
        self.errors = Errors(describe, self.timeout_seconds)
        self._retention_ms = int(options.retention_seconds * 1000)
        self._settings = {**settings, "error_cb": self.errors.note}
        self._lock = threading.Lock()
        self._there: set[str] = set()  # topics that were seen, and have not gone since as far as we know
        self._admin: AdminClient | None = None
        self._sender = Sender(self._settings, self.errors, self.timeout_seconds)

    def check(self) -> None:
        """Return when the cluster answers, or raise."""
        self._sender.look_up()

    def close(self) -> None:
        """Let go of every thread and connection."""
        self._sender.close()
        self._admin = None

    def consumer(self, group: str = READER, **more: object) -> kafka.Consumer:
        """A consumer that commits nothing by itself and, where nothing is committed, starts at the oldest message."""
        defaults = {
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 50,
            "queued.max.messages.kbytes": 16_384,  # a member reads ahead itself
        }
        with self.errors.translated():
            return kafka.Consumer(
                {**defaults, **{name.replace("_", "."): value for name, value in more.items()}, **self._settings}
            )

    # --- topics ------------------------------------------------------------------------------------------------

    def ensure(self, topic: str, compacted: bool = False) -> list[int]:
        """The partitions of the topic, which is made when there is none."""
        deadline = time.monotonic() + self.timeout_seconds
        partitions = self.partitions(topic)
        if not partitions:
            self._make(topic, compacted)
        while not partitions:
            if time.monotonic() > deadline:
                raise self.errors.saying(f"topic {topic!r} was made and cannot be seen")
            time.sleep(LOOK_AGAIN_SECONDS)  # it takes a moment until every server of the cluster knows it
            partitions = self.partitions(topic)
        self._there.add(topic)
        return partitions

    def partitions(self, topic: str, within_seconds: float | None = None) -> list[int]:
        """The partitions of the topic; none when there is no such topic."""
        wanted = TopicCollection([topic])
        try:
            described = self._ask(
                lambda admin, timeout: admin.describe_topics(wanted, **timeout)[topic], within_seconds
            )
        except UnknownTopic:
            return []
        return [partition.id for partition in described.partitions]

    def _make(self, topic: str, compacted: bool) -> None:
        wanted = NewTopic(
            topic,
            num_partitions=1 if compacted else PARTITIONS,
            config={"cleanup.policy": "compact"} if compacted else {"retention.ms": str(self._retention_ms)},
        )
        try:
            self._ask(lambda admin, timeout: admin.create_topics([wanted], **timeout)[topic])
        except BrokerError as error:
            code = error.__cause__.args[0].code() if isinstance(error.__cause__, KafkaException) else None
            if code == UNSUPPORTED:  # librdkafka's mock: it makes what it is asked about
                self._sender.look_up(topic)
            elif code != KafkaError.TOPIC_ALREADY_EXISTS:  # another process was faster
                raise

    # --- offsets -----------------------------------------------------------------------------------------------

    def ends(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """For each partition the offset that its next message will have."""
        return self._offsets(topic, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]  # the library's

    def backlog(self, topic: str, group: str) -> int:
        """How many messages of the topic the group has not finished."""
        partitions = self.partitions(topic)
        if not partitions:
            return 0
        wanted = kafka.ConsumerGroupTopicPartitions(group, [TopicPartition(topic, number) for number in partitions])
        committed = self._ask(lambda admin, timeout: admin.list_consumer_group_offsets([wanted], **timeout)[group])
        oldest = self._offsets(topic, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]  # the library's
        ends = self.ends(topic, partitions)
        return sum(
            waiting(at.offset, at.metadata, oldest[at.partition], ends[at.partition])
            for at in committed.topic_partitions
        )

    def _offsets(self, topic: str, partitions: Collection[int], which: OffsetSpec) -> dict[int, int]:
        wanted = {TopicPartition(topic, partition): which for partition in partitions}
        with self.errors.translated(self._administrator()):
            asked = self._administrator().list_offsets(wanted, request_timeout=self.timeout_seconds)
            return {where.partition: answer.result().offset for where, answer in asked.items()}

    # --- records -----------------------------------------------------------------------------------------------

    def send(self, topic: str, records: Sequence[Record], compacted: bool = False) -> Sending:
        """Return once each was confirmed or given up. The topic is made when there is none."""
        if topic not in self._there:
            self.ensure(topic, compacted)
        sending = self._sender.send(topic, records)
        if sending.topic_unknown:
            self._there.discard(topic)
        return sending

    def store(self, topic: str, record: Record) -> None:
        """Return once the record is in the compacted topic, or raise."""
        sending = self.send(topic, [record], compacted=True)
        if sending.failed:
            raise self.errors.saying(f"topic {topic!r}: {sending.cause}")

    def read(self, topic: str) -> list[kafka.Message]:
        """The last record of each key of a compacted topic, oldest first."""
        partitions = self.partitions(topic)
        latest: dict[bytes | None, kafka.Message] = {}
        for record in self._read_to_end(topic, partitions) if partitions else ():
            latest.pop(record.key(), None)
            latest[record.key()] = record
        kept = (record for record in latest.values() if record.value() is not None)
        return sorted(kept, key=lambda record: record.timestamp()[1])

    def _read_to_end(self, topic: str, partitions: Sequence[int]) -> Iterator[kafka.Message]:
        deadline = time.monotonic() + self.timeout_seconds
        unread: set[int | None] = set(partitions)
        reader = self.consumer(enable_partition_eof=True)
        try:
            reader.assign([TopicPartition(topic, partition, kafka.OFFSET_BEGINNING) for partition in partitions])
            while unread:
                record = reader.poll(max(0.0, deadline - time.monotonic()))
                if record is None:
                    raise self.errors.of(KafkaError(TIMED_OUT))
                error = record.error()
                if error is None:
                    yield record
                elif error.code() == END:
                    unread.discard(record.partition())
                elif not error.retriable():
                    raise self.errors.of(error)
        finally:
            reader.close()

    # --- the administrator's requests ----------------------------------------------------------------------------

    def _ask(
        self, request: Callable[[AdminClient, dict[str, float]], Future[Any]], within_seconds: float | None = None
    ) -> Any:
        admin = self._administrator()
        with self.errors.translated(admin):
            return request(admin, {"request_timeout": within_seconds or self.timeout_seconds}).result()

    def _administrator(self) -> AdminClient:
        with self._lock:
            if self._admin is None:
                with self.errors.translated():
                    self._admin = AdminClient(self._settings)
            return self._admin


class Lookout:
    """Looks now and then whether a topic is still there: somebody may delete it, or add partitions."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._look_at = time.monotonic() + LOOK_SECONDS

    def look(self) -> list[int]:
        """Its partitions, when it was time to look, and it was made again where there was none."""
        if time.monotonic() < self._look_at:
            return []
        self._look_at = time.monotonic() + LOOK_SECONDS
        return self._cluster.partitions(self._topic, LOOK_WITHIN_SECONDS) or self._cluster.ensure(self._topic)
