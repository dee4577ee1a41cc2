"""What stands on the server: the names of exchanges and queues, their arguments, and how they hang together.

topic:T  (fanout) ──> topic:T:groups  (fanout, gone with its last group) ──> group:T:G  (quorum), one a group
                 └──> everyone:T:ID  (classic, x-expires), one a broadcast subscription

group:T:G:retry:N     waits for one fixed delay, then back to group:T:G
group:T:G:dead        dead letters
group:T:G:members     a queue that each member consumes from, to be counted, and an exchange that asks them all
last:ID               empty: its being there says that the last attempt of that publication has started
groups                one entry for each group: AMQP has no way to list queues
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from itertools import count
from typing import Any, NamedTuple

from broker.names import encode
from broker.rabbitmq.causes import NOT_FOUND, PRECONDITION_FAILED, Refused
from broker.rabbitmq.link import Link

MAX_NAME = 230  #: letters; AMQP takes 255, and `:retry:N` and the like are still to come
READABLE_NAME = 160  #: letters kept of one that is longer
BROADCAST_KEPT_SECONDS = 120  #: how long a broadcast's queue waits for its consumer to connect again
MARK_KEPT_SECONDS = 7 * 24 * 3600  #: how long a last attempt is known to have started
MEMBERS_KEPT_SECONDS = 24 * 3600

#: As good as none, since dead letters are the engine's; none at all means 20 from RabbitMQ 4 on, and the -1
#: that turns it off there drops every redelivery before.
DELIVERY_LIMIT = 2**31 - 1

REGISTRY = "groups"
QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": DELIVERY_LIMIT}


class Size(NamedTuple):
    """What a passive declare tells of a queue; messages that consumers hold are not among `ready`."""

    ready: int
    consumers: int


def topic_exchange(topic: str) -> str:
    """Where messages of the topic are published."""
    return f"topic:{encode(topic)}"


def groups_exchange(topic: str) -> str:
    """What the groups are bound to: there as long as the topic has a group."""
    return f"{topic_exchange(topic)}:groups"


def group_queue(topic: str, queue: str) -> str:
    """The queue of one group; other names of the group start with it."""
    name = f"group:{encode(topic)}:{encode(queue)}"
    if len(name) <= MAX_NAME:
        return name
    return f"{name[:READABLE_NAME]}~{hashlib.sha256(name.encode()).hexdigest()}"


def broadcast_queue(topic: str, subscription: str) -> str:
    """The queue of one broadcast subscription."""
    return f"everyone:{encode(topic)}:{subscription}"


def dead_queue(group: str) -> str:
    """The dead letters of the group whose queue that is."""
    return f"{group}:dead"


def members_name(group: str) -> str:
    """The queue, and the exchange, of the members of that group."""
    return f"{group}:members"


def declare(link: Link, queue: str, arguments: dict[str, Any]) -> None:
    """Make a durable queue, unless there is one with the same arguments."""
    link.ask("queue_declare", queue=queue, durable=True, arguments=arguments)


def size(link: Link, queue: str) -> Size | None:
    """How much there is in a queue; None when there is no such queue."""
    try:
        method = link.ask("queue_declare", queue=queue, passive=True).method
    except Refused as error:
        if error.code == NOT_FOUND:
            return None
        raise
    return Size(method.message_count, method.consumer_count)


def join_group(link: Link, topic: str, group: str) -> None:
    """Make the group's queue when there is none, and tie it to its topic.

    One that exists is taken as it is: declaring it with an argument that has changed since would be refused.
    """
    if size(link, group) is None:
        declare(link, group, QUORUM)
    declare_topic(link, topic)
    exchange = groups_exchange(topic)
    link.ask("exchange_declare", exchange=exchange, exchange_type="fanout", durable=True, auto_delete=True)
    link.ask("exchange_bind", destination=exchange, source=topic_exchange(topic))
    link.ask("queue_bind", queue=group, exchange=exchange)


def prepare_group(link: Link, group: str, delays_milliseconds: Iterable[int]) -> None:
    """Make where messages of a new group will wait or lie dead, long before the first one does.

    RabbitMQ before 4.0 loses a quorum queue when it is killed within a second after that was made, with all in it.
    """
    declare(link, dead_queue(group), QUORUM)
    for delay in delays_milliseconds:
        declare_retry(link, group, delay)


def join_broadcasts(link: Link, topic: str, queue: str) -> None:
    """Make a broadcast's queue and tie it to its topic. Not a quorum queue: it would outlive its consumer for ever."""
    declare(link, queue, {"x-expires": BROADCAST_KEPT_SECONDS * 1000})
    declare_topic(link, topic)
    link.ask("queue_bind", queue=queue, exchange=topic_exchange(topic))


def join_members(link: Link, group: str) -> None:
    """Make what the members of a group are counted and asked by."""
    name = members_name(group)
    declare(link, name, {"x-expires": MEMBERS_KEPT_SECONDS * 1000})
    link.ask("exchange_declare", exchange=name, exchange_type="fanout", durable=True)


def declare_topic(link: Link, topic: str) -> None:
    """Make the topic's exchange."""
    link.ask("exchange_declare", **topic_arguments(topic))


def topic_arguments(topic: str) -> dict[str, Any]:
    """How the topic's exchange is declared."""
    return {"exchange": topic_exchange(topic), "exchange_type": "fanout", "durable": True}


def declare_retry(link: Link, group: str, delay_milliseconds: int) -> str:
    """The queue where a message of the group waits that long; made when there is none.

    They are numbered, so that whoever counts or removes them finds them all: one of another delay refuses our
    arguments, and the next is tried.
    """
    arguments = {
        **QUORUM,
        "x-message-ttl": delay_milliseconds,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": group,
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",  # at-least-once wants it
    }
    for number in count():
        queue = f"{group}:retry:{number}"
        try:
            declare(link, queue, arguments)
        except Refused as error:
            if error.code != PRECONDITION_FAILED:
                raise
        else:
            return queue
    raise AssertionError("unreachable")


def retry_queues(link: Link, group: str) -> list[tuple[str, Size]]:
    """Every retry queue of the group, and how much there is in it."""
    found: list[tuple[str, Size]] = []
    for number in count():
        queue = f"{group}:retry:{number}"
        there = size(link, queue)
        if there is None:
            return found
        found.append((queue, there))
    raise AssertionError("unreachable")


def mark(publication: str) -> str:
    """The queue that says, by being there, that the last attempt of this publication has started."""
    return f"last:{publication}"


def declare_mark(link: Link, publication: str) -> None:
    """Note that it has started."""
    declare(link, mark(publication), {"x-expires": MARK_KEPT_SECONDS * 1000})
