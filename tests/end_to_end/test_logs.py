"""Logs: one `grep` for an event's id tells its whole story, across both processes and the operator's commands."""

from __future__ import annotations

from datetime import UTC, datetime

import broker
from broker.testing import eventually
from contracts.events import USER_REGISTERED, UserRegistered
from email_service.consumer import GROUP
from tests.end_to_end.processes import Application, run
from tests.end_to_end.story import assert_one_grep_tells_the_story, assert_told


def test_an_event_that_fails_once_and_is_tried_again(app: Application) -> None:
    """On the http broker; on the others see `test_servers.py`."""
    assert_one_grep_tells_the_story(app)


def test_an_event_that_is_a_dead_letter_replayed_and_delivered_twice(app: Application) -> None:
    """Given up, replayed by hand, sent; and the same event published again is suppressed."""
    app.emails.set(DEMO_FAULTS="mail-refused@1", MAX_ATTEMPTS="1")
    app.start()
    (user,) = app.register("学院君")
    settings = {"DATA_DIR": str(app.data), "BROKER": "http"}
    eventually(lambda: "is a dead letter" in app.emails.output, "it is given up")
    with broker.connect("http", data_dir=app.data) as operator:
        (letter,) = eventually(operator.group(USER_REGISTERED, GROUP).dead_letters, "it is a dead letter")
        event_id = letter.message.id
        assert run("-m", "broker", "dead", "replay", event_id, settings=settings).returncode == 0
        app.wait_for_emails([user])
        again = UserRegistered(user.id, user.name, "x@example.com", datetime.now(UTC), event_id)
        operator.publish(USER_REGISTERED, again.to_message())
        eventually(lambda: "duplicate is suppressed" in app.emails.output, "it has come again")
    assert_told(
        app,
        event_id,
        users=[rf"user {user.id} registered", "published to user.registered"],
        emails=[
            r"\[User Registered\]: .*",
            rf"user\.registered {event_id} for email-service, attempt 1 is a dead letter: MailRefused: .*",
            rf"user\.registered {event_id} for email-service, attempt 1: a dead letter is replayed",
            r"\[User Registered\]: .*",
            "email sent to .*",
            r"\[User Registered\]: .*",
            "the email was sent before; this duplicate is suppressed",
        ],
    )
