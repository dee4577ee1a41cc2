"""Registering a user: the one thing that this service is about.

    hash the password → one transaction: user and event → wake the relay
                                └─ refused: is it a repetition?

The password is hashed before the transaction begins: that takes a quarter of a second, in which others could not write.
It is hashed for each request, and is never compared: neither an answer nor its time tells whether a guess is right.
Nobody looks first whether the address is free: of two that look at once both would find it so. The database decides.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import bcrypt
from sqlalchemy.exc import IntegrityError

from chassis.database import Database, utc_now
from contracts.events import USER_REGISTERED, UserRegistered
from user_service.errors import EmailTaken, IdTaken
from user_service.publishing import Publishing
from user_service.repository import UserRepository
from user_service.schemas import NewUser, email_key
from user_service.tables import User

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registered:
    """The user, and whether this very call has made it; otherwise it repeats an earlier one."""

    user: User
    is_new: bool


@dataclass(frozen=True)
class Registration:
    """Registers users. May be called from any thread."""

    database: Database
    publishing: Publishing
    bcrypt_cost: int
    now: Callable[[], datetime] = utc_now

    def register(self, new: NewUser) -> Registered:
        """The user, stored together with the event about it; `EmailTaken` or `IdTaken` when that cannot be.

        The same id with the same name and address gives the user that is there, so that a client may try again.
        """
        user = self._hashed(new)
        try:
            self._store(user)
        except IntegrityError:  # the id or the address is there already
            earlier = self._earlier(new)
            if not earlier:
                raise
            return Registered(earlier, is_new=False)
        return Registered(user, is_new=True)

    def _earlier(self, new: NewUser) -> User | None:
        """The user that an earlier registration with this id, name and address has made."""
        with self.database.reading() as session:
            users = UserRepository(session)
            same_id, same_email = users.get(new.id), users.get_by_email(email_key(new.email))
        if same_id and (same_id.name, same_id.email) != (new.name, new.email):
            raise IdTaken("is taken by a registration with another content")
        if same_email and not same_id:
            raise EmailTaken("is registered already")
        return same_id

    def _hashed(self, new: NewUser) -> User:
        password_hash = bcrypt.hashpw(new.password.get_secret_value().encode(), bcrypt.gensalt(self.bcrypt_cost))
        return User(
            id=new.id,
            name=new.name,
            email=new.email,
            email_key=email_key(new.email),
            password_hash=password_hash.decode(),
            created_at=self.now(),
        )

    def _store(self, user: User) -> None:
        message = UserRegistered(user.id, user.name, user.email, user.created_at).to_message()
        with self.database.transaction() as session:
            UserRepository(session).add(user)
            self.publishing.in_transaction(session, USER_REGISTERED, message, user.created_at)
        log.info("user %s registered", user.id, extra={"event_id": message.id})
        self.publishing.after_commit(USER_REGISTERED, message)
