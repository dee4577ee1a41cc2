"""What every registry does: groups are remembered for ever, members only while they renew."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from broker.address import Address
from broker.errors import InvalidName
from broker.http.fields import number, text, whole
from broker.names import checked

MEMBER_SECONDS = 15.0  #: how long a member is believed alive after it last renewed
FORGET_SECONDS = 600.0  #: how long after that its entry is removed; until then it may be back from a pause
CLOCK_SECONDS = 300.0  #: by so much clocks may differ
MAX_ENTRY_BYTES = 65_536
MAX_PREFETCH = 10_000  #: messages with one member at a time
MAX_REQUESTS = 64  #: open to a member for one publisher at a time; each holds a thread
MIN_LEASE_SECONDS = 0.001
MAX_LEASE_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Member:
    """One subscription that accepts deliveries at `url`; `group` is None for a broadcast."""

    id: str
    topic: str
    group: str | None
    url: str
    prefetch: int  #: how many messages it takes at a time
    requests: int  #: how many requests it keeps open at a time, for each publisher
    lease_seconds: float  #: silent for longer than this, it has lost what it holds
    expires_at: float = 0.0  #: seconds since 1970; 0 where the registry itself sees who is silent

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Self:
        """From the fields of an entry; those of a later version are ignored.

        A `ValueError`, `LookupError` or `TypeError` when one is missing or is not possible.
        """
        return cls(
            name_in(entry, "id"),
            name_in(entry, "topic"),
            None if entry["group"] is None else name_in(entry, "group"),
            _url(text(entry, "url")),
            whole(entry, "prefetch", 1, MAX_PREFETCH),
            whole(entry, "requests", 1, MAX_REQUESTS),
            number(entry, "lease_seconds", MIN_LEASE_SECONDS, MAX_LEASE_SECONDS),
            number({"expires_at": 0.0} | dict(entry), "expires_at", 0.0, float("inf")),
        )

    @property
    def patience_seconds(self) -> float:
        """How long a publisher waits for a sign of life, of which there are three in a lease."""
        return self.lease_seconds * 1.5

    @property
    def is_alive(self) -> bool:
        """Whether it has renewed; not if it says that it has in a far future, which would be for ever."""
        return 0 < self.expires_at - time.time() < MEMBER_SECONDS + CLOCK_SECONDS


def name_in(entry: Mapping[str, Any], field: str) -> str:
    """The name in that field; `ValueError` when it cannot be one."""
    try:
        return checked(text(entry, field), field)
    except InvalidName as error:
        raise ValueError(error) from None


def _url(url: str) -> str:
    """The URL itself, if messages can be posted there."""
    where = Address.parse(url, port=0, options=())
    if (
        where.scheme != "http"
        or len(where.hosts) != 1
        or not where.hosts[0].port
        or where.path
        or where.user is not None
    ):
        raise ValueError("url is not http://HOST:PORT, nor https")
    if not url.isprintable():
        raise ValueError("url has a control character")
    return url


class Registry(ABC):
    """Who wants which topic, and where they are now. Each call may raise `BrokerError` or `OSError`."""

    @abstractmethod
    def add_group(self, topic: str, group: str) -> None:
        """Remember a group for ever."""

    @abstractmethod
    def groups(self) -> list[tuple[str, str]]:
        """Topic and name of each group."""

    @abstractmethod
    def groups_of(self, topic: str) -> list[str]:
        """The groups of one topic; read afresh, so that a new one is seen at once."""

    @abstractmethod
    def forget_group(self, topic: str, group: str) -> None:
        """The opposite of `add_group`."""

    @abstractmethod
    def renew(self, member: Member) -> None:
        """Announce a member, or keep it alive for another `MEMBER_SECONDS`."""

    @abstractmethod
    def withdraw(self, member: Member) -> None:
        """The member is gone."""

    @abstractmethod
    def members_of(self, topic: str) -> list[Member]:
        """The live members of every group of a topic, and its live broadcast subscriptions."""

    @abstractmethod
    def broadcasts_of(self, topic: str) -> list[str]:
        """The ids of the broadcast subscriptions of a topic, read afresh; also of some that have just died."""

    def look_around(self) -> None:
        """Called every few seconds: one that may be out of reach later reads now what it would need then."""
        return

    @abstractmethod
    def close(self) -> None:
        """Let go of every thread and socket."""
