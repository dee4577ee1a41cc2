"""How pika's connection writes here: at once, and together what belongs together.

pika sends a message in three pieces, its method, its header and its body. Before each it asks the loop to say when the
socket takes more, and afterwards to say so no longer: for a single message, that is two rounds of the loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pika import SelectConnection  # type: ignore[import-untyped]  # pika has no types
from pika.adapters.utils.selector_ioloop_adapter import (  # type: ignore[import-untyped]  # the same
    SelectorIOServicesAdapter,
)

PIECE_BYTES = 1_000_000  #: more than this is sent in several pieces


class Connection(SelectConnection):  # type: ignore[misc]  # pika has no types
    """A connection on pika's loop; the arguments are pika's."""

    def __init__(self, *arguments: Any, custom_ioloop: Any, **options: Any) -> None:
        self._together: list[bytes] | None = None
        self._bytes = 0
        super().__init__(*arguments, custom_ioloop=Eager(custom_ioloop), **options)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Send in one piece what is sent meanwhile."""
        self._together = []
        try:
            yield
        finally:
            self._send_together()
            self._together = None

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        if self._together is None:
            super()._output_marshaled_frames([b"".join(marshaled_frames)])
            return
        self._together += marshaled_frames
        self._bytes += sum(map(len, marshaled_frames))
        if self._bytes > PIECE_BYTES:
            self._send_together()

    def _send_together(self) -> None:
        if self._together:
            super()._output_marshaled_frames([b"".join(self._together)])
        self._together, self._bytes = [], 0


class Eager(SelectorIOServicesAdapter):  # type: ignore[misc]  # the same
    """What a connection asks of its loop, as pika has it; but who wants to write is called at once."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop)
        self._reading: set[int] = set()  # sockets that are connected: one that is not must be waited for
        self._trying = False

    def set_reader(self, fd: int, on_readable: Callable[[], None]) -> None:
        """Call that whenever there is something to read."""
        self._reading.add(fd)
        super().set_reader(fd, on_readable)

    def remove_reader(self, fd: int) -> bool:
        """Do so no longer; whether it was done before."""
        self._reading.discard(fd)
        return bool(super().remove_reader(fd))

    def set_writer(self, fd: int, on_writable: Callable[[], None]) -> None:
        """Call that now; and whenever the socket takes more, unless it has called `remove_writer` by then."""
        self._trying = fd in self._reading
        if self._trying:
            on_writable()
            if not self._trying:
                return
            self._trying = False
        super().set_writer(fd, on_writable)

    def remove_writer(self, fd: int) -> bool:
        """All is written; whether there was anything."""
        if self._trying:
            self._trying = False
            return True
        return bool(super().remove_writer(fd))
