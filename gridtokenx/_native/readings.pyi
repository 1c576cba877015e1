from collections.abc import Callable, Mapping, Sequence
from typing import Any

class Readings:
    def __init__(
        self, classes: dict[str, type], spaces: Mapping[str, int], most: tuple[int, ...], *, most_wh: int,
        report_windows: int, window_ms: int, signature_bytes: int,
    ) -> None: ...
    def parse(self, entries: tuple[Any, ...]) -> tuple[Any, ...] | None: ...
    def check(
        self, session: Any, reports: Sequence[Any], sender: bytes, zones: int, opened: Callable[[int], bool]
    ) -> list[Any]: ...
    def signed_by(self, meter: Any, report: Any, prefix: bytes) -> tuple[bytes, bytes, bytes]: ...
    def take(
        self, session: Any, reports: Sequence[Any], meters: list[Any], good: list[bool], index: int,
        in_time: Callable[[int], bool],
    ) -> int: ...
