"""Publishing: every message is confirmed by the server, or named; and what nobody needs any more is trimmed."""

from __future__ import annotations

import logging
import time

from broker.errors import BrokerError, PublishError
from broker.message import Message
from broker.names import encode
from broker.redis.connection import RedisConnection
from broker.redis.scripts import TRIM
from broker.redis.wire import GROUPS, stream_of, to_fields

log = logging.getLogger(__name__)

TRIM_SECONDS = 60.0  #: how often a publisher trims a topic


class RedisPublisher:
    """Publishes for any thread; a call is one crossing."""

    def __init__(self, connection: RedisConnection, retention_seconds: float) -> None:
        self._connection = connection
        self._keep_ms = int(retention_seconds * 1000)
        self._trim_at: dict[str, float] = {}  # topic → `time.monotonic()`

    def publish(self, topic: str, messages: tuple[Message, ...]) -> None:
        """As `Broker.publish`."""
        stream = stream_of(topic)
        answers = self._connection.pipeline([("XADD", stream, "*", *to_fields(message)) for message in messages])
        failed = [pair for pair in zip(messages, answers, strict=True) if isinstance(pair[1], Exception)]
        if failed:
            cause = failed[0][1]
            raise PublishError(str(self._connection.error(cause)), tuple(message for message, _ in failed)) from cause
        if time.monotonic() >= self._trim_at.get(topic, 0):
            self._trim_at[topic] = time.monotonic() + TRIM_SECONDS
            self.trim(topic)

    def trim(self, topic: str) -> None:
        """Have the server drop what is older than the retention, and acked by every group."""
        try:
            self._connection.run(TRIM, [stream_of(topic), GROUPS], encode(topic), self._keep_ms)
        except BrokerError as error:  # no reason to fail a publish that is confirmed
            log.warning("topic %s was not trimmed: %s", topic, error)
