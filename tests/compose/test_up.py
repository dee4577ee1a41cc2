"""`docker compose up` for real, with each broker: `make test-compose`. It needs a Docker engine, and minutes.

Not part of `make test`, nor of CI: what is missing (docker, an engine, a broker's image that is neither here nor to be
pulled) is a skip that says so, or with REQUIRE_SERVERS=1 a failure.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from broker.testing import eventually
from tests.compose.stack import PATIENCE_SECONDS, Stack, need_engine, need_image
from tests.compose.test_files import BROKERS

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]

#: nobody can register without these
NEEDED = {"user-service", "mysql"}


@pytest.fixture(scope="module")
def engine() -> None:
    """An engine, which may be a day's work to get: asked for once."""
    need_engine()


@pytest.fixture(scope="module", params=BROKERS)
def running(request: pytest.FixtureRequest, engine: None) -> Iterator[Stack]:
    """The application of the code that is here, on one broker after the other."""
    stack = Stack(request.param)
    for image in sorted(stack.images()):
        need_image(image)
    stack.compose("build")
    try:
        yield stack
    finally:
        stack.close()


@pytest.fixture
def stack(running: Stack) -> Stack:
    """The same, all of it healthy, whatever the test before has left."""
    running.up("--scale", "email-service=1")
    return running


def test_who_registers_has_mail(stack: Stack) -> None:
    """Through the published port, to the mailbox's web page; once."""
    user = stack.register("学院君")
    stack.wait_for_mail(user)
    assert stack.mailed(user) == 1


def test_each_container_may_be_killed(stack: Stack) -> None:
    """While anything but the user service and its database is down people register; their mail comes afterwards."""
    for service in stack.services():
        stack.compose("kill", service)
        if service in NEEDED:
            stack.up()
        user = stack.register(f"who came when {service} had been killed")
        stack.up()
        stack.wait_for_mail(user)


def test_three_email_services_share_the_work(stack: Stack) -> None:
    """Each of them sends some of the emails, and no email is sent twice."""
    stack.up("--scale", "email-service=3")

    def all_have_sent() -> bool:
        stack.client("--count=30", "--concurrency=8")
        said = stack.compose("logs", "email-service").splitlines()
        return len({line.split("|")[0] for line in said if "email sent" in line}) == 3

    eventually(all_have_sent, "each of the three has sent an email", PATIENCE_SECONDS)
    mailbox = stack.mailbox()
    assert len(set(mailbox)) == len(mailbox) >= 30


def test_mail_waits_for_an_email_service_that_is_stopped(stack: Stack) -> None:
    """The broker keeps the events."""
    stack.compose("stop", "email-service")
    users = [stack.register(name) for name in ("Ada Lovelace", "Zoë 🦊")]
    assert [stack.mailed(user) for user in users] == [0, 0]
    stack.up()
    for user in users:
        stack.wait_for_mail(user)
        assert stack.mailed(user) == 1


def test_down_keeps_everything_and_down_volumes_forgets_it(stack: Stack) -> None:
    """Users, and what the email service knows; also what waits for it."""
    stack.wait_for_mail(stack.register("before"))
    stack.compose("stop", "email-service")
    user = stack.register("in between")
    stack.compose("down")
    stack.up()
    assert stack.knows(user)
    stack.wait_for_mail(user)
    assert stack.emails() >= 2
    stack.compose("down", "--volumes")
    stack.up()
    assert not stack.knows(user)
    assert stack.emails() == 0
