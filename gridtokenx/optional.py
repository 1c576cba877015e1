"""Packages that only some tasks need: imported when they are, with a message that says how to get them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from gridtokenx.errors import GridTokenXError


class NotInstalled(GridTokenXError):
    """A package that a task needs is missing; the message says which, for what, and what installs it."""


def optional(module: str, purpose: str, extra: str = "study") -> Any:
    """The module called `module`. Raises NotInstalled saying what `purpose` needs."""
    try:
        return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise NotInstalled(f"{purpose} needs {package}: pip install 'gridtokenx[{extra}]' ({error})") from error
