"""Log lines on standard error: readable and coloured in a terminal, JSON elsewhere.

Modules know only the standard library: `logging.getLogger(__name__).info("sent", extra={"event_id": id})`.
Standard output stays free for what a program has to say to its user.
"""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
from typing import TextIO, cast

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import EventDict, Processor, WrappedLogger

from chassis.settings import LogFormat
from chassis.text import CONTROLS, print_anywhere, shown


def configure(service: str, level: str = "INFO", log_format: LogFormat = "auto") -> None:
    """Send every log line of this process to standard error; each says service, level, logger and its extras."""
    print_anywhere()
    for stream in (sys.stdout, sys.stderr):
        _set_up(stream)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(service, _renderer(log_format, sys.stderr.isatty())))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns whenever a request has to wait its turn
    logging.getLogger("pika").setLevel(logging.CRITICAL)  # the broker raises, or logs, each of its errors in one line


def _set_up(stream: TextIO) -> None:
    """A pipe gets UTF-8, whatever the locale says, and each line at once; a terminal knows best what it can show."""
    if isinstance(stream, io.TextIOWrapper):
        is_chosen = stream.isatty() or "PYTHONIOENCODING" in os.environ
        stream.reconfigure(
            encoding=stream.encoding if is_chosen else "utf-8", errors=stream.errors, line_buffering=True
        )


def _formatter(service: str, renderer: list[Processor]) -> ProcessorFormatter:
    def add_service(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
        return {"service": service, **line}

    return ProcessorFormatter(
        foreign_pre_chain=[
            add_log_level,
            add_logger_name,
            ExtraAdder(),
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_service,
        ],
        processors=[ProcessorFormatter.remove_processors_meta, *renderer],
    )


def _renderer(log_format: LogFormat, is_terminal: bool) -> list[Processor]:
    if log_format == "console" or (log_format == "auto" and is_terminal):
        # The default traceback shows local variables, and one of them may be a password.
        plain = structlog.dev.plain_traceback
        console = structlog.dev.ConsoleRenderer(colors=is_terminal, exception_formatter=plain)
        return [structlog.processors.format_exc_info, _show, console]
    ascii_only = codecs.lookup(sys.stderr.encoding or "utf-8").name != "utf-8"
    json = structlog.processors.JSONRenderer(ensure_ascii=ascii_only, default=str)
    # The last of them gets what the one before it has made, whatever structlog's types say.
    return [structlog.processors.format_exc_info, json, cast("Processor", _escape_json)]


class _Shown:
    """A text that is escaped already: the renderer would quote another one, and so escape it twice."""

    def __init__(self, text: str) -> None:
        self._text = shown(text)

    def __repr__(self) -> str:
        return self._text


def _show(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    """The only place where a console line is escaped. A traceback keeps its lines, indented: none looks like ours."""
    for name, value in line.items():
        if name in ("exception", "stack"):
            line[name] = "\n".join(f"    {shown(part)}" for part in str(value).split("\n"))
        elif isinstance(value, str) and CONTROLS.search(value):
            line[name] = shown(value) if name == "event" else _Shown(value)
    return line


def _escape_json(_: WrappedLogger, __: str, line: str) -> str:
    """JSON leaves C1 and bidirectional controls as they are; whoever reads it with `less` has a terminal, too."""
    return CONTROLS.sub(lambda control: f"\\u{ord(control[0]):04x}", line)
