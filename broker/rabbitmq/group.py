"""What operators see of a group: its backlog and its dead letters."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from typing import Any

from pika import BasicProperties  # type: ignore[import-untyped]  # pika has no types

from broker.base import DeadLetter, Group
from broker.message import GROUP
from broker.rabbitmq import topology, wire
from broker.rabbitmq.channel import Channel, ask
from broker.rabbitmq.publisher import RabbitMQPublisher
from broker.rabbitmq.store import Registry, Store

TRANSIT_SECONDS = 0.05  #: how long a message that has waited may be between two queues, and so in neither
ANSWER_SECONDS = 5.0  #: how long members have to say what they hold
REPLY_TO = "amq.rabbitmq.reply-to"  #: a queue that needs no declaring: https://www.rabbitmq.com/docs/direct-reply-to


class RabbitMQGroup(Group):
    """A group's queues, for operators."""

    def __init__(self, publisher: RabbitMQPublisher, topic: str, group: str) -> None:
        super().__init__(topic, group)
        self._publisher = publisher
        self._connection = publisher.connection
        self._names = topology.group_names(topic, group)
        self._dead = Store(publisher, self._names.dead)

    def backlog(self) -> int:
        """Count what waits, as the server says, and what members hold, as they say: AMQP does not count that."""
        return self._count() or self._count_again()

    def dead_letters(self) -> list[DeadLetter]:
        return [_dead_letter(parcel) for parcel in self._dead.read()]

    def replay(self, *message_ids: str) -> int:
        def deliver(parcel: wire.Parcel) -> bool:
            if parcel.message.id not in message_ids:
                return False
            message = parcel.message.with_header(**{GROUP: self.name})
            self._publisher.put(self._names.queue, wire.publish(message), message.body)
            replayed.append(parcel)
            return True

        replayed: list[wire.Parcel] = []
        self._dead.read(deliver)
        return len(replayed)

    def discard(self, message_id: str) -> int:
        parcels = self._dead.read(lambda parcel: parcel.message.id == message_id)
        return sum(parcel.message.id == message_id for parcel in parcels)

    def forget(self) -> None:
        retries = reversed(topology.retry_queues(self._connection, self._names.queue))
        for queue in (*retries, *reversed(self._names)):
            ask(self._connection, "queue_delete", queue=queue)
        ask(self._connection, "exchange_delete", exchange=self._names.members)
        Registry(self._publisher).remove(self.topic, self.name)

    def _count(self) -> int:
        there = topology.look(self._connection, self._names.queue)
        if there is None:
            return 0
        delayed = sum(topology.retry_queues(self._connection, self._names.queue).values())
        return int(there.message_count) + delayed + self._held()

    def _count_again(self) -> int:
        """Believe that there is nothing only when it is seen twice, with every ack in between on the server's disk.

        A message whose delay is over is for a moment in neither queue; and a quorum queue answers a get, unlike a
        passive declare, only when all that was sent to it before is done.
        """
        if topology.look(self._connection, self._names.queue) is None:
            return 0
        time.sleep(TRANSIT_SECONDS)
        channel = Channel(self._connection)
        try:
            if got := channel.get(self._names.queue):
                channel.do(lambda pika: pika.basic_nack(got[0]))
        finally:
            channel.close()
        return self._count()

    def _held(self) -> int:
        deadline = time.monotonic() + ANSWER_SECONDS
        while self._count_members():
            answers = self._ask_members()
            if answers is not None:
                return sum(answers)
            if time.monotonic() > deadline:
                text = f"a member of {self.name} does not say what it holds of {self.topic}"
                raise self._connection.error(text)
        return 0

    def _ask_members(self) -> list[int] | None:
        """Return one answer a member; None when one is missing, because its member has just gone, or come."""
        answers: list[int] = []
        answered = threading.Condition()

        def note(_: Any, __: Any, ___: Any, body: bytes) -> None:
            with answered:
                answers.append(int(body))
                answered.notify()

        question = BasicProperties(reply_to=REPLY_TO)
        channel = Channel(self._connection)
        try:
            channel.ask("basic_consume", queue=REPLY_TO, on_message_callback=note, auto_ack=True)
            channel.do(lambda pika: pika.basic_publish(self._names.members, "", b"", question))
            members = self._count_members()
            with answered:
                complete = answered.wait_for(lambda: len(answers) >= members, ANSWER_SECONDS / 10)
        finally:
            channel.close()
        return answers if complete else None

    def _count_members(self) -> int:
        there = topology.look(self._connection, self._names.members)
        return there.consumer_count if there else 0


def _dead_letter(parcel: wire.Parcel) -> DeadLetter:
    published_at = datetime.fromtimestamp(parcel.published_at, UTC)
    failed_at = datetime.fromtimestamp(parcel.failed_at, UTC)
    return DeadLetter(parcel.message, parcel.reason, parcel.attempts, published_at, failed_at)
