"""Every error of this package, as one tree; each text is one line for the person who starts the service.

ChassisError                anything below; `chassis.main.run` prints it and exits with status 2
├── SettingsError           a setting that is missing or not possible
├── DatabaseError           the database cannot be used now; an HTTP request gets a 503
│   └── SchemaMismatch      its tables are of another version, or of another service
├── NoAnswer                something that was asked has not answered in time
└── ServerError             the port cannot be listened on
"""

from __future__ import annotations


class ChassisError(Exception):
    """Something outside the program stops it; the text says what, and what is allowed."""


class SettingsError(ChassisError):
    """A setting that is missing or not possible; secrets are not shown."""


class DatabaseError(ChassisError):
    """The database cannot be reached, opened or written; its password is not shown."""


class SchemaMismatch(DatabaseError):
    """The database holds tables that this version of this service cannot use."""


class ServerError(ChassisError):
    """The HTTP server cannot listen where it was told to."""


class NoAnswer(ChassisError):
    """Something that may hang was asked, and has not answered in time."""
