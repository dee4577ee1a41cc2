"""What every registry does: groups are remembered for ever, members only while they renew."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

MEMBER_SECONDS = 15.0  #: how long a member is believed alive after it last renewed
FORGET_SECONDS = 600.0  #: how long after that its entry is removed; until then it may be back from a pause


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
        """From the fields of an entry; `TypeError` when one is missing, those of a later version are ignored."""
        return cls(**{field.name: entry[field.name] for field in fields(cls) if field.name in entry})


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
