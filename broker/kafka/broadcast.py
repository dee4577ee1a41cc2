"""A broadcast subscription."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Sequence

import confluent_kafka as kafka
from confluent_kafka import TopicPartition

from broker.engine.source import BroadcastSource, Delivery
from broker.kafka.cluster import Cluster, Lookout
from broker.kafka.wire import decode_message

POLL_SECONDS = 0.1  #: how long a poll waits before it looks whether it should end


class KafkaBroadcast(BroadcastSource):
    """A subscription of its own: in no group, it reads all partitions from where they ended when it began."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._topic = topic
        self._lookout = Lookout(cluster, topic)
        self._errors = cluster.errors
        self._using = threading.Lock()
        self._interrupted = False
        ends = cluster.ends(topic, cluster.ensure(topic))
        self._partitions = set(ends)
        self._consumer = cluster.consumer()
        with cluster.errors.translated():
            self._consumer.incremental_assign([TopicPartition(topic, number, end) for number, end in ends.items()])

    def fetch(self, limit: int, timeout_seconds: float) -> Sequence[Delivery[None]]:
        deadline = time.monotonic() + timeout_seconds
        deliveries: list[Delivery[None]] = []
        while not deliveries and not self._interrupted and time.monotonic() < deadline:
            self._add(set(self._lookout.look()) - self._partitions)
            deliveries = [Delivery(decode_message(record), 1, None) for record in self._poll(limit)]
        return deliveries

    def _add(self, partitions: Collection[int]) -> None:
        """Read new ones from their first message."""
        if partitions:
            self._partitions.update(partitions)
            with self._using, self._errors.translated():
                self._consumer.incremental_assign([TopicPartition(self._topic, number, 0) for number in partitions])

    def _poll(self, limit: int) -> list[kafka.Message]:
        """What has arrived. Errors among it pass: librdkafka goes on by itself, `fetch` has looked for the topic."""
        with self._using:
            first = None if self._interrupted else self._consumer.poll(POLL_SECONDS)
            records = [] if first is None else [first, *self._consumer.consume(limit - 1, 0)]
        return [record for record in records if record.error() is None]

    def interrupt(self) -> None:
        self._interrupted = True

    def close(self) -> None:
        self.interrupt()
        with self._using:
            self._consumer.close()
