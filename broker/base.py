"""The broker: eight verbs, and the contract that every broker keeps. Read this file first, `memory.py` second.

    connect  disconnect  publish  subscribe  init  options  address  name

The contract. Where a server cannot keep a part of it, its class says so in `promises`, as data; the
README's table is generated from that, and `broker.testing` holds every broker to what it declares.

 1. **Confirmed.** `publish` returned: the broker has every message. It raised: those it names may or may
    not be stored. Publishing them again loses nothing and may deliver them twice; consumers tell by `ce-id`.
 2. **Broadcast.** A subscription without `group` gets each message published while it is in force, also
    across a reconnect. It has no past, no redelivery by the broker and no dead letters: a handler that
    raises is retried in its own process, then the message is logged and passed over.
 3. **Groups.** Subscriptions with the same `group` are the members of one group. Each message goes to one
    member at a time; every group gets its own delivery. When a member dies, another takes over.
 4. **Durable.** A group that has been seen once keeps its messages, for the retention, while none of its
    members is alive, and across a restart of the broker.
 5. **Nothing vanishes for want of a first subscriber.** Either a group's first member receives what was
    published before it came (`replays`), or `publish(..., mandatory=True)` raises `NoSubscriber`.
 6. **Acked on return.** A handler that returns acks. One that raises is tried again, on this member or
    another, after a delay that grows (`retry_delays`). `attempt` is counted by something that outlives the
    consumer. With `auto_ack=False` the message is acked by `event.ack()`; unacked when its lease ends, it
    is delivered again and that is counted.
 7. **Dead letters.** After `max_attempts`, at once on `Reject`, and when a handler kills its process every
    time, the message goes to the dead letters of its group, which is confirmed *before* the original is
    acked. A last attempt runs with nothing else running on its member, so that a message is never
    dead-lettered for its neighbour's crimes. A replay reaches that group alone and keeps its `ce-id`.
 8. **No head-of-line blocking.** A message that fails does not hold up the others.
 9. **Order.** Messages of one publisher with one `ce-partitionkey` start in the order they were published,
    redeliveries apart, in a group of one member with `concurrency=1`.
10. **Long handlers** keep their lease while their member is connected: no second delivery meanwhile.
    After a cut, a second run may overlap the first.
11. **Drain.** `unsubscribe` and `disconnect` stop fetching, hand back what was not started with its
    `attempt` unchanged, finish what runs, flush acks and close. Past the deadline they raise `DrainTimeout`
    and a late ack is ignored. Nothing is delivered after they return. Twice is fine, from any thread.
12. **Reconnects.** After a restart of the server or a cut, publishing and subscriptions go on by
    themselves; a group or stream deleted underneath is made again and starts at the oldest message kept.
    Publishing while the server is down raises within `publish_timeout_seconds`.
13. **Acks hold.** What was acked and flushed is never delivered again. Acks are flushed within 50 ms of an
    idle moment, and always by a clean stop; a crash may redeliver what was not flushed, `prefetch` at most.
14. **Isolation.** A handler's exception is its own: no other subscription, publisher or thread notices.
    Publishing inside a handler works.
15. **Headers, bytes, sizes.** Any bytes, none included, up to 1,000,000, and 8 KiB of Unicode headers, which
    survive retries and dead letters; more is refused before sending.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, Protocol, Self, TypeVar, Unpack, overload

from broker.address import without_secrets
from broker.engine.source import Source
from broker.engine.subscription import Handler, Subscription
from broker.errors import BrokerError, DrainTimeout, Reject
from broker.handlers import check_callable
from broker.message import Event, Message, check
from broker.names import checked
from broker.numbers import Number
from broker.options import OptionArguments, Options, SubscribeArguments, SubscribeOptions, known

log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0  #: how long a broker may take, after its drain, to let go of its server


@dataclass(frozen=True)
class Promises:
    """Where a broker differs from the rest, as data. The defaults are the contract in full.

    Each field is tested in both of its values: no broker differs without saying so.
    """

    needs: str  #: what a reader has to run for it
    server: bool = True  #: there is a server between publisher and consumer, which can be away
    many_processes: bool = True  #: publisher and consumer may be different processes
    durable: bool = True  #: a group keeps its messages while none of its members lives
    survives_kill: bool = True  #: messages and acks outlive a `kill -9` of the server
    replays: bool = True  #: a group's first member gets what was published before it came (else: mandatory)
    mandatory_sees_only_groups: bool = True  #: `mandatory` is not satisfied by a mere broadcast subscription
    jitter: bool = True  #: retry delays are spread; without it they are exact
    hand_back_keeps_attempt: bool = True  #: what a drain hands back has the same `attempt` when it comes again
    order_per_key: bool = False  #: one order per key; otherwise all messages of a topic keep one order
    longest_handler_seconds: float | None = None  #: the server takes the lease back after this long
    tested_on: str = "a private server, killed and restarted"  #: by this project's own tests


@dataclass(frozen=True)
class DeadLetter:
    """A message that its group gave up on. `published_at` and `failed_at` are in UTC."""

    message: Message
    reason: str
    attempts: int
    published_at: datetime
    failed_at: datetime


class Group(ABC):
    """One group of one topic as an operator sees it: what waits for it, and its dead letters."""

    def __init__(self, topic: str, name: str) -> None:
        self.topic = topic
        self.name = name

    @abstractmethod
    def backlog(self) -> int:
        """How many messages wait for this group or are with one of its members; dead letters not counted."""

    @abstractmethod
    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters, oldest first."""

    @abstractmethod
    def replay(self, *message_ids: str) -> int:
        """Deliver dead letters again, to this group alone, from attempt 1; how many there were of those ids."""

    @abstractmethod
    def discard(self, message_id: str) -> int:
        """Remove a dead letter for good; how many there were of that id."""

    @abstractmethod
    def forget(self) -> None:
        """End the group: nothing is kept for it any more, and what waits for it is dropped."""


