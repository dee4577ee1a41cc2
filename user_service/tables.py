"""The two tables of the user service. Raise `SCHEMA_VERSION` when they change."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Index, Integer, LargeBinary, String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from broker.message import MAX_BODY_BYTES
from chassis.database import UtcDateTime

SCHEMA_NAME = "user_service"
SCHEMA_VERSION = 1

#: MySQL: any script, and `a` is neither `A` nor `á`, as it is in SQLite
MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


class Base(DeclarativeBase):
    """The tables of this service."""


class User(Base):
    """Somebody who has signed up."""

    __tablename__ = "users"
    __table_args__ = MYSQL

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    email: Mapped[str] = mapped_column(String(254))
    email_key: Mapped[str] = mapped_column(String(320), unique=True)  #: the same for all spellings of an address
    password_hash: Mapped[str] = mapped_column(String(60))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class OutboxRow(Base):
    """A message that was decided on, and whether it has been published. It knows nothing of events."""

    __tablename__ = "outbox"
    __table_args__ = (Index("outbox_unsent", "sent_at", "id"), MYSQL)

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    topic: Mapped[str] = mapped_column(String(200))
    header: Mapped[dict[str, str]] = mapped_column(JSON)
    body: Mapped[bytes] = mapped_column(LargeBinary(MAX_BODY_BYTES))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    claimed_until: Mapped[datetime | None] = mapped_column(UtcDateTime)  #: some relay is publishing it until then
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
