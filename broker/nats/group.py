"""A group as operators see it: its backlog and its dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Container
from contextlib import suppress
from datetime import UTC, datetime

from nats.js.api import ConsumerInfo, RawStreamMsg, StreamConfig
from nats.js.errors import NotFoundError

from broker.base import DeadLetter, Group
from broker.message import GROUP
from broker.nats import wire
from broker.nats.connection import NatsConnection
from broker.nats.publisher import send

WRITTEN_SECONDS = 0.3  #: by then the server has written an ack down, busy as it may be


class NatsGroup(Group):
    """A group's consumer and its dead letters, for operators."""

    def __init__(self, connection: NatsConnection, stream: StreamConfig, topic: str, name: str) -> None:
        super().__init__(topic, name)
        self._connection = connection
        self._stream = stream
        self._dead = wire.subject("dead", topic, name)

    def backlog(self) -> int:
        return self._connection.call(self._count())

    def dead_letters(self) -> list[DeadLetter]:
        return [wire.decoded_dead(letter) for letter in self._connection.call(self._letters())]

    def replay(self, *message_ids: str) -> int:
        return self._connection.call(self._replay(message_ids))

    def discard(self, message_id: str) -> int:
        return self._connection.call(self._discard(message_id))

    def forget(self) -> None:
        self._connection.call(self._forget())

    async def _count(self) -> int:
        count, unwritten_seconds = await self._look()
        if not count and unwritten_seconds:
            await asyncio.sleep(unwritten_seconds)
            count, _ = await self._look()
        return count

    async def _look(self) -> tuple[int, float]:
        jetstream = await self._connection.client.jetstream()
        try:
            info = await jetstream.consumer_info(self._stream.name or "", wire.token(self.name))
        except NotFoundError:
            return 0, 0.0
        return (info.num_pending or 0) + (info.num_ack_pending or 0), _unwritten(info)

    async def _letters(self) -> list[RawStreamMsg]:
        letters: list[RawStreamMsg] = []
        after = 0
        while letter := await self._connection.streams.read(
            wire.dead_stream(), seq=after + 1, subject=self._dead, next=True
        ):
            letters.append(letter)
            after = letter.seq or 0
        return letters

    async def _of(self, message_ids: Container[str]) -> list[RawStreamMsg]:
        return [letter for letter in await self._letters() if wire.decoded_dead(letter).message.id in message_ids]

    async def _replay(self, message_ids: Container[str]) -> int:
        letters = await self._of(message_ids)
        for letter in letters:
            body, headers = wire.encoded(wire.decoded_dead(letter).message.with_header(**{GROUP: self.name}))
            headers[wire.MESSAGE_ID] = f"replay/{letter.seq}/{letter.time}"  # or it would be taken for a duplicate
            await send(self._connection, self._stream, wire.subject("topic", self.topic), {0: (body, headers)})
            await self._remove(letter)
        return len(letters)

    async def _discard(self, message_id: str) -> int:
        letters = await self._of({message_id})
        for letter in letters:
            await self._remove(letter)
        return len(letters)

    async def _remove(self, letter: RawStreamMsg) -> None:
        await (await self._connection.client.jetstream()).delete_msg(wire.DEAD, letter.seq or 0)

    async def _forget(self) -> None:
        jetstream = await self._connection.client.jetstream()
        with suppress(NotFoundError):
            await jetstream.delete_consumer(self._stream.name or "", wire.token(self.name))
        with suppress(NotFoundError):
            await jetstream.purge_stream(wire.DEAD, subject=self._dead)


def _unwritten(consumer: ConsumerInfo) -> float:
    """For how many seconds the server may still not have written down the latest ack."""
    latest = consumer.ack_floor.last_active if consumer.ack_floor else None
    if latest is None:
        return 0.0
    age_seconds = (datetime.now(UTC) - latest).total_seconds()
    return WRITTEN_SECONDS - age_seconds if 0 <= age_seconds < WRITTEN_SECONDS else 0.0
