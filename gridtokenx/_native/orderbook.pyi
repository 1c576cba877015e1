from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gridtokenx.errors import GridTokenXError

OPERATION: Final[np.dtype[np.void]]
TRADE: Final[np.dtype[np.void]]
RESULT: Final[np.dtype[np.void]]
CLOSED: Final[np.dtype[np.void]]
RESTING: Final[np.dtype[np.void]]
DEPTH: Final[np.dtype[np.void]]

LOT_WH: Final[int]
TICK_MTHB_KWH: Final[int]
PRICE_MOST_MTHB_KWH: Final[int]
QUANTITY_MOST_WH: Final[int]
MOST_FILLS: Final[int]
MOST_VISITS: Final[int]
MOST_ZONES: Final[int]

class BookError(GridTokenXError): ...
class EngineFull(BookError): ...
class WindowNotLoaded(BookError): ...

class Kind(IntEnum):
    PLACE = 0
    CANCEL = 1

class Side(IntEnum):
    BUY = 0
    SELL = 1

class Force(IntEnum):
    GOOD_TILL_GATE = 0
    GOOD_TILL_TIME = 1
    IOC = 2

class SelfTrade(IntEnum):
    CANCEL_NEWEST = 0
    CANCEL_OLDEST = 1
    CANCEL_BOTH = 2

class Code(IntEnum):
    RESTING = 0
    FILLED = 1
    CLOSED_BELOW_LOT = 2
    CANCELLED_IOC = 3
    CANCELLED_LIMIT = 4
    CANCELLED_SELF_TRADE = 5
    CANCELLED = 6
    UNKNOWN_ORDER = 16
    DUPLICATE_ORDER = 17
    EXPIRED = 18
    INVALID = 19

class Reason(IntEnum):
    EXPIRED = 0
    BELOW_LOT = 1
    SELF_TRADE = 2

class Outcome(NamedTuple):
    trades: NDArray[np.void]
    results: NDArray[np.void]
    closed: NDArray[np.void]
    next_sequence: int

class Engine:
    max_orders: int
    max_windows: int
    zones: tuple[tuple[int, int], ...]
    def __init__(self, zones: Sequence[tuple[int, int]], *, max_orders: int = ..., max_windows: int = ...,
                 huge_pages: bool = False) -> None: ...
    def process(self, operations: NDArray[Any], *, now_ms: int, next_sequence: int) -> Outcome: ...
    def load(self, window: int, records: NDArray[Any]) -> None: ...
    def forget(self, window: int) -> None: ...
    @property
    def live(self) -> int: ...
    def windows(self) -> list[int]: ...
    def loaded(self, window: int) -> bool: ...
    def records(self, window: int) -> NDArray[np.void]: ...
    def digest(self, windows: Iterable[int] | None = None) -> bytes: ...
    def depth(self, window: int, zone: int, side: int, levels: int = 10, *, now_ms: int = 0) -> NDArray[np.void]: ...
    def best(self, window: int, zone: int) -> tuple[int | None, int | None]: ...
