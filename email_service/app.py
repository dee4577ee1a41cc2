"""The HTTP API, as `contracts/openapi-emails.yaml` promises it: the simulated mailbox."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

from flask import Flask, request
from prometheus_client import CollectorRegistry

from chassis.app import new_app
from chassis.problems import Problem
from email_service.inbox import Inbox, SentEmail

CONTRACT = Path(__file__).parent.parent / "contracts" / "openapi-emails.yaml"

DEFAULT_LIMIT = 100  #: emails in one answer
MAX_LIMIT = 1000


class EmailDocument(TypedDict):
    """An email as clients see it."""

    event_id: str
    user_id: str
    to: str
    subject: str
    sent_at: str


def create_app(inbox: Inbox, is_ready: Callable[[], bool], registry: CollectorRegistry) -> Flask:
    """The WSGI app."""
    app = new_app("email_service", contract=CONTRACT, is_ready=is_ready, registry=registry)

    @app.get("/emails")
    def list_emails() -> dict[str, list[EmailDocument]]:
        emails = inbox.sent(request.args.get("user_id"), _limit(request.args.get("limit")))
        return {"emails": [_document(email) for email in emails]}

    return app


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if re.fullmatch("[0-9]{1,4}", text) and 1 <= int(text) <= MAX_LIMIT:
        return int(text)
    message = f"must be a number from 1 to {MAX_LIMIT}"
    raise Problem(422, "the query is not valid", [{"field": "limit", "message": message}])


def _document(email: SentEmail) -> EmailDocument:
    return EmailDocument(
        event_id=email.event_id,
        user_id=email.user_id,
        to=email.to,
        subject=email.subject,
        sent_at=email.sent_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
    )
