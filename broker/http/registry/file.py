"""The registry of one machine: a folder that publishers and members share.

    groups/TOPIC/GROUP                 an empty file for each group that was ever seen
    members/TOPIC/MEMBER.json          where a live member listens; ignored once `expires_at` has passed

Entries carry no seal: who can write to this folder can also read the secret and the spool beside it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from broker.http.registry.base import FORGET_SECONDS, MEMBER_SECONDS, Member, Registry
from broker.names import LOWER, decode, encode
from broker.private import make_file, make_folder

log = logging.getLogger(__name__)


class FileRegistry(Registry):
    """A shared folder; every change is one atomic rename or unlink, so that readers never see half of it."""

    def __init__(self, folder: Path) -> None:
        self._groups = folder / "groups"
        self._members = folder / "members"
        for path in (self._groups, self._members):
            make_folder(path)

    def add_group(self, topic: str, group: str) -> None:
        path = self._groups / encode(topic, LOWER) / encode(group, LOWER)
        make_folder(path.parent)
        make_file(path)

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
        make_folder(path.parent)
        new = path.with_suffix(".new")
        make_file(new)
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

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, member: Member) -> Path:
        kind = "all" if member.group is None else "one"
        return self._members / encode(member.topic, LOWER) / f"{member.id}.{kind}.json"


def _names(folder: Path) -> Iterable[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):  # a desktop's own file among ours, at the worst
        return []


def _read(path: Path) -> Member | None:
    """A member's entry; None when it is gone or cannot be read. One that expired long ago is removed."""
    try:
        member = Member.read(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        log.warning("the entry %s is passed over: %s", path, error)
        return None
    if member.expires_at < time.time() - FORGET_SECONDS:
        path.unlink(missing_ok=True)
    return member
