"""What must hold however the services come and go: each user gets an email, and nobody gets two."""

from __future__ import annotations

import pytest

from tests.end_to_end.processes import Application


def test_each_registered_user_gets_one_email(app: Application) -> None:
    """The tutorial, when nothing goes wrong."""
    app.start()
    users = app.register("学院君", "Ada", "Zoë 🦊")
    app.wait_for_emails(users)
    assert [app.times_sent(user) for user in users] == [1, 1, 1]


def test_kill_9_of_the_email_service_between_registrations_costs_no_email(app: Application) -> None:
    """Users go on registering while it is dead; it comes back and sends what it missed, and nothing again."""
    app.start()
    before = app.register("Before 1", "Before 2")
    app.wait_for_emails(before)
    app.emails.kill()
    meanwhile = app.register("Meanwhile 1", "Meanwhile 2")
    app.emails.start()
    after = app.register("After")
    users = [*before, *meanwhile, *after]
    app.wait_for_emails(users)
    assert [app.times_sent(user) for user in users] == [1] * len(users)


@pytest.mark.parametrize("first", ["users", "emails"])
def test_both_services_may_be_away_and_come_back_in_any_order(app: Application, first: str) -> None:
    """The user service stops while the email service is down: what waits survives both."""
    app.start()
    app.emails.stop()
    users = app.register("Alone 1", "Alone 2")
    assert app.users.stop() == 0
    for service in [app.users, app.emails] if first == "users" else [app.emails, app.users]:
        service.start()
    app.wait_for_emails(users)
    assert [app.times_sent(user) for user in users] == [1, 1]


def test_the_email_service_may_start_for_the_first_time_after_users_have_registered(app: Application) -> None:
    """Nobody has ever subscribed: events wait in the outbox until somebody does."""
    app.users.start()
    users = app.register("Early 1", "Early 2")
    app.emails.start()
    app.wait_for_emails(users)
    assert [app.times_sent(user) for user in users] == [1, 1]


def test_kill_9_of_the_user_service_after_registrations_costs_no_email(app: Application) -> None:
    """What it answered 201 to is on the disk, and so is the event."""
    app.users.start()
    users = app.register("Committed 1", "Committed 2")
    app.users.kill()
    app.emails.start()
    app.users.start()
    app.wait_for_emails(users)
    assert [app.times_sent(user) for user in users] == [1, 1]


def test_sigterm_ends_both_services_with_status_0(app: Application) -> None:
    """A stop that was asked for is no failure."""
    app.start()
    assert (app.users.stop(), app.emails.stop()) == (0, 0)
