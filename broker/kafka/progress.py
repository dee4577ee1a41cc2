"""How far a group has come in one partition, and how that is written into its committed offset.

Kafka itself remembers one number for a group and partition: the offset where it goes on. What a member finished beyond
it, and how often it has tried the rest, goes into the commit's metadata, so that both outlive the member:

    offset      the oldest message that is not finished
    metadata    empty when all before the next message are; else JSON: [span, since, run, run, …]
                span     so many offsets from there on were fetched; those in no run are finished
                since    seconds since 1970, what `due` counts from
                run      [gap, count, attempts, due]: after `gap` finished ones, `count` that were each tried
                         `attempts` times (negative: their last attempt has started), and are due again then (0: now)
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field

from broker.message import Message

MOST_OPEN = 200  #: messages of a partition not finished at a time; more would not fit into 4096 bytes of metadata
FULL_BYTES = 8_000_000  #: of a partition read ahead, before it is held
WEIGHT_BYTES = 1000  #: what a message weighs besides its body


@dataclass(eq=False, slots=True)
class Letter:
    """One message that this member has to settle."""

    progress: Progress = field(repr=False)
    offset: int
    attempt: int = 0
    last_started: bool = False
    due: int = 0  #: seconds since 1970; 0 when it does not wait for another attempt
    message: Message = field(default_factory=Message)  # until it arrives
    published_at: float = 0.0  #: seconds since 1970


class Progress:
    """One partition, since it was assigned to this member. Not thread-safe."""

    def __init__(self, partition: int, committed: int, metadata: str | None) -> None:
        self.partition = partition
        self.held = False  # the consumer is told to bring nothing more of it
        self._ready: deque[Letter] = deque()
        self._weight = 0
        self._open: dict[int, Letter] = {}  # fetched, not finished; ascending
        self._next = max(committed, 0)  # nothing from here on was fetched
        if committed >= 0:
            self._open, self._next = _decode(self, committed, metadata)
        self._expected = max(committed, 0)  # no offset before it can arrive
        self.stored = self.snapshot()

    def arrived(self, offset: int, message: Message, published_at: float) -> Letter | None:
        """The letter for it; None when the group has finished it before."""
        if offset < self._expected:
            self._restart(offset)
        self._expected = offset + 1
        letter = Letter(self, offset) if offset >= self._next else self._open.get(offset)
        if letter is not None:
            letter.message, letter.published_at = message, published_at
        return letter

    def _restart(self, offset: int) -> None:
        """The topic was deleted and made again: what we know is about others that had these offsets."""
        self._open.clear()
        self.drop()
        self._next = offset

    def put(self, letter: Letter) -> None:
        """It may be fetched, after those that wait already."""
        self._ready.append(letter)
        self._weight += _weight(letter)

    def put_back(self, letter: Letter) -> None:
        """It may be fetched before all others."""
        self._ready.appendleft(letter)
        self._weight += _weight(letter)

    def take(self) -> Letter | None:
        """The next one, now open; None when there is none, or so many are open that they have to be finished first."""
        if not self._ready or (self._ready[0].offset >= self._next and len(self._open) >= MOST_OPEN):
            return None
        letter = self._ready.popleft()
        self._weight -= _weight(letter)
        if letter.offset >= self._next:
            self._open[letter.offset] = letter
            self._next = letter.offset + 1
        return letter

    def waits(self) -> bool:
        """Whether there is something to fetch."""
        return bool(self._ready)

    def drop(self) -> None:
        """Nothing of it is fetched any more."""
        self._ready.clear()
        self._weight = 0

    def is_full(self) -> bool:
        """Whether enough was read ahead; once it was, only half of it counts."""
        return self._weight > (FULL_BYTES // 2 if self.held else FULL_BYTES)

    def is_open(self, letter: Letter) -> bool:
        """Whether it is still to be settled."""
        return self._open.get(letter.offset) is letter

    def finish(self, letter: Letter) -> None:
        """It is done with."""
        if self.is_open(letter):
            del self._open[letter.offset]

    def snapshot(self) -> tuple[int, str]:
        """Offset and metadata to commit."""
        if not self._open:
            return self._next, ""
        start = expected = next(iter(self._open))
        since = min((letter.due for letter in self._open.values() if letter.due), default=0)
        runs: list[list[int]] = []
        for offset, letter in self._open.items():
            state = [-letter.attempt if letter.last_started else letter.attempt, letter.due and letter.due - since + 1]
            if runs and offset == expected and runs[-1][2:] == state:
                runs[-1][1] += 1
            else:
                runs.append([offset - expected, 1, *state])
            expected = offset + 1
        return start, json.dumps([self._next - start, since, *runs], separators=(",", ":"))


def waiting(committed: int, metadata: str | None, oldest: int, end: int) -> int:
    """How many messages of a partition a group has before it, when the log reaches from `oldest` to `end`."""
    if not oldest <= committed <= end:
        return end - oldest
    unfinished, following = _decode(None, committed, metadata)
    return len(unfinished) + max(0, end - following)


def _weight(letter: Letter) -> int:
    return len(letter.message.body) + WEIGHT_BYTES


def _decode(progress: Progress | None, committed: int, metadata: str | None) -> tuple[dict[int, Letter], int]:
    """What is open, and the first offset that was not fetched."""
    if not metadata:
        return {}, committed
    try:
        span, since, *runs = json.loads(metadata)
        found: dict[int, Letter] = {}
        offset = committed
        for gap, count, attempts, due in runs:
            for at in range(offset + gap, offset + gap + count):
                found[at] = Letter(progress, at, abs(attempts), attempts < 0, due and since + due - 1)  # type: ignore[arg-type]  # counted only
            offset += gap + count
        following: int = committed + span
    except (ValueError, TypeError):  # an operator's tool has set the offset, with metadata of its own
        return {}, committed
    return found, following
