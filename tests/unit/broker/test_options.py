"""Options: each is checked when it is set, before it can end a thread somewhere else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

import broker
from broker.engine.report import Outcome, Settled
from broker.errors import BrokerError
from broker.message import Event, Message
from broker.options import NUMBERS, Options, SubscribeOptions
from broker.testing import Recorder, eventually

NO_NUMBERS = {
    "nan": float("nan"),
    "infinite": float("inf"),
    "negative": -1,
    "gigantic": 1e300,
    "long": 10**5000,
    "true": True,
    "text": "5",
    "none": None,
    "list": [1],
    "complex": 1j,
}
DELAYS = ((), "5", 5, None, ("5",), (1, True), (float("nan"),), (0.2, 1e10), (-1,), (0.1,) * 101, {1}, "0.2,1")


def options_of(name: str) -> type[Options | SubscribeOptions]:
    """The class that has this option."""
    return Options if name in Options.__dataclass_fields__ else SubscribeOptions


@pytest.mark.parametrize("value", NO_NUMBERS.values(), ids=NO_NUMBERS)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_out_of_its_range_is_refused(name: str, value: object) -> None:
    """One line that names the option and what it may be."""
    with pytest.raises(BrokerError) as caught:
        options_of(name)(**{name: value})  # type: ignore[arg-type]  # that is tested
    line = str(caught.value)
    assert line.startswith(f"{name}=")
    assert str(NUMBERS[name]) in line
    assert len(line) < 200
    assert "\n" not in line


@pytest.mark.parametrize("name", [name for name, number in NUMBERS.items() if number.whole])
def test_a_count_is_a_whole_number(name: str) -> None:
    """No half handler, no half attempt."""
    with pytest.raises(BrokerError, match=f"{name}=1.5 is not possible: it must be a whole number"):
        SubscribeOptions(**{name: 1.5})  # type: ignore[arg-type]  # that is tested


@pytest.mark.parametrize("name", NUMBERS)
def test_both_ends_of_a_range_are_possible(name: str) -> None:
    """Of each number that is checked, and each number is."""
    for value in (NUMBERS[name].least, NUMBERS[name].most):
        options_of(name)(**{name: value})  # type: ignore[arg-type]  # numbers


def test_each_number_among_the_options_has_a_range() -> None:
    """A new one cannot be forgotten."""
    numbers = {
        field.name
        for cls in (Options, SubscribeOptions)
        for field in cls.__dataclass_fields__.values()
        if type(field.default) in (int, float)
    }
    assert numbers == set(NUMBERS)


@pytest.mark.parametrize("delays", DELAYS, ids=repr)
def test_delays_are_numbers_of_seconds(delays: object) -> None:
    """At least one, and none longer than a day."""
    with pytest.raises(BrokerError, match="retry_delays"):
        SubscribeOptions(retry_delays=delays)  # type: ignore[arg-type]  # that is tested


def test_delays_in_a_list_are_copied() -> None:
    """Whoever changes the list later changes no subscription."""
    given = [1.0, 2.0]
    options = SubscribeOptions(retry_delays=given)  # type: ignore[arg-type]  # a list is fine
    given.clear()
    assert options.retry_delays == (1.0, 2.0)


@pytest.mark.parametrize(
    "set_it",
    [lambda **options: broker.new("memory", **options), lambda **options: broker.new("memory").init(**options)],
    ids=["new", "init"],
)
@pytest.mark.parametrize("name", ["on_error", "on_settled"])
def test_a_listener_that_would_do_nothing_is_refused(name: str, set_it: Callable[..., object]) -> None:
    """As for a handler."""

    async def listen(what: object) -> None:
        """Would listen."""

    for listener, reason in ((listen, "coroutine function"), ("listen", "must be callable")):
        with pytest.raises(BrokerError, match=f"{name} .*{reason}"):
            set_it(**{name: listener})


def test_a_listener_that_returns_a_coroutine_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """It was called, and has done nothing; the message is not touched by that."""

    async def listen(what: object) -> None:
        """Would listen."""

    settled: list[Settled] = []

    def on_settled(what: Settled) -> object:
        settled.append(what)
        return listen(what)

    with broker.connect("memory://", on_settled=on_settled) as b:  # type: ignore[arg-type]  # that is tested
        b.subscribe("t", Recorder(), group="g")
        b.publish("t", Message(b"x"))
        eventually(lambda: settled, "it is called")
    assert [what.outcome for what in settled] == [Outcome.ACKED]
    assert "has not done its work" in caplog.text


def test_a_thread_pool_may_ack_later() -> None:
    """With `auto_ack=False` nobody takes the future that a handler returns for an ack."""

    def later(event: Event) -> object:
        threading.Thread(target=event.ack).start()
        return asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)

    loop = asyncio.new_event_loop()
    running = threading.Thread(target=loop.run_forever)
    running.start()
    settled: list[Settled] = []
    with broker.connect("memory://", on_settled=settled.append) as b:
        b.subscribe("t", later, group="g", auto_ack=False)
        b.publish("t", Message(b"x"))
        eventually(lambda: settled, "it is acked")
    loop.call_soon_threadsafe(loop.stop)
    running.join()
    loop.close()
    assert [what.outcome for what in settled] == [Outcome.ACKED]


@pytest.mark.parametrize("seconds", [float("nan"), "5", True])
def test_a_stop_wants_a_number_of_seconds(seconds: object) -> None:
    """And is not begun without one."""
    with broker.connect("memory://") as b:
        with pytest.raises(BrokerError, match="within_seconds="):
            b.disconnect(seconds)  # type: ignore[arg-type]  # that is tested
        b.publish("t", Message(b"x"))
