"""The seal on each entry of a registry that strangers can write to: an HMAC of the shared secret.

    HMAC-SHA256 in hex, a space, the entry as JSON

Who does not know the secret can read entries, copy and remove them, but cannot make one that anybody believes.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from broker.http.fields import NONSENSE
from broker.http.once import Once
from broker.http.registry.base import MAX_ENTRY_BYTES, Member, name_in

log = logging.getLogger(__name__)

MEMBER, GROUP = "member", "group"  #: kinds of entries: one kind's seal is not another's

Read = TypeVar("Read")


class Seal:
    """Closes entries, and opens those that were closed with the same secret."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self._passed_over = Once(log)

    def close_member(self, member: Member) -> bytes:
        """The member's entry."""
        return self._close(MEMBER, asdict(member))

    def close_group(self, topic: str, group: str) -> bytes:
        """The group's entry; always the same for the same group."""
        return self._close(GROUP, {"topic": topic, "group": group})

    def open_member(self, sealed: bytes, where: str) -> Member | None:
        """The member; None, and a warning that names `where`, when that entry is not ours."""
        return self._read(MEMBER, sealed, where, Member.read)

    def open_group(self, sealed: bytes, where: str) -> tuple[str, str] | None:
        """Topic and name of the group; None in the same way."""
        return self._read(GROUP, sealed, where, lambda entry: (name_in(entry, "topic"), name_in(entry, "group")))

    def _read(self, kind: str, sealed: bytes, where: str, read: Callable[[Any], Read]) -> Read | None:
        mac, _, text = sealed[: MAX_ENTRY_BYTES + 1].partition(b" ")
        if len(sealed) > MAX_ENTRY_BYTES or not hmac.compare_digest(mac, self._mac(kind, text)):
            self._pass_over(where, "it was made by a stranger, or with another BROKER_SECRET")
            return None
        try:
            return read(json.loads(text))
        except NONSENSE as error:
            self._pass_over(where, f"it is of another version of this program: {error!r}")
            return None

    def _close(self, kind: str, entry: Mapping[str, object]) -> bytes:
        text = json.dumps(entry, ensure_ascii=False).encode()
        return self._mac(kind, text) + b" " + text

    def _mac(self, kind: str, text: bytes) -> bytes:
        purpose = f"{kind} of the http broker\n".encode()  # so that no signature of anything else fits
        return hmac.new(self._secret, purpose + text, hashlib.sha256).hexdigest().encode()

    def _pass_over(self, where: str, why: str) -> None:
        self._passed_over.warn(where, f"the entry {where} is passed over: {why}")
