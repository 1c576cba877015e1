from collections.abc import Callable, Mapping
from typing import Any, Self

from gridtokenx._native.state import Changes

class Entries:
    @property
    def beyond(self) -> tuple[int, int] | None: ...
    def __iadd__(self, numbers: tuple[int, ...]) -> Self: ...
    def raw(self) -> bytes: ...

class Contributions:
    def __init__(
        self, classes: dict[str, type], spaces: Mapping[str, int], sums: dict[str, int], *, buy: int
    ) -> None: ...
    def gather(
        self, changes: Changes, index: int, rules: Mapping[int, Any], session: Any,
        entries: Entries, zone_group: Callable[[bytes, int], int], accounts: int, lots: int,
    ) -> int: ...
