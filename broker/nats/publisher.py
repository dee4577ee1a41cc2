"""Publishing: every message is confirmed by the server, or named."""

from __future__ import annotations

from nats.js.api import StreamConfig
from nats.js.errors import NoStreamResponseError

from broker.errors import BrokerError, PublishError
from broker.message import Message
from broker.nats import wire
from broker.nats.connection import NatsConnection
from broker.nats.streams import PAUSES


class NatsPublisher:
    """Publishes for any thread; a call crosses into the loop once."""

    def __init__(self, connection: NatsConnection, retention_seconds: float) -> None:
        self._connection = connection
        self._retention_seconds = retention_seconds

    def publish(self, topic: str, messages: tuple[Message, ...]) -> None:
        """As `Broker.publish`."""
        left = {n: wire.encoded(message) for n, message in enumerate(messages)}
        stream = wire.topic_stream(topic, self._retention_seconds)
        try:
            self._connection.call(send(self._connection, stream, wire.subject("topic", topic), left))
        except BrokerError as error:
            if left:
                raise PublishError(str(error), tuple(messages[n] for n in left)) from error.__cause__


async def send(connection: NatsConnection, stream: StreamConfig, subject: str, left: dict[int, wire.Encoded]) -> None:
    """Publish in order, and take each message out of `left` once it is confirmed; on the loop alone."""
    await connection.streams.ensure(stream, again=False)
    for pause_seconds in PAUSES:
        try:
            return await (await connection.client.confirms()).publish(subject, left)
        except NoStreamResponseError:  # deleted
            if not pause_seconds:
                raise
        await connection.streams.wait_after_deletion()
        await connection.streams.ensure(stream)
