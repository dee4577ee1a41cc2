"""The registry of one machine: a folder that publishers and members share.

    groups/TOPIC/GROUP                 an empty file for each group that was ever seen
    members/TOPIC/MEMBER.json          where a live member listens; ignored once `expires_at` has passed

Entries carry no seal: who can write to this folder can also read the secret and the spool beside it. But anything may
lie there, from a desktop's own files to a folder that a program has made in the place of an entry: it is passed over.
"""

from __future__ import annotations

import json
import logging
import os
import stat
import time
from dataclasses import asdict, replace
from pathlib import Path

from broker.http.fields import NONSENSE
from broker.http.once import Once
from broker.http.registry.base import FORGET_SECONDS, MAX_ENTRY_BYTES, MEMBER_SECONDS, Member, Registry
from broker.names import LOWER, decode, encode
from broker.private import make_file, make_folder

log = logging.getLogger(__name__)


class FileRegistry(Registry):
    """A shared folder; every change is one atomic rename or unlink, so that readers never see half of it."""

    def __init__(self, folder: Path) -> None:
        self._groups = folder / "groups"
        self._members = folder / "members"
        self._passed_over = Once(log)
        for path in (self._groups, self._members):
            make_folder(path)

    def add_group(self, topic: str, group: str) -> None:
        path = self._groups / encode(topic, LOWER) / encode(group, LOWER)
        make_folder(path.parent)
        make_file(path)

    def groups(self) -> list[tuple[str, str]]:
        topics = [
            topic
            for entry in _entries(self._groups)
            if entry.is_dir(follow_symlinks=False) and (topic := _decoded(entry.name))
        ]
        return [(topic, group) for topic in topics for group in self._readable_groups_of(topic)]

    def groups_of(self, topic: str) -> list[str]:
        entries = _entries(self._groups / encode(topic, LOWER))
        return [group for entry in entries if _is_file(entry) and (group := _decoded(entry.name))]

    def _readable_groups_of(self, topic: str) -> list[str]:
        """For a list of all: one topic's folder that cannot be read does not hide the others."""
        try:
            return self.groups_of(topic)
        except OSError as error:
            self._passed_over.warn(("groups", topic), f"the groups of {topic} are passed over: {error}")
            return []

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
        entries = _entries(self._members / encode(topic, LOWER))
        members = [self._read(Path(entry.path)) for entry in entries if entry.name.endswith(".json")]
        return [member for member in members if member and member.topic == topic and member.is_alive]

    def broadcasts_of(self, topic: str) -> list[str]:
        entries = _entries(self._members / encode(topic, LOWER))
        return [entry.name.split(".")[0] for entry in entries if entry.name.endswith(".all.json") and _is_file(entry)]

    def _read(self, path: Path) -> Member | None:
        """A member's entry; None when it is gone or cannot be read. One that expired long ago is removed."""
        try:
            member = Member.read(json.loads(_content(path)))
            if member.expires_at < time.time() - FORGET_SECONDS:
                path.unlink(missing_ok=True)
        except FileNotFoundError:
            self._passed_over.over(path)
            return None
        except (*NONSENSE, OSError) as error:
            self._passed_over.warn(path, f"the entry {path} is passed over: {error!r}")
            return None
        self._passed_over.over(path)
        return member

    def close(self) -> None:
        """Nothing is held open."""

    def _path(self, member: Member) -> Path:
        kind = "all" if member.group is None else "one"
        return self._members / encode(member.topic, LOWER) / f"{member.id}.{kind}.json"


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((each for each in entries if not each.name.startswith(".")), key=lambda each: each.name)
    except (FileNotFoundError, NotADirectoryError):  # a desktop's own file among ours, at the worst
        return []


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is one as we write it: neither a folder, nor a link that may lead anywhere, nor a pipe."""
    return entry.is_file(follow_symlinks=False)


def _decoded(name: str) -> str | None:
    """The topic or group of a file's name; None when we have not written it."""
    try:
        decoded = decode(name)
        return decoded if encode(decoded, LOWER) == name else None
    except ValueError:  # no UTF-8
        return None


def _content(path: Path) -> bytes:
    """Never waits, as reading a pipe would, and never reads much."""
    opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise ValueError("it is no file")
        content = os.read(opened, MAX_ENTRY_BYTES + 1)
    finally:
        os.close(opened)
    if len(content) > MAX_ENTRY_BYTES:
        raise ValueError(f"it has more than {MAX_ENTRY_BYTES:,} bytes")
    return content
