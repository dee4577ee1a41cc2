"""Welcome points, given once however often the event comes: an answer to the exercise of chapter 6.

    python -m docs.walkthrough.solutions.points_once

You should see `subscribed`, and then a line for each event, also for one that came before.

The points are in this service's own database, and so is its inbox. One transaction changes both, or neither: there is
no moment between them in which a crash could do harm.
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
DATABASE = Path(os.environ.get("DATA_DIR") or "data") / "points_once.db"
TABLES = """
    CREATE TABLE IF NOT EXISTS points (user_id TEXT PRIMARY KEY, points INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS inbox (event_id TEXT PRIMARY KEY);
"""


def give_points(event: broker.Event) -> None:
    """The handler."""
    user = UserRegistered.from_message(event.message)
    try:
        with closing(sqlite3.connect(DATABASE)) as database, database:  # commits at the end, or rolls back
            database.execute("INSERT INTO inbox VALUES (?)", (user.event_id,))
            database.execute("INSERT INTO points VALUES (?, 0) ON CONFLICT DO NOTHING", (user.user_id,))
            database.execute("UPDATE points SET points = points + ? WHERE user_id = ?", (POINTS, user.user_id))
    except sqlite3.IntegrityError:
        print(f"{user.name} has been given points for this event", flush=True)
    else:
        print(f"{user.name} is given {POINTS} points", flush=True)


if __name__ == "__main__":
    DATABASE.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(DATABASE)) as new_database:
        new_database.executescript(TABLES)
    with broker.connect() as b, suppress(KeyboardInterrupt):
        b.subscribe(USER_REGISTERED, give_points, group=GROUP)
        print(f"subscribed to {USER_REGISTERED} as {GROUP}", flush=True)
        threading.Event().wait()
