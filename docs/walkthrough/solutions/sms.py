"""A third subscriber, which "sends" an SMS to everybody who signs up: an answer to the exercise of chapter 4.

python -m docs.walkthrough.solutions.sms

You should see `subscribed`, and then a line for each user.
"""

from __future__ import annotations

import threading
from contextlib import suppress

import broker
from contracts.events import USER_REGISTERED, UserRegistered

GROUP = "sms"  #: in the group `points` it would take some of the points service's messages, and give no points


def send_sms(event: broker.Event) -> None:
    """The handler."""
    user = UserRegistered.from_message(event.message)
    print(f"[SENDING A SMS TO {user.name}...]", flush=True)


if __name__ == "__main__":
    with broker.connect() as b, suppress(KeyboardInterrupt):
        b.subscribe(USER_REGISTERED, send_sms, group=GROUP)
        print(f"subscribed to {USER_REGISTERED} as {GROUP}", flush=True)
        threading.Event().wait()
