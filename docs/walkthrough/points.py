"""Welcome points: ten for everybody who signs up, by another service that hears the same event. For chapter 4.

Needs the user service, which knows nothing of it: `python -m docs.walkthrough.points`

You should see `subscribed`, and then a line for each user. The points are in DATA_DIR/points.db.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import closing, suppress
from pathlib import Path

import broker
from contracts.events import USER_REGISTERED, UserRegistered

GROUP = "points"
POINTS = 10
DATABASE = Path(os.environ.get("DATA_DIR") or "data") / "points.db"


def give_points(event: broker.Event) -> None:
    """The handler."""
    user = UserRegistered.from_message(event.message)
    with closing(sqlite3.connect(DATABASE)) as database, database:
        database.execute("CREATE TABLE IF NOT EXISTS points (user_id TEXT PRIMARY KEY, points INTEGER NOT NULL)")
        database.execute("INSERT INTO points VALUES (?, 0) ON CONFLICT DO NOTHING", (user.user_id,))
        database.execute("UPDATE points SET points = points + ? WHERE user_id = ?", (POINTS, user.user_id))
        (total,) = database.execute("SELECT points FROM points WHERE user_id = ?", (user.user_id,)).fetchone()
    print(f"{user.name} has {total} points", flush=True)


if __name__ == "__main__":
    DATABASE.parent.mkdir(parents=True, exist_ok=True)
    with broker.connect() as b, suppress(KeyboardInterrupt):
        b.subscribe(USER_REGISTERED, give_points, group=GROUP)
        print(f"subscribed to {USER_REGISTERED} as {GROUP}", flush=True)
        threading.Event().wait()
