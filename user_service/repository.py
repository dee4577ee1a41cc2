"""Users in the database, found by what identifies them."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from user_service.tables import User


class UserRepository:
    """The users, within one transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def get(self, user_id: str) -> User | None:
        """The user of that id."""
        return self._session.get(User, user_id)

    def get_by_email(self, email_key: str) -> User | None:
        """The user of that address; see `schemas.email_key`."""
        return self._session.scalar(select(User).where(User.email_key == email_key))

    def add(self, user: User) -> None:
        """Store a new user; `IntegrityError` when its id or its address is taken."""
        self._session.add(user)
        self._session.flush()
