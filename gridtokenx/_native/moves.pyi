from collections.abc import Callable, Iterable, Mapping
from typing import Any

class Moves:
    def __init__(
        self, classes: dict[str, type], spaces: Mapping[str, int], *, present: bytes, place: int, resting: int, ok: int,
        renewable: frozenset[int],
    ) -> None: ...
    def accounts(self, session: Any, moves: dict[bytes, list[int]]) -> list[tuple[bytes, list[int]]]: ...
    def positions(
        self, session: Any, moves: dict[tuple[int, int], list[int]],
    ) -> list[tuple[tuple[int, int], list[int]]]: ...
    def lapse(
        self, session: Any, rows: Iterable[tuple[bytes, Any]], window: int, gate: int, spend: Callable[[int], bool],
        weight: int, accounts: dict[bytes, list[int]], positions: dict[tuple[int, int], list[int]],
        resting: dict[int, list[int]], other: Callable[[int, Any], None],
    ) -> tuple[int, bool]: ...
    def rest(
        self, session: Any, results: list[Any], pending: list[Any], busy: set[int], named: set[int],
        gate_of: Callable[[int], int],
    ) -> list[int]: ...
