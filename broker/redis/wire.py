"""What the redis broker keeps on the server, as names and as fields of entries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from broker.base import DeadLetter
from broker.message import ID, Message, read_header, write_header
from broker.names import encode

GROUPS = "broker:groups"


class Keys:
    """The names on the server of what belongs to a topic, and to one of its groups."""

    def __init__(self, topic: str, group: str = "") -> None:
        self.group = encode(group)
        self.name = f"{encode(topic)} {self.group}"
        self.stream = stream_of(topic)
        self.due, self.last, self.dead = (
            f"broker:{kind}:{encode(topic)}:{self.group}" for kind in ("due", "last", "dead")
        )

    @property
    def of_member(self) -> list[str]:
        """What the scripts of a member work on."""
        return [self.stream, self.due, self.last]


def stream_of(topic: str) -> str:
    """Where the messages of a topic are."""
    return f"broker:stream:{encode(topic)}"


def to_fields(message: Message) -> tuple[str, str, str, bytes]:
    """The fields of a message's entry."""
    return "header", write_header(message), "body", message.body


def to_message(entry_id: bytes, flat: list[bytes]) -> Message:
    """The message of an entry. One that another program has added without a header is known by the entry's id."""
    fields = pairs(flat)
    try:
        header = read_header(fields[b"header"].decode())
    except (KeyError, ValueError):
        header = {}
    return Message(fields.get(b"body", b""), {ID: entry_id.decode(), **header})


def pairs(flat: list[Any]) -> dict[bytes, Any]:
    """An answer of names and values in turn, as what it means."""
    return dict(zip(flat[::2], flat[1::2], strict=False))


def to_dead_letter(dead_id: bytes, flat: list[bytes]) -> DeadLetter:
    """The dead letter of an entry; the entry's id says when it was stored."""
    fields = pairs(flat)
    reason, attempts = fields[b"reason"].decode(), int(fields[b"attempts"])
    published_at, failed_at = _utc(fields[b"published_ms"]), _utc(dead_id.split(b"-")[0])
    return DeadLetter(to_message(dead_id, flat), reason, attempts, published_at, failed_at)


def _utc(ms: bytes) -> datetime:
    return datetime.fromtimestamp(int(ms) / 1000, UTC)
