"""Settings: what the environment says, checked once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import pytest

import email_service.settings
import user_service.settings
from chassis.errors import SettingsError
from chassis.settings import ServiceSettings, defaults, read


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    """Those of some service."""

    url: str
    api_key: int = field(default=0, repr=False)


def test_variables_become_fields_of_their_types() -> None:
    """`DATA_DIR` is a path, `PORT` a number, and levels may be in any case."""
    settings = read(Settings, {"URL": "x:", "DATA_DIR": "/d", "PORT": "80", "LOG_LEVEL": "debug", "OTHER": "1"})
    assert settings == Settings(url="x:", data_dir=Path("/d"), port=80, log_level="DEBUG")


def test_an_empty_variable_counts_as_unset() -> None:
    """A line `PORT=` in an .env file leaves the default."""
    assert read(Settings, {"URL": "x:", "PORT": ""}) == Settings(url="x:")


def test_a_file_with_the_line_ends_of_windows_means_the_same() -> None:
    """A shell that reads such an .env file leaves a carriage return at the end of each value."""
    assert read(Settings, {"URL": "x:\r", "PORT": "\r", "LOG_LEVEL": "DEBUG\r"}) == Settings(
        url="x:", log_level="DEBUG"
    )


def test_the_defaults_are_written_as_one_would_set_them() -> None:
    """Whoever sets them all to that changes nothing; a variable without a default is empty."""
    written = defaults(Settings)
    assert written.pop("URL") == ""
    assert read(Settings, {"URL": "x:", **written}) == Settings(url="x:")


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("PORT", "abc", "valid integer"),
        ("PORT", "65536", "less than or equal to 65535"),
        ("LOG_LEVEL", "loud", "'DEBUG', 'INFO'"),
        ("DRAIN_SECONDS", "-1", "greater than or equal to 0"),
        ("DRAIN_SECONDS", "nan", "finite number"),
        ("DRAIN_SECONDS", "1e300", "less than or equal to 3600"),
    ],
)
def test_a_bad_value_is_one_line_that_says_what_is_allowed(variable: str, value: str, allowed: str) -> None:
    """Whoever starts the service reads the variable, its value and what to write instead."""
    with pytest.raises(SettingsError) as caught:
        read(Settings, {"URL": "x:", variable: value})
    line = str(caught.value)
    assert variable in line
    assert value.upper() in line.upper()
    assert allowed in line
    assert "\n" not in line


def test_a_missing_value_is_named() -> None:
    """A field without a default must be set."""
    with pytest.raises(SettingsError, match="URL is not set"):
        read(Settings, {})


def test_a_secret_is_shown_neither_in_an_error_nor_in_the_settings() -> None:
    """`repr=False` is what makes a field a secret."""
    with pytest.raises(SettingsError, match="API_KEY is not possible") as caught:
        read(Settings, {"URL": "x:", "API_KEY": "hush"})
    assert "hush" not in str(caught.value)
    assert "424242" not in repr(read(Settings, {"URL": "x:", "API_KEY": "424242"}))


@pytest.mark.parametrize(
    "cls", [user_service.settings.Settings, email_service.settings.Settings], ids=["users", "emails"]
)
def test_no_number_of_a_service_is_infinite_or_none_at_all(cls: type[ServiceSettings]) -> None:
    """Each ends the start with one line, before anything waits for it; a new setting cannot be forgotten."""
    numbers = [f.name.upper() for f in fields(cls) if type(f.default) in (int, float) or f.name == "retry_delays"]
    assert len(numbers) >= 5
    for variable in numbers:
        for value in ("nan", "inf", "-inf", "-1", "1e300", "1e10", "9" * 5000):
            with pytest.raises(SettingsError, match=f"{variable}=.*is not possible") as caught:
                read(cls, {variable: value})
            assert len(str(caught.value)) < 300


@pytest.mark.parametrize("delays", [",", "1,,2", "0.2,nan", "1,1e10", ",".join(["1"] * 101)])
def test_each_of_the_delays_is_a_number(delays: str) -> None:
    """As for any other number, and there are not too many of them."""
    with pytest.raises(SettingsError, match="RETRY_DELAYS="):
        read(email_service.settings.Settings, {"RETRY_DELAYS": delays})
