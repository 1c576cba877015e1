"""How long a request may take; an endpoint that waits on purpose asks for more."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import trio
from fastapi import Request

SCOPE_KEY = "gridtokenx.deadline"


def set_deadline(scope: MutableMapping[str, Any], cancel_scope: trio.CancelScope) -> None:
    scope[SCOPE_KEY] = cancel_scope


def extend_deadline(request: Request, seconds: float) -> None:
    """The client asked to wait so long."""
    cancel_scope = request.scope.get(SCOPE_KEY)
    if cancel_scope is not None:
        cancel_scope.deadline += seconds
