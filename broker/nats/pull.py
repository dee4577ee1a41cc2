"""Pulling from a consumer: asks the server for a batch of messages, and keeps what comes until it is fetched.

Before 2.10.14 a server has a fault: when a message is due again, and all requests that wait have expired or lost their
inbox, it delivers the latest message once more as a new one, acked or not. So a request is replaced before it expires,
and when a member leaves, the server is made to look through the waiting requests before anything is handed back.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error
from nats.js.api import ConsumerInfo
from nats.js.errors import NotFoundError

from broker.errors import BrokerError
from broker.nats.connection import CLOSE_SECONDS, NatsConnection

ASK_SECONDS = 5.0  #: how long a request waits at the server; half of that, and it is replaced
NOTHING_CAME = ("404", "408")  #: what ends a request and is no error


class Request:
    """A request for messages, and the inbox for what it brings."""

    inbox: Subscription
    owed = 0  #: how many messages it may still bring
    replace_at = 0.0  #: in the loop's time


class PullConsumer:
    """What comes waits in `arrived`, and is with this member.

    `join` makes sure that there is a consumer. It is awaited again on each new connection and, told so, when somebody
    has deleted the consumer. A request waits for half of `lease_seconds` at most, so that it has ended when a
    member that was killed loses its messages.
    """

    def __init__(
        self, connection: NatsConnection, join: Callable[[bool], Awaitable[ConsumerInfo]], lease_seconds: float = 60.0
    ) -> None:
        self.arrived: deque[Msg] = deque()
        self._connection = connection
        self._make_sure = join
        self._ask_seconds = min(ASK_SECONDS, lease_seconds / 2)
        self._generation = 0
        self._consumer: ConsumerInfo
        self._request: Request | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._ended = ""  # what the server said when there is no such consumer
        self._changed = asyncio.Event()
        self._interrupted = False
        self._waiting: Future[None] | None = None
        self._leaving: Future[None] | None = None

    # --- for any thread ------------------------------------------------------------------------------------

    def fetch(self, limit: int, seconds: float) -> list[Msg]:
        """As `Source.fetch`."""
        if not self.arrived:
            within = seconds + self._connection.timeout_seconds
            self._waiting = self._connection.submit(self._wait(limit, seconds), within)
            if self._interrupted:
                self._waiting.cancel()
            self._connection.result(self._waiting, within)
        return [self.arrived.popleft() for _ in range(min(limit, len(self.arrived)))]

    def interrupt(self) -> None:
        """Ask for nothing more."""
        self._interrupted = True
        with suppress(BrokerError):
            self._leaving = self._connection.submit(self._leave(), CLOSE_SECONDS)
        if self._waiting:
            self._waiting.cancel()

    def left(self) -> None:
        """After `interrupt`: wait until all that the server has sent is in `arrived`, and it will send no more."""
        if self._leaving:
            self._connection.result(self._leaving)

    # --- on the loop ---------------------------------------------------------------------------------------

    async def join(self) -> None:
        """Be ready to ask."""
        await self._connection.client.connected()
        if self._ended:
            await self._connection.streams.wait_after_deletion()
        generation = self._connection.client.generation
        self._consumer = await self._make_sure(bool(self._ended))
        if self._request:
            self._retire(self._request)
        self._generation, self._request, self._ended = generation, None, ""

    async def _wait(self, limit: int, seconds: float) -> None:
        """Until something has arrived, or time is up."""
        client = await self._connection.client.connected(seconds)
        if self._ended or self._generation != self._connection.client.generation:
            await self.join()
        self._changed.clear()
        request = self._request
        if request and request.owed and request.replace_at < _now():
            await self._look()
            request = None
        if not request or not request.owed:
            await self._ask(client, limit)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, self._ask_seconds / 2)):
                await self._changed.wait()
        if self._ended and not self.arrived:
            raise Error(self._ended)

    async def _ask(self, client: Client, limit: int) -> None:
        old = self._request
        request = self._request = old if old and not old.owed else await self._new_request(client)
        request.owed, request.replace_at = limit, _now() + self._ask_seconds / 2
        ask_on = f"$JS.API.CONSUMER.MSG.NEXT.{self._consumer.stream_name}.{self._consumer.name}"
        what = {"batch": limit, "expires": int(self._ask_seconds * 1e9)}
        await client.publish(ask_on, json.dumps(what).encode(), reply=request.inbox.subject)
        if old and old is not request:
            self._retire(old)

    async def _look(self) -> None:
        """Is the consumer there? A request to one that is not is answered by nobody."""
        jetstream = await self._connection.client.jetstream()
        try:
            await jetstream.consumer_info(self._consumer.stream_name, self._consumer.name)
        except NotFoundError as error:
            self._ended = error.description or "no such consumer"
            raise

    async def _new_request(self, client: Client) -> Request:
        request = Request()
        request.inbox = await client.subscribe(client.new_inbox(), cb=partial(self._came, request))
        return request

    def _retire(self, request: Request) -> None:
        """End it; what it has brought by then still arrives."""
        task = asyncio.get_running_loop().create_task(_end(request.inbox))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _came(self, request: Request, message: Msg) -> None:
        if message.reply:
            request.owed -= 1
            self.arrived.append(message)
        else:
            request.owed = 0
            headers = message.headers or {}
            if headers.get("Status") not in NOTHING_CAME and request is self._request:
                self._ended = headers.get("Description") or "no such consumer"
        self._changed.set()

    async def _leave(self) -> None:
        await self._connection.client.connected(0)
        if self._request:
            self._retire(self._request)
        if self._retiring:
            await asyncio.wait(self._retiring)
        jetstream = await self._connection.client.jetstream()
        await jetstream.consumer_info(self._consumer.stream_name, self._consumer.name)  # it looks through its requests


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _end(inbox: Subscription) -> None:
    with suppress(Error):  # it may have gone with its connection
        await inbox.drain()  # type: ignore[no-untyped-call]  # theirs
