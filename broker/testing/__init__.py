"""The contract suite, for the brokers of this project and for yours: one class to subclass, one harness to write.

    class TestMine(BrokerContract):
        @pytest.fixture
        def harness(self, tmp_path):
            with MyHarness(tmp_path) as harness:
                yield harness

Every promise of `broker/base.py` is held against your broker, or, where its `promises` declare a difference, that
difference. Add `pytest_plugins = ["broker.testing.plugin"]` to your conftest for the table of results.
"""

import pytest

PARTS = ("case", "dead_letters", "draining", "faults", "groups", "harness", "publishing", "recorder", "retries")
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in PARTS))

# imported only now, so that their asserts are rewritten to say what they saw
from broker.testing.contract import BrokerContract
from broker.testing.harness import Harness
from broker.testing.recorder import Recorder, eventually, surely

__all__ = ["BrokerContract", "Harness", "Recorder", "eventually", "surely"]
