"""Settings from environment variables into a frozen dataclass, once, with one clear line for a bad value.

@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    port: Port = 8000
    api_key: str = field(default="", repr=False)      # repr=False: a secret, never shown

settings = read(Settings, os.environ)                 # PORT, API_KEY, DATA_DIR, …
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import BeforeValidator, TypeAdapter, ValidationError
from pydantic import Field as Allowed

from chassis.drain import DRAIN_SECONDS
from chassis.errors import SettingsError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Settings = TypeVar("Settings", bound="DataclassInstance")

Port = Annotated[int, Allowed(ge=0, le=65535)]  #: 0 takes a free one
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)]
LogFormat = Literal["auto", "console", "json"]
DrainSeconds = Annotated[float, Allowed(ge=0, le=3600, allow_inf_nan=False)]
LeaseSeconds = Annotated[float, Allowed(ge=0.001, le=3600, allow_inf_nan=False)]
KeepSeconds = Annotated[float, Allowed(gt=0, le=366 * 24 * 3600, allow_inf_nan=False)]
DelaySeconds = Annotated[float, Allowed(ge=0, le=24 * 3600, allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True)
class BrokerSettings:
    """Which broker it is, and how the http broker finds its members."""

    broker: str = field(default="http", repr=False)  #: a short name or a URL, maybe with a password
    registry: str = "file"
    broker_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class ServiceSettings(BrokerSettings):
    """What the chassis itself needs; a service's settings inherit from it."""

    data_dir: Path = Path("data")  #: everything the service keeps in files
    database_url: str = field(default="", repr=False)  #: any SQLAlchemy URL; unset: a SQLite file in `data_dir`
    host: str = "127.0.0.1"
    port: Port = 0
    drain_seconds: DrainSeconds = DRAIN_SECONDS  #: how long a stop waits for what is under way
    log_level: LogLevel = "INFO"
    log_format: LogFormat = "auto"  #: `auto`: for people in a terminal, JSON elsewhere


def read(cls: type[Settings], environ: Mapping[str, str]) -> Settings:
    """The settings, field `data_dir` from variable `DATA_DIR`; an empty variable counts as unset.

    `SettingsError` names the first variable that is missing or not possible, and what is allowed.
    """
    hints = get_type_hints(cls, include_extras=True)
    values = {f.name: environ.get(f.name.upper(), "").rstrip("\r") for f in fields(cls)}  # Windows' .env ends lines so
    given = {name: value for name, value in values.items() if value}
    for f in fields(cls):
        if f.name not in given and f.default is MISSING and f.default_factory is MISSING:
            raise SettingsError(f"{f.name.upper()} is not set")
    return cls(**{f.name: _validated(f, hints[f.name], given[f.name]) for f in fields(cls) if f.name in given})


def defaults(cls: type[Settings]) -> dict[str, str]:
    """The default of each variable, as one would write it; empty where it is unset or there is none."""
    return {f.name.upper(): "" if f.default in (None, MISSING) else _written(f.default) for f in fields(cls)}


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_written, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _validated(f: Field[Any], hint: Any, text: str) -> object:
    try:
        return TypeAdapter(hint).validate_python(text)
    except ValidationError as error:
        variable = f"{f.name.upper()}={text!r:.80}" if f.repr else f.name.upper()
        allowed = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise SettingsError(f"{variable} is not possible: {allowed[:1].lower()}{allowed[1:]}") from None
