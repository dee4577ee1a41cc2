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
from broker.http.bounded import whole_lines
from broker.http.client import CONNECT_SECONDS, Body, Client, Refused
from broker.http.fields import printable
from broker.http.load import Load, members_of_group, shares
from broker.http.once import Once
from broker.http.registry import Member, Registry
from broker.http.spool import Spool
from broker.http.wire import BROADCAST, LAST, RELEASE, RETRY, Answer, Malformed, Parcel, Request

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.25  #: how often members are looked up while there is something to deliver
PAUSE_SECONDS = 0.25  #: after something failed that ought not to
MAX_PAUSE_SECONDS = 60.0  #: then it looks whether something is due, however late the next should be
JOIN_SECONDS = 10.0  #: how long the end waits for a thread that is still busy


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
        self._trouble = Once(log)
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
            self._thread.join(JOIN_SECONDS)
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
                self._trouble.over(self)
            except Exception as error:  # noqa: BLE001  # not only BrokerError: nothing ends this loop but stop()
                surprise = not isinstance(error, BrokerError)
                self._trouble.warn(
                    self, f"the pump pauses: {error!r}" if surprise else f"the pump pauses: {error}", exc_info=surprise
                )
                pause = PAUSE_SECONDS

    def _round(self) -> float | None:
        """Send what can be sent; how long until there may be more, None when only `wake` can tell."""
        due, next_due = self._spool.wake()
        with self._lock:
            groups, self._groups = self._groups | set(due), set()
        blocked = {group for group in groups if not self._sent(*group)}
        with self._lock:
            self._groups |= blocked
        if blocked:
            return LOOK_SECONDS
        return None if next_due == float("inf") else min(max(0.0, next_due - time.time()), MAX_PAUSE_SECONDS)

    def _sent(self, topic: str, group: str) -> bool:
        """As `_send`, and False when that failed: one group's trouble is not the others'."""
        try:
            sent = self._send(topic, group)
        except Exception as error:  # noqa: BLE001  # whatever stands in the registry
            self._trouble.warn(
                (topic, group), f"nothing can be sent to {group} of {topic}, which is tried again: {error!r}"
            )
            return False
        self._trouble.over((topic, group))
        return sent

    def _send(self, topic: str, group: str) -> bool:
        """Claim what its members have room for, and post it; whether nothing is left that waits for a member."""
        members = self._members(topic, group)
        rooms = [(member, room) for member in members if (room := self._load(member).room(member))]
        if not rooms:
            return not members and self._ended(topic, group)
        parcels = self._spool.claim(topic, group, sum(room for _, room in rooms))
        for member, share in shares(parcels, rooms):
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
        return members_of_group(group, seen.members)

    def _look_up(self, topic: str, group: str) -> list[Member]:
        members = [member for member in self._registry.members_of(topic) if self._client.accepts(member)]
        self._seen[topic] = Seen(time.monotonic(), members)
        return members_of_group(group, members)

    def _load(self, member: Member) -> Load:
        with self._lock:
            return self._loads.setdefault(member.id, Load())

    # --- one thread for each request -----------------------------------------------------------------------

    def _start_post(self, member: Member, topic: str, group: str, parcels: list[Parcel]) -> None:
        load = self._load(member)
        request = Request(member.id, topic, member.group, parcels)
        post = threading.Thread(
            target=self._post, args=(member, load, group, request), name=f"http-post-{member.id}", daemon=True
        )
        with self._lock:
            load.sending = request
            load.posts += 1
            load.outstanding += len(parcels)
            self._posts.add(post)
        try:
            post.start()
        except RuntimeError:  # there are too many threads
            load.fail()
            self._over(post, load, request, group, [Answer(parcel.seq, RELEASE) for parcel in parcels])
            raise

    def _post(self, member: Member, load: Load, group: str, request: Request) -> None:
        left = {parcel.seq for parcel in request.parcels}
        result = RELEASE  # no handler has seen anything of it
        try:
            body = Body(wire.encode_request(request).encode())
            try:
                for answers in self._exchange(member, load, request, body):
                    left -= self._settle(_first(answers, left), load, request.topic, group)
            finally:
                if body.sent:
                    result = RETRY  # a message without an answer may have been started, so that counts
            _must_be_empty(left)
            load.failures = 0
        except Exception as error:  # noqa: BLE001  # whatever it is, they are to be delivered again
            if isinstance(error, Refused):
                result = RELEASE
            load.fail()
            self._say_failed(member, load, request, left, error)
        finally:
            me = threading.current_thread()
            self._over(me, load, request, group, [Answer(seq, result) for seq in left])

    def _say_failed(self, member: Member, load: Load, request: Request, left: set[int], error: Exception) -> None:
        log.log(
            logging.WARNING if load.failures == 1 and not self._stopping.is_set() else logging.DEBUG,
            "member %s of %s at %s: %d messages to be delivered again: %s",
            *(member.id, member.group or "everyone", member.url, len(left), printable(error, 300)),
            extra={"event_ids": [parcel.message.id for parcel in request.parcels if parcel.seq in left]},
        )

    def _over(
        self, post: threading.Thread, load: Load, request: Request, group: str, unanswered: Sequence[Answer]
    ) -> None:
        """That request has ended; these of its messages are to be delivered again."""
        try:
            self._settle(unanswered, load, request.topic, group)
        finally:
            with self._lock:
                load.posts -= 1
                load.taken(request)
                self._posts.discard(post)
            self.wake()

    def _exchange(self, member: Member, load: Load, request: Request, body: Body) -> Iterator[list[Answer]]:
        """Post the request; the answers as they come."""
        with self._client.post(member, body) as response:
            with self._lock:
                load.taken(request)
                self._answering.add(response)
            try:
                self.wake()
                for lines in whole_lines(response, member.patience_seconds):
                    answers, wrong = wire.decode_answers(lines)
                    yield answers
                    if wrong:
                        raise wrong
            finally:
                with self._lock:
                    self._answering.discard(response)

    def _settle(self, answers: Sequence[Answer], load: Load, topic: str, group: str) -> set[int]:
        """Write them down, however long the disk refuses; the rows that are no longer outstanding."""
        while answers:
            try:
                self._spool.settle(answers)
                self._trouble.over(self._spool)
                break
            except BrokerError as error:
                self._trouble.warn(self._spool, f"{len(answers)} answers must wait: {error}")
                if self._stopping.wait(PAUSE_SECONDS):
                    break  # not written: whoever adopts these rows delivers them again
        finished = {answer.seq for answer in answers if answer.result != LAST}
        with self._lock:
            load.outstanding -= len(finished)
        self.wake([(topic, group)] if any(answer.result == RELEASE for answer in answers) else [])
        return finished


def _first(answers: Iterable[Answer], left: set[int]) -> list[Answer]:
    """Those to what was sent and is not answered yet; a member may say what it likes, and as often."""
    open_, first = set(left), []
    for answer in answers:
        if answer.seq in open_:
            first.append(answer)
            if answer.result != LAST:
                open_.discard(answer.seq)
    return first


def _must_be_empty(left: set[int]) -> None:
    if left:
        raise Malformed("it has not answered for all")
