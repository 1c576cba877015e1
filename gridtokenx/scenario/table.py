"""Strict reading of one table of a scenario: every mistake is named with its key and what is allowed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from gridtokenx.scenario.errors import ScenarioError

MOST_TEXT = 64


class Table:
    """One table of the file; remembers which keys were asked for, so that `close` can call others unknown."""

    def __init__(self, where: str, values: Any) -> None:
        if type(values) is not dict:
            raise ScenarioError(f"{where or 'the file'} must be a table")
        self.where = where
        self.values: dict[str, Any] = values
        self._known: list[str] = []

    def name(self, key: str) -> str:
        return f"{self.where}.{key}" if self.where else key

    def has(self, key: str) -> bool:
        self._known.append(key)
        return key in self.values

    def wrong(self, key: str, allowed: str) -> ScenarioError:
        found = f"is {self.values[key]!r}" if key in self.values else "is missing"
        return ScenarioError(f"{self.name(key)} {found}; {allowed}")

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        if not self.has(key) and default is not None:
            return default
        value = self.values.get(key)
        if type(value) is not int or not low <= value <= high:
            raise self.wrong(key, f"an integer from {low:_} to {high:_} is allowed")
        return value

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        """An integer or a fraction."""
        if not self.has(key) and default is not None:
            return default
        value: Any = self.values.get(key)
        if type(value) not in (int, float) or not low <= value <= high:
            raise self.wrong(key, f"a number from {low:g} to {high:g} is allowed")
        return float(value)

    def text(self, key: str, default: str | None = None, most: int = MOST_TEXT) -> str:
        if not self.has(key) and default is not None:
            return default
        value = self.values.get(key)
        if type(value) is not str or not 1 <= len(value) <= most or not value.isprintable():
            raise self.wrong(key, f"text of 1 to {most} characters is allowed")
        return value

    def choice(self, key: str, choices: Iterable[str], default: str | None = None) -> str:
        if not self.has(key) and default is not None:
            return default
        value = self.values.get(key)
        known = list(choices)
        if value not in known:
            raise self.wrong(key, f"allowed: {', '.join(known)}")
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values[key] if self.has(key) else default
        if type(value) is not bool:
            raise self.wrong(key, "true or false is allowed")
        return value

    def names(self, key: str, choices: Iterable[str]) -> tuple[str, ...]:
        """Some of `choices`, without repeats; all of them when the key is left out."""
        known = list(choices)
        if not self.has(key):
            return tuple(known)
        value = self.values[key]
        if type(value) is not list or any(name not in known for name in value) or len(set(value)) != len(value):
            raise self.wrong(key, f"a list of some of these is allowed, each once: {', '.join(known)}")
        return tuple(value)

    def time(self, key: str) -> datetime | None:
        """The beginning of a window, None when left out."""
        if not self.has(key):
            return None
        value = self.values[key]
        if not isinstance(value, datetime) or value.tzinfo is None or round(value.timestamp() * 1000) % 900_000:
            raise self.wrong(key, "a time on a quarter hour with its offset is allowed, like 2025-04-21T18:00:00+07:00")
        return value

    def table(self, key: str) -> Table:
        """A table that may be left out: then it is empty."""
        return Table(self.name(key), self.values[key] if self.has(key) else {})

    def tables(self, key: str, low: int, high: int) -> list[Table]:
        value = self.values[key] if self.has(key) else []
        if type(value) is not list or not low <= len(value) <= high:
            raise ScenarioError(f"[[{self.name(key)}]] must be {low} to {high} tables")
        return [Table(f"{self.name(key)}[{index}]", entry) for index, entry in enumerate(value)]

    def integers(self, known: Mapping[str, tuple[int, int]]) -> dict[str, int]:
        """Those of `known` (name -> bounds) that are set."""
        return {key: self.integer(key, *bounds) for key, bounds in known.items() if self.has(key)}

    def close(self) -> None:
        """Raises ScenarioError when the table has a key that nobody asked for."""
        known = list(dict.fromkeys(self._known))
        for key in self.values:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                meant = f"did you mean {near[0]}? " if near else ""
                raise ScenarioError(f"{self.name(key)} is unknown; {meant}allowed here: {', '.join(known)}")
