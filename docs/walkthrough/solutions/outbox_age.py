"""How many events wait in the outbox, and for how long the oldest: an answer to the exercise of chapter 5.

python -m docs.walkthrough.solutions.outbox_age

You should see `nothing waits`, most of the time.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from chassis.database import Database
from chassis.settings import read
from user_service.outbox import Outbox
from user_service.settings import Settings
from user_service.tables import SCHEMA_NAME, SCHEMA_VERSION, Base

if __name__ == "__main__":
    url = read(Settings, os.environ).database
    with (
        Database(url, Base.metadata, schema_name=SCHEMA_NAME, schema_version=SCHEMA_VERSION) as database,
        database.reading() as session,
    ):
        waiting = Outbox(session).waiting()
    if waiting.since:
        print(f"{waiting.count} wait, the oldest for {(datetime.now(UTC) - waiting.since).total_seconds():.1f} s")
    else:
        print("nothing waits")
