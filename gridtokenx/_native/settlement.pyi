from collections.abc import Callable, Mapping
from typing import Any

class Meters:
    def __init__(
        self, classes: dict[str, type], rules: dict[str, int], spaces: Mapping[str, int], *, debt_most: int,
        meter_weight: int, clear_weight: int,
    ) -> None: ...
    def settle(
        self, session: Any, window: int, begin_ms: int, number: int, last: int, spend: Callable[[int], bool],
        find: Callable[[int, int], tuple[Any, bytes]], sums: Callable[[int], list[int]], earned: dict[bytes, int],
        tax: bytes, late: bool,
    ) -> tuple[int, bool]: ...
