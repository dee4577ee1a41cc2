"""Why the server, or pika, did not do what it was asked to: foreign errors become `BrokerError` here."""

from __future__ import annotations

from collections.abc import Callable

from pika.adapters.utils.connection_workflow import AMQPConnectorStackTimeout  # type: ignore[import-untyped]
from pika.exceptions import (  # type: ignore[import-untyped]  # pika has no types
    ChannelClosed,
    ConnectionClosed,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from broker.errors import BrokerError

NOT_FOUND, LOCKED, PRECONDITION_FAILED = 404, 405, 406  #: why a server closes a channel

INTERNAL_ERROR = 541  #: why it closes a connection; for example, a queue that was declared just now does not run yet

#: kind of error → what it means, where its own text does not say
MEANING: tuple[tuple[type[BaseException], str], ...] = (
    (ProbableAuthenticationError, "access refused; check user and password"),
    (ProbableAccessDeniedError, "access refused; check the vhost, and the user's rights to it"),
    (IncompatibleProtocolError, "what answers there does not speak AMQP 0-9-1"),
    (AMQPConnectorStackTimeout, "nothing there answered as an AMQP 0-9-1 server in time"),
    (StreamLostError, "the connection was lost"),
)


class Refused(BrokerError):
    """The server closed the channel instead of doing what was asked; `code` is AMQP's."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Stumbled(BrokerError):
    """The server failed itself at what was asked, and closed the connection; asked again, it may do it."""


def translated(error: BaseException, explain: Callable[[object], BrokerError]) -> BrokerError:
    """Our error for one of pika's."""
    cause = _innermost(error)
    explained = explain(_meaning(cause))
    if isinstance(cause, ConnectionClosed) and cause.reply_code == INTERNAL_ERROR:
        return Stumbled(str(explained))
    return Refused(str(explained), cause.reply_code) if isinstance(cause, ChannelClosed) else explained


def _innermost(error: BaseException) -> BaseException:
    """What pika has wrapped, several times, as the cause of a failed connect."""
    inner: object = error
    while isinstance(inner, BaseException):
        error = inner
        several = getattr(error, "exceptions", None)
        inner = several[-1] if several else getattr(error, "exception", None) or next(iter(error.args), None)
    return error


def _meaning(error: BaseException) -> str:
    for kind, text in MEANING:
        if isinstance(error, kind):
            return text
    if isinstance(error, ChannelClosed | ConnectionClosed):
        return f"{error.reply_code} {error.reply_text}"
    return getattr(error, "strerror", None) or str(error) or repr(error)
