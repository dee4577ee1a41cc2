"""Settings of the email service; `.env.example` explains each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import sqlalchemy as sa
from pydantic import AfterValidator, BeforeValidator, validate_email
from pydantic import Field as Allowed

from chassis.database import sqlite_url
from chassis.settings import DelaySeconds, LeaseSeconds, Port, ServiceSettings

#: as text: numbers with commas
RetryDelays = Annotated[
    tuple[DelaySeconds, ...], Allowed(min_length=1, max_length=100), BeforeValidator(lambda text: text.split(","))
]


def _sender(text: str) -> str:
    name, address = validate_email(text)
    return f"{name} <{address}>" if "<" in text else address


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    """Read once, by `__main__.py`."""

    port: Port = 8001
    mail_url: str = "console:"  #: `console:`, `file:DIR` or `smtp://HOST:PORT`
    mail_from: Annotated[str, AfterValidator(_sender)] = "welcome@example.com"  #: or `Name <welcome@example.com>`
    concurrency: Annotated[int, Allowed(ge=1, le=100)] = 4  #: emails sent at a time
    retry_delays: RetryDelays = (0.2, 1, 5, 30, 120)  #: seconds before attempt 2, 3 and so on; the last repeats
    max_attempts: Annotated[int, Allowed(ge=1, le=1000)] = 8  #: then an event is a dead letter
    lease_seconds: LeaseSeconds = 30  #: how long an event is kept from other members when its own has died
    claim_seconds: LeaseSeconds = 30  #: longer than any email takes to send

    @property
    def database(self) -> str | sa.URL:
        """The URL of this service's own database."""
        return self.database_url or sqlite_url(self.data_dir / "emails.db")
