"""What a RabbitMQ server says of a batch, and what becomes of the channel that it was sent on."""

from __future__ import annotations

import time
from concurrent.futures import Future
from typing import Any

import pytest
from pika import BasicProperties  # type: ignore[import-untyped]  # pika has no types
from pika.spec import Basic  # type: ignore[import-untyped]  # the same

from broker.errors import BrokerError, NoSubscriber, PublishError
from broker.message import Message
from broker.rabbitmq.publisher import Batch, Confirms, RabbitMQPublisher


class FakeConnection:
    """One that nothing is wrong with."""

    error = BrokerError

    def deadline(self) -> float:
        return time.monotonic() + 10


class FakeChannel:
    """The server behind it says `words` of each batch, whose first message has the number 1."""

    lost = None

    def __init__(self, *words: object, returns: int | None = None) -> None:
        self.words = words
        self.returns = returns
        self.dropped = False

    def publish(self, batch: Batch, confirms: Confirms, deadline: float) -> None:
        confirms.begin(1, Future())
        if self.returns is not None:
            confirms.returned.add(batch.messages[self.returns][0].message_id)
        for word in self.words:
            confirms.settle(word)

    def drop(self) -> None:
        self.dropped = True


def publisher_on(channel: FakeChannel) -> RabbitMQPublisher:
    """One that has that channel, and no other."""
    publisher = RabbitMQPublisher(FakeConnection(), 1)  # type: ignore[arg-type]  # as far as it is needed
    idle: list[Any] = publisher._idle
    idle.append(channel)
    return publisher


MESSAGES = tuple(Message(bytes([n])) for n in range(5))


def test_one_word_confirms_all_before_it() -> None:
    """Others come one by one, in any order; and the channel serves the next batch."""
    publisher = publisher_on(FakeChannel(Basic.Ack(4), Basic.Ack(3, multiple=True), Basic.Ack(5)))
    for _ in range(2):
        publisher.publish("t", MESSAGES, mandatory=False)
    assert len(publisher._idle) == 1


def test_what_is_refused_is_named_and_its_channel_is_not_used_again() -> None:
    """One that was opened while a queue elected its leader may refuse for ever."""
    channel = FakeChannel(Basic.Ack(1), Basic.Nack(3, multiple=True), Basic.Ack(5, multiple=True))
    publisher = publisher_on(channel)
    with pytest.raises(PublishError) as caught:
        publisher.publish("t", MESSAGES, mandatory=False)
    assert caught.value.unconfirmed == MESSAGES[1:3]
    assert channel.dropped
    assert publisher._idle == []


def test_what_no_queue_takes_is_named() -> None:
    """The server confirms it, too: it has nothing more to do with it."""
    publisher = publisher_on(FakeChannel(Basic.Ack(5, multiple=True), returns=2))
    with pytest.raises(NoSubscriber) as caught:
        publisher.publish("t", MESSAGES, mandatory=True)
    assert caught.value.unconfirmed == (MESSAGES[2],)


def test_a_queue_that_is_not_there_did_not_take_the_message() -> None:
    """A copy for a later attempt must not vanish so."""
    publisher = publisher_on(FakeChannel(Basic.Ack(1), returns=0))
    with pytest.raises(BrokerError, match="gone did not take the message"):
        publisher.put("gone", BasicProperties(message_id="1"), b"x")
