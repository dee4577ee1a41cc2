"""The registry in etcd 3.4 or later, spoken to through its JSON gateway: `etcd://HOST:PORT`, port 2379 when left out.

    /http-broker/groups/TOPIC/GROUP         each group that was ever seen, for ever
    /http-broker/members/TOPIC/MEMBER       a member; its lease ends, and the key with it, when it is silent

Values are sealed entries. A value is written only where another one stands: etcd keeps each version until an operator
compacts it. While etcd is away, what was last read of it holds: publishing goes on, to the members known by then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import requests
from etcd3gw.client import Etcd3Client
from etcd3gw.lease import Lease
from requests.adapters import HTTPAdapter

from broker.address import Address, without_secrets
from broker.errors import BrokerError
from broker.http.fields import printable
from broker.http.registry.base import FORGET_SECONDS, MEMBER_SECONDS, Member, Registry
from broker.http.registry.seal import Seal
from broker.names import LOWER, encode

log = logging.getLogger(__name__)

PORT = 2379
ROOT = "/http-broker"
GROUPS, MEMBERS = f"{ROOT}/groups/", f"{ROOT}/members/"
CONNECTIONS = 32  #: kept open, at most
CALL_SECONDS = 2.0  #: then etcd counts as away
AWAY_SECONDS = 3.0  #: after a failed call nothing is asked for so long; both together are less than a publisher's beat

Result = TypeVar("Result")


class Away(BrokerError):
    """etcd does not answer, or not as etcd does."""


class EtcdRegistry(Registry):
    """Reads etcd afresh for each question, and answers from memory while it is away."""

    def __init__(self, url: str, seal: Seal) -> None:
        self._url = url
        self._seal = seal
        self._client = _client(url)
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}  # of our members
        self._away_until = 0.0  # `time.monotonic()`; 0 while etcd answers
        with self._translated():
            self._client.status()["version"]  # who has none is no etcd
        self._known = self._fetch(f"{ROOT}/")  # key → value, as last read

    def add_group(self, topic: str, group: str) -> None:
        self._put(_group_key(topic, group), self._seal.close_group(topic, group), None)

    def groups(self) -> list[tuple[str, str]]:
        opened = (self._seal.open_group(value, key) for key, value in self._values(GROUPS))
        return sorted(group for group in opened if group)

    def groups_of(self, topic: str) -> list[str]:
        opened = [self._seal.open_group(value, key) for key, value in self._values(_group_key(topic, ""))]
        groups = [entry[1] for entry in opened if entry and entry[0] == topic]
        if self._away_until and not groups:
            raise Away(f"the registry {self._url} is away, and no group of {topic!r} was known before")
        return groups

    def forget_group(self, topic: str, group: str) -> None:
        self._call(lambda: self._client.delete(_group_key(topic, group)))

    def renew(self, member: Member) -> None:
        self._put(_member_key(member), self._seal.close_member(member), self._lease(member))

    def withdraw(self, member: Member) -> None:
        if lease := self._leases.pop(member.id, None):
            self._call(lease.revoke)

    def members_of(self, topic: str) -> list[Member]:
        opened = (self._seal.open_member(value, key) for key, value in self._values(_topic_key(MEMBERS, topic)))
        return [member for member in opened if member and member.topic == topic]

    def broadcasts_of(self, topic: str) -> list[str]:
        return [member.id for member in self.members_of(topic) if member.group is None]

    def look_around(self) -> None:
        self._values(f"{ROOT}/")

    def close(self) -> None:
        self._client.session.close()

    def _lease(self, member: Member) -> Lease:
        """A lease that has just been renewed. A listener's is long, as it may be back from a pause."""
        lease = self._leases.get(member.id)
        if lease is None or self._call(lease.refresh) <= 0:
            seconds = MEMBER_SECONDS + (FORGET_SECONDS if member.group is None else 0)
            lease = self._leases[member.id] = self._call(lambda: self._client.lease(int(seconds)))
        return lease

    def _put(self, key: str, value: bytes, lease: Lease | None) -> None:
        if self._call(lambda: self._client.get(key)) != [value]:
            self._call(lambda: self._client.put(key, value, lease))

    def _values(self, prefix: str) -> list[tuple[str, bytes]]:
        """Keys and values; those that are known already while etcd is away."""
        try:
            fresh = self._call(lambda: self._fetch(prefix))
        except Away as error:
            log.debug("%s", error)
            with self._lock:
                return [(key, value) for key, value in self._known.items() if key.startswith(prefix)]
        with self._lock:
            others = {key: value for key, value in self._known.items() if not key.startswith(prefix)}
            self._known = others | fresh
        return list(fresh.items())

    def _fetch(self, prefix: str) -> dict[str, bytes]:
        with self._translated():
            return {meta["key"].decode(errors="replace"): value for value, meta in self._client.get_prefix(prefix)}

    def _call(self, ask: Callable[[], Result]) -> Result:
        """What etcd answers; `Away` when it does not, and at once for a while afterwards."""
        if time.monotonic() < self._away_until:
            raise Away(f"the registry {self._url} is away")
        try:
            with self._translated():
                answer = ask()
        except Away as error:
            log.log(logging.DEBUG if self._away_until else logging.WARNING, "%s; what was known of it holds", error)
            self._away_until = time.monotonic() + AWAY_SECONDS
            raise
        if self._away_until:
            self._away_until = 0.0
            log.warning("the registry %s is back", self._url)
        return answer

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # whatever another server in its place answers
            cause = getattr(error, "detail_text", None) or repr(error)
            raise Away(f"the registry {self._url} cannot be used: {printable(cause, 500)}") from error


def check(url: str) -> None:
    """Refuse a URL that is not possible, or an etcd that does not answer.

    Here, and not on `connect`: services try that again and again, and would hide that nobody will ever find them.
    """
    EtcdRegistry(url, Seal("")).close()


def _client(url: str) -> Etcd3Client:
    says = "is not possible; etcd://HOST:PORT is all that there can be in the URL of an etcd"
    try:
        where = Address.parse(url, port=PORT, host="", options=())
    except ValueError as error:
        raise BrokerError(f"REGISTRY={without_secrets(url)} {says}: {error}") from None
    host, port = where.hosts[0]
    if len(where.hosts) > 1 or not port or where.user is not None or where.path or where.tls:
        raise BrokerError(f"REGISTRY={without_secrets(url)} {says}")
    session = requests.Session()
    session.trust_env = False  # no proxy stands between us and etcd
    session.mount("http://", HTTPAdapter(pool_maxsize=CONNECTIONS))
    return Etcd3Client(host, port, timeout=CALL_SECONDS, api_path="/v3/", session=session)


def _topic_key(kind: str, topic: str) -> str:
    return f"{kind}{encode(topic, LOWER)}/"


def _group_key(topic: str, group: str) -> str:
    return _topic_key(GROUPS, topic) + encode(group, LOWER)


def _member_key(member: Member) -> str:
    return _topic_key(MEMBERS, member.topic) + member.id
