"""The simulated mailbox over HTTP, held to its contract."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml
from flask.testing import FlaskClient

from chassis.metrics import new_registry
from contracts.events import UserRegistered
from email_service.app import CONTRACT, create_app
from email_service.inbox import Inbox
from email_service.mail import welcome


@pytest.fixture
def client(inbox: Inbox) -> Iterator[FlaskClient]:
    """A client of a service that is ready."""
    with create_app(inbox, lambda: True, new_registry()).test_client() as client:
        yield client


def send(inbox: Inbox, event: UserRegistered) -> None:
    """An email that is sent."""
    claim = inbox.claim(event.event_id, event.user_id, welcome(event))
    assert claim is not None
    inbox.mark_sent(claim)


def conforms(document: object, name: str) -> None:
    """Raise unless the document is what the contract calls by that name."""
    contract: dict[str, Any] = yaml.safe_load(CONTRACT.read_text("utf-8"))
    schema = {"$ref": f"#/components/schemas/{name}", "components": contract["components"]}
    jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker()).validate(document)


def test_the_mailbox_shows_the_emails_of_one_user_or_of_all(
    client: FlaskClient, inbox: Inbox, event: UserRegistered
) -> None:
    """Each as the contract says."""
    send(inbox, event)
    send(inbox, UserRegistered("43", "Zoë", "zoe@example.com", event.created_at))
    everybodys = client.get("/emails").json["emails"]  # type: ignore[index]
    assert [email["user_id"] for email in everybodys] == ["43", "42"]
    (email,) = client.get("/emails?user_id=42").json["emails"]  # type: ignore[index]
    conforms(email, "Email")
    assert (email["to"], email["subject"]) == ("x@example.com", "Welcome, 学院君!")
    assert len(client.get("/emails?limit=1").json["emails"]) == 1  # type: ignore[index]
    assert client.get("/emails?user_id=nobody").json == {"emails": []}


@pytest.mark.parametrize("limit", ["", "0", "1001", "-1", "1.0", "٣", "9" * 5000])
def test_a_limit_that_is_none_is_a_problem(client: FlaskClient, limit: str) -> None:
    """422, with the field's name."""
    answer = client.get("/emails", query_string={"limit": limit})
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    assert answer.get_json(force=True)["errors"][0]["field"] == "limit"
    conforms(answer.get_json(force=True), "Problem")


def test_a_service_that_is_not_subscribed_is_alive_and_not_ready(inbox: Inbox) -> None:
    """Nobody should wait for emails from it yet."""
    with create_app(inbox, lambda: False, new_registry()).test_client() as client:
        assert client.get("/health/live").status_code == 200
        assert client.get("/health/ready").status_code == 503
