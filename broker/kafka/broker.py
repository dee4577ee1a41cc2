"""The Kafka broker: topics, consumer groups, an idempotent producer; any Kafka, or a server that speaks its protocol.

    kafka://HOST:PORT[,HOST:PORT…]              one or more servers of the cluster
    kafka://USER:PASSWORD@HOST:PORT             SASL/PLAIN; over TLS with the option `tls`
    kafka://HOST:PORT?sasl.mechanism=SCRAM-SHA-512&…    settings of librdkafka; they win over ours
    kafka+tls://HOST:PORT?ca=FILE&cert=FILE&key=FILE     over TLS

On the server: topic `user.registered` is the Kafka topic `user.registered`, its group `email-service` the Kafka group
`user.registered__email-service`, the dead letters of that the compacted topic `user.registered__email-service__dead`;
which groups there are is in the compacted topic `broker__groups`. What is missing is made, topics with 4 partitions;
make yours beforehand for another number. See `progress.py` for what is in a group's offsets.

What Kafka does not promise:
- to outlive the loss of a server by itself: topics are made with the cluster's `default.replication.factor`, and
  confirmed by its `min.insync.replicas`;
- one order for a whole topic: messages with one `ce-partitionkey` keep theirs, and those of one publisher without any
  (they all go to one partition: give keys, so that members can share the work);
- work for more members than partitions: the others wait to take over;
- a lease of a single message: a member has whole partitions, until it leaves or was silent for `lease_seconds` (6 at
  least). When they are shared out anew, what runs is waited for, four minutes at most;
- an end to a group that has members: stop them before it is forgotten;
- room without end: 200 messages of a partition that wait for another attempt hold up what comes after them.
"""

from __future__ import annotations

import threading
import uuid
from typing import Any

from broker.address import Address
from broker.base import Broker, Group, Promises
from broker.engine.source import Source
from broker.errors import BrokerError, PublishError
from broker.kafka.broadcast import KafkaBroadcast
from broker.kafka.cluster import Cluster
from broker.kafka.group import DeadBox, Groups, KafkaGroup
from broker.kafka.member import REVOKE_SECONDS, KafkaSource
from broker.kafka.wire import DEFAULT_PORT, encode_message, settings, topic_name
from broker.message import PARTITION_KEY, Message
from broker.options import SubscribeOptions


class KafkaBroker(Broker):
    """Publisher and consumer of one process."""

    name = "kafka"
    default_address = "kafka://127.0.0.1:9092"
    promises = Promises(
        needs="a Kafka cluster",
        order_per_key=True,
        longest_handler_seconds=REVOKE_SECONDS,
        tested_on="librdkafka's mock cluster: in memory, taken down and up instead of killed",
    )

    def _check(self) -> None:
        head, _, query = self.address.partition("?")
        if "password" in query or "secret" in query:
            raise BrokerError("kafka broker: a password stands before the host, kafka://USER:PASSWORD@HOST")
        try:
            where = Address.parse(head, port=DEFAULT_PORT)
        except ValueError as error:
            raise self.error(error) from error
        self._settings = settings(where, query)

    def _open(self) -> None:
        self._me = uuid.uuid4().hex  # the key of what is published without one
        self._cluster = Cluster(self._settings, self.options, self.describe)
        try:
            self._cluster.check()
        except BrokerError:
            threading.Thread(target=self._cluster.close, daemon=True).start()  # seconds, when a name is unknown
            raise

    def _close(self, deadline: float) -> None:  # noqa: ARG002  # nothing here can take long
        self._cluster.close()

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:  # noqa: ARG002  # Kafka replays
        records = [encode_message(message, message.header.get(PARTITION_KEY, self._me)) for message in messages]
        try:
            sending = self._cluster.send(topic_name(topic), records)
        except BrokerError as error:
            raise PublishError(str(error), messages) from error
        unconfirmed = tuple(messages[index] for index in sending.failed)  # asked once: a confirm may still come
        if unconfirmed:
            text = f"{len(unconfirmed)} of {len(messages)} messages are not confirmed: {sending.cause}"
            raise PublishError(self.describe(text), unconfirmed)

    def _source(self, topic: str, options: SubscribeOptions) -> Source[Any]:
        if options.group is None:
            return KafkaBroadcast(self._cluster, topic_name(topic))
        self._cluster.ensure(topic_name(topic))
        group = Groups(self._cluster).enter(topic, options.group)
        dead = DeadBox(self._cluster, topic, options.group)
        return KafkaSource(self._cluster, topic_name(topic), group, options.lease_seconds, dead)

    def _group(self, topic: str, name: str) -> Group:
        return KafkaGroup(topic, name, self._cluster)

    def _groups(self) -> list[Group]:
        return [KafkaGroup(topic, name, self._cluster) for topic, name in Groups(self._cluster).alive()]
