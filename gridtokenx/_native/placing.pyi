from collections.abc import Mapping
from typing import Any

class Placing:
    def __init__(
        self, classes: dict[str, type], spaces: Mapping[str, int], *, counters_key: bytes, kind: int, place: int,
        lot: int, tick: int, price_most: int, fills_most: int, window_most: int,
    ) -> None: ...
    def orders(
        self, session: Any, sender: bytes, operations: tuple[Any, ...], index: int, rules: dict[int, Any],
        touched: set[int], now_ms: int, places: int, quantity_most: int, fee_ppm: int, placed: dict[int, Any],
        rows: list[bytes], pending: list[Any],
    ) -> int: ...
