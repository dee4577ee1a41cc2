"""A stop's time is shared by everything that stops."""

from __future__ import annotations

import pytest

from chassis.drain import Drain


def test_the_time_runs_from_the_first_question(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not from when the service started; and it never goes below zero."""
    clock = [100.0]
    monkeypatch.setattr("chassis.drain.time.monotonic", lambda: clock[0])
    drain = Drain(10)
    clock[0] = 500.0
    assert drain.remaining() == 10
    clock[0] = 507.0
    assert drain.remaining() == 3
    clock[0] = 600.0
    assert drain.remaining() == 0
