"""Keeps the service subscribed from its start to its end, also when the broker is not there yet."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from broker import Broker, BrokerError, DrainTimeout, Subscription
from chassis.drain import Drain

log = logging.getLogger(__name__)

RETRY_SECONDS = 1.0


class Subscriber:
    """As a context manager: connects and calls `subscribe`, and at the end drains and disconnects.

    It enters at once. A broker that is down is tried again until it is up; from then on, reconnecting is the
    broker's business.
    """

    def __init__(self, broker: Broker, subscribe: Callable[[], Subscription], drain: Drain | None = None) -> None:
        self._broker = broker
        self._make = subscribe
        self._drain = drain or Drain()
        self._stopping = threading.Event()
        self._subscribed = threading.Event()
        self._thread = threading.Thread(target=self._subscribe, name="subscriber", daemon=True)

    def is_subscribed(self) -> bool:
        """Whether events arrive: false before the subscription is in force, and from the moment it is drained.

        A broker that goes away later changes nothing: what it has waits there, and the subscription goes on by itself.
        """
        return self._subscribed.is_set() and not self._stopping.is_set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(self._drain.remaining())
        if self._thread.is_alive():
            log.warning("the broker had not answered by the deadline")
            return
        try:
            self._broker.disconnect(self._drain.remaining())
        except DrainTimeout as late:
            log.warning("%s", late)

    def _subscribe(self) -> None:
        warn = log.warning
        while not self._stopping.is_set():
            try:
                self._broker.connect()
                subscription = self._make()
            except BrokerError as error:
                warn("not subscribed yet, trying on: %s", error)
                warn = log.debug
                self._stopping.wait(RETRY_SECONDS)
            else:
                log.info("subscribed to %s on the %s broker", subscription.topic, self._broker.name)
                self._subscribed.set()
                return
