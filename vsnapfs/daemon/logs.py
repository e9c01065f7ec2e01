"""Where log lines go: lines for people on a terminal, JSON lines elsewhere, syslog for a process in the background."""

from __future__ import annotations

import logging
import sys
import syslog
from contextlib import suppress
from typing import Any, Literal, TextIO, cast

import structlog

LogFormat = Literal["auto", "json", "syslog"]

_PRIORITIES = {
    "debug": syslog.LOG_DEBUG,
    "info": syslog.LOG_INFO,
    "warning": syslog.LOG_WARNING,
    "error": syslog.LOG_ERR,
    "critical": syslog.LOG_CRIT,
}


def set_up(log_format: LogFormat) -> None:
    """Configure structlog for this process; once, before the first line."""
    stamps: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *stamps, *_renderers(log_format)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_SyslogLogger
        if log_format == "syslog"
        else structlog.WriteLoggerFactory(cast("TextIO", _Lines())),
        cache_logger_on_first_use=False,
    )
    if log_format == "syslog":
        syslog.openlog("vsnapfs", syslog.LOG_PID, syslog.LOG_DAEMON)


def _renderers(log_format: LogFormat) -> list[Any]:
    if log_format == "auto" and sys.stderr.isatty():
        return [structlog.dev.ConsoleRenderer()]
    one_line: list[Any] = [structlog.processors.format_exc_info, structlog.processors.UnicodeDecoder()]
    return [*one_line, structlog.processors.JSONRenderer()]


class _Lines:
    """Standard error, where a line that cannot be written is late, or lost: a log on a disk that is full, maybe because the
    journal is on it too, must not end the server."""

    def write(self, text: str) -> None:
        with suppress(OSError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


class _SyslogLogger:
    """A logger of structlog's kind: one method a level, each takes the rendered line."""

    def __init__(self, *_: Any) -> None:
        pass

    def __getattr__(self, level: str) -> Any:
        priority = _PRIORITIES.get(level, syslog.LOG_INFO)
        return lambda line: syslog.syslog(priority, line)
