"""A group as operators see it: its backlog and its dead letters."""

from __future__ import annotations

from broker.base import DeadLetter, Group
from broker.message import GROUP
from broker.redis.connection import RedisConnection
from broker.redis.scripts import BACKLOG, FORGET, REPLAY
from broker.redis.wire import GROUPS, Keys, to_dead_letter, to_fields


class RedisGroup(Group):
    """A consumer group, and the stream of its dead letters."""

    def __init__(self, connection: RedisConnection, topic: str, name: str) -> None:
        super().__init__(topic, name)
        self._connection = connection
        self._keys = Keys(topic, name)

    def backlog(self) -> int:
        return int(self._connection.run(BACKLOG, self._keys.of_member, self._keys.group))

    def dead_letters(self) -> list[DeadLetter]:
        return [letter for _, letter in self._dead()]

    def replay(self, *message_ids: str) -> int:
        keys = [self._keys.stream, self._keys.dead]
        return sum(
            self._connection.run(REPLAY, keys, dead_id, *to_fields(letter.message.with_header(**{GROUP: self.name})))
            for dead_id, letter in self._dead()
            if letter.message.id in message_ids
        )

    def discard(self, message_id: str) -> int:
        ids = [dead_id for dead_id, letter in self._dead() if letter.message.id == message_id]
        return int(self._connection.call("XDEL", self._keys.dead, *ids)) if ids else 0

    def forget(self) -> None:
        keys = [*self._keys.of_member, self._keys.dead, GROUPS]
        self._connection.run(FORGET, keys, self._keys.group, self._keys.name)

    def _dead(self) -> list[tuple[bytes, DeadLetter]]:
        return [(row[0], to_dead_letter(*row)) for row in self._connection.call("XRANGE", self._keys.dead, "-", "+")]
