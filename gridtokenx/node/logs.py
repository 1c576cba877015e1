"""Structured logs of a process: JSON or pretty, to standard error or a file."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import structlog


def configure(name: str, level: str, form: str, file: Path | None) -> None:
    """structlog to standard error or `file`; `form` is json or pretty, `name` stands in every line as `node`."""
    stream = sys.stderr if file is None else file.open("a", encoding="utf-8")
    renderer: structlog.types.Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            lambda _, __, event: {"node": name, **event},
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if form == "json" else _unchanged,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )


def _unchanged(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return event
