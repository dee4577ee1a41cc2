"""Settings of a broker and of a subscription, with their defaults; frozen, so that nobody changes them under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import TypedDict

from broker.engine.report import Settled
from broker.errors import BrokerError
from broker.handlers import check_callable
from broker.message import Event
from broker.numbers import Number

DAY = 24 * 3600  #: seconds

#: what the numbers below may be; nothing waits longer than a day at a time, and nothing is kept longer than ten years
NUMBERS = MappingProxyType(
    {
        "publish_timeout_seconds": Number(0.001, DAY),
        "drain_seconds": Number(0, DAY),
        "retention_seconds": Number(0, 3650 * DAY),
        "concurrency": Number(1, 1000, whole=True),
        "max_attempts": Number(1, 1000, whole=True),
        "lease_seconds": Number(0.001, DAY),
        "jitter": Number(0, 1),
        "prefetch": Number(1, 100_000, whole=True),
    }
)
DELAY = Number(0, DAY)
MOST_DELAYS = 100
FLAGS = ("observer", "auto_ack")
CALLABLES = ("on_error", "on_settled")


@dataclass(frozen=True)
class Options:
    """Settings of one broker; `Broker.init(...)` changes them before `connect`."""

    publish_timeout_seconds: float = 10
    drain_seconds: float = 10  #: how long `unsubscribe` and `disconnect` wait for running handlers
    retention_seconds: float = 7 * 24 * 3600  #: how long a group that is away keeps its messages
    on_error: Callable[[Event], None] | None = None  #: called after a handler raised; `event.error` says what
    on_settled: Callable[[Settled], None] | None = None  #: called with what became of each delivery
    data_dir: Path = Path("data")  #: http only: the spool and the file registry live in its folder `broker`
    registry: str = "file"  #: http only: how publishers find the members
    observer: bool = False  #: http only: look, and deliver nothing that a dead publisher left
    secret: str | None = field(default=None, repr=False)  #: http only: the shared secret; made in `data_dir` when None

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Options:
        """The options that `DATA_DIR`, `REGISTRY` and `BROKER_SECRET` set; defaults for the rest."""
        return cls(
            data_dir=Path(environ.get("DATA_DIR") or cls.data_dir),
            registry=environ.get("REGISTRY") or cls.registry,
            secret=environ.get("BROKER_SECRET") or None,
        )


@dataclass(frozen=True)
class SubscribeOptions:
    """Settings of one subscription. `group` names its group; without one it is a broadcast."""

    group: str | None = None
    concurrency: int = 1  #: handlers running at a time
    auto_ack: bool = True  #: False: the handler, or another thread, calls `event.ack()`
    max_attempts: int = 8  #: then the message is a dead letter
    lease_seconds: float = 30  #: how long a message is kept from other members when its own goes silent
    retry_delays: tuple[float, ...] = (0.2, 1, 5, 30, 120)  #: seconds before attempt 2, 3, …; the last repeats
    jitter: float = 0.2  #: each delay is drawn from ± this share of it
    prefetch: int = 200  #: how many messages may be with this member at a time; fewer where it asks for them (ADR 15)

    def __post_init__(self) -> None:
        _check(self)
        if not isinstance(self.retry_delays, tuple | list) or not 0 < len(self.retry_delays) <= MOST_DELAYS:
            raise BrokerError(f"retry_delays must be a tuple of 1 to {MOST_DELAYS:,} delays in seconds")
        for delay in self.retry_delays:
            DELAY.check("retry_delays: a delay", delay)
        object.__setattr__(self, "retry_delays", tuple(self.retry_delays))  # nobody changes them under way


def _check(options: Options | SubscribeOptions) -> None:
    """Refuse what can never work, before it ends a thread somewhere else."""
    for option in fields(options):
        name, value = option.name, getattr(options, option.name)
        if name in NUMBERS:
            NUMBERS[name].check(name, value)
        elif name in FLAGS and not isinstance(value, bool):
            raise BrokerError(f"{name} must be True or False, not a {type(value).__name__}")
        elif name in CALLABLES and value is not None:
            check_callable(value, name)


class OptionArguments(TypedDict, total=False):
    """The keyword arguments of `new`, `connect` and `init`; `Options` says what each means, and its default."""

    publish_timeout_seconds: float
    drain_seconds: float
    retention_seconds: float
    on_error: Callable[[Event], None] | None
    on_settled: Callable[[Settled], None] | None
    data_dir: Path
    registry: str
    observer: bool
    secret: str | None


class SubscribeArguments(TypedDict, total=False):
    """The keyword arguments of `subscribe`; `SubscribeOptions` says what each means, and its default."""

    group: str | None
    concurrency: int
    auto_ack: bool
    max_attempts: int
    lease_seconds: float
    retry_delays: tuple[float, ...]
    jitter: float
    prefetch: int


def known(cls: type, given: Mapping[str, object]) -> None:
    """Refuse an option that `cls` does not have, by name."""
    names = [option.name for option in fields(cls)]
    for name in given:
        if name not in names:
            raise BrokerError(f"no option {name!r}; there are: {', '.join(names)}")
