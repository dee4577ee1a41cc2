"""The rabbitmq broker: RabbitMQ 3.10 or later, quorum queues, publisher confirms, AMQP 0-9-1 through pika.

    rabbitmq://                              guest on localhost:5672, vhost /
    rabbitmq://USER:PASSWORD@HOST:PORT/VHOST (or amqp://…); what means something in a URL, quoted

One fanout exchange a topic, one quorum queue a group (`layout.py` has them all). What fails waits as a copy in a
queue of its delay and comes back when that is over; attempts are noted on the copy, returns counted by the server.

What it does not promise: `replays` (a queue gets what is published once it is there), `jitter` (one queue a delay, so
delays are exact: with a TTL of each message's own the longest would block the others), `hand_back_keeps_attempt`
(whatever goes back counts), and handlers over `longest_handler_seconds` (the server's `consumer_timeout` then closes
the channel; what waits in a member behind other handlers counts, so choose `prefetch` accordingly).

`backlog` asks the members what they hold, since AMQP tells only what nobody holds. A single server before RabbitMQ 4.0
that is killed within a second after a quorum queue was made may lose it with all it has, so a group's are all made with
it: https://github.com/rabbitmq/ra/pull/443

A retry that falls due just while the server starts again may come three minutes late: so long does the server wait
before it tries to move a message once more. `-rabbit dead_letter_worker_publisher_confirm_timeout 5000`, in its
`RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS`, makes that five seconds.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from pika import ConnectionParameters, PlainCredentials, SSLOptions  # type: ignore[import-untyped]  # pika has no types

from broker.base import Broker, Group, Promises
from broker.engine.source import Source
from broker.errors import BrokerError, NoSubscriber, PublishError
from broker.message import Message
from broker.options import SubscribeOptions
from broker.rabbitmq import layout, wire
from broker.rabbitmq.causes import NOT_FOUND, Refused
from broker.rabbitmq.connection import Batch
from broker.rabbitmq.group import RabbitMQGroup, Registry
from broker.rabbitmq.line import Flight
from broker.rabbitmq.link import Link
from broker.rabbitmq.source import RabbitMQBroadcast, RabbitMQSource

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
        # pika logs each failed connect several times, with its stack; we raise it, or the engine logs it once
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        self._declared: set[str] = set()  # topics whose exchange was there when we last published
        self._publishing = self._link()
        self._consuming = self._link()
        try:
            self._publishing.open()
        except BrokerError:
            self._close(0)
            raise

    def _close(self, deadline: float) -> None:
        self._consuming.close(deadline)
        self._publishing.close(deadline)

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:
        keep = self.options.retention_seconds
        parcels = [(wire.publish(message, keep), message.body) for message in messages]
        trusted = not mandatory and topic in self._declared  # to declare it each time would double what is sent
        first = None if trusted else partial(_expect_groups if mandatory else _declare_topic, topic)
        batch = Batch(layout.topic_exchange(topic), "", parcels, mandatory, first)
        try:
            flight = self._publishing.publish(batch)
        except BrokerError as error:
            raise PublishError(str(error), messages) from error
        missing = isinstance(flight.error, Refused) and flight.error.code == NOT_FOUND
        if trusted and missing:  # somebody has deleted it
            self._declared.discard(topic)
            return self._publish(topic, tuple(messages[place] for place in flight.unconfirmed), mandatory)
        self._judge(flight, topic, messages, mandatory, missing)
        self._declared.add(topic)

    def _judge(self, flight: Flight, topic: str, messages: tuple[Message, ...], mandatory: bool, missing: bool) -> None:
        if mandatory and (missing or flight.returned):
            places = sorted({*flight.returned, *flight.unconfirmed})
            text = self.describe(f"topic {topic!r} has no group yet")
            raise NoSubscriber(text, tuple(messages[place] for place in places)) from flight.error
        if flight.unconfirmed or flight.error:
            text = str(flight.error) if flight.error else self.describe("the server could not take them")
            unconfirmed = tuple(messages[place] for place in flight.unconfirmed)
            raise PublishError(f"{text}; {len(unconfirmed)} of {len(messages)} not confirmed", unconfirmed) from (
                flight.error
            )

    def _source(self, topic: str, options: SubscribeOptions) -> Source[Any]:
        if options.group is None:
            return RabbitMQBroadcast(self._consuming, topic, options.prefetch)
        register = partial(Registry(self._publishing).add, topic, options.group)
        return RabbitMQSource(self._consuming, self._publishing, topic, options, register)

    def _group(self, topic: str, name: str) -> Group:
        return RabbitMQGroup(self._publishing, topic, name)

    def _groups(self) -> list[Group]:
        return [self._group(topic, name) for topic, name in Registry(self._publishing).all()]

    def _link(self) -> Link:
        return Link(self._parameters(), self.options.publish_timeout_seconds, self.error)

    def _parameters(self) -> ConnectionParameters:
        try:
            where = urlsplit(self.address)
            host, tls = where.hostname or "localhost", self.options.tls
            port = where.port or (TLS_PORT if tls else PORT)
        except ValueError as error:
            raise self.error(f"not a URL: {error}") from error
        return ConnectionParameters(
            host=host,
            port=port,
            virtual_host=unquote(where.path[1:]) or "/",
            credentials=PlainCredentials(unquote(where.username or "guest"), unquote(where.password or "guest")),
            heartbeat=HEARTBEAT_SECONDS,
            socket_timeout=self.options.publish_timeout_seconds,
            stack_timeout=self.options.publish_timeout_seconds,
            ssl_options=SSLOptions(tls, host) if tls else None,
        )


def _declare_topic(topic: str, channel: Any) -> None:
    """Published to an exchange that is not there, a message would close the channel."""
    channel.exchange_declare(**layout.topic_arguments(topic), callback=_ignore)


def _expect_groups(topic: str, channel: Any) -> None:
    """AMQP's own `mandatory` is content with a broadcast's queue; this is refused unless there is a group."""
    channel.exchange_declare(exchange=layout.groups_exchange(topic), passive=True, callback=_ignore)


def _ignore(_: Any) -> None:
    """What matters is that it was not refused."""
