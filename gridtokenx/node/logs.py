"""Structured logs of a process: JSON or pretty, to standard error or a file.

A line that cannot be written, as on a full disk, is lost: what the process does, and with which code it ends, is the
same with its log and without.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from pathlib import Path
from typing import TextIO, cast

import structlog


class Lines:
    """What structlog writes to. Nothing stays in a buffer that could fail later: Python ends with exit code 120 if
    standard error cannot be flushed."""

    def __init__(self, stream: TextIO) -> None:
        self.lost = 0
        self._stream = stream
        try:
            self._descriptor: int | None = stream.fileno()
        except io.UnsupportedOperation:
            self._descriptor = None

    def write(self, text: str) -> None:
        if self.lost:
            text = f"{self.lost} lines of this log could not be written\n{text}"
        try:
            if self._descriptor is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                self._write_all(self._descriptor, text.encode("utf-8", "replace"))
        except OSError:
            self.lost += 1
        else:
            self.lost = 0

    def _write_all(self, descriptor: int, data: bytes) -> None:
        while data:
            data = data[os.write(descriptor, data):]

    def flush(self) -> None:
        """Everything is written at once."""


def configure(name: str, level: str, form: str, file: Path | None) -> None:
    """structlog to standard error or `file`; `form` is json or pretty, `name` stands in every line as `node`."""
    stream = sys.stderr if file is None else file.open("a", encoding="utf-8")
    renderer: structlog.types.Processor
    if form == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        # A plain trace: a rich one takes seconds, and shows what variables hold, which may be secret.
        renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(),
                                                 exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            lambda _, __, event: {"node": name, **event},
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info if form == "json" else _unchanged,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast(TextIO, Lines(stream))),
        cache_logger_on_first_use=True,
    )


def _unchanged(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return event
