"""A short chaos run, on a broker without a server and on one with; `make chaos` runs longer ones on each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.run import Plan, chaos


@pytest.mark.parametrize("broker", ["http", "redis"])
def test_chaos_loses_nothing(broker: str, tmp_path: Path) -> None:
    """Whatever is killed, paused and refused meanwhile."""
    result = chaos(Plan(broker, seconds=8), tmp_path, print)
    assert result.wrong == ()
    assert result.registered > 0
    assert result.attacks.total() > 0
