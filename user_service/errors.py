"""Why somebody could not be registered; the API makes a 409 of each.

RegistrationError       anything below
├── EmailTaken          somebody has that address, maybe in other letters
└── IdTaken             that id is another user's, or was registered with another name or address
"""

from __future__ import annotations


class RegistrationError(Exception):
    """Nobody was registered; `field` is the one to change."""

    field: str


class EmailTaken(RegistrationError):
    """Somebody has that address already, maybe in capitals or in another Unicode form."""

    field = "email"


class IdTaken(RegistrationError):
    """That id belongs to a registration with another name or address, so this is no repetition of it."""

    field = "id"
