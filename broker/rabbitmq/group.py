"""A group for operators, and the shelves that dead letters and the list of groups are kept on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pika import BasicProperties  # type: ignore[import-untyped]  # pika has no types

from broker.base import DeadLetter, Group
from broker.message import GROUP, Message
from broker.rabbitmq import layout, wire
from broker.rabbitmq.causes import Stumbled
from broker.rabbitmq.line import Line
from broker.rabbitmq.link import Link

TRANSIT_SECONDS = 0.05  #: how long a message that has waited may be between two queues, and so in neither
START_SECONDS = 5.0  #: how long a new queue has to run after it was declared
ANSWER_SECONDS = 5.0  #: how long members have to say what they hold
REPLY_TO = "amq.rabbitmq.reply-to"  #: a queue that needs no declaring: https://www.rabbitmq.com/docs/direct-reply-to


class Shelf:
    """A quorum queue that is read without being emptied: everything is taken out and put back, one reader at a time."""

    def __init__(self, link: Link, queue: str) -> None:
        self._link = link
        self._queue = queue

    def put(self, properties: BasicProperties, body: bytes) -> None:
        """Add at the end."""
        layout.declare(self._link, self._queue, layout.QUORUM)
        self._link.put(self._queue, properties, body)

    def read(self, remove: Callable[[wire.Parcel], bool] = lambda _: False) -> list[wire.Parcel]:
        """Everything on it, in order; what `remove` is true for is gone afterwards."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            parcels: list[wire.Parcel] = []
            try:
                self._read_into(parcels, remove)
            except Stumbled:  # its queue was declared just now
                if parcels or time.monotonic() > deadline:
                    raise
                time.sleep(TRANSIT_SECONDS)
            else:
                return parcels

    def _read_into(self, parcels: list[wire.Parcel], remove: Callable[[wire.Parcel], bool]) -> None:
        if layout.size(self._link, self._queue) is None:
            return
        with self._link.alone(self._queue) as line:
            try:
                self._read(line, parcels, remove)
            finally:
                line.do(lambda channel: channel.basic_nack(0, multiple=True))  # 0: all that is left

    def _read(self, line: Line, parcels: list[wire.Parcel], remove: Callable[[wire.Parcel], bool]) -> None:
        gone = []
        while got := line.get(self._queue):
            tag, properties, body = got
            parcels.append(wire.receive(properties, body))
            if remove(parcels[-1]):
                gone.append(tag)
        for tag in gone:
            line.do(lambda channel, tag=tag: channel.basic_ack(tag))  # type: ignore[misc]  # bound now


class Registry:
    """Topic and name of each group that has ever subscribed and was not forgotten."""

    def __init__(self, link: Link) -> None:
        self._shelf = Shelf(link, layout.REGISTRY)

    def add(self, topic: str, queue: str) -> None:
        """Note a group. It may be there already."""
        self._shelf.put(wire.publish(Message()), json.dumps([topic, queue]).encode())

    def remove(self, topic: str, queue: str) -> None:
        """The opposite."""
        self._shelf.read(lambda parcel: _entry(parcel) == (topic, queue))

    def all(self) -> list[tuple[str, str]]:
        """Each of them once."""
        return list(dict.fromkeys(_entry(parcel) for parcel in self._shelf.read()))


class RabbitMQGroup(Group):
    """A group's queues, for operators."""

    def __init__(self, link: Link, topic: str, name: str) -> None:
        super().__init__(topic, name)
        self._link = link
        self._queue = layout.group_queue(topic, name)
        self._dead = Shelf(link, layout.dead_queue(self._queue))

    def backlog(self) -> int:
        """What waits is told by the server; what is with members, only by themselves (AMQP does not count it)."""
        return self._count() or self._count_again()

    def dead_letters(self) -> list[DeadLetter]:
        return [_dead_letter(parcel) for parcel in self._dead.read()]

    def replay(self, *message_ids: str) -> int:
        def deliver(parcel: wire.Parcel) -> bool:
            if parcel.message.id not in message_ids:
                return False
            message = parcel.message.with_header(**{GROUP: self.name})
            self._link.put(self._queue, wire.publish(message), message.body)
            replayed.append(parcel)
            return True

        replayed: list[wire.Parcel] = []
        self._dead.read(deliver)
        return len(replayed)

    def discard(self, message_id: str) -> int:
        parcels = self._dead.read(lambda parcel: parcel.message.id == message_id)
        return sum(parcel.message.id == message_id for parcel in parcels)

    def forget(self) -> None:
        retries = [queue for queue, _ in layout.retry_queues(self._link, self._queue)]
        members = layout.members_name(self._queue)
        for queue in (*reversed(retries), layout.dead_queue(self._queue), members, self._queue):
            self._link.ask("queue_delete", queue=queue)
        self._link.ask("exchange_delete", exchange=members)
        Registry(self._link).remove(self.topic, self.name)

    def _count(self) -> int:
        there = layout.size(self._link, self._queue)
        if there is None:
            return 0
        delayed = sum(size.ready for _, size in layout.retry_queues(self._link, self._queue))
        return there.ready + delayed + self._held()

    def _count_again(self) -> int:
        """Nothing is only believed when seen twice, the second time with every ack before it on the server's disk.

        A message whose delay is over is for a moment in neither queue; and a quorum queue answers a get, unlike a
        passive declare, only when all that was sent to it before is done.
        """
        if layout.size(self._link, self._queue) is None:
            return 0
        time.sleep(TRANSIT_SECONDS)
        line = self._link.line()
        try:
            if got := line.get(self._queue):
                line.do(lambda channel: channel.basic_nack(got[0]))
        finally:
            line.close()
        return self._count()

    def _held(self) -> int:
        """What the members say that they hold."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._members():
            answers = self._ask_members()
            if answers is not None:
                return sum(answers)
            if time.monotonic() > deadline:
                raise self._link.explain(f"a member of {self.name} does not say what it holds of {self.topic}")
        return 0

    def _ask_members(self) -> list[int] | None:
        """One answer a member; None when some did not come, because of a member that has just gone, or come."""
        answers: list[int] = []
        answered = threading.Condition()

        def note(_: Any, __: Any, ___: Any, body: bytes) -> None:
            with answered:
                answers.append(int(body))
                answered.notify()

        exchange = layout.members_name(self._queue)
        question = BasicProperties(reply_to=REPLY_TO)
        line = self._link.line()
        try:
            line.ask("basic_consume", queue=REPLY_TO, on_message_callback=note, auto_ack=True)
            line.do(lambda channel: channel.basic_publish(exchange, "", b"", question))
            members = self._members()
            with answered:
                complete = answered.wait_for(lambda: len(answers) >= members, ANSWER_SECONDS / 10)
        finally:
            line.close()
        return answers if complete else None

    def _members(self) -> int:
        there = layout.size(self._link, layout.members_name(self._queue))
        return there.consumers if there else 0


def _entry(parcel: wire.Parcel) -> tuple[str, str]:
    topic, queue = json.loads(parcel.message.body)
    return topic, queue


def _dead_letter(parcel: wire.Parcel) -> DeadLetter:
    published_at = datetime.fromtimestamp(parcel.published_at, UTC)
    failed_at = datetime.fromtimestamp(parcel.failed_at, UTC)
    return DeadLetter(parcel.message, parcel.reason, parcel.attempts, published_at, failed_at)
