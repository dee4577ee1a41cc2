"""What stands on the server: the names of exchanges and queues, their arguments, and how they hang together.

topic:T  (fanout) ──> topic:T:groups  (fanout, gone with its last group) ──> group:T:G, one a group
                 └──> everyone:T:ID, one a broadcast subscription

group:T:G:retry:N     waits for one fixed delay, then back to group:T:G
group:T:G:dead        dead letters
group:T:G:last        one entry for each last attempt that has started and is not over
group:T:G:consumers   a queue that each member consumes from, to be counted, and an exchange that asks them all
groups                one entry for each group: AMQP has no way to list queues

All queues are quorum queues: a classic one lives on one node of a cluster alone.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from itertools import count
from typing import Any, NamedTuple

from broker.errors import BrokerError
from broker.names import encode
from broker.rabbitmq.channel import ask
from broker.rabbitmq.connection import NOT_FOUND, PRECONDITION_FAILED, RabbitMQConnection, code_of

MAX_NAME = 230  #: letters; AMQP takes 255, and `:retry:N` and the like are still to come
READABLE_NAME = 160  #: letters kept of one that is longer
BROADCAST_KEPT_SECONDS = 120  #: how long a broadcast's queue waits for its consumer to connect again
MEMBERS_KEPT_SECONDS = 24 * 3600

#: As good as none, since dead letters are the engine's; none at all means 20 from RabbitMQ 4 on, and the -1
#: that turns it off there drops every redelivery before.
DELIVERY_LIMIT = 2**31 - 1

REGISTRY = "groups"
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}


class GroupNames(NamedTuple):
    """What a group has on the server, as the drawing above says."""

    queue: str
    dead: str
    last: str
    members: str


def topic_exchange(topic: str) -> str:
    """Return where messages of the topic are published."""
    return f"topic:{encode(topic)}"


def groups_exchange(topic: str) -> str:
    """Return what the groups are bound to; it exists as long as the topic has a group."""
    return f"{topic_exchange(topic)}:groups"


def group_names(topic: str, group: str) -> GroupNames:
    """Return the names of what a group has on the server; each begins with that of its queue."""
    queue = f"group:{encode(topic)}:{encode(group)}"
    if len(queue) > MAX_NAME:
        queue = f"{queue[:READABLE_NAME]}~{hashlib.sha256(queue.encode()).hexdigest()}"
    return GroupNames(queue, f"{queue}:dead", f"{queue}:last", f"{queue}:consumers")


def broadcast_queue(topic: str) -> str:
    """Return a name for the queue of one broadcast subscription, which no other has."""
    return f"everyone:{encode(topic)}:{uuid.uuid4().hex}"


def declare_topic(pika: Any, topic: str) -> None:
    """Make the topic's exchange, without waiting for it; what is published to a missing one closes the channel."""
    pika.exchange_declare(exchange=topic_exchange(topic), exchange_type="fanout", durable=True)


def expect_groups(pika: Any, topic: str) -> None:
    """Close the channel unless the topic has a group: AMQP's own `mandatory` is content with a broadcast's queue."""
    pika.exchange_declare(exchange=groups_exchange(topic), passive=True)


def declare(connection: RabbitMQConnection, queue: str, **arguments: object) -> None:
    """Make a quorum queue, unless there is one with the same arguments."""
    ask(connection, "queue_declare", queue=queue, durable=True, arguments={**QUORUM, **arguments})


def look(connection: RabbitMQConnection, queue: str) -> Any | None:
    """Return what the server says of a queue: `message_count`, without what consumers hold, and `consumer_count`.

    None when there is no such queue.
    """
    try:
        return ask(connection, "queue_declare", queue=queue, passive=True).method
    except BrokerError as error:
        if code_of(error) == NOT_FOUND:
            return None
        raise


def make_group(connection: RabbitMQConnection, group: GroupNames, delays_milliseconds: Iterable[int]) -> None:
    """Make the queues where messages of a new group will wait or lie dead, long before the first one does.

    RabbitMQ before 4.0 loses a quorum queue when it is killed within a second after that was made, with all in it.
    """
    for delay in delays_milliseconds:
        declare_retry(connection, group.queue, delay)
    for queue in (group.dead, group.last, group.queue):
        declare(connection, queue)


def bind_group(connection: RabbitMQConnection, topic: str, queue: str) -> None:
    """Let the group's queue have what is published to its topic."""
    exchange = groups_exchange(topic)
    _declare_fanout(connection, topic_exchange(topic))
    _declare_fanout(connection, exchange, auto_delete=True)
    ask(connection, "exchange_bind", destination=exchange, source=topic_exchange(topic))
    ask(connection, "queue_bind", queue=queue, exchange=exchange)


def join_broadcasts(connection: RabbitMQConnection, topic: str, queue: str) -> None:
    """Make a broadcast's queue, and let it have what is published to its topic."""
    declare(connection, queue, **{"x-expires": BROADCAST_KEPT_SECONDS * 1000})
    _declare_fanout(connection, topic_exchange(topic))
    ask(connection, "queue_bind", queue=queue, exchange=topic_exchange(topic))


def join_members(connection: RabbitMQConnection, name: str) -> None:
    """Make what the members of a group are counted and asked by."""
    declare(connection, name, **{"x-expires": MEMBERS_KEPT_SECONDS * 1000})
    _declare_fanout(connection, name)


def declare_retry(connection: RabbitMQConnection, queue: str, delay_milliseconds: int) -> str:
    """Return the queue where a message of the group waits that long, made when there is none.

    They are numbered, so that whoever counts or removes them finds them all: one of another delay refuses our
    arguments, and the next is tried.
    """
    arguments = {
        "x-message-ttl": delay_milliseconds,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": queue,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",  # at-least-once wants it
    }
    for number in count():
        name = f"{queue}:retry:{number}"
        try:
            declare(connection, name, **arguments)
        except BrokerError as error:
            if code_of(error) != PRECONDITION_FAILED:
                raise
        else:
            return name
    raise AssertionError("unreachable")


def retry_queues(connection: RabbitMQConnection, queue: str) -> dict[str, int]:
    """Return every retry queue of the group, and how many messages there are in it."""
    found: dict[str, int] = {}
    while there := look(connection, f"{queue}:retry:{len(found)}"):
        found[there.queue] = there.message_count
    return found


def _declare_fanout(connection: RabbitMQConnection, exchange: str, **options: bool) -> None:
    ask(connection, "exchange_declare", exchange=exchange, exchange_type="fanout", durable=True, **options)
