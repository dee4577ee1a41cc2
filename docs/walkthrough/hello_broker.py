"""A publisher and two groups of subscribers in one process; chapters 4 and 8 of the walkthrough.

python -m docs.walkthrough.hello_broker [BROKER]

You should see each of three messages once in each group.
"""

from __future__ import annotations

import sys
import threading

import broker
from broker import Event, Message

heard = threading.Semaphore(0)


def hear(event: Event) -> None:
    """The handler: called by the broker, in a thread of the broker's."""
    print(f"{event.group} hears {event.message.body.decode()}")
    heard.release()


if __name__ == "__main__":
    with broker.connect(sys.argv[1] if len(sys.argv) > 1 else "memory") as b:
        b.subscribe("greetings", hear, group="cats")
        b.subscribe("greetings", hear, group="dogs")
        b.publish("greetings", Message(b"hello"), Message(b"how are you?"), Message(b"goodbye"))
        for _ in range(6):
            heard.acquire()
