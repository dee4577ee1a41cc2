"""`.env.example` and the README name each setting, and `.env.example` its true default."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest

import email_service.settings
import user_service.settings
from chassis.settings import read
from demo import ledger, service

ROOT = Path(__file__).parents[2]
AnySettings = user_service.settings.Settings | email_service.settings.Settings | ledger.Settings | service.Settings

SETTINGS: list[type[AnySettings]] = [
    user_service.settings.Settings,
    email_service.settings.Settings,
    ledger.Settings,
    service.Settings,
]

#: only `docker compose` knows these: tests/compose/test_files.py
COMPOSE = {"USERS_PORT", "EMAILS_PORTS", "MAILPIT_PORT", "USERS_DB_PASSWORD", "EMAILS_DB_PASSWORD"}


@pytest.fixture
def example() -> dict[str, str]:
    """What `.env.example` sets."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_each_setting_is_in_the_example_and_in_the_readme(example: dict[str, str]) -> None:
    """And nothing else is."""
    settings = {field.name.upper() for cls in SETTINGS for field in fields(cls)}
    assert set(example) - COMPOSE == settings
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.split("## Settings")[1].split("##")[0]
    assert set(re.findall(r"`([A-Z_]{4,})`", table)) - {"INFO"} == settings


@pytest.mark.parametrize("cls", SETTINGS, ids=lambda cls: cls.__module__)
def test_the_example_changes_nothing(example: dict[str, str], cls: type[AnySettings]) -> None:
    """Whoever copies it starts with the defaults."""
    assert asdict(read(cls, example)) == asdict(cls())
