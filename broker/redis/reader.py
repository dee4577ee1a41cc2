"""Reads that wait at the server: a connection of their own, which another thread can wake."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from broker.errors import BrokerError
from broker.redis.connection import FOREIGN, Command, RedisConnection

WAKES = 20  #: how often a read is woken until it ends


class BlockingReader:
    """One subscription's reads, of one thread; `wake` and `end` are for any thread."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._mine: Any = None  # a connection of the pool, while it has one
        self._client_id = 0
        self._reading = False
        self._over = False

    def read(self, command: Command, stream: str, after: str | bytes, seconds: float) -> Any:
        """The entries of the stream after that id, as soon as there is one; none when there was none in time."""
        wait_ms = max(1, int(seconds * 1000))  # 0 would wait for ever
        self._reading = True
        try:
            mine = self._mine or self._connect()
            if self._over:
                return []
            mine.send_command(*command, "BLOCK", wait_ms, "STREAMS", stream, after)
            answer = mine.read_response(timeout=seconds + self._connection.timeout_seconds)
        except FOREIGN as error:
            self.close()
            raise self._connection.error(error) from error
        finally:
            self._reading = False
        return answer[0][1] if answer else []

    def wake(self) -> None:
        """Make a read that waits return now."""
        with suppress(BrokerError):
            for _ in range(WAKES):  # the server does not know yet of a read that has only just begun
                if not self._reading or self._connection.call("CLIENT", "UNBLOCK", self._client_id):
                    return

    def end(self) -> None:
        """Make a read that waits return now, and every later one at once."""
        self._over = True
        self.wake()

    def close(self) -> None:
        """Give the connection back."""
        mine, self._mine = self._mine, None
        if mine is not None:
            mine.disconnect()
            self._connection.pool.release(mine)

    def _connect(self) -> Any:
        self._mine = self._connection.pool.get_connection()
        self._mine.send_command("CLIENT", "ID")
        self._client_id = self._mine.read_response()
        return self._mine
