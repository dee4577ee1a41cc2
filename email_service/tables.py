"""The one table of the email service. Raise `SCHEMA_VERSION` when it changes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from chassis.database import UtcDateTime

SCHEMA_NAME = "email_service"
SCHEMA_VERSION = 1

#: MySQL: any script, and the ids `a` and `A` are two, as they are in SQLite
MYSQL = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


class Base(DeclarativeBase):
    """The tables of this service."""


class InboxRow(Base):
    """An event that has arrived, and whether its email is sent."""

    __tablename__ = "inbox"
    __table_args__ = MYSQL

    event_id: Mapped[str] = mapped_column(String(128), primary_key=True)  #: two members have it: one can insert it
    user_id: Mapped[str] = mapped_column(String(64), index=True)
    recipient: Mapped[str] = mapped_column(String(320))
    subject: Mapped[str] = mapped_column(Text)
    claimed_until: Mapped[datetime | None] = mapped_column(UtcDateTime)  #: some member is sending it until then
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime, index=True)
    duplicates: Mapped[int] = mapped_column(default=0)  #: deliveries that came after it was sent
