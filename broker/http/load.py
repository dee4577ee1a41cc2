"""What members have of this publisher's messages, and who is to have the next."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from broker.http.registry import Member
from broker.http.wire import BROADCAST, Parcel, Request

SHUN_SECONDS = 0.25  #: pause after a member failed us; doubled each time
MAX_DOUBLINGS = 5  #: up to four seconds


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
        doubled = min(self.failures, MAX_DOUBLINGS) - 1  # a member may fail for weeks, and no float is that large
        self.shunned_until = time.monotonic() + SHUN_SECONDS * 2**doubled

    @property
    def shunned(self) -> bool:
        """Whether it failed us a moment ago."""
        return self.shunned_until > time.monotonic()


def members_of_group(group: str, members: Iterable[Member]) -> list[Member]:
    """Those of that group; a broadcast subscription is the one member of a group named after it."""
    if group.startswith(BROADCAST):
        return [member for member in members if member.group is None and BROADCAST + member.id == group]
    return [member for member in members if member.group == group]


def shares(parcels: list[Parcel], rooms: list[tuple[Member, int]]) -> Iterator[tuple[Member, list[Parcel]]]:
    """Each member's part: as equal as their rooms allow, each in order; the odd one to who has most room."""
    rooms = sorted(rooms, key=lambda entry: entry[1])
    for n, (member, room) in enumerate(rooms):
        fair = len(parcels) // (len(rooms) - n)
        share, parcels = parcels[: min(room, fair)], parcels[min(room, fair) :]
        if share:
            yield member, share
