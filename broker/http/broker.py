"""The http broker: peer to peer, no server. Publishers keep a spool on disk and post to the members themselves.

    http://                  members listen on a free port of 127.0.0.1
    http://HOST:PORT         members listen there

What waits, is retried or dead is in the publishers' spool; who subscribes is in the registry; both in the folder
`broker` of `data_dir`, which publishers and members share. See `spool.py`, `pump.py`, `member.py`, `registry.py`.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import uuid
from contextlib import ExitStack
from functools import partial
from typing import Any

from broker.base import Broker, DeadLetter, Group, Promises
from broker.errors import BrokerError, NoSubscriber, PublishError
from broker.http.member import HttpBroadcast, HttpSource, MemberServer
from broker.http.pump import Pump
from broker.http.registry import Member, Registry, check_registry, open_registry
from broker.http.spool import Spool
from broker.http.wire import BROADCAST, Signer, read_secret
from broker.message import Message
from broker.options import SubscribeOptions
from broker.source import Source

log = logging.getLogger(__name__)

BEAT_SECONDS = 2.0  #: how often members are renewed and the rows of dead publishers are looked for
PRUNE_SECONDS = 60.0
SPARE_REQUESTS = 3  #: open to a member besides one for each handler that takes its time
MAX_REQUESTS = 64  #: open to a member for one publisher at a time; each holds a thread


class HttpBroker(Broker):
    """A publisher with its spool and a process that receives, in one; each part runs only when it is used."""

    name = "http"
    default_address = "http://127.0.0.1:0"
    promises = Promises(
        needs="nothing: a folder that the services share",
        server=False,
        replays=False,
        tested_on="itself, its processes killed and restarted",
    )

    def _check(self) -> None:
        check_registry(self.options.registry)

    def _open(self) -> None:
        folder = self.options.data_dir / "broker"
        self._me = uuid.uuid4().hex
        self._members: dict[str, Member] = {}
        self._server: MemberServer | None = None
        self._closing = threading.Event()
        self._prune_at = 0.0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._signer = Signer(self.options.secret or read_secret(folder / "secret"))
            self._registry: Registry = open_registry(self.options.registry, folder / "registry")
            self._spool = Spool(folder / "spool.db", self._me, self.options.publish_timeout_seconds)
        except (OSError, sqlite3.Error) as error:
            raise self.error(f"its folder {folder} cannot be used: {error}") from error
        if not self.options.observer:
            self._first_beat()
        self._pump = Pump(self._spool, self._registry, self._signer)
        self._heart = threading.Thread(target=self._live, name="http-beat", daemon=True)
        if not self.options.observer:
            self._heart.start()

    def _first_beat(self) -> None:
        try:
            self._spool.beat()
        except BrokerError:
            self._spool.close()
            raise

    def _close(self, deadline: float) -> None:
        with ExitStack() as steps:  # from the last to the first, and every one even when another fails
            steps.callback(self._spool.close)
            steps.callback(self._say_what_stays)
            steps.callback(self._stop_beating)
            steps.callback(self._pump.stop, deadline)
            if self._server:
                steps.callback(self._server.close, deadline)

    def _stop_beating(self) -> None:
        self._closing.set()
        if not self.options.observer:
            self._heart.join()

    def _say_what_stays(self) -> None:
        if left := self._spool.left():
            log.warning("%s", self.describe(f"{left} messages stay in the spool until their members are back"))

    def _publish(self, topic: str, messages: tuple[Message, ...], mandatory: bool) -> None:
        try:
            groups = self._registry.groups_of(topic)
            if mandatory and not groups:
                raise NoSubscriber(self.describe(f"topic {topic!r} has no group yet"), messages)
            everyone = [*groups, *(BROADCAST + member for member in self._registry.broadcasts_of(topic))]
            self._spool.add(topic, everyone, messages)
        except (BrokerError, OSError) as error:
            if isinstance(error, PublishError):
                raise
            raise PublishError(self.describe(error), messages) from error
        self._pump.wake((topic, group) for group in everyone)

    def _source(self, topic: str, options: SubscribeOptions) -> Source[Any]:
        if self._server is None:
            self._server = MemberServer(self.address, self._signer)
        member = _member(topic, options, self._server.url)
        inbox = self._server.open_inbox(member.id, member.requests)
        leave = partial(self._leave, member)
        try:
            self._announce(member)
        except OSError as error:
            raise self.error(f"cannot register: {error}") from error
        self._members[member.id] = member
        return HttpBroadcast(inbox, leave) if member.group is None else HttpSource(inbox, leave)

    def _announce(self, member: Member) -> None:
        if member.group is not None:
            self._registry.add_group(member.topic, member.group)
        self._registry.renew(member)

    def _leave(self, member: Member) -> None:
        self._members.pop(member.id, None)
        if self._server:
            self._server.close_inbox(member.id)
        try:
            self._registry.withdraw(member)
        except OSError as error:
            log.warning("%s", self.describe(f"a member could not withdraw, its entry expires: {error}"))

    def _group(self, topic: str, queue: str) -> Group:
        return HttpGroup(topic, queue, self._spool, self._registry, self._pump)

    def _groups(self) -> list[Group]:
        return [self._group(topic, queue) for topic, queue in self._registry.groups()]

    def _live(self) -> None:
        """Keep what must be seen alive, until closing."""
        steps = (self._announce_all, self._beat, self._prune)
        while not self._closing.is_set():
            for step in steps:
                try:
                    step()
                except (BrokerError, OSError) as error:
                    log.warning("%s", self.describe(error))
            self._closing.wait(BEAT_SECONDS)

    def _announce_all(self) -> None:
        for member in list(self._members.values()):
            self._announce(member)

    def _beat(self) -> None:
        """Live, and take over from those who do not; unless we were late: then others may be no worse than we."""
        began = time.monotonic()
        self._spool.beat()
        if time.monotonic() - began < BEAT_SECONDS and self._spool.adopt():
            self._pump.wake(self._spool.undelivered())

    def _prune(self) -> None:
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_SECONDS
            self._spool.prune(self.options.retention_seconds)


def _member(topic: str, options: SubscribeOptions, url: str) -> Member:
    """What a new subscription says of itself. Each request is open until its slowest message is done."""
    slow = options.concurrency if options.auto_ack else options.prefetch
    requests = min(options.prefetch, slow + SPARE_REQUESTS, MAX_REQUESTS)
    return Member(uuid.uuid4().hex, topic, options.queue, url, options.prefetch, requests, options.lease_seconds)


class HttpGroup(Group):
    """A group as this data folder's spool has it; other publishers' folders are not seen."""

    def __init__(self, topic: str, queue: str, spool: Spool, registry: Registry, pump: Pump) -> None:
        super().__init__(topic, queue)
        self._spool = spool
        self._registry = registry
        self._pump = pump

    def backlog(self) -> int:
        return self._spool.backlog(self.topic, self.queue)

    def dead_letters(self) -> list[DeadLetter]:
        return self._spool.dead_letters(self.topic, self.queue)

    def replay(self, message_id: str) -> int:
        replayed = self._spool.replay(self.topic, self.queue, message_id)
        self._pump.wake([(self.topic, self.queue)])
        return replayed

    def discard(self, message_id: str) -> int:
        return self._spool.discard(self.topic, self.queue, message_id)

    def forget(self) -> None:
        self._registry.forget_group(self.topic, self.queue)
        self._spool.drop(self.topic, self.queue)
