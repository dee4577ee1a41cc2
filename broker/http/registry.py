"""How publishers find members: groups are remembered for ever, members only while they renew.

`FileRegistry` is a folder that publishers and members share:

    groups/TOPIC/GROUP                 an empty file for each group that was ever seen
    members/TOPIC/MEMBER.json          where a live member listens; ignored once `expires_at` has passed
"""

from __future__ import annotations

import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from broker.errors import BrokerError
from broker.names import LOWER, decode, encode

log = logging.getLogger(__name__)

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
    expires_at: float = 0.0  #: seconds since 1970


class Registry(ABC):
    """Who wants which topic, and where they are now. Each call may raise `BrokerError`."""

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


class FileRegistry(Registry):
    """A shared folder; every change is one atomic rename or unlink, so that readers never see half of it."""

    def __init__(self, folder: Path) -> None:
        self._groups = folder / "groups"
        self._members = folder / "members"
        for path in (self._groups, self._members):
            path.mkdir(parents=True, exist_ok=True)

    def add_group(self, topic: str, group: str) -> None:
        path = self._groups / encode(topic, LOWER) / encode(group, LOWER)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def groups(self) -> list[tuple[str, str]]:
        return [
            (decode(topic), decode(group)) for topic in _names(self._groups) for group in _names(self._groups / topic)
        ]

    def groups_of(self, topic: str) -> list[str]:
        return [decode(name) for name in _names(self._groups / encode(topic, LOWER))]

    def forget_group(self, topic: str, group: str) -> None:
        (self._groups / encode(topic, LOWER) / encode(group, LOWER)).unlink(missing_ok=True)

    def renew(self, member: Member) -> None:
        path = self._path(member)
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps(asdict(replace(member, expires_at=time.time() + MEMBER_SECONDS))))
        new.replace(path)

    def withdraw(self, member: Member) -> None:
        self._path(member).unlink(missing_ok=True)

    def members_of(self, topic: str) -> list[Member]:
        folder = self._members / encode(topic, LOWER)
        members = [_read(folder / name) for name in _names(folder) if name.endswith(".json")]
        return [member for member in members if member is not None and member.expires_at > time.time()]

    def broadcasts_of(self, topic: str) -> list[str]:
        return [
            name.split(".")[0] for name in _names(self._members / encode(topic, LOWER)) if name.endswith(".all.json")
        ]

    def _path(self, member: Member) -> Path:
        kind = "all" if member.group is None else "one"
        return self._members / encode(member.topic, LOWER) / f"{member.id}.{kind}.json"


def check_registry(url: str) -> None:
    """Refuse the URL of a registry that there is not."""
    if url.partition(":")[0] != "file":
        raise BrokerError(f"unknown registry {url!r}; known: file, file:FOLDER")


def open_registry(url: str, folder: Path) -> Registry:
    """The registry of that URL: `file` is the folder beside the spool, `file:FOLDER` another one."""
    path = url.partition(":")[2]
    return FileRegistry(Path(path) if path else folder)


def _names(folder: Path) -> Iterable[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):  # a desktop's own file among ours, at the worst
        return []


def _read(path: Path) -> Member | None:
    """A member's entry; None when it is gone or cannot be read. One that expired long ago is removed."""
    try:
        member = Member(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        log.warning("the entry %s is passed over: %s", path, error)
        return None
    if member.expires_at < time.time() - FORGET_SECONDS:
        path.unlink(missing_ok=True)
    return member
