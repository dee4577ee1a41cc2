"""Looks into the services' databases, and changes nothing. For the walkthrough.

python -m docs.walkthrough.look users       # or: outbox, inbox

You should see one line for each row, oldest first. It wants SQLite, in DATA_DIR, as the services have it by default.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

#: table → its database, and what is shown of it
TABLES = {
    "users": ("users.db", "SELECT id, email, password_hash FROM users ORDER BY created_at"),
    "outbox": ("users.db", "SELECT id, topic, sent_at IS NOT NULL AS published, body FROM outbox ORDER BY id"),
    "inbox": ("emails.db", "SELECT event_id, recipient, sent_at IS NOT NULL AS sent, duplicates FROM inbox"),
}


def main(table: str) -> int:
    """Print the rows."""
    file, query = TABLES[table]
    path = Path(os.environ.get("DATA_DIR") or "data") / file
    if not path.exists():
        print(f"there is no {path} yet")
        return 1
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        rows = database.execute(query)
        names = [column[0] for column in rows.description]
        for row in rows:
            print("  ".join(f"{name} {_shown(value)}" for name, value in zip(names, row, strict=True)))
    return 0


def _shown(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
