"""Settings of a broker and of a subscription, with their defaults; frozen, so that nobody changes them under way."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypedDict

from broker.engine.report import Settled
from broker.errors import BrokerError
from broker.message import Event


@dataclass(frozen=True)
class Options:
    """Settings of one broker; `Broker.init(...)` changes them before `connect`."""

    publish_timeout_seconds: float = 10
    drain_seconds: float = 10  #: how long `unsubscribe` and `disconnect` wait for running handlers
    retention_seconds: float = 7 * 24 * 3600  #: how long a group that is away keeps its messages
    on_error: Callable[[Event], None] | None = None  #: called after a handler raised; `event.error` says what
    on_settled: Callable[[Settled], None] | None = None  #: called with what became of each delivery
    tls: ssl.SSLContext | None = None  #: for brokers with a server; http has it in its address
    data_dir: Path = Path("data")  #: http only: the spool and the file registry live in its folder `broker`
    registry: str = "file"  #: http only: how publishers find the members
    observer: bool = False  #: http only: look, and deliver nothing that a dead publisher left
    secret: str | None = field(default=None, repr=False)  #: http only: the shared secret; made in `data_dir` when None

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
        for name in ("concurrency", "max_attempts", "lease_seconds", "prefetch"):
            if getattr(self, name) <= 0:
                raise BrokerError(f"{name}={getattr(self, name)} is not possible: it must be above zero")
        if not self.retry_delays or min(self.retry_delays) < 0:
            raise BrokerError(
                f"retry_delays={self.retry_delays} must name at least one delay in seconds, none negative"
            )


class OptionArguments(TypedDict, total=False):
    """The keyword arguments of `new`, `connect` and `init`; `Options` says what each means, and its default."""

    publish_timeout_seconds: float
    drain_seconds: float
    retention_seconds: float
    on_error: Callable[[Event], None] | None
    on_settled: Callable[[Settled], None] | None
    tls: ssl.SSLContext | None
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
