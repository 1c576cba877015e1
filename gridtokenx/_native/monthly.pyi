from collections.abc import Callable, Mapping
from typing import Any

class Months:
    def __init__(
        self, classes: dict[str, type], spaces: Mapping[str, int], *, energy: int, count_weight: int, clear_weight: int,
    ) -> None: ...
    def count(
        self, session: Any, window: int, month: int, peak: bool, number: int, last: int, spend: Callable[[int], bool],
    ) -> tuple[int, bool]: ...
