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
WORK_LEFT: Final[np.dtype[np.void]]
DEPTH: Final[np.dtype[np.void]]
RECORD: Final[np.dtype[np.void]]
FILL: Final[np.dtype[np.void]]

LOT_WH: Final[int]
TICK_MTHB_KWH: Final[int]
PRICE_MOST_MTHB_KWH: Final[int]
QUANTITY_MOST_WH: Final[int]
MOST_FILLS: Final[int]
MOST_VISITS: Final[int]
MOST_ZONES: Final[int]
MOST_SLICES: Final[int]
POST_ONLY_FLAG: Final[int]
HALTED_FLAG: Final[int]
UNFINISHED_FLAG: Final[int]

class BookError(GridTokenXError): ...
class EngineFull(BookError): ...
class WindowNotLoaded(BookError): ...

class Kind(IntEnum):
    PLACE = 0
    CANCEL = 1
    AMEND = 2
    BILATERAL = 3
    CAPACITY = 4
    HALT = 5
    RESUME = 6
    UNCROSS = 7

class RecordKind(IntEnum):
    LIMIT = 0
    CANCEL = 1
    IOC = 2
    FOK = 3
    POST_ONLY = 4
    MODIFY = 5

class Side(IntEnum):
    BUY = 0
    SELL = 1

class Force(IntEnum):
    GOOD_TILL_GATE = 0
    GOOD_TILL_TIME = 1
    IOC = 2
    FOK = 3

class SelfTrade(IntEnum):
    CANCEL_NEWEST = 0
    CANCEL_OLDEST = 1
    CANCEL_BOTH = 2
    OFF = 3

class Code(IntEnum):
    RESTING = 0
    FILLED = 1
    CLOSED_BELOW_LOT = 2
    CANCELLED_IOC = 3
    CANCELLED_LIMIT = 4
    CANCELLED_SELF_TRADE = 5
    CANCELLED = 6
    REDUCED = 7
    DONE = 8
    UNFINISHED = 9
    KILLED = 10
    UNKNOWN_ORDER = 16
    DUPLICATE_ORDER = 17
    EXPIRED = 18
    INVALID = 19
    WOULD_TRADE = 20
    HALTED = 21
    WORK_LEFT = 22
    NO_PATH = 23
    NO_CAPACITY = 24
    GROUP_REFUSED = 25

class Reason(IntEnum):
    EXPIRED = 0
    BELOW_LOT = 1
    SELF_TRADE = 2
    SLICE = 3

class Outcome(NamedTuple):
    trades: NDArray[np.void]
    results: NDArray[np.void]
    closed: NDArray[np.void]
    next_sequence: int
    work_left: NDArray[np.void]
    uncross_fills: int
    uncross_visits: int

class Replayed(NamedTuple):
    trades: NDArray[np.void]
    remaining_wh: NDArray[np.uint32]
    codes: NDArray[np.uint8]
    closed: NDArray[np.void]
    next_sequence: int

class Path(NamedTuple):
    loss_ppm: int
    wheel_uthb_kwh: int
    corridors: tuple[int, ...]
    directions: tuple[int, ...]

class Quote(NamedTuple):
    filled_wh: int
    value_uthb: int
    wheel_uthb: int
    worst_mthb_kwh: int | None
    fills: int

class Engine:
    max_orders: int
    max_windows: int
    zones: tuple[tuple[int, int], ...]
    corridors: tuple[tuple[int, int, int, int], ...]
    profiles: tuple[tuple[int, int], ...]
    def __init__(self, zones: Sequence[tuple[int, int]], *, corridors: Sequence[tuple[int, int, int, int]] = ...,
                 profiles: Sequence[tuple[int, int]] = ..., sources: int = ..., max_orders: int = ...,
                 max_windows: int = ..., huge_pages: bool = False, dense_ids: int = 0) -> None: ...
    def process(self, operations: NDArray[Any], *, now_ms: int, next_sequence: int, uncross_fills: int = 1024,
                uncross_visits: int = 8192) -> Outcome: ...
    def replay(self, records: NDArray[Any], *, windows: Sequence[int] = ..., places: NDArray[np.uint16] | None = None,
               next_sequence: int = 1, self_trade: int = ..., now_ms: int = 0) -> Replayed: ...
    def load(self, window: int, records: NDArray[Any], *, capacities: NDArray[np.int64] | None = None,
             residuals: NDArray[np.int64] | None = None, flags: int = 0,
             work_left: NDArray[np.void] | None = None) -> None: ...
    def work_left(self, window: int) -> NDArray[np.void]: ...
    def forget(self, window: int) -> None: ...
    @property
    def live(self) -> int: ...
    def windows(self) -> list[int]: ...
    def loaded(self, window: int) -> bool: ...
    def records(self, window: int) -> NDArray[np.void]: ...
    def residuals(self, window: int) -> NDArray[np.int64]: ...
    def capacities(self, window: int) -> NDArray[np.int64]: ...
    def flags_of(self, window: int) -> int: ...
    def digest(self, windows: Iterable[int] | None = None) -> bytes: ...
    def snapshot(self) -> bytes: ...
    def restore(self, data: bytes) -> None: ...
    def paths(self, seller_zone: int, buyer_zone: int) -> list[Path]: ...
    def depth(self, window: int, zone: int, side: int, levels: int = 10, *, now_ms: int = 0) -> NDArray[np.void]: ...
    def landed_depth(self, window: int, zone: int, side: int, levels: int = 10, *,
                     now_ms: int = 0) -> list[tuple[tuple[int, int], int, int, int, int, int]]: ...
    def orders_of(self, window: int, participant: int) -> NDArray[np.void]: ...
    def resting(self, order_ids: NDArray[Any]) -> NDArray[np.bool_]: ...
    def best(self, window: int, zone: int) -> tuple[int | None, int | None]: ...
    def quote(self, window: int, zone: int, side: int, quantity_wh: int, limit_mthb_kwh: int, *, profile: int = 0,
              source: int = 0, participant: int = ..., now_ms: int = 0) -> Quote: ...
