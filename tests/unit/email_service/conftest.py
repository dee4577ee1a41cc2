"""What the tests of the email service share: a database, an inbox and an event."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from chassis.database import Database
from contracts.events import UserRegistered
from email_service.inbox import Inbox
from email_service.tables import SCHEMA_NAME, SCHEMA_VERSION, Base


def open_database(url: str) -> Database:
    """The database there, as each member opens it."""
    database = Database(url, Base.metadata, schema_name=SCHEMA_NAME, schema_version=SCHEMA_VERSION)
    database.open()
    return database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An empty database of the email service."""
    with closing(open_database(database_url)) as opened:
        yield opened


@pytest.fixture
def inbox(database: Database) -> Inbox:
    """An empty inbox."""
    return Inbox(database, claim_seconds=30)


@pytest.fixture
def event() -> UserRegistered:
    """学院君 has signed up."""
    return UserRegistered("42", "学院君", "x@example.com", datetime.now(UTC))
