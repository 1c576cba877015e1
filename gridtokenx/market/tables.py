"""Publishing of tariff tables: who may, from when, and what becomes of earlier versions.

A version applies from a window on, until the next one's. It may be set only for windows that do not deliver yet;
what had been announced for these is replaced. Once a window delivers, its version never changes.
"""

from __future__ import annotations

from typing import Any

from gridtokenx.ledger.context import Context
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.tariff_records import Versions
from gridtokenx.market.clock import WINDOW_S, window_at

VERSIONS_MOST = 64
KEPT_WINDOWS = 100 * 86_400 // WINDOW_S
"""A version is kept at least so long after the next one began: no window that can still be settled or billed asks
for an older one."""


def check_regulator(context: Context, sender: bytes) -> None:
    """Raises Failed(NOT_ALLOWED)."""
    if sender not in context.roles.regulators:
        raise Failed(Code.NOT_ALLOWED, "only a regulator publishes tariffs")


def next_version(context: Context, versions: Versions, version: tuple[Any, ...]) -> Versions:
    """`versions` with `version` in its place. Raises Failed(VERSION_TOO_LATE or TOO_MANY_VERSIONS)."""
    since, present = version[0], window_at(context.now_ms)
    if since <= present:
        raise Failed(Code.VERSION_TOO_LATE, f"window {since} delivers already; {present + 1} is the first that a new "
                                            "version can apply to")
    kept = [earlier for earlier in versions if earlier[0] < since]
    while len(kept) >= VERSIONS_MOST and kept[1][0] + KEPT_WINDOWS <= present:
        del kept[0]
    if len(kept) >= VERSIONS_MOST:
        raise Failed(Code.TOO_MANY_VERSIONS, f"the table has {VERSIONS_MOST} versions that are still needed")
    return (*kept, version)
