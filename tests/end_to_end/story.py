"""The story of one event, as one `grep` for its id finds it in the logs of both services."""

from __future__ import annotations

import re

from broker.testing import eventually
from tests.end_to_end.processes import Application

USER_SERVICE, EMAIL_SERVICE = "user-service", "email-service"


def assert_one_grep_tells_the_story(app: Application) -> None:
    """Registered, published, received, refused by the mail server, tried again, sent; every line has the id."""
    app.emails.set(DEMO_FAULTS="mail-refused@1")
    app.start()
    (user,) = app.register("学院君")
    app.wait_for_emails([user])
    event_id = app.event_id(user)
    eventually(lambda: "email sent to" in str(app.story(event_id)), "it is told")
    assert_told(
        app,
        event_id,
        users=[rf"user {user.id} registered", "published to user.registered"],
        emails=[
            r"\[User Registered\]: 学院君 <.*",
            rf"user\.registered {event_id} for email-service, attempt 1 failed, again in .* s: MailRefused: .*",
            r"\[User Registered\]: 学院君 <.*",
            "email sent to .*",
        ],
    )


def assert_told(app: Application, event_id: str, users: list[str], emails: list[str]) -> None:
    """These lines, in this order, and no others."""
    story = app.story(event_id)
    for service, patterns in ((USER_SERVICE, users), (EMAIL_SERVICE, emails)):
        told = [line for who, line in story if who == service]
        assert len(told) == len(patterns), told
        for pattern, line in zip(patterns, told, strict=True):
            assert re.fullmatch(pattern, line), (pattern, line)
