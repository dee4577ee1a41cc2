"""Settings of the user service; `.env.example` explains each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import sqlalchemy as sa
from pydantic import Field as Allowed

from chassis.database import sqlite_url
from chassis.settings import KeepSeconds, LeaseSeconds, Port, ServiceSettings

BcryptCost = Annotated[int, Allowed(ge=4, le=16)]


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    """Read once, by `__main__.py`."""

    port: Port = 8000
    bcrypt_cost: BcryptCost = 12  #: each step more doubles the time that one guess at a password takes
    lease_seconds: LeaseSeconds = 30  #: how long others leave alone what a relay is publishing
    keep_sent_seconds: KeepSeconds = 24 * 3600  #: how long published messages stay in the outbox
    delivery: Literal["outbox", "direct"] = "outbox"  #: `direct` loses events when the process or the broker dies

    @property
    def database(self) -> str | sa.URL:
        """The URL of this service's own database."""
        return self.database_url or sqlite_url(self.data_dir / "users.db")
