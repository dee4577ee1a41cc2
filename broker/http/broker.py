"""The http broker: peer to peer, no server. Publishers keep a spool on disk and post to the members themselves.

    http://                                 members listen on a free port of 127.0.0.1
    http://HOST:PORT                        members listen there
    https://HOST:PORT?certificates=DIR      the same over TLS; `address.py` has what else there is

What waits, is retried or dead is in the publishers' spool, in the folder `broker` of `data_dir`; who subscribes is in
the registry. On one machine that is in the same folder, which publishers and members share; between machines it is mDNS
or etcd (`registry/`). See `spool.py` and `pump.py` for the sending side, `member.py` and `server.py` for the other.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from broker.base import Broker, DeadLetter, Group, Promises
from broker.engine.source import Source
from broker.errors import BrokerError, NoSubscriber, PublishError
from broker.http import tls
from broker.http.address import Address
from broker.http.client import Client
from broker.http.member import HttpBroadcast, HttpSource
from broker.http.once import Once
from broker.http.pump import Pump
from broker.http.registry import Member, Registry, check_registry, open_registry
from broker.http.registry.base import MAX_LEASE_SECONDS, MAX_PREFETCH, MAX_REQUESTS
from broker.http.server import MemberServer
from broker.http.spool import Spool
from broker.http.wire import BROADCAST, Signer, read_secret, usable_secret
from broker.message import Message
from broker.options import SubscribeOptions
from broker.private import close_to_others, make_folder

log = logging.getLogger(__name__)

BEAT_SECONDS = 2.0  #: how often members are renewed and the rows of dead publishers are looked for
PRUNE_SECONDS = 60.0
SPARE_REQUESTS = 3  #: open to a member besides one for each handler that takes its time
JOIN_SECONDS = 10.0  #: how long a disconnect waits for the thread that keeps members alive


class HttpBroker(Broker):
    """A publisher with its spool and a process that receives, in one; each part runs only when it is used."""

    name = "http"
    default_address = "http://127.0.0.1:0"
    promises = Promises(
        needs="nothing: a folder that the services share; between machines mDNS or etcd",
        server=False,
        replays=False,
        tested_on="itself, its processes killed and restarted",
    )

    def _check(self) -> None:
        self._where = Address.parse(self.address)
        self._ca = tls.ca_file(self._where.certificates) if self._where.certificates else None
        if self.options.secret is not None:
            try:
                usable_secret(self.options.secret)
            except ValueError as error:
                raise self.error(f"the secret (BROKER_SECRET) {error}") from None
        check_registry(self.options.registry, self.options.secret)

    def _open(self) -> None:
        self._me = uuid.uuid4().hex
        self._members: dict[str, Member] = {}
        self._announcing = threading.Lock()  # so that nobody is announced after he has left
        self._server: MemberServer | None = None
        self._closing = threading.Event()
        self._trouble = Once(log)
        self._prune_at = 0.0
        with ExitStack() as opened:
            self._open_files(opened)
            if not self.options.observer:
                self._spool.beat()
            opened.pop_all()
        self._pump = Pump(self._spool, self._registry, Client(self._signer, self._ca))
        self._heart = threading.Thread(target=self._live, name="http-beat", daemon=True)
        if not self.options.observer:
            self._heart.start()

    def _open_files(self, opened: ExitStack) -> None:
        folder = self.options.data_dir / "broker"
        try:
            make_folder(folder)
            close_to_others(folder)  # an earlier version may have left it open
            secret = self.options.secret or read_secret(folder / "secret")
            self._signer = Signer(secret)
            self._registry: Registry = open_registry(self.options.registry, folder / "registry", secret)
            opened.callback(self._registry.close)
            self._spool = Spool(folder / "spool.db", self._me, self.options.publish_timeout_seconds)
            opened.callback(self._spool.close)
        except (OSError, sqlite3.Error) as error:
            raise self.error(f"its folder {folder} cannot be used: {error}") from error

    def _close(self, deadline: float) -> None:
        with ExitStack() as steps:  # from the last to the first, and every one even when another fails
            steps.callback(self._registry.close)
            steps.callback(self._spool.close)
            steps.callback(self._say_what_stays)
            steps.callback(self._stop_beating)
            steps.callback(self._pump.stop, deadline)
            if self._server:
                steps.callback(self._server.close, deadline)

    def _stop_beating(self) -> None:
        self._closing.set()
        if not self.options.observer:
            self._heart.join(JOIN_SECONDS)

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
            self._server = self._listen()
        member = _member(topic, options, self._server.url)
        inbox = self._server.open_inbox(member)
        try:
            self._announce(member)
        except (BrokerError, OSError) as error:
            self._server.close_inbox(member.id)
            raise self.error(f"cannot register: {error}") from error
        self._members[member.id] = member
        leave = partial(self._leave, member)
        return HttpBroadcast(inbox, leave) if member.group is None else HttpSource(inbox, leave)

    def _listen(self) -> MemberServer:
        try:
            return MemberServer(self._where, self._signer)
        except (BrokerError, OSError) as error:
            raise self.error(f"cannot listen: {error}") from error

    def _announce(self, member: Member) -> None:
        if member.group is not None:
            self._registry.add_group(member.topic, member.group)
        self._registry.renew(member)

    def _leave(self, member: Member) -> None:
        with self._announcing:
            self._members.pop(member.id, None)
        if self._server:
            self._server.close_inbox(member.id)
        try:
            self._registry.withdraw(member)
        except (BrokerError, OSError) as error:
            log.warning("%s", self.describe(f"a member could not withdraw, its entry expires: {error}"))

    def _group(self, topic: str, name: str) -> Group:
        return HttpGroup(topic, name, self._spool, self._registry, self._pump)

    def _groups(self) -> list[Group]:
        return [self._group(topic, name) for topic, name in self._registry.groups()]

    def _live(self) -> None:
        """Keep what must be seen alive, until closing."""
        while not self._closing.is_set():
            self._announce_all()
            for step in (self._registry.look_around, self._beat, self._prune):
                self._try(step.__name__, step)
            self._closing.wait(BEAT_SECONDS)

    def _announce_all(self) -> None:
        for member in list(self._members.values()):
            self._try(member.id, partial(self._announce_again, member))

    def _announce_again(self, member: Member) -> None:
        with self._announcing:
            if member.id in self._members:
                self._announce(member)

    def _try(self, name: str, step: Callable[[], None]) -> None:
        """One step of what keeps all alive: its trouble is logged once, and keeps nothing else from being alive."""
        try:
            step()
            self._trouble.over(name)
        except Exception as error:  # noqa: BLE001  # whatever stands in the registry
            known = isinstance(error, (BrokerError, OSError))
            self._trouble.warn(name, self.describe(error if known else repr(error)))

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
    prefetch, lease_seconds = min(options.prefetch, MAX_PREFETCH), min(options.lease_seconds, MAX_LEASE_SECONDS)
    return Member(uuid.uuid4().hex, topic, options.group, url, prefetch, requests, lease_seconds)


class HttpGroup(Group):
    """A group as this data folder's spool has it; other publishers' folders are not seen."""

    def __init__(self, topic: str, name: str, spool: Spool, registry: Registry, pump: Pump) -> None:
        super().__init__(topic, name)
        self._spool = spool
        self._registry = registry
        self._pump = pump

    def backlog(self) -> int:
        return self._spool.backlog(self.topic, self.name)

    def dead_letters(self) -> list[DeadLetter]:
        return self._spool.dead_letters(self.topic, self.name)

    def replay(self, *message_ids: str) -> int:
        replayed = sum(self._spool.replay(self.topic, self.name, message_id) for message_id in message_ids)
        self._pump.wake([(self.topic, self.name)])
        return replayed

    def discard(self, message_id: str) -> int:
        return self._spool.discard(self.topic, self.name, message_id)

    def forget(self) -> None:
        self._registry.forget_group(self.topic, self.name)
        self._spool.drop(self.topic, self.name)
