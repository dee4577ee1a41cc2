"""Log lines on standard error: readable and coloured in a terminal, JSON elsewhere.

Modules know only the standard library: `logging.getLogger(__name__).info("sent", extra={"event_id": id})`.
Standard output stays free for what a program has to say to its user.
"""

from __future__ import annotations

import io
import logging
import sys
from typing import TextIO

import structlog
from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name
from structlog.typing import EventDict, Processor, WrappedLogger

from chassis.settings import LogFormat


def configure(service: str, level: str = "INFO", log_format: LogFormat = "auto") -> None:
    """Send every log line of this process to standard error; each says service, level, logger and its extras."""
    for stream in (sys.stdout, sys.stderr):
        _speak_unicode(stream)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(service, _renderer(log_format, sys.stderr.isatty())))
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.captureWarnings(True)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # it warns whenever a request has to wait its turn


def _speak_unicode(stream: TextIO) -> None:
    """Names are in any script, whatever the locale says; and a pipe gets each line at once."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


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
        return [structlog.dev.ConsoleRenderer(colors=is_terminal, exception_formatter=plain)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False, default=str)]
