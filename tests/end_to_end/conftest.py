"""The whole application as real processes, on free ports, on the http broker and SQLite."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.processes import Application


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    """Both services, not started yet; gone when the test is over."""
    application = Application(tmp_path)
    yield application
    application.close()


@pytest.fixture(autouse=True)
def heeds_ctrl_c() -> Iterator[None]:
    """A shell lets what runs in its background ignore Ctrl-C, and so would the programs that such a test starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
