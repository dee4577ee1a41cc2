"""Publishes one event twice, as a relay does that died at a bad moment: for the exercise of chapter 6.

python -m docs.walkthrough.solutions.publish_twice

You should see its id.
"""

from __future__ import annotations

from datetime import UTC, datetime

import broker
from contracts.events import USER_REGISTERED, UserRegistered

if __name__ == "__main__":
    event = UserRegistered("twice", "Twice", "twice@example.com", datetime.now(UTC))
    with broker.connect() as b:
        for _ in range(2):
            b.publish(USER_REGISTERED, event.to_message())
    print(event.event_id)
