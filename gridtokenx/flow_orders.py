"""Order flows with all that an order can say: several windows and zones, corridors, profiles, conditions, expiry.

A Parquet file with one row per operation, its columns the fields of the engine's OPERATION (`native/orderbook.pyx`), in
Wh and mTHB/kWh. `order_id`, `kind`, `side`, `price_mthb_kwh` and `quantity_wh` are needed, the others are 0 where they
are missing; `now_ms` is the market time at which the operation takes effect. The schema's metadata give the grid as
JSON: `zones` [[loss_ppm, wheel_uthb_kwh], ...], `corridors` [[zone, zone, loss_ppm, wheel_uthb_kwh], ...], `profiles`
[[mask of sources, mask of seller zones], ...], and `prefill` as in the plain format. Corridors carry nothing until a
CAPACITY operation says what. See docs/matching.md.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gridtokenx._native.orderbook import OPERATION, RESTING, Engine, Kind
from gridtokenx.errors import GridTokenXError

NEEDED = ("order_id", "kind", "side", "price_mthb_kwh", "quantity_wh")
TIME = "now_ms"
OPERATIONS_MOST = (1 << 24) - 1
TRADE_COLUMNS = {
    "maker": "maker_id", "taker": "taker_id", "price_mthb_kwh": "price_mthb_kwh", "delivered_wh": "delivered_wh",
    "injected_wh": "injected_wh", "wheel_uthb": "wheel_uthb", "window": "window", "seller_zone": "seller_zone",
    "buyer_zone": "buyer_zone", "path": "path", "operation": "operation"}


class OrderFlowError(GridTokenXError):
    """A table that is not an order flow, or one that the engine cannot take."""


@frozen(eq=False)
class OrderFlow:
    """`operations` (dtype OPERATION) at market times `now_ms`; the first `prefill` build the book."""

    operations: NDArray[np.void]
    now_ms: NDArray[np.int64]
    prefill: int = 0
    zones: tuple[tuple[int, int], ...] = ((0, 0),)
    corridors: tuple[tuple[int, int, int, int], ...] = ()
    profiles: tuple[tuple[int, int], ...] = ()

    def __len__(self) -> int:
        return len(self.operations)


def write_orders(path: Path, flow: OrderFlow) -> None:
    """Writes the flow with every column."""
    import pyarrow
    import pyarrow.parquet as parquet

    columns = {name: flow.operations[name].copy() for name in OPERATION.names or ()} | {TIME: flow.now_ms}
    grid = {name: json.dumps(getattr(flow, name)) for name in ("zones", "corridors", "profiles")}
    table = pyarrow.table(columns).replace_schema_metadata({"prefill": str(flow.prefill)} | grid)
    parquet.write_table(table, path)


def orders_of(name: str, columns: Mapping[str, NDArray[Any]], rows: int, metadata: Mapping[str, str]) -> OrderFlow:
    """The flow in a table's integer columns. Raises OrderFlowError naming the column or the key that is wrong."""
    unknown = sorted(set(columns) - set(OPERATION.names or ()) - {TIME})
    missing = [needed for needed in NEEDED if needed not in columns]
    if unknown or missing:
        raise OrderFlowError(f"{name}: columns {', '.join(missing) or 'none'} missing, {', '.join(unknown) or 'none'} "
                             f"unknown; known are {', '.join((*(OPERATION.names or ()), TIME))}")
    if rows > OPERATIONS_MOST:
        raise OrderFlowError(f"{name} has {rows} operations; at most {OPERATIONS_MOST} are replayed at once")
    operations = np.zeros(rows, OPERATION)
    now_ms = np.zeros(rows, np.int64)
    for column, values in columns.items():
        kind = np.dtype(np.int64) if column == TIME else OPERATION[column]
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
        if len(values) and not low <= values.min() <= values.max() <= high:
            raise OrderFlowError(f"column {column} of {name} must hold integers from {low} to {high}")
        if column == TIME:
            now_ms[:] = values
        else:
            operations[column] = values
    grid: dict[str, Any] = {}
    for key, width in (("zones", 2), ("corridors", 4), ("profiles", 2)):
        try:
            found = json.loads(metadata.get(key, "[]"))
            grid[key] = tuple(tuple(row) for row in found)
            good = all(len(row) == width and all(type(number) is int for number in row) for row in grid[key])
        except (ValueError, TypeError, RecursionError):
            good = False
        if not good:
            raise OrderFlowError(f"the metadata of {name} say {key} {metadata[key]!r}: a list of lists of {width} "
                                 "integers is needed")
    return OrderFlow(operations, now_ms, zones=grid.pop("zones") or ((0, 0),), **grid)


def replay_orders(flow: OrderFlow, batch: int, progress: Callable[[int], object] | None) -> tuple[
        dict[str, NDArray[np.generic]], NDArray[np.uint8], float, bytes]:
    """Runs the flow through a fresh engine with all its windows: (trades, codes, seconds of matching after the prefill,
    digest). A batch ends where the time changes. Raises BookError for a grid that the engine does not take."""
    operations = flow.operations
    places = int((operations["kind"] == Kind.PLACE).sum())
    windows = np.unique(operations["window"])
    engine = Engine(flow.zones, corridors=flow.corridors, profiles=flow.profiles, max_orders=places + batch + 1,
                    max_windows=max(1, len(windows)), huge_pages=True)
    for window in windows.tolist():
        engine.load(window, np.empty(0, RESTING))
    changes = np.flatnonzero(np.diff(flow.now_ms)) + 1
    edges = sorted({0, flow.prefill, len(operations), *changes.tolist()})
    sequence, matching_ns, parts, codes = 1, 0, [], []
    for first, last in pairwise(edges):
        for begun in range(first, last, batch):
            end = min(begun + batch, last)
            start = time.perf_counter_ns()
            done = engine.process(operations[begun:end], now_ms=int(flow.now_ms[begun]), next_sequence=sequence)
            if begun >= flow.prefill:
                matching_ns += time.perf_counter_ns() - start
            sequence = done.next_sequence
            done.trades["operation"] += np.uint32(begun)
            parts.append(done.trades)
            codes.append(done.results["code"].astype(np.uint8))
            if progress is not None:
                progress(end - begun)
    trades = np.concatenate(parts) if parts else engine.process(operations, now_ms=0, next_sequence=1).trades
    columns = {name: trades[field].copy() for name, field in TRADE_COLUMNS.items()}
    return columns, np.concatenate(codes) if codes else np.empty(0, np.uint8), matching_ns / 1e9, engine.digest()
