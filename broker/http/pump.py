"""The pump: takes rows from the spool, posts them to live members in batches, and writes down what they answer.

    spool.claim → POST /deliver → a line for each message as it finishes → spool.settle

A member is sent at most its `prefetch`. The next batch goes out once the one before was accepted: so a member
receives messages in order, and need not finish one batch before it gets the next.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import requests

from broker.errors import BrokerError
from broker.http import wire
from broker.http.client import CONNECT_SECONDS, Body, Client, Refused, whole_lines
from broker.http.registry import Member, Registry
from broker.http.spool import Spool
from broker.http.wire import BROADCAST, LAST, RELEASE, RETRY, Answer, Malformed, Parcel, Request

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25  #: how often members are looked up while there is something to deliver
SHUN_SECONDS = 0.25  #: pause after a member failed us; doubled each time
MAX_SHUN_SECONDS = 4.0


@dataclass(eq=False)
class Load:
    """What one member has of ours right now."""

    outstanding: int = 0
    posts: int = 0
    sending: Request | None = None  #: the batch that it has not taken yet: the next one waits, to keep the order
    failures: int = 0  #: in a row
    shunned_until: float = 0.0  #: `time.monotonic()`

    def room(self, member: Member) -> int:
        """How many more messages it may be sent."""
        if self.sending or self.posts >= member.requests or self.shunned:
            return 0
        return max(0, member.prefetch - self.outstanding)

    def taken(self, request: Request) -> None:
        """The member has this batch, or never will: the next may go."""
        if self.sending is request:
            self.sending = None

    def fail(self) -> None:
        """It failed us: leave it alone for a while, longer each time."""
        self.failures += 1
        self.shunned_until = time.monotonic() + min(SHUN_SECONDS * 2 ** (self.failures - 1), MAX_SHUN_SECONDS)

    @property
    def shunned(self) -> bool:
        """Whether it failed us a moment ago."""
        return self.shunned_until > time.monotonic()


@dataclass
class Seen:
    """The members of a topic when they were last looked up."""

    at: float = float("-inf")
    members: list[Member] = field(default_factory=list)


class Pump:
    """Delivers this publisher's rows from a thread of its own until `stop`."""

    def __init__(self, spool: Spool, registry: Registry, client: Client) -> None:
        self._spool = spool
        self._registry = registry
        self._client = client
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._groups: set[tuple[str, str]] = set()  # those that may have waiting rows
        self._loads: dict[str, Load] = {}
        self._seen: dict[str, Seen] = {}
        self._posts: set[threading.Thread] = set()
        self._answering: set[requests.Response] = set()
        self._thread = threading.Thread(target=self._run, name="http-pump", daemon=True)
        self._thread.start()

    def wake(self, groups: Iterable[tuple[str, str]] = ()) -> None:
        """These groups may have something new, or a member has room again."""
        with self._lock:
            self._groups.update(groups)
        self._woken.set()

    def stop(self, deadline: float) -> None:
        """Deliver what can be delivered until the deadline (`time.monotonic()`), then stop."""
        try:
            while self._busy() and time.monotonic() < deadline:
                self._stopping.wait(0.01)
        finally:
            self._stopping.set()
            self._woken.set()
            self._thread.join()
        with self._lock:
            responses, posts = list(self._answering), list(self._posts)
        for response in responses:
            with suppress(OSError, RuntimeError, ValueError):  # it has ended by itself just now
                response.raw.shutdown()  # its thread stops waiting for lines
        for post in posts:
            post.join(CONNECT_SECONDS)
        self._client.close()

    def _busy(self) -> bool:
        """Whether a member has something of ours, or could have."""
        with self._lock:
            if any(load.outstanding for load in self._loads.values()):
                return True
        try:
            groups = self._spool.undelivered()
            members = [member for group in groups for member in self._members(*group)]
        except (BrokerError, OSError) as error:
            log.warning("what is undelivered stays for the next start: %s", error)
            return False
        return any(not self._load(member).shunned for member in members)

    # --- the thread that sends -----------------------------------------------------------------------------

    def _run(self) -> None:
        pause: float | None = None
        while not self._stopping.is_set():
            self._woken.wait(pause)
            self._woken.clear()
            try:
                pause = self._round()
            except Exception as error:  # not only BrokerError: nothing ends this loop but stop()
                log.warning("the pump pauses: %s", error, exc_info=not isinstance(error, BrokerError))
                pause = SHUN_SECONDS

    def _round(self) -> float | None:
        """Send what can be sent; how long until there may be more, None when only `wake` can tell."""
        due, next_due = self._spool.wake()
        with self._lock:
            groups, self._groups = self._groups | set(due), set()
        blocked = set(groups)  # until the opposite is known, also when this round fails
        try:
            for group in groups:
                if self._send(*group):
                    blocked.discard(group)
        finally:
            with self._lock:
                self._groups |= blocked
        if blocked:
            return LOOK_SECONDS
        return None if next_due == float("inf") else max(0.0, next_due - time.time())

    def _send(self, topic: str, group: str) -> bool:
        """Claim what its members have room for, and post it; whether nothing is left that waits for a member."""
        members = self._members(topic, group)
        rooms = [(member, room) for member in members if (room := self._load(member).room(member))]
        if not rooms:
            return not members and self._ended(topic, group)
        parcels = self._spool.claim(topic, group, sum(room for _, room in rooms))
        for member, share in _shares(parcels, rooms):
            self._start_post(member, topic, group, share)
        return not parcels

    def _ended(self, topic: str, group: str) -> bool:
        """Whether it was a broadcast subscription that has left; then what it had goes too."""
        if not group.startswith(BROADCAST) or group.removeprefix(BROADCAST) in self._registry.broadcasts_of(topic):
            return False
        self._spool.drop(topic, group)
        return True

    def _members(self, topic: str, group: str) -> list[Member]:
        seen = self._seen.get(topic)
        if seen is None or time.monotonic() - seen.at > LOOK_SECONDS:
            return self._look_up(topic, group)
        return _of(group, seen.members)

    def _look_up(self, topic: str, group: str) -> list[Member]:
        members = [member for member in self._registry.members_of(topic) if self._client.accepts(member)]
        self._seen[topic] = Seen(time.monotonic(), members)
        return _of(group, self._seen[topic].members)

    def _load(self, member: Member) -> Load:
        with self._lock:
            return self._loads.setdefault(member.id, Load())

    # --- one thread for each request -----------------------------------------------------------------------

    def _start_post(self, member: Member, topic: str, group: str, parcels: list[Parcel]) -> None:
        load = self._load(member)
        request = Request(member.id, topic, member.group, parcels)
        with self._lock:
            load.sending = request
            load.posts += 1
            load.outstanding += len(parcels)
        post = threading.Thread(
            target=self._post, args=(member, load, group, request), name=f"http-post-{member.id}", daemon=True
        )
        with self._lock:
            self._posts.add(post)
        post.start()

    def _post(self, member: Member, load: Load, group: str, request: Request) -> None:
        left = {parcel.seq for parcel in request.parcels}
        body = Body(wire.encode_request(request).encode())
        result = RETRY  # a message without an answer may have been started, so that counts
        try:
            for answers in self._exchange(member, load, request, body):
                left -= self._settle([a for a in answers if a.seq in left], load, request.topic, group)
            _must_be_empty(left)
            load.failures = 0
        except Exception as error:  # noqa: BLE001  # whatever it is, they are to be delivered again
            if isinstance(error, Refused) or not body.sent:
                result = RELEASE  # no handler has seen anything of it
            load.fail()
            log.log(
                logging.WARNING if load.failures == 1 and not self._stopping.is_set() else logging.DEBUG,
                "member %s of %s at %s: %d messages to be delivered again: %s",
                *(member.id, member.group or "everyone", member.url, len(left), error),
                extra={"event_ids": [parcel.message.id for parcel in request.parcels if parcel.seq in left]},
            )
        finally:
            self._settle([Answer(seq, result) for seq in left], load, request.topic, group)
            with self._lock:
                load.posts -= 1
                load.taken(request)
                self._posts.discard(threading.current_thread())
            self.wake()

    def _exchange(self, member: Member, load: Load, request: Request, body: Body) -> Iterator[list[Answer]]:
        """Post the request; the answers as they come."""
        with self._client.post(member, body) as response:
            with self._lock:
                load.taken(request)
                self._answering.add(response)
            try:
                self.wake()
                yield from map(wire.decode_answers, whole_lines(response))
            finally:
                with self._lock:
                    self._answering.discard(response)

    def _settle(self, answers: Sequence[Answer], load: Load, topic: str, group: str) -> set[int]:
        """Write them down, however long the disk refuses; the rows that are no longer outstanding."""
        while answers:
            try:
                self._spool.settle(answers)
                break
            except BrokerError as error:
                log.error("%d answers must wait: %s", len(answers), error)
                if self._stopping.wait(SHUN_SECONDS):
                    break  # not written: whoever adopts these rows delivers them again
        finished = {answer.seq for answer in answers if answer.result != LAST}
        with self._lock:
            load.outstanding -= len(finished)
        self.wake([(topic, group)] if any(answer.result == RELEASE for answer in answers) else [])
        return finished


def _must_be_empty(left: set[int]) -> None:
    if left:
        raise Malformed("it has not answered for all")


def _of(group: str, members: Iterable[Member]) -> list[Member]:
    """Those of that group; a broadcast subscription is the one member of a group named after it."""
    if group.startswith(BROADCAST):
        return [member for member in members if member.group is None and BROADCAST + member.id == group]
    return [member for member in members if member.group == group]


def _shares(parcels: list[Parcel], rooms: list[tuple[Member, int]]) -> Iterator[tuple[Member, list[Parcel]]]:
    """Each member's part: as equal as their rooms allow, each in order; the odd one to who has most room."""
    rooms = sorted(rooms, key=lambda entry: entry[1])
    for n, (member, room) in enumerate(rooms):
        fair = len(parcels) // (len(rooms) - n)
        share, parcels = parcels[: min(room, fair)], parcels[min(room, fair) :]
        if share:
            yield member, share
