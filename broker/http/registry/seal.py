"""The seal on each entry of a registry that strangers can write to: an HMAC of the shared secret.

    HMAC-SHA256 in hex, a space, the entry as JSON

Who does not know the secret can read entries, copy and remove them, but cannot make one that anybody believes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from broker.http.registry.base import Member

log = logging.getLogger(__name__)

MAX_WARNINGS = 20  #: entries that are named when they are passed over; a stranger may make any number
MEMBER, GROUP = "member", "group"  #: kinds of entries: one kind's seal is not another's


class Seal:
    """Closes entries, and opens those that were closed with the same secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._passed_over: set[str] = set()

    def close_member(self, member: Member) -> bytes:
        """The member's entry."""
        return self._close(MEMBER, asdict(member))

    def close_group(self, topic: str, group: str) -> bytes:
        """The group's entry; always the same for the same group."""
        return self._close(GROUP, {"topic": topic, "group": group})

    def open_member(self, sealed: bytes, where: str) -> Member | None:
        """The member; None, and a warning that names `where`, when that entry is not ours."""
        entry = self._open(MEMBER, sealed, where)
        try:
            return entry and Member.read(entry)
        except TypeError as error:
            self._pass_over(where, f"it is of another version of this program: {error}")
            return None

    def open_group(self, sealed: bytes, where: str) -> tuple[str, str] | None:
        """Topic and name of the group; None in the same way."""
        entry = self._open(GROUP, sealed, where)
        return entry and (entry["topic"], entry["group"])

    def _close(self, kind: str, entry: Mapping[str, object]) -> bytes:
        text = json.dumps(entry, ensure_ascii=False).encode()
        return self._mac(kind, text) + b" " + text

    def _open(self, kind: str, sealed: bytes, where: str) -> Any | None:
        mac, _, text = sealed.partition(b" ")
        if hmac.compare_digest(mac, self._mac(kind, text)):
            return json.loads(text)
        self._pass_over(where, "it was made by a stranger, or with another BROKER_SECRET")
        return None

    def _mac(self, kind: str, text: bytes) -> bytes:
        purpose = f"{kind} of the http broker\n".encode()  # so that no signature of anything else fits
        return hmac.new(self._secret, purpose + text, hashlib.sha256).hexdigest().encode()

    def _pass_over(self, where: str, why: str) -> None:
        if where not in self._passed_over and len(self._passed_over) < MAX_WARNINGS:
            self._passed_over.add(where)
            log.warning("the entry %s is passed over: %s", where, why)
