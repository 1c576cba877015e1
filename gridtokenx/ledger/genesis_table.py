"""Strict reading of one table of a genesis file: every mistake named with its key and what is allowed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from gridtokenx.crypto.bech32m import AddressError, decode_address
from gridtokenx.ledger.genesis_state import GenesisError

MAX_TIME_MS = 253_402_300_799_999       # the end of the year 9999
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Table:
    """One table of the file; remembers which keys were asked for, so that others can be called unknown."""

    def __init__(self, where: str, values: Any) -> None:
        if type(values) is not dict:
            raise GenesisError(f"{where or 'the file'} must be a table")
        self.where = where
        self.values = values
        self.known: list[str] = []

    def name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def get(self, key: str, what: str) -> Any:
        self.known.append(key)
        if key not in self.values:
            raise GenesisError(f"{self.name(key)} is missing; it is {what}")
        return self.values[key]

    def optional(self, key: str, default: Any) -> Any:
        self.known.append(key)
        return self.values.get(key, default)

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.get(key, f"an integer from {low} to {high}")
        if type(value) is not int or not low <= value <= high:
            raise GenesisError(f"{self.name(key)} is {value!r}; an integer from {low} to {high} is allowed")
        return value

    def number(self, key: str, default: int, low: int, high: int) -> int:
        """An integer that may be left out."""
        return self.integer(key, low, high) if key in self.values else self.optional(key, default)

    def text(self, key: str, most: int = 64) -> str:
        value = self.get(key, f"text of 1 to {most} characters")
        if type(value) is not str or not 1 <= len(value) <= most:
            raise GenesisError(f"{self.name(key)} is {value!r}; text of 1 to {most} characters is allowed")
        return value

    def address(self, key: str) -> bytes:
        return read_address(self.name(key), self.get(key, "an address gtx1..."))

    def time_ms(self, key: str) -> int:
        value = self.get(key, "a time with its offset, like 2026-05-11T09:00:00+07:00, or Unix ms")
        if isinstance(value, datetime) and value.tzinfo is not None:
            value = (value - _EPOCH) // timedelta(milliseconds=1)
        if type(value) is not int or not 0 <= value <= MAX_TIME_MS:
            raise GenesisError(f"{self.name(key)} is {value!r}; a time with its offset, like "
                               "2026-05-11T09:00:00+07:00, or Unix ms is allowed")
        return value

    def tables(self, key: str, low: int, high: int) -> list[Table]:
        value = self.optional(key, [])
        if type(value) is not list or not low <= len(value) <= high:
            raise GenesisError(f"[[{self.name(key)}]] occurs {len(value) if type(value) is list else 'wrongly'}; "
                               f"{low} to {high} tables are allowed")
        return [Table(f"{self.name(key)}[{index}]", entry) for index, entry in enumerate(value)]

    def mask(self, key: str, names: dict[str, int]) -> int:
        """Bits of the names in a list; without the key, of all of them."""
        chosen = self.optional(key, list(names))
        if type(chosen) is not list or not chosen or any(name not in names for name in chosen):
            raise GenesisError(f"{self.name(key)} is {chosen!r}; a list of {', '.join(names)} is allowed")
        return sum(1 << names[name] for name in set(chosen))

    def close(self) -> None:
        for key in self.values:
            if key not in self.known:
                raise GenesisError(f"{self.name(key)} is unknown here; allowed are {', '.join(self.known)}")


def read_address(where: str, value: Any) -> bytes:
    """Raises GenesisError."""
    if type(value) is not str:
        raise GenesisError(f"{where} must be an address gtx1..., not {value!r}")
    try:
        return decode_address(value)
    except AddressError as error:
        raise GenesisError(f"{where}: {error}") from error


def no_repeats(where: str, values: list[Any]) -> None:
    """Raises GenesisError if a value occurs twice."""
    if len(set(values)) != len(values):
        raise GenesisError(f"{where} must not repeat")


def quoted(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(char if char.isprintable() else f"\\U{ord(char):08X}" for char in escaped) + '"'
