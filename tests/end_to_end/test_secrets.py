"""No password and no hash of one gets anywhere but into its one column."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

import requests

from demo.api_client import NewUser
from tests.end_to_end.processes import Application

PASSWORD = "tell-nobody-学院君"
TOO_LONG = "tell-nobody-either-" * 4  #: 76 bytes
BCRYPT_HASH = re.compile(rb"\$2[aby]\$\d\d\$")


def test_no_password_and_no_hash_in_any_response_log_event_or_file(app: Application) -> None:
    """Everything that the application answers, prints and stores, searched; the users table's own column apart."""
    app.users.set(LOG_LEVEL="DEBUG")
    app.emails.set(LOG_LEVEL="DEBUG")
    app.users.start()
    users = [NewUser("Secretive", password=PASSWORD), NewUser("学院君", password=PASSWORD)]
    answers = [
        _post(app, body)
        for user in users
        for body in (
            user.form(),  # 201
            user.form(),  # 200: the same again
            user.form() | {"password": TOO_LONG},  # 422
            user.form() | {"email": "not an address"},  # 422
            user.form() | {"id": "another"},  # 409
            [user.form()],  # 422: not an object
        )
    ]
    assert [answer.status_code for answer in answers[:6]] == [201, 200, 422, 422, 409, 422]
    in_outbox = _outbox(app)
    app.emails.start()
    app.wait_for_emails(users)
    read_back = requests.get(f"{app.users.url}/users/{users[0].id}", timeout=60)
    mailbox = requests.get(f"{app.emails.url}/emails", timeout=60)
    app.users.stop()
    app.emails.stop()

    said = [answer.content for answer in [*answers, read_back, mailbox]]
    stored = {path.name: path.read_bytes() for path in app.data.rglob("*") if path.is_file()}
    assert {"user_service.log", "email_service.log", "users.db", "emails.db", "spool.db"} <= stored.keys()
    for content in [*said, *stored.values(), in_outbox]:
        for password in (PASSWORD, TOO_LONG):
            assert password.encode() not in content
            assert password.encode("unicode_escape") not in content
    del stored["users.db"]
    for content in [*said, *stored.values(), in_outbox]:
        assert not BCRYPT_HASH.search(content)


def _post(app: Application, body: object) -> requests.Response:
    return requests.post(f"{app.users.url}/users", json=body, timeout=60)


def _outbox(app: Application) -> bytes:
    """The events while they wait, byte for byte."""
    with closing(sqlite3.connect(app.data / "users.db")) as database:
        rows = database.execute("SELECT * FROM outbox").fetchall()
    assert len(rows) == 2
    return b"\n".join(
        bytes(value) if isinstance(value, bytes) else str(value).encode() for row in rows for value in row
    )
