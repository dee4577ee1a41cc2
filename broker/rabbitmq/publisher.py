"""Publishing: every message is confirmed by the server, or named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import takewhile
from typing import Any, NamedTuple, TypeVar

from pika import BasicProperties  # type: ignore[import-untyped]  # pika has no types
from pika.spec import Basic  # type: ignore[import-untyped]  # the same

from broker.errors import BrokerError, NoSubscriber, PublishError
from broker.message import Message
from broker.rabbitmq import topology, wire
from broker.rabbitmq.channel import Channel
from broker.rabbitmq.connection import NOT_FOUND, RabbitMQConnection, code_of

T = TypeVar("T")
Messages = Sequence[tuple[BasicProperties, bytes]]


class Batch(NamedTuple):
    """Messages to publish: to an exchange, or to the queue `key` when `exchange` is empty."""

    exchange: str
    key: str
    messages: Messages
    mandatory: bool = True  #: the server returns what no queue takes
    first: Callable[[Any], None] | None = None  #: called with pika's channel before the first message is sent


class RabbitMQPublisher:
    """Publishes on one connection; each of its channels serves one thread at a time."""

    def __init__(self, connection: RabbitMQConnection, retention_seconds: float) -> None:
        self.connection = connection
        self._retention_seconds = retention_seconds
        self._idle: list[ConfirmingChannel] = []

    def publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:
        """As `Broker.publish`."""
        contents = [(wire.publish(message, self._retention_seconds), message.body) for message in messages]
        first = partial(topology.expect_groups if mandatory else topology.declare_topic, topic=topic)
        confirms = self._send(Batch(topology.topic_exchange(topic), "", contents, mandatory, first))
        if mandatory and (confirms.returned or code_of(confirms.error) == NOT_FOUND):
            text = str(self.connection.error(f"topic {topic!r} has no group yet"))
            raise NoSubscriber(text, confirms.missing(messages)) from confirms.error
        if missing := confirms.missing(messages):
            error = confirms.error or self.connection.error("the server could not take them")
            raise PublishError(f"{error}; {len(missing)} of {len(messages)} not confirmed", missing) from confirms.error

    def put(self, queue: str, properties: BasicProperties, body: bytes) -> None:
        """Publish one message to a queue by its name."""
        confirms = self._send(Batch("", queue, [(properties, body)]))
        if confirms.missing([body]):
            raise confirms.error or self.connection.error(f"{queue} did not take the message")

    def _send(self, batch: Batch) -> Confirms:
        confirms = Confirms(batch.messages)
        deadline = self.connection.deadline()
        channel: ConfirmingChannel | None = None
        try:
            channel = self._idle_channel() or ConfirmingChannel(self.connection, deadline)
            channel.publish(batch, confirms, deadline)
        except BrokerError as error:
            confirms.error = error
        if channel and confirms.complete:
            self._idle.append(channel)
        elif channel:
            channel.drop()  # one that was opened while a queue elected its leader may be nacked for ever
        return confirms

    def _idle_channel(self) -> ConfirmingChannel | None:
        while self._idle:
            with suppress(IndexError):  # another thread was faster
                channel = self._idle.pop()
                if not channel.lost:
                    return channel
        return None


class Confirms:
    """What a batch waits for, by the places of its messages; `error` says why there was no answer."""

    def __init__(self, messages: Messages) -> None:
        self.error: BrokerError | None = None
        self.returned: set[str] = set()  # publications
        self._publications = [properties.message_id for properties, _ in messages]
        self._waiting = dict.fromkeys(range(len(messages)))  # places, ascending
        self._refused: set[int] = set()
        self._first_number = 1
        self._complete: Future[Any] = Future()

    @property
    def complete(self) -> bool:
        """Whether the server has every message, or has returned it."""
        return not (self._waiting or self._refused)

    def missing(self, messages: Sequence[T]) -> tuple[T, ...]:
        """Return which of these, at the same places, are not confirmed or were returned."""
        places = {*self._waiting, *self._refused}
        places.update(place for place, name in enumerate(self._publications) if name in self.returned)
        return tuple(message for place, message in enumerate(messages) if place in places)

    def begin(self, first_number: int, complete: Future[Any]) -> None:
        """Let the first message have that number on its channel, and set `complete` when no message is waited for."""
        self._first_number, self._complete = first_number, complete

    def settle(self, method: Any) -> None:
        """Take in that the server has a message, and with `multiple` all before it, or could not take them."""
        last = method.delivery_tag - self._first_number
        places = list(takewhile(lambda place: place <= last, self._waiting)) if method.multiple else [last]
        if isinstance(method, Basic.Nack):
            self._refused.update(places)
        for place in places:
            del self._waiting[place]
        if not self._waiting:
            self._complete.set_result(None)


class ConfirmingChannel(Channel):
    """A channel whose server confirms what it stores. It numbers the messages of a channel from 1."""

    def __init__(self, connection: RabbitMQConnection, deadline: float) -> None:
        super().__init__(connection, deadline=deadline)
        self._sent = 0
        self._confirms = Confirms(())
        self.do(lambda pika: pika.add_on_return_callback(self._returned))
        self.ask("confirm_delivery", ack_nack_callback=lambda frame: self._confirms.settle(frame.method))

    def publish(self, batch: Batch, confirms: Confirms, deadline: float) -> None:
        """Send all of it, and wait until each message is confirmed or refused."""

        def send(complete: Future[Any]) -> None:
            confirms.begin(self._sent + 1, complete)
            self._confirms = confirms
            self._sent += len(batch.messages)
            if batch.first:
                batch.first(self._pika)
            for properties, body in batch.messages:
                self._pika.basic_publish(batch.exchange, batch.key, body, properties, batch.mandatory)

        self.answer(send, deadline)

    def _returned(self, _channel: Any, _method: Any, properties: BasicProperties, _body: bytes) -> None:
        self._confirms.returned.add(properties.message_id)
