"""Publishing with confirms: many messages on their way at a time, and what the server says to each.

Not the client's `publish_async`: when the server refuses a message, that one says nothing, and waits for ever.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from itertools import count

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error, MaxPayloadError
from nats.js.errors import NoStreamResponseError

from broker.nats.wire import Encoded


class Confirms:
    """One client's, as long as it is connected. To be used on its event loop."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._inbox = client.new_inbox()
        self._numbers = count()
        self._waiting: dict[str, asyncio.Future[None]] = {}

    async def open(self) -> None:
        """Have the server's answers delivered."""
        await self.client.subscribe(f"{self._inbox}.*", cb=self._answered)

    def fail(self, error: Exception) -> None:
        """No answer will come any more."""
        for answer in list(self._waiting.values()):
            if not answer.done():
                answer.set_exception(error)

    async def publish(self, subject: str, left: dict[int, Encoded]) -> None:
        """In order; each is taken out of `left` when it is confirmed. Raises what went wrong with the first."""
        numbers: dict[int, str] = {}
        try:
            for n, message in left.items():
                numbers[n] = number = str(next(self._numbers))
                self._waiting[number] = asyncio.get_running_loop().create_future()
                await self._send(subject, message, number)
            for number in numbers.values():  # most are there when the first is: `gather` would ask to be told of each
                with suppress(Exception):
                    await self._waiting[number]
        finally:
            answers = {n: self._waiting.pop(number) for n, number in numbers.items()}
            for n, answer in answers.items():
                if not answer.cancel() and not answer.cancelled() and answer.exception() is None:
                    del left[n]
        for answer in answers.values():
            answer.result()

    async def _send(self, subject: str, message: Encoded, number: str) -> None:
        body, headers = message
        size = len(body) + sum(map(len, headers)) + sum(map(len, headers.values())) + 4 * len(headers) + 12
        if size > self.client.max_payload:
            raise MaxPayloadError  # at one that is too large by its headers, the server cuts the connection
        await self.client.publish(subject, body, reply=f"{self._inbox}.{number}", headers=headers)

    async def _answered(self, answered: Msg) -> None:
        answer = self._waiting.get(answered.subject.rpartition(".")[2])
        if answer is None or answer.done():
            return
        if error := _refusal(answered):
            answer.set_exception(error)
        else:
            answer.set_result(None)


def _refusal(message: Msg) -> Error | None:
    if (message.headers or {}).get("Status") == "503":
        return NoStreamResponseError()
    if b'"error"' not in message.data:  # parsing each would take longer than sending it
        return None
    error = json.loads(message.data).get("error")
    return Error(error.get("description")) if error else None
