"""Order flows in files: the plain binary format (a 64-byte header and 16-byte records) and its Parquet form.

One window and one zone without losses; quantities in lots of 100 Wh, prices in ticks of 10 mTHB/kWh. The first
`prefill` records build the book; the rest are what is measured. See docs/matching.md for the columns. A Parquet file
with all order fields (`flow_orders`) is read and replayed by the same functions.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from attrs import evolve, frozen
from numpy.typing import NDArray

from gridtokenx._native.orderbook import LOT_WH, RECORD, RESTING, TICK_MTHB_KWH, Code, Engine, RecordKind, SelfTrade
from gridtokenx.errors import GridTokenXError
from gridtokenx.flow_orders import OrderFlow, OrderFlowError, orders_of, replay_orders

MAGIC = b"LOBWRK1\0"
VERSION = 1
# magic, version, record size, n_prefill, n_ops, price_min, price_max, max_id, seed, spare
HEADER = struct.Struct("<8sIIQQiiII16x")
PARQUET_COLUMNS = ("id", "price", "quantity", "kind", "side", "owner")


class FlowError(GridTokenXError):
    """A file that is not an order flow, or one that the engine cannot take."""


@frozen(eq=False)
class Flow:
    """`records` (dtype RECORD) of which the first `prefill` build the book."""

    records: NDArray[np.void]
    prefill: int
    seed: int = 0

    def __len__(self) -> int:
        return len(self.records)

    @property
    def max_id(self) -> int:
        """The greatest order id, 0 when there are no records."""
        return int(self.records["id"].max()) if len(self.records) else 0


@frozen(eq=False)
class Replay:
    """What a flow did. `trades` has columns maker, taker, price (ticks), quantity (lots) and operation (index in the
    flow), or those of `flow_orders.TRADE_COLUMNS`, in the order they were made; `codes` is a `Code` per record;
    `matching_s` is the time inside the engine after the prefill, `digest` that of the book left behind."""

    trades: dict[str, NDArray[np.generic]]
    codes: NDArray[np.uint8]
    matching_s: float
    digest: bytes


def replay(flow: Flow | OrderFlow, *, batch: int = 65_536, self_trade: SelfTrade = SelfTrade.OFF,
           progress: Callable[[int], object] | None = None) -> Replay:
    """Runs a flow through a fresh engine; `progress` is told how many records each batch had.

    Raises FlowError naming the first record that no book could take: a price or quantity out of range; BookError for a
    grid that the engine does not take. Orders of an OrderFlow name their own self-trade mode.
    """
    if isinstance(flow, OrderFlow):
        return Replay(*replay_orders(flow, batch, progress))
    records = flow.records
    if len(records) >= 1 << 25:
        raise FlowError(f"{len(records)} records; at most {(1 << 25) - 1} are replayed at once")
    engine = Engine([(0, 0)], sources=1, max_orders=len(records) + 1, max_windows=1, dense_ids=flow.max_id + 1,
                    huge_pages=True)
    engine.load(0, np.empty(0, RESTING))
    sequence, begun, matching_ns, parts, codes = 1, 0, 0, [], []
    while begun < len(records):
        end = min(begun + batch, len(records) if begun >= flow.prefill else flow.prefill)
        start = time.perf_counter_ns()
        done = engine.replay(records[begun:end], next_sequence=sequence, self_trade=self_trade)
        if begun >= flow.prefill:
            matching_ns += time.perf_counter_ns() - start
        sequence = done.next_sequence
        wrong = np.flatnonzero(done.codes == Code.INVALID)
        if len(wrong):
            at = begun + int(wrong[0])
            raise FlowError(f"record {at} is {records[at]}: prices are 0 to 100 000 ticks, quantities 1 to 40 000 000 "
                            "lots, kinds 0 to 5, sides 0 and 1")
        done.trades["operation"] += np.uint32(begun)
        parts.append(done.trades)
        codes.append(done.codes)
        if progress is not None:
            progress(end - begun)
        begun = end
    trades = np.concatenate(parts) if parts else np.empty(0, engine.replay(records).trades.dtype)
    columns: dict[str, NDArray[np.generic]] = {
        "maker": trades["maker_id"].copy(), "taker": trades["taker_id"].copy(),
        "price": trades["price_mthb_kwh"] // TICK_MTHB_KWH, "quantity": trades["delivered_wh"] // np.uint32(LOT_WH),
        "operation": trades["operation"].copy()}
    all_codes = np.concatenate(codes) if codes else np.empty(0, np.uint8)
    return Replay(columns, all_codes, matching_ns / 1e9, engine.digest())


def write_trades(path: Path, trades: dict[str, NDArray[np.generic]]) -> None:
    """Writes the columns as Parquet. Raises OSError."""
    import pyarrow
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table(trades), path)


def write_flow(path: Path, flow: Flow) -> None:
    """Writes the binary format."""
    priced = flow.records["price"][flow.records["kind"] != RecordKind.CANCEL]
    low, high = (int(priced.min()), int(priced.max())) if len(priced) else (0, 0)
    with path.open("wb") as file:
        file.write(HEADER.pack(MAGIC, VERSION, RECORD.itemsize, flow.prefill, len(flow.records) - flow.prefill, low,
                               high, flow.max_id, flow.seed))
        flow.records.tofile(file)


def read_flow(path: Path) -> Flow | OrderFlow:
    """Reads any of the formats, told apart by the first bytes and the columns. Raises FlowError, or OSError."""
    with path.open("rb") as file:
        head = file.read(HEADER.size)
    if head[:4] == b"PAR1":
        return _read_parquet(path)
    if len(head) < HEADER.size or head[:8] != MAGIC:
        raise FlowError(f"{path.name} is neither Parquet nor begins with the 64-byte header of {MAGIC[:7].decode()}")
    _, version, size, prefill, count, _, _, max_id, seed = HEADER.unpack(head)
    if version != VERSION or size != RECORD.itemsize:
        raise FlowError(f"{path.name} is of version {version} with records of {size} bytes; {VERSION} with "
                        f"{RECORD.itemsize} is read")
    body = path.stat().st_size - HEADER.size
    if body != (prefill + count) * RECORD.itemsize:
        raise FlowError(f"{path.name} announces {prefill} + {count} records and holds {body} bytes of them")
    records = np.fromfile(path, RECORD, offset=HEADER.size)
    flow = Flow(records, prefill, seed)
    if flow.max_id > max_id:
        raise FlowError(f"{path.name} announces ids up to {max_id} and has {flow.max_id}")
    return flow


def write_flow_parquet(path: Path, flow: Flow) -> None:
    """Writes the columns of the binary format as Parquet; the prefill's length is in the schema's metadata."""
    import pyarrow
    import pyarrow.parquet as parquet

    table = pyarrow.table({name: flow.records[name].copy() for name in PARQUET_COLUMNS})
    parquet.write_table(table.replace_schema_metadata({"prefill": str(flow.prefill)}), path)


def _read_parquet(path: Path) -> Flow | OrderFlow:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        table = parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise FlowError(f"{path.name} begins as a Parquet file and cannot be read as one: {error}") from error
    columns = {}
    for name in table.column_names:
        given = table.column(name)
        if given.null_count or not pyarrow.types.is_integer(given.type):
            raise FlowError(f"column {name} of {path.name} is {given.type} with {given.null_count} values missing; "
                            "integers without gaps are needed")
        columns[name] = given.to_numpy()
    metadata = {key.decode(errors="replace"): value.decode(errors="replace")
                for key, value in (table.schema.metadata or {}).items()}
    said = metadata.get("prefill", "0")
    if not (said.isascii() and said.isdigit() and len(said) <= 12) or int(said) > table.num_rows:
        raise FlowError(f"the metadata of {path.name} say prefill {said!r}; a number up to {table.num_rows} is needed")
    if "order_id" in columns:
        try:
            return evolve(orders_of(path.name, columns, table.num_rows, metadata), prefill=int(said))
        except OrderFlowError as error:
            raise FlowError(str(error)) from error
    missing = [name for name in PARQUET_COLUMNS if name not in columns]
    if missing:
        raise FlowError(f"{path.name} has no column {', '.join(missing)}; needed are {', '.join(PARQUET_COLUMNS)}")
    records = np.zeros(table.num_rows, RECORD)
    for name in PARQUET_COLUMNS:
        column = columns[name]
        low, high = np.iinfo(RECORD[name]).min, np.iinfo(RECORD[name]).max
        if len(column) and not low <= column.min() <= column.max() <= high:
            raise FlowError(f"column {name} of {path.name} must hold integers from {low} to {high}")
        records[name] = column
    return Flow(records, int(said))
