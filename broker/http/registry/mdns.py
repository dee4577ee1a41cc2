"""The registry of a local network without a server: members announce themselves by multicast DNS (RFC 6762, 6763).

    mdns                on every interface
    mdns://ADDRESS      on the interface of that address

An entry is one service `MEMBER._http-broker._tcp.local.`; the sealed text of the member is in its TXT record. A crashed
member stays in the caches of others for up to 75 minutes, so each is announced anew every few seconds, and who was not
heard for `MEMBER_SECONDS` is not believed alive.

What mDNS does not keep: groups. Each data folder remembers those that it has heard of, so a publisher whose folder
never heard of a group knows nothing of it while all its members are away: `mandatory` raises `NoSubscriber` then. A
group is to be forgotten in each folder. And a new subscription is announced three times within half a second, which
`subscribe` waits for; a publisher that hears none of these learns of it with the next renewal.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from zeroconf import (
    DNSQuestionType,
    Error,
    InterfaceChoice,
    IPVersion,
    ServiceBrowser,
    ServiceInfo,
    ServiceListener,
    Zeroconf,
)

from broker.address import Address, without_secrets
from broker.errors import BrokerError
from broker.http.once import Once
from broker.http.registry.base import CLOCK_SECONDS, FORGET_SECONDS, MEMBER_SECONDS, Member, Registry
from broker.http.registry.file import FileRegistry
from broker.http.registry.seal import Seal

log = logging.getLogger(__name__)

SERVICE = "_http-broker._tcp.local."
RENEW_SECONDS = 4.0  #: how often each of our members is announced
LISTEN_SECONDS = 2.0  #: who has just started hears of all others within this; nobody says a thing twice in a second
CALL_SECONDS = 10.0  #: how long the library's own thread may take for one call
MAX_HEARD = 10_000  #: members; what is announced beyond them is not heard
CHUNK_BYTES = 250  #: of the sealed text, in each string of the TXT record; a string has 255 at most


@dataclass(frozen=True)
class Heard:
    """A member, and when its last announcement came (`time.monotonic()`)."""

    member: Member
    at: float

    def within(self, seconds: float) -> bool:
        """Whether that is no longer ago."""
        return time.monotonic() - self.at <= seconds


class MdnsRegistry(Registry, ServiceListener):
    """Announces our members, listens for those of others, and remembers their groups in `memory`."""

    def __init__(self, url: str, seal: Seal, memory: FileRegistry) -> None:
        self._seal = seal
        self._passed_over = Once(log)
        self._memory = memory
        self._lock = threading.Lock()
        self._heard: dict[str, Heard] = {}
        self._announced: dict[str, float] = {}  # our members, and when (`time.monotonic()`)
        interface = _interface(url)
        with _translated():
            self._zeroconf = Zeroconf([interface] if interface else InterfaceChoice.All, ip_version=IPVersion.V4Only)
        self._heard_all_at = time.monotonic() + LISTEN_SECONDS
        # QM: an answer to us alone would reach only one of several processes of this machine
        self._browser = ServiceBrowser(self._zeroconf, SERVICE, listener=self, question_type=DNSQuestionType.QM)

    def add_group(self, topic: str, group: str) -> None:
        self._memory.add_group(topic, group)

    def groups(self) -> list[tuple[str, str]]:
        self._wait_for_the_others()
        return self._memory.groups()

    def groups_of(self, topic: str) -> list[str]:
        self._wait_for_the_others()
        return self._memory.groups_of(topic)

    def forget_group(self, topic: str, group: str) -> None:
        self._memory.forget_group(topic, group)

    def renew(self, member: Member) -> None:
        announced_at = self._announced.get(member.id)
        if announced_at is not None and time.monotonic() - announced_at < RENEW_SECONDS:
            return
        self._announced[member.id] = time.monotonic()
        member = replace(member, expires_at=time.time() + MEMBER_SECONDS)
        self._note(member)
        entry = _entry(member, self._seal.close_member(member))
        with _translated():
            if announced_at is None:
                self._zeroconf.register_service(entry, cooperating_responders=True)  # no other has a name like ours
            else:
                self._call(self._zeroconf.async_update_service(entry))

    def withdraw(self, member: Member) -> None:
        self._forget(member.id)
        if self._announced.pop(member.id, None) is not None:
            with _translated():
                self._zeroconf.unregister_service(_entry(member, b""))

    def members_of(self, topic: str) -> list[Member]:
        return [heard.member for heard in self._all() if heard.member.topic == topic and heard.within(MEMBER_SECONDS)]

    def broadcasts_of(self, topic: str) -> list[str]:
        self._wait_for_the_others()
        return [heard.member.id for heard in self._all() if (heard.member.topic, heard.member.group) == (topic, None)]

    def close(self) -> None:
        self._browser.cancel()
        with _translated():
            self._zeroconf.close()

    # --- what the browser's thread calls ---------------------------------------------------------------------

    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Somebody has announced a member, maybe not for the first time."""
        try:
            info = ServiceInfo(type_, name)
            info.load_from_cache(zc)
            self._hear(name, b"".join(value or b"" for _, value in sorted(info.properties.items())))
        except Exception as error:  # noqa: BLE001  # whatever a stranger has made of it, the thread goes on
            self._passed_over.warn(name, f"the announcement {name} is passed over: {error}")

    update_service = add_service

    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:  # noqa: ARG002  # as the library wants it
        """It has said goodbye, or its record has expired."""
        self._forget(name.removesuffix(f".{SERVICE}"))

    # --- who was heard ---------------------------------------------------------------------------------------

    def _hear(self, name: str, sealed: bytes) -> None:
        member = self._seal.open_member(sealed, name) if sealed else None  # its text may still be on the way
        if member and -CLOCK_SECONDS < member.expires_at - time.time() < MEMBER_SECONDS + CLOCK_SECONDS:
            self._note(member)  # else a stranger has copied it long ago, or it would live for ever

    def _note(self, member: Member) -> None:
        """That member lives now, unless this is old news."""
        with self._lock:
            known = self._heard.get(member.id)
            if known and known.member.expires_at >= member.expires_at:
                return
            self._heard[member.id] = Heard(member, time.monotonic())
        if member.group is not None:
            self._memory.add_group(member.topic, member.group)

    def _forget(self, member_id: str) -> None:
        with self._lock:
            self._heard.pop(member_id, None)

    def _all(self) -> list[Heard]:
        """Everybody who was heard lately; those who were silent for very long are dropped."""
        with self._lock:
            recent = {key: heard for key, heard in self._heard.items() if heard.within(MEMBER_SECONDS + FORGET_SECONDS)}
            self._heard = recent
            return list(recent.values())

    def _wait_for_the_others(self) -> None:
        threading.Event().wait(max(0.0, self._heard_all_at - time.monotonic()))

    def _call(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Begin it on the library's own thread."""
        loop = self._zeroconf.loop
        assert loop is not None  # noqa: S101  # it runs from the making to the close
        asyncio.run_coroutine_threadsafe(coroutine, loop).result(CALL_SECONDS)


def check(url: str) -> None:
    """Refuse a URL that cannot work on this machine."""
    interface = _interface(url)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((interface, 0))
    except (OSError, UnicodeError) as error:  # UnicodeError: a host's name that can be none
        raise BrokerError(f"REGISTRY={url}: no interface of this machine has that address ({error})") from error


def _interface(url: str) -> str:
    """The address in the URL; empty when there is none."""
    if url in ("mdns", "mdns:", "mdns://"):
        return ""
    try:
        where = Address.parse(url, port=0, host="", options=())
        if (
            not where.path
            and where.user is None
            and not where.tls
            and len(where.hosts) == 1
            and not where.hosts[0].port
        ):
            return where.hosts[0].name
    except ValueError as error:
        raise BrokerError(f"REGISTRY={without_secrets(url)} is not possible: {error}") from None
    raise BrokerError(f"REGISTRY={without_secrets(url)} is not possible; write mdns, or mdns://ADDRESS of an interface")


def _entry(member: Member, sealed: bytes) -> ServiceInfo:
    chunks = [sealed[start : start + CHUNK_BYTES] for start in range(0, len(sealed), CHUNK_BYTES)]
    properties = {f"{n:02}".encode(): chunk for n, chunk in enumerate(chunks)}
    port = Address.parse(member.url, port=0).hosts[0].port
    return ServiceInfo(SERVICE, _name(member), port, properties=properties, server=f"{member.id}.local.")


def _name(member: Member) -> str:
    return f"{member.id}.{SERVICE}"


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (Error, OSError) as error:
        raise BrokerError(f"multicast DNS: {error!r}") from error
