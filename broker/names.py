"""Topic and group names: what is allowed, and the one mapping to what a server allows.

The mapping loses nothing: two different names never become the same one.
"""

from __future__ import annotations

import re
import string
from functools import lru_cache

from broker.errors import InvalidName

MAX_NAME_BYTES = 200  #: after encoding, so that every server and file system takes it

LETTERS = frozenset(string.ascii_letters + string.digits + "-.")  #: what every server but those below allows
NO_DOTS = LETTERS - {"."}  #: NATS: a dot separates the parts of a subject
LOWER = frozenset(string.ascii_lowercase + string.digits + "-")  #: file names where case is not kept


def checked(name: str, what: str) -> str:
    """The name itself, or `InvalidName` when it is empty, too long or has characters nobody can see."""
    if not isinstance(name, str) or not name:
        raise InvalidName(f"a {what} needs a name; got {name!r}")
    if not name.isprintable() or name != name.strip():
        raise InvalidName(f"{what} {name!r} has a control character, or a space at an end")
    if len(encode(name, LOWER)) > MAX_NAME_BYTES:
        raise InvalidName(
            f"{what} {name[:40]!r}… is too long: {MAX_NAME_BYTES} letters at most, fewer in other scripts"
        )
    return name


@lru_cache(maxsize=1024)
def encode(name: str, allowed: frozenset[str] = LETTERS) -> str:
    """The name with every other character written as `_xx` for each of its UTF-8 bytes."""
    return "".join(c if c in allowed else "".join(f"_{byte:02x}" for byte in c.encode()) for c in name)


def decode(encoded: str) -> str:
    """What `encode` was given."""
    raw = re.sub(rb"_([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), encoded.encode())
    return raw.decode()
