"""A consumer of one's own as a program that stops well: `broker.run(b)` is its last line.

b = broker.new("nats")

@b.subscriber("user.registered", group="points", reads=UserRegistered)
def give_points(event):
...

if __name__ == "__main__":
sys.exit(broker.run(b))
"""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType

from broker.base import Broker

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.5  #: Python runs signal handlers in the main thread, between two of its waits


def run(*brokers: Broker) -> int:
    """Connect, deliver until SIGTERM or SIGINT, drain and disconnect; 0, which is the exit status then.

    For the main thread. `BrokerError` when a broker cannot be reached, or handlers run past the drain's deadline.
    """
    stop = threading.Event()

    def on_signal(number: int, _: FrameType | None) -> None:
        log.info("stopping: %s", signal.Signals(number).name)
        stop.set()

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        try:
            for each in brokers:
                each.connect()
            while not stop.wait(LOOK_SECONDS):
                pass
        finally:
            for each in brokers:
                each.disconnect()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0
