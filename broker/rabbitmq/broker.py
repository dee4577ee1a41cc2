"""The rabbitmq broker: RabbitMQ 3.10 or later, quorum queues, publisher confirms, AMQP 0-9-1 through pika.

    rabbitmq://                                   guest on localhost:5672, vhost /
    rabbitmq://USER:PASSWORD@HOST:PORT/VHOST      or amqp://…
    rabbitmq+tls://HOST/?ca=FILE&cert=FILE&key=FILE    or amqps://…; port 5671

Of several hosts the first is used.

One fanout exchange a topic, one quorum queue a group (`topology.py` has them all). What fails waits as a copy in a
queue of its delay and comes back when that is over; attempts are noted on the copy, returns counted by the server.

What it does not promise: `replays` (a queue gets what is published once it is there), `jitter` (one queue a delay, so
delays are exact: with a TTL of each message's own the longest would block the others), `hand_back_keeps_attempt`
(whatever goes back counts), and handlers over `longest_handler_seconds` (the server's `consumer_timeout` then closes
the channel; what waits in a member behind other handlers counts, so choose `prefetch` accordingly).

`backlog` asks the members what they hold, since AMQP says only what nobody holds. A single server before RabbitMQ 4.0
that is killed within a second after a quorum queue was made may lose it with all it has, so a group's are all made with
it: https://github.com/rabbitmq/ra/pull/443

A retry that falls due just while the server starts again may come three minutes late: so long does the server wait
before it tries to move a message once more. `-rabbit dead_letter_worker_publisher_confirm_timeout 5000`, in its
`RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS`, makes that five seconds.

pika logs what we raise, in several lines, and each queue that we look for in vain. A program that sets up logging may
want `logging.getLogger("pika").setLevel(logging.CRITICAL)`.
"""

from __future__ import annotations

from typing import Any

from pika import ConnectionParameters, PlainCredentials, SSLOptions  # type: ignore[import-untyped]  # pika has no types

from broker.address import Address
from broker.base import Broker, Group, Promises
from broker.engine.source import Source
from broker.errors import BrokerError
from broker.message import Message
from broker.options import SubscribeOptions
from broker.rabbitmq.connection import RabbitMQConnection
from broker.rabbitmq.group import RabbitMQGroup
from broker.rabbitmq.publisher import RabbitMQPublisher
from broker.rabbitmq.source import RabbitMQBroadcast, RabbitMQSource
from broker.rabbitmq.store import Registry

PORT, TLS_PORT = 5672, 5671
HEARTBEAT_SECONDS = 20  #: a peer that is silent for twice as long is gone
CONSUMER_TIMEOUT_SECONDS = 30 * 60.0  #: RabbitMQ's default


class RabbitMQBroker(Broker):
    """One connection that publishes and one that consumes, so that a server short of memory still takes our acks."""

    name = "rabbitmq"
    default_address = "rabbitmq://guest:guest@localhost:5672/"
    promises = Promises(
        needs="RabbitMQ ≥ 3.10",
        replays=False,
        jitter=False,
        hand_back_keeps_attempt=False,
        longest_handler_seconds=CONSUMER_TIMEOUT_SECONDS,
        tested_on="a private server, killed (not within a second of a group's making) and restarted",
    )

    def _check(self) -> None:
        self._parameters()

    def _open(self) -> None:
        publishing = self._connection()
        self._consuming = self._connection()
        self._publisher = RabbitMQPublisher(publishing, self.options.retention_seconds)
        try:
            publishing.open()
        except BrokerError:
            self._close(0)
            raise

    def _close(self, deadline: float) -> None:
        for connection in (self._consuming, self._publisher.connection):
            connection.close(deadline)

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:
        self._publisher.publish(topic, messages, mandatory)

    def _source(self, topic: str, options: SubscribeOptions) -> Source[Any]:
        if options.group is None:
            return RabbitMQBroadcast(self._consuming, topic, options.prefetch)
        return RabbitMQSource(self._consuming, self._publisher, topic, options)

    def _group(self, topic: str, group: str) -> Group:
        return RabbitMQGroup(self._publisher, topic, group)

    def _groups(self) -> list[Group]:
        return [self._group(topic, group) for topic, group in Registry(self._publisher).all()]

    def _connection(self) -> RabbitMQConnection:
        return RabbitMQConnection(self._parameters(), self.options.publish_timeout_seconds, self.error)

    def _parameters(self) -> ConnectionParameters:
        try:
            where = Address.parse(self.address, port=0)
            tls = where.tls_context()
        except ValueError as error:
            raise self.error(error) from error
        host = where.hosts[0]
        user, password = (where.user, where.password or "") if where.user else ("guest", "guest")
        return ConnectionParameters(
            host=host.name,
            port=host.port or (TLS_PORT if tls else PORT),
            virtual_host=where.path or "/",
            credentials=PlainCredentials(user, password),
            heartbeat=HEARTBEAT_SECONDS,
            socket_timeout=self.options.publish_timeout_seconds,
            stack_timeout=self.options.publish_timeout_seconds,
            ssl_options=SSLOptions(tls, host.name) if tls else None,
        )
