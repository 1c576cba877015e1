from collections.abc import Callable, Mapping
from typing import Any

class Contributions:
    def __init__(
        self, classes: dict[str, type], spaces: Mapping[str, int], sums: dict[str, int], *, buy: int
    ) -> None: ...
    def gather(
        self, changes: list[tuple[bytes, Any, Any]], index: int, rules: Mapping[int, Any], session: Any,
        entries: list[int], zone_group: Callable[[bytes, int], int], accounts: int, lots: int,
    ) -> int: ...
