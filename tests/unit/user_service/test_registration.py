"""Registering: user and event, or neither."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import bcrypt
import pytest
from pydantic import SecretStr
from sqlalchemy import select
from sqlalchemy.orm import Session

from broker import Message
from chassis.database import Database
from contracts.events import USER_REGISTERED, UserRegistered
from tests.servers.mariadb import on_each_database
from tests.unit.user_service.conftest import waiting
from user_service.outbox import Outbox
from user_service.registration import Registration
from user_service.repository import UserRepository
from user_service.schemas import NewUser
from user_service.tables import OutboxRow

ALICE = NewUser(id="a-1", name="学院君", email="alice@example.com", password=SecretStr("geheim-geheim"))


class Publishing:
    """Does what it is told at each of its two moments."""

    def __init__(self, in_transaction: Callable[[], object], after_commit: Callable[[], object]) -> None:
        self._in_transaction = in_transaction
        self._after_commit = after_commit

    def in_transaction(self, session: Session, topic: str, message: Message, now: datetime) -> None:
        Outbox(session).add(topic, message, now)
        self._in_transaction()

    def after_commit(self, topic: str, message: Message) -> None:
        self._after_commit()


def fail() -> None:
    """What a crash looks like from inside."""
    raise SystemError("crash")


@on_each_database
def test_user_and_event_are_stored_together(database: Database, registration: Registration) -> None:
    """The event tells who; it has no password in any form."""
    user = registration.register(ALICE).user
    with database.reading() as session:
        claim = Outbox(session).claim(10, registration.now(), lease_seconds=1)
    (entry,) = claim.entries
    event = UserRegistered.from_message(entry.message)
    assert entry.topic == USER_REGISTERED
    assert (event.user_id, event.name, event.email) == (user.id, "学院君", "alice@example.com")
    assert event.created_at == user.created_at
    everything = f"{entry.message.header} {entry.message.body!r}"
    assert "geheim" not in everything
    assert user.password_hash not in everything


@on_each_database
def test_a_crash_within_the_transaction_leaves_neither(database: Database, registration: Registration) -> None:
    """The user can register again."""
    with pytest.raises(SystemError):
        replace(registration, publishing=Publishing(fail, lambda: None)).register(ALICE)
    with database.reading() as session:
        assert UserRepository(session).get(ALICE.id) is None
        assert session.scalars(select(OutboxRow)).all() == []


@on_each_database
def test_a_crash_after_the_commit_leaves_both(database: Database, registration: Registration) -> None:
    """The event waits in the outbox, for whichever relay comes."""
    with pytest.raises(SystemError):
        replace(registration, publishing=Publishing(lambda: None, fail)).register(ALICE)
    assert registration.register(ALICE).is_new is False
    assert waiting(database) == 1


@on_each_database
def test_a_repetition_publishes_nothing(database: Database, registration: Registration) -> None:
    """Nobody is greeted twice."""
    assert registration.register(ALICE).is_new
    assert not registration.register(ALICE).is_new
    assert waiting(database) == 1


def test_the_password_is_kept_as_a_bcrypt_hash_of_the_cost_that_was_set(registration: Registration) -> None:
    """And shown by no repr."""
    user = registration.register(ALICE).user
    assert user.password_hash.startswith("$2b$04$")
    assert bcrypt.checkpw(b"geheim-geheim", user.password_hash.encode())
    assert "geheim" not in repr(ALICE)
    assert user.password_hash not in repr(user)