class Encodable(Protocol):
    """An object that knows its message, such as the event classes of `contracts/events.py`."""

    def to_message(self) -> Message:
        """The message that carries this object."""
        ...


class Decodable(Protocol):
    """A class whose objects are made from messages, such as the event classes of `contracts/events.py`."""

    @classmethod
    def from_message(cls, message: Message) -> Self:
        """The object in the message, or any exception whose text says why there is none."""
        ...


Thing = TypeVar("Thing", bound=Decodable)
AnyHandler = TypeVar("AnyHandler", bound=Handler)


class Publisher:
    """A topic to publish objects to: `b.publisher("user.registered").publish(event)`."""

    def __init__(self, broker: Broker, topic: str) -> None:
        self.topic = topic
        self._broker = broker

    def publish(self, *objects: Encodable | Message, mandatory: bool = False) -> None:
        """As `Broker.publish`, for messages and for objects that have `to_message()`."""
        messages = (thing if isinstance(thing, Message) else thing.to_message() for thing in objects)
        self._broker.publish(self.topic, *messages, mandatory=mandatory)


class Broker(ABC):
    """What a service knows of a broker. Adapters implement the six methods at the end, and nothing else.

    Synchronous, and every method may be called from any thread. As a context manager it connects and disconnects.
    """

    name: ClassVar[str]  #: the short name, as in `BROKER=nats`
    default_address: ClassVar[str]
    promises: ClassVar[Promises]

    def __init__(self, address: str | None = None, options: Options | None = None) -> None:
        self.address = address or self.default_address
        self.options = options or Options()
        self._connected = False
        self._ending: threading.Event | None = None  # while somebody disconnects
        self._lifecycle = threading.RLock()
        self._subscriptions: list[Subscription] = []
        self._decorated: list[Callable[[], object]] = []  # the subscriptions of `subscriber`, made at each connect
        self._check()

    def init(self, **changes: Unpack[OptionArguments]) -> None:
        """Change options before connecting; `BrokerError` once connected, or for an option that does not exist."""
        with self._lifecycle:
            if self._connected:
                raise self.error("options can only change before connect()")
            known(Options, changes)
            self.options = replace(self.options, **changes)
            self._check()

    def connect(self) -> None:
        """Reach the broker, or raise `BrokerError` saying why not. A second call does nothing."""
        with self._lifecycle:
            if self._ending:
                raise self.error("it is being disconnected")
            if self._connected:
                return
            self._open()
            self._connected = True
            try:
                for declared in self._decorated:
                    declared()
            except BaseException:
                self.disconnect(0)
                raise

    @property
    def is_connected(self) -> bool:
        """Whether it is between `connect` and `disconnect`; the server may be away for a moment all the same."""
        return self._connected and self._ending is None

    def disconnect(self, within_seconds: float | None = None) -> None:
        """Drain every subscription and let go of everything; `DrainTimeout` when handlers were still running.

        It takes as long as `within_seconds` says, else the option `drain_seconds`. Called by one of its own
        handlers it returns at once, and ends when the handler does.
        """
        seconds = self.options.drain_seconds if within_seconds is None else within_seconds
        Number(-math.inf, math.inf).check("within_seconds", seconds)  # what is left of a stop may be below zero
        deadline = time.monotonic() + min(seconds, threading.TIMEOUT_MAX)
        with self._lifecycle:
            if not self._connected:
                return
            others = self._ending
            ending = self._ending = others or threading.Event()
            in_handler = any(subscription.runs_here for subscription in self._subscriptions)
        if others is None and in_handler:
            threading.Thread(target=self._end_quietly, args=(deadline, ending), name="disconnect", daemon=True).start()
        elif others is None:
            self._end(deadline, ending)
        elif not in_handler:
            self._await_others(others, deadline)

    def _await_others(self, others: threading.Event, deadline: float) -> None:
        if not others.wait(max(0.0, deadline - time.monotonic()) + CLOSE_SECONDS):
            raise DrainTimeout(self.describe("another thread is still disconnecting it"))

    def _end(self, deadline: float, ending: threading.Event) -> None:
        try:
            self._drain(deadline)
        finally:
            try:
                self._close(deadline)
            finally:
                self._connected, self._ending = False, None
                ending.set()

    def _end_quietly(self, deadline: float, ending: threading.Event) -> None:
        try:
            self._end(deadline, ending)
        except BrokerError as error:
            log.warning("%s", error)

    def publish(self, topic: str, *messages: Message, mandatory: bool = False) -> None:
        """Return once the broker has every message, or raise `PublishError` naming those that are not confirmed.

        With `mandatory`, a broker that does not replay raises `NoSubscriber` when the topic has no group yet.
        """
        checked(topic, "topic")
        for message in messages:
            check(message)
        self._must_be_connected()
        if messages:
            self._publish(topic, messages, mandatory)

    @overload
    def subscribe(self, topic: str, handler: Handler, **options: Unpack[SubscribeArguments]) -> Subscription: ...
    @overload
    def subscribe(
        self,
        topic: str,
        handler: Callable[[Thing], object],
        *,
        reads: type[Thing],
        **options: Unpack[SubscribeArguments],
    ) -> Subscription: ...
    def subscribe(
        self,
        topic: str,
        handler: Callable[[Any], object],
        *,
        reads: type[Decodable] | None = None,
        **options: Unpack[SubscribeArguments],
    ) -> Subscription:
        """Call `handler(event)` for each message, from threads of the subscription; see `SubscribeOptions`.

        Once this returns, the subscription is in force: what is published from now on is delivered. With `reads`, the
        handler gets the object that `reads.from_message(message)` makes; a message that it cannot read is rejected.

        A handler that does nothing when it is called, such as an `async def`, is refused. One that returns an awaitable
        has failed.
        """
        chosen = self._choose(topic, handler, options)
        with self._lifecycle:
            self._must_be_connected()
            if self._ending:
                raise self.error("it is being disconnected")
            subscription = Subscription(
                topic,
                partial(_read, reads, handler) if reads else handler,
                chosen,
                self._source(topic, chosen),
                self.options.drain_seconds,
                self.options.on_error,
                self.options.on_settled,
            )
            self._subscriptions = [other for other in self._subscriptions if not other.closed] + [subscription]
        return subscription

    @overload
    def subscriber(self, topic: str, **options: Unpack[SubscribeArguments]) -> Callable[[AnyHandler], AnyHandler]: ...
    @overload
    def subscriber(
        self, topic: str, *, reads: type[Thing], **options: Unpack[SubscribeArguments]
    ) -> Callable[[Callable[[Thing], Any]], Callable[[Thing], Any]]: ...
    def subscriber(
        self, topic: str, *, reads: Any = None, **options: Unpack[SubscribeArguments]
    ) -> Callable[[Any], Any]:
        """Decorator: `@b.subscriber("user.registered", group="email-service")` subscribes the function.

        Before `connect` it is noted, and subscribed by each `connect` from then on; so a module is written top down.
        """

        def decorate(handler: Any) -> Any:
            self._choose(topic, handler, options)
            with self._lifecycle:
                subscribe = partial(self.subscribe, topic, handler, reads=reads, **options)
                self._decorated.append(subscribe)
                if self._connected:
                    subscribe()
            return handler

        return decorate

    def _choose(self, topic: str, handler: object, options: SubscribeArguments) -> SubscribeOptions:
        """Refuse what cannot be subscribed, with the reason."""
        checked(topic, "topic")
        check_callable(handler, "handler")
        known(SubscribeOptions, options)
        chosen = SubscribeOptions(**options)
        if not self.promises.jitter:
            chosen = replace(chosen, jitter=0.0)
        if chosen.group is not None:
            checked(chosen.group, "group")
        return chosen

    def publisher(self, topic: str) -> Publisher:
        """A publisher of objects to one topic."""
        return Publisher(self, checked(topic, "topic"))

    def group(self, topic: str, name: str) -> Group:
        """One group, to ask for its backlog and its dead letters; it need not exist."""
        self._must_be_connected()
        return self._group(checked(topic, "topic"), checked(name, "group"))

    def groups(self) -> list[Group]:
        """Every group that has ever subscribed and was not forgotten."""
        self._must_be_connected()
        return self._groups()

    def backlog(self, topic: str, group: str) -> int:
        """How many messages wait for that group or are with one of its members."""
        return self.group(topic, group).backlog()

    def error(self, cause: object) -> BrokerError:
        """A `BrokerError` that names this broker, its address and the cause."""
        return BrokerError(self.describe(cause))

    def describe(self, cause: object) -> str:
        """One line for people: broker, address, cause."""
        return f"{self.name} broker at {without_secrets(self.address)}: {cause}"

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.disconnect()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {without_secrets(self.address)}>"

    def _must_be_connected(self) -> None:
        if not self._connected:
            raise self.error("not connected; call connect() first, or use it in a `with` statement")

    def _drain(self, deadline: float) -> None:
        """Unsubscribe all at the same time, so that one slow handler does not use up the others' time."""
        for subscription in self._subscriptions:
            subscription.stop()
        late = []
        for subscription in self._subscriptions:
            try:
                subscription.unsubscribe(deadline)
            except DrainTimeout as error:
                late.append(str(error))
        self._subscriptions = []
        if late:
            raise DrainTimeout("; ".join(late))

    def _check(self) -> None:
        """Refuse an address or options that can never work, before anything is tried."""
        return

    @abstractmethod
    def _open(self) -> None:
        """Reach the server, or raise."""

    @abstractmethod
    def _close(self, deadline: float) -> None:
        """Let go of every thread, socket and file; `deadline` is in `time.monotonic()` seconds."""

    @abstractmethod
    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:
        """Return when the server has confirmed each message; raise `PublishError` within the timeout otherwise."""

    @abstractmethod
    def _source(self, topic: str, options: SubscribeOptions) -> Source[Any]:
        """Where the deliveries of a new subscription come from; in force when this returns."""

    @abstractmethod
    def _group(self, topic: str, name: str) -> Group:
        """The group of that name."""

    @abstractmethod
    def _groups(self) -> list[Group]:
        """All groups."""


def _read(reads: type[Decodable], handler: Callable[[Any], object], event: Event) -> object:
    try:
        thing = reads.from_message(event.message)
    except Exception as error:
        raise Reject(str(error) or type(error).__name__) from error
    return handler(thing)
