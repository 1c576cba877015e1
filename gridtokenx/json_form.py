"""Answers in JSON: addresses as `gtx1…`, other bytes in hex; for people decimal amounts beside the exact integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.units import format_kwh, format_price, format_rate, format_thb

# Fields that hold an address or a public key; all other byte strings are shown in hex.
ADDRESS_FIELDS = frozenset({"address", "public", "account", "owner", "proposer", "sender", "network", "utility", "tax",
                            "market_operator", "issuers", "registrars", "buyer", "key", "keys", "beneficiary_address"})

DECIMALS: tuple[tuple[str, str, Callable[[int], str]], ...] = (
    ("_uthb_kwh", "_thb_kwh", format_rate), ("_mthb_kwh", "_thb_kwh", format_price), ("_uthb", "_thb", format_thb),
    ("_wh", "_kwh", format_kwh),
)
"""Ending of a field with an exact integer, ending of the field beside it, and how its text is made."""


def plain(value: Any, name: str = "") -> Any:
    """A node's answer in JSON's kinds: addresses as `gtx1…`, other bytes in hex, all else as it is."""
    if isinstance(value, bytes):
        return encode_address(value) if name in ADDRESS_FIELDS and len(value) == 32 else value.hex()
    if isinstance(value, dict):
        return {str(key): plain(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, name) for item in value]
    return value


def decimal_name(name: str) -> str | None:
    """The field that stands beside an amount, or None if the name is no amount's."""
    for ending, beside, _ in DECIMALS:
        if name.endswith(ending):
            return name[:-len(ending)] + beside
    return None


def with_decimals(value: Any) -> Any:
    """Beside each amount, named by its unit, the same in THB, kWh or THB/kWh as decimal text."""
    if isinstance(value, list):
        return [with_decimals(item) for item in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for name, item in value.items():
        found[name] = with_decimals(item)
        for ending, beside, shown in DECIMALS:
            if name.endswith(ending):
                if type(item) is int:
                    found[name[:-len(ending)] + beside] = shown(item)
                elif item is None:
                    found[name[:-len(ending)] + beside] = None
                break
    return found
