"""What can be a handler: a callable that has done its work when it returns.

An `async def` or a generator function only makes an object when it is called, and does nothing. Its message would count
as handled. So such functions are refused by `subscribe`, and such an object as a result is a failed attempt.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Coroutine, Generator, Iterator
from concurrent.futures import Future
from functools import partial

from broker.errors import BrokerError

INSTEAD = "give a plain function that has done its work when it returns; it may call asyncio.run()"

#: in this order: an `async def` that yields is no coroutine function, and a `yield` makes any other a generator
_LAZY_FUNCTIONS = (
    (inspect.iscoroutinefunction, "a coroutine function (async def)"),
    (inspect.isasyncgenfunction, "an async generator function"),
    (inspect.isgeneratorfunction, "a generator function"),
)


class NothingDone(BrokerError):
    """A handler returned an object that would still have to be awaited or iterated."""


def check_callable(function: object, what: str) -> None:
    """Refuse what is not callable, or does nothing when it is called; `what` is its name in the error."""
    if not callable(function):
        raise BrokerError(f"{what} must be callable, and a {type(function).__name__} is not; {INSTEAD}")
    for layer in _layers(function):
        for is_lazy, kind in _LAZY_FUNCTIONS:
            if is_lazy(layer):
                raise BrokerError(f"{what} {_name(layer)} is {kind}: to call it does none of its work; {INSTEAD}")


def check_result(result: object, *, acked: bool = True) -> None:
    """Raise `NothingDone` for a result that shows that the work is still to be done.

    With `acked=False` the caller does not take a return for an ack, so a future of a thread pool is fine: whoever works
    on it can ack later.
    """
    if result is None:
        return
    if isinstance(result, Coroutine | Generator):
        result.close()  # or Python warns that it was never awaited
    elif isinstance(result, Future):
        if not acked:
            return
    elif not isinstance(result, Awaitable | AsyncGenerator | map | filter):
        return
    raise NothingDone(f"the handler returned a {type(result).__name__} and has not done its work; {INSTEAD}")


def _layers(function: object) -> Iterator[object]:
    """The function itself, then what is called by it: inside a `partial`, a bound method, a callable object."""
    while True:
        yield function
        if isinstance(function, partial):
            function = function.func
        elif inspect.ismethod(function):
            function = function.__func__
        elif inspect.isroutine(function) or inspect.isclass(function):
            return
        else:
            function = type(function).__call__


def _name(function: object) -> str:
    return str(getattr(function, "__qualname__", type(function).__qualname__))
