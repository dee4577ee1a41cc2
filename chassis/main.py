"""From the command line to a running service and back: what every `__main__.py` calls.

@contextmanager
def service(settings: Settings) -> Iterator[Server]:
    with (
        Database(...) as database,
        Server(create_app(...), settings.host, settings.port) as server,
        server.taking_requests(),
    ):
        yield server

if __name__ == "__main__":
    sys.exit(run("user-service", Settings, service, expected=[BrokerError], arguments=sys.argv[1:]))
"""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, TypeVar

from chassis import logs
from chassis.errors import ChassisError
from chassis.settings import ServiceSettings, defaults, read
from chassis.streams import open_what_is_closed

log = logging.getLogger(__name__)

FAILED = 2  #: exit status when something outside the program stops it

Part = TypeVar("Part")
Settings = TypeVar("Settings", bound=ServiceSettings)
Service = Callable[[Settings], AbstractContextManager[object]]


class Around(Protocol):
    """What may wrap the parts of a service that reach out of it: the broker, for instance, for a demonstration."""

    def __call__(self, part: Part, /) -> Part:
        """The same part, maybe with something around it."""
        ...


def as_it_is(part: Part) -> Part:
    """The part itself: nothing is around it."""
    return part


def run(
    name: str,
    cls: type[Settings],
    service: Service[Settings],
    *,
    expected: Sequence[type[Exception]] = (),
    arguments: Sequence[str] = (),
) -> int:
    """Run the service until SIGTERM or SIGINT, then leave its context, which drains it; the exit status.

    What is `expected` to go wrong, and every `ChassisError`, becomes one line on standard error. With the argument
    `--help` it only says what it is, and which settings it reads.
    """
    open_what_is_closed()
    if arguments:
        return _answer(name, cls, arguments)
    clear_errors: tuple[type[Exception], ...] = (ChassisError, *expected)
    try:
        with stop_signals() as wait_for_stop:
            settings = read(cls, os.environ)
            logs.configure(name, settings.log_level, settings.log_format)
            with service(settings):
                gc.collect()
                gc.freeze()  # what is there by now stays; to look through it would stop every thread for 30 ms
                log.info("stopping: %s", wait_for_stop().name)
        log.info("stopped")
    except clear_errors as error:
        print(f"{name}: {error}", file=sys.stderr)
        return FAILED
    return 0


def _answer(name: str, cls: type[Settings], arguments: Sequence[str]) -> int:
    """Whoever gives arguments wants to know something, or takes this for another program; the exit status."""
    logs.configure(name)  # its streams print every script
    if arguments[0] in ("-h", "--help"):
        print(_help(name, cls))
        return 0
    word = re.split("[=:]", arguments[0])[0]  # what comes after it may have a password in it
    print(f"{name}: unknown argument {word!r}; settings come from the environment: --help lists them", file=sys.stderr)
    return FAILED


def _help(name: str, cls: type[Settings]) -> str:
    """What the program is, from the head of its file, and the settings with their defaults."""
    purpose = sys.modules["__main__"].__doc__ or name
    lines = [f"  {variable}={default}" for variable, default in defaults(cls).items()]
    heading = "Settings with their defaults, from the environment; .env.example explains each:"
    return "\n".join([purpose.strip(), "", heading, "", *lines])


@contextmanager
def stop_signals() -> Iterator[Callable[[], signal.Signals]]:
    """While it lasts, SIGTERM and SIGINT only ask for a stop; the function it gives waits for the first.

    A second SIGINT ends the process at once. Only for the main thread, as Python has it.
    """
    # The system may give a signal to any thread, and Python's handler runs in this one when that wakes up the next
    # time. Waiting for a lock, it would not wake up; here it does, by the byte that Python writes whoever got it.
    waiting, written = socket.socketpair()
    with waiting, written:
        written.setblocking(False)
        fd_before = signal.set_wakeup_fd(written.fileno())
        before = {number: signal.signal(number, _on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield lambda: signal.Signals(waiting.recv(1)[0])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(fd_before)


def _on_signal(_: int, __: object) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
