"""The compact batch against the general one, flow files, and the queries."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx._native.orderbook import (
    FILL,
    OPERATION,
    RECORD,
    RESTING,
    BookError,
    Code,
    Engine,
    Force,
    Kind,
    RecordKind,
    SelfTrade,
    WindowNotLoaded,
)
from gridtokenx.cli import cli as main
from gridtokenx.flow import Flow, FlowError, read_flow, replay, write_flow, write_flow_parquet

EMPTY = np.empty(0, RESTING)
GRID = [(0, 0), (2_000, 50_000), (0, 7_500)]
CORRIDORS = [(0, 1, 1_200, 20_000), (1, 2, 0, 10_000), (0, 2, 0, 30_000)]
WINDOWS = (5, 9)
CAPACITY = np.full((3, 2), 4_000, np.int64)
FORCES = {RecordKind.IOC: Force.IOC, RecordKind.FOK: Force.FOK}


def random_records(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    records = np.zeros(count, RECORD)
    records["kind"] = rng.choice(6, count, p=[0.6, 0.15, 0.1, 0.05, 0.05, 0.05])
    named = np.isin(records["kind"], [RecordKind.CANCEL, RecordKind.MODIFY])
    records["id"] = np.where(named, rng.integers(0, count, count), np.arange(count))
    records["price"] = 400 + rng.integers(-12, 13, count)
    records["quantity"] = rng.integers(1, 30, count)
    records["side"] = rng.integers(0, 2, count)
    records["owner"] = rng.integers(0, 6, count)
    return records


def general(engine, record, window, zone, sequence, mode, participant=None):  # type: ignore[no-untyped-def]
    """The same operation through `process`; a modify names what is to be left, the rule book the total."""
    op = np.zeros(1, OPERATION)
    kind = int(record["kind"])
    op["order_id"], op["window"] = record["id"], window
    if kind == RecordKind.CANCEL:
        op["kind"] = Kind.CANCEL
    else:
        op["price_mthb_kwh"], op["quantity_wh"] = 10 * int(record["price"]), 100 * int(record["quantity"])
        if kind == RecordKind.MODIFY:
            op["kind"] = Kind.AMEND
            rests = engine.records(window)
            rests = rests[rests["order_id"] == record["id"]]
            if len(rests):
                op["quantity_wh"] += int(rests["total_wh"][0]) - rests["quantity_wh"][0]
        else:
            op["zone"], op["side"] = zone, record["side"]
            op["participant"] = record["owner"] if participant is None else participant
            op["force"] = FORCES.get(RecordKind(kind), 0)
            op["flags"] = mode | (4 if kind == RecordKind.POST_ONLY else 0)
    return engine.process(op, now_ms=0, next_sequence=sequence)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shape", ["plain", "one zone with losses", "shared"])
def test_compact_records_trade_as_operations_do(seed: int, shape: str) -> None:
    zones = {"plain": [(0, 0)], "one zone with losses": [(20_000, 150_000)], "shared": GRID}[shape]
    corridors = CORRIDORS if shape == "shared" else []
    windows = (5,) if shape == "plain" else WINDOWS
    capacity = CAPACITY[: len(corridors)]
    count, mode = 600, seed % 3
    records = random_records(seed, count)
    places = np.random.default_rng(seed).integers(0, len(windows) * len(zones), count).astype(np.uint16)
    fast = Engine(zones, corridors=corridors, sources=1, dense_ids=count, max_orders=count)
    slow = Engine(zones, corridors=corridors, sources=1, max_orders=count)
    for engine in (fast, slow):
        for window in windows:
            engine.load(window, EMPTY, capacities=capacity)
    sequence = other = 1
    for start in range(0, count, 100):
        part = slice(start, start + 100)
        done = fast.replay(records[part], windows=windows, places=None if shape == "plain" else places[part],
                           next_sequence=sequence, self_trade=mode)
        sequence = done.next_sequence
        trades, codes, closed = [], [], []
        for index, (record, place) in enumerate(zip(records[part], places[part], strict=True)):
            window, zone = windows[place // len(zones)], int(place % len(zones))
            outcome = general(slow, record, window, zone, other, mode)
            other = outcome.next_sequence
            for trade in outcome.trades:
                trades.append((*(int(trade[name]) for name in FILL.names[:5]), index,
                               *(int(trade[name]) for name in FILL.names[6:])))
            codes.append(int(outcome.results["code"][0]))
            assert done.remaining_wh[index] == outcome.results["remaining_wh"][0]
            closed += [row[:3] + row[4:] for row in outcome.closed.tolist()]
        assert done.trades.tolist() == trades
        assert done.codes.tolist() == codes
        assert [row[:3] + row[4:] for row in done.closed.tolist()] == closed
    assert sequence == other and fast.digest() == slow.digest()
    assert fast.live > 10 and {Code.FILLED, Code.WOULD_TRADE, Code.KILLED, Code.REDUCED} <= set(done.codes.tolist()) | {
        Code.FILLED, Code.WOULD_TRADE, Code.KILLED, Code.REDUCED}


@pytest.mark.parametrize("seed", range(8))
def test_the_quick_loop_trades_as_operations_do(seed: int) -> None:
    """One zone without losses, self-trade prevention off: what `replay` has a loop of its own for. Books from thin to
    deep, prices from one page to many, and quantities that reach the limit of fills."""
    rng = np.random.default_rng(100 + seed)
    count = 2500
    records = random_records(seed, count)
    records["price"] = 400 + rng.integers(-12, 13, count) * [1, 1, 7, 300][seed % 4] + [0, 4000][seed // 4] * 5
    records["price"] = np.abs(records["price"])
    named = np.isin(records["kind"], [RecordKind.CANCEL, RecordKind.MODIFY])
    records["id"][named] = np.maximum(0, np.arange(count) - rng.integers(1, 90, count))[named]
    records["quantity"][rng.integers(0, count, 60)] = 4000
    records["quantity"][rng.random(count) < 0.5] = 1
    fast = Engine([(0, 0)], sources=1, dense_ids=count, max_orders=4 * count)
    slow = Engine([(0, 0)], sources=1, max_orders=4 * count)
    for engine in (fast, slow):
        engine.load(5, EMPTY)
    sequence = other = 1
    seen: set[int] = set()
    for start in range(0, count, 500):
        part = records[start:start + 500]
        done = fast.replay(part, windows=(5,), next_sequence=sequence)
        sequence = done.next_sequence
        trades = []
        for index, record in enumerate(part):
            outcome = general(slow, record, 5, 0, other, 0, participant=start + index)
            other = outcome.next_sequence
            trades += [(*(int(trade[name]) for name in FILL.names[:5]), index,
                        *(int(trade[name]) for name in FILL.names[6:])) for trade in outcome.trades]
            assert done.codes[index] == outcome.results["code"][0]
            assert done.remaining_wh[index] == outcome.results["remaining_wh"][0]
        assert done.trades.tolist() == trades and sequence == other
        seen |= set(done.codes.tolist())
        ours, theirs = fast.records(5), slow.records(5)
        for name in RESTING.names or ():
            if name not in ("participant", "flags"):
                assert np.array_equal(ours[name], theirs[name]), name
        assert fast.live == slow.live == len(ours) and fast.best(5, 0) == slow.best(5, 0)
    assert {Code.RESTING, Code.FILLED, Code.CANCELLED, Code.CANCELLED_IOC, Code.UNKNOWN_ORDER} <= seen


def test_the_quick_loop_leaves_orders_that_expire_or_hide_to_the_common_way() -> None:
    """And closes what an odd remainder leaves below a lot."""
    engine = Engine([(0, 0)], sources=1, dense_ids=100, max_orders=100)
    engine.load(0, EMPTY)
    ops = np.zeros(3, OPERATION)
    ops["order_id"], ops["quantity_wh"], ops["price_mthb_kwh"], ops["side"] = (1, 2, 3), 1000, 4000, 1
    ops["force"][0], ops["expires_ms"][0], ops["display_wh"][1] = Force.GOOD_TILL_TIME, 5, 300
    engine.process(ops, now_ms=0, next_sequence=1)
    take = np.zeros(1, RECORD)
    take["id"], take["price"], take["quantity"] = 50, 400, 6
    done = engine.replay(take, next_sequence=4, now_ms=5)
    assert done.trades["maker_id"].tolist() == [2, 3] and done.trades["delivered_wh"].tolist() == [300, 300]
    assert done.closed["order_id"].tolist() == [1, 2]
    records = engine.records(0)
    odd = records[records["order_id"] == 3].copy()
    odd["quantity_wh"] = 650
    engine.forget(0)
    engine.load(0, odd)
    take["id"] = 51
    done = engine.replay(take, next_sequence=9)
    assert done.trades["delivered_wh"].tolist() == [600] and done.closed["remaining_wh"].tolist() == [50]
    assert engine.live == 0 and engine.best(0, 0) == (None, None)
    # The other way round: 570 are left of the order, and the 30 Wh over do not come to rest.
    odd["quantity_wh"] = 570
    engine.forget(0)
    engine.load(0, odd)
    take["id"] = 52
    done = engine.replay(take, next_sequence=10)
    assert done.trades["delivered_wh"].tolist() == [570] and done.codes.tolist() == [Code.CLOSED_BELOW_LOT]
    assert engine.live == 0 and engine.best(0, 0) == (None, None)


@pytest.mark.parametrize("zones", [1, 2])
def test_a_batch_with_more_trades_than_the_scratch_holds(zones: int) -> None:
    """39 040 trades of 305 operations, in one piece as in five. With one zone, a batch after one that traded writes
    where the caller reads, with room for three trades in two operations: in pieces, too, and then once without."""
    count, takers = 39_040, 305

    def book() -> Engine:
        engine = Engine([(0, 0)] * zones, sources=1, dense_ids=count + takers, max_orders=count + takers)
        engine.load(0, EMPTY)
        makers = np.zeros(count, RECORD)
        makers["id"], makers["price"], makers["quantity"], makers["side"] = np.arange(count), 400, 1, 1
        assert (engine.replay(makers).codes == Code.RESTING).all()
        return engine

    records = np.zeros(takers, RECORD)
    records["id"], records["price"], records["quantity"] = np.arange(count, count + takers), 400, 128
    whole = book().replay(records, next_sequence=10**6)
    assert whole.trades["maker_id"].tolist() == list(range(count)) and (whole.codes == Code.FILLED).all()
    assert np.array_equal(whole.trades["operation"], np.repeat(np.arange(takers), 128))
    engine = book()
    parts = np.concatenate([engine.replay(part, next_sequence=10**6).trades for part in np.array_split(records, 5)])
    assert np.array_equal(parts["maker_id"], whole.trades["maker_id"])

    engine = book()
    records["quantity"] = 1
    for part in (slice(0, 100), slice(100, 250), slice(250, takers)):
        done = engine.replay(records[part], next_sequence=10**6)
        assert done.trades["maker_id"].tolist() == [*range(takers)[part]]

    ops = np.zeros(takers, OPERATION)
    ops["order_id"], ops["quantity_wh"], ops["price_mthb_kwh"], ops["participant"] = records["id"], 12_800, 4000, 9
    outcome = book().process(ops, now_ms=0, next_sequence=10**6)
    assert np.array_equal(outcome.trades["maker_id"], whole.trades["maker_id"]) and len(outcome.closed) == 0
    assert np.array_equal(outcome.trades["operation"], whole.trades["operation"])


def test_pages_that_come_and_go_in_more_queues_than_keep_one() -> None:
    zones, windows = 16, 40
    engine = Engine([(0, 0)] * zones, max_orders=4000, max_windows=windows)
    for window in range(windows):
        engine.load(window, EMPTY)
    empty, sequence = engine.digest(), 1
    for turn in range(3):
        ops = np.zeros(windows * zones * 4, OPERATION)
        ops["order_id"], ops["quantity_wh"] = np.arange(len(ops)) + 1, 100
        ops["window"], ops["zone"] = np.arange(len(ops)) % windows, np.arange(len(ops)) // windows % zones
        ops["side"] = np.arange(len(ops)) // (windows * zones) % 2
        far = np.arange(len(ops)) // (windows * zones * 2)
        ops["price_mthb_kwh"] = 10 * (5000 + 4000 * ops["side"].astype(int) + far * 640 * (turn + 1))
        outcome = engine.process(ops, now_ms=0, next_sequence=sequence)
        sequence = outcome.next_sequence
        assert (outcome.results["code"] == Code.RESTING).all() and engine.live == len(ops)
        assert engine.best(7, 3) == (50_000 + 6400 * (turn + 1), 90_000)
        ops["kind"] = Kind.CANCEL
        order = np.random.default_rng(turn).permutation(len(ops))
        assert (engine.process(ops[order], now_ms=0, next_sequence=sequence).results["code"] == Code.CANCELLED).all()
        assert engine.live == 0 and engine.digest() == empty
        for window in range(turn, windows, 3):
            engine.forget(window)
            engine.load(window, EMPTY)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=16 * 40), st.booleans())
def test_arbitrary_bytes_as_compact_records(raw: bytes, tame: bool) -> None:
    records = np.frombuffer(bytearray(raw[: len(raw) // 16 * 16]), RECORD)
    if tame:
        records["id"] %= 64
        records["kind"] %= 7
        records["side"] %= 3
        records["price"] %= 100_010
    engine = Engine([(0, 0)], sources=1, max_orders=64, max_windows=2, dense_ids=64)
    engine.load(0, EMPTY)
    done = engine.replay(records)
    assert {int(code) for code in done.codes} <= {int(code) for code in Code}
    rests = engine.records(0)
    engine.forget(0)
    if (rests["quantity_wh"] <= 10_000_000).all() and (rests["total_wh"] <= 20_000_000).all():
        engine.load(0, rests)


def test_replay_says_what_it_lacks() -> None:
    engine = Engine([(0, 0)], sources=1)
    engine.load(0, EMPTY)
    with pytest.raises(BookError, match="dense_ids"):
        engine.replay(np.zeros(1, RECORD))
    engine = Engine([(0, 0)] * 2, dense_ids=8)
    with pytest.raises(WindowNotLoaded):
        engine.replay(np.zeros(1, RECORD))
    engine.load(0, EMPTY)
    with pytest.raises(BookError, match="place 2; there are 2"):
        engine.replay(np.zeros(1, RECORD), places=np.array([2], np.uint16))
    with pytest.raises(BookError, match="self_trade"):
        engine.replay(np.zeros(1, RECORD), self_trade=4)


def test_flow_files(tmp_path: Path) -> None:
    records = random_records(3, 50)
    path = tmp_path / "a.flow"
    write_flow(path, Flow(records, 10, 7))
    assert path.stat().st_size == 64 + 50 * 16
    flow = read_flow(path)
    assert flow.records.tobytes() == records.tobytes() and flow.prefill == 10 and flow.seed == 7
    for wrong, message in ((b"x" * 70, "neither"), (path.read_bytes()[:-1], "announces")):
        (tmp_path / "b.flow").write_bytes(wrong)
        with pytest.raises(FlowError, match=message):
            read_flow(tmp_path / "b.flow")


def parquet_flow(path: Path, name: str, column: object, prefill: str = "0") -> Path:
    """A flow of three records in which one column, or the metadata, is replaced."""
    write_flow_parquet(path, Flow(random_records(3, 3), 0))
    table = parquet.read_table(path)
    if column is not None:
        table = table.set_column(table.column_names.index(name), name, column)
    parquet.write_table(table.replace_schema_metadata({"prefill": prefill}), path)
    return path


@pytest.mark.parametrize(("column", "prefill", "message"), [
    (pyarrow.array([1, 2, None]), "0", "column price .* 1 values missing"),
    (pyarrow.array([1.0, 2.0, 3.0]), "0", "column price .* double"),
    (pyarrow.array([[1], [2], [3]]), "0", "column price .* list"),
    (pyarrow.array([1, 2, 1 << 31]), "0", "column price .* integers from"),
    (None, "4", "prefill '4'; a number up to 3"), (None, "-1", "prefill"), (None, "1.5", "prefill"),
    (None, "", "prefill"),
])
def test_odd_parquet_files_are_named(tmp_path: Path, column: object, prefill: str, message: str) -> None:
    with pytest.raises(FlowError, match=message):
        read_flow(parquet_flow(tmp_path / "odd.parquet", "price", column, prefill))


def test_damaged_files_end_the_command_with_a_message(tmp_path: Path) -> None:
    write_flow_parquet(tmp_path / "whole.parquet", Flow(random_records(3, 50), 0))
    for name, content in (("cut.parquet", (tmp_path / "whole.parquet").read_bytes()[:300]), ("empty", b""),
                          ("text.csv", b"id,price\n1,2\n")):
        (tmp_path / name).write_bytes(content)
        done = CliRunner().invoke(main, ["market", "replay", str(tmp_path / name)])
        assert done.exit_code == 1 and name in done.output and "Traceback" not in done.output


def test_market_replay(tmp_path: Path) -> None:
    """Binary and Parquet files give the same trades, by command and from Python, whatever the batch."""
    flow = Flow(random_records(4, 500), 100)
    write_flow(tmp_path / "a.flow", flow)
    write_flow_parquet(tmp_path / "a.parquet", flow)
    seen = []
    for name, batch in (("a.flow", "65536"), ("a.parquet", "7")):
        out = tmp_path / f"{name}.trades"
        done = CliRunner().invoke(main, ["market", "replay", str(tmp_path / name), "--out", str(out), "--batch", batch,
                                         "--json"])
        assert done.exit_code == 0, done.output
        report = json.loads(done.output)
        assert report["operations"] == 400 and report["prefill"] == 100
        seen.append((parquet.read_table(out).to_pydict(), report["digest"], report["trades"]))
    assert seen[0] == seen[1]
    result = replay(flow)
    assert {name: column.tolist() for name, column in result.trades.items()} == seen[0][0]
    assert list(seen[0][0]) == ["maker", "taker", "price", "quantity", "operation"] and seen[0][2] > 50
    bad = flow.records.copy()
    bad["price"][7] = 100_001
    with pytest.raises(FlowError, match="record 7"):
        replay(Flow(bad, 0))


# ---------------------------------------------------------------- queries


def shared() -> Engine:
    engine = Engine(GRID, corridors=CORRIDORS)
    engine.load(5, EMPTY, capacities=CAPACITY)
    ops = np.zeros(3, OPERATION)
    ops["order_id"], ops["participant"] = (1, 2, 3), (1, 2, 2)
    ops["window"], ops["side"], ops["zone"] = 5, 1, (0, 1, 2)
    ops["price_mthb_kwh"], ops["quantity_wh"] = (4000, 3990, 4010), 1000
    engine.process(ops, now_ms=0, next_sequence=1)
    return engine


def test_landed_depth_ranks_zones_by_what_arrives() -> None:
    """Zone 1 is the cheapest where it is, and the dearest for a buyer of zone 2: 50 + 7.5 + 10 mTHB/kWh and losses."""
    engine = shared()
    rows = engine.landed_depth(5, 2, 1)
    assert [row[1:3] for row in rows] == [(2, 0), (0, 0), (0, 1), (1, 0), (1, 1)]      # each other zone over two paths
    assert Fraction(*rows[0][0]) == Fraction(8035, 2)       # 4010 + 7.5
    assert Fraction(*rows[1][0]) == Fraction(8075, 2)       # 4000 + 7.5 + 30
    assert Fraction(*rows[3][0]) == Fraction(3990 * 10**6, 998_000) + Fraction(135, 2)
    assert rows[0][2:] == (0, 4010, 1, 1000)


def test_a_quote_changes_nothing() -> None:
    engine = shared()
    before = engine.digest()
    quote = engine.quote(5, 2, 0, 1500, 4050)
    assert quote.filled_wh == 1500 and quote.fills == 2 and quote.worst_mthb_kwh == 4010
    assert quote.value_uthb == 4010 * 1000 + 4000 * 500 and quote.wheel_uthb == 7_500 + 18_750
    assert engine.quote(5, 2, 0, 1500, 4000) == (0, 0, 0, None, 0)
    assert engine.digest() == before and engine.residuals(5).tolist() == CAPACITY.tolist()


def test_own_orders_and_paths() -> None:
    engine = shared()
    assert engine.orders_of(5, 2)["order_id"].tolist() == [2, 3]
    assert [path.corridors for path in engine.paths(0, 2)] == [(2,), (0, 1)]
    assert engine.paths(0, 2)[1][:2] == (1_200, 37_500) and engine.paths(0, 2)[1].directions == (0, 0)
    assert engine.paths(2, 0)[1].directions == (1, 1)
    assert engine.resting(np.array([1, 7, 3])).tolist() == [True, False, True]
    misaligned = np.frombuffer(b"\0" + np.array([1, 7], np.uint64).tobytes(), np.uint64, offset=1)
    assert engine.resting(misaligned).tolist() == [True, False]


def test_snapshots_are_whole_or_refused() -> None:
    engine = shared()
    saved = engine.snapshot()
    other = Engine(GRID, corridors=CORRIDORS)
    for wrong in (b"", saved[:-1], saved + b"x", b"y" + saved[1:], saved[:60]):
        with pytest.raises(BookError):
            other.restore(wrong)
        assert other.windows() == [] and other.live == 0
    other.restore(saved)
    assert other.digest() == engine.digest() and other.snapshot() == saved
    with pytest.raises(BookError, match="not a snapshot of 1 zones"):
        Engine([(0, 0)]).restore(saved)


def test_self_trade_is_off_in_replay_unless_asked_for() -> None:
    records = np.zeros(2, RECORD)
    records["id"], records["side"], records["price"], records["quantity"] = (0, 1), (1, 0), 400, 3
    for mode, trades in ((SelfTrade.OFF, 1), (SelfTrade.CANCEL_NEWEST, 0)):
        engine = Engine([(0, 0)], sources=1, dense_ids=2)
        engine.load(0, EMPTY)
        assert len(engine.replay(records, self_trade=mode).trades) == trades


def test_a_cancel_that_names_another_window_finds_nothing() -> None:
    engine = Engine([(0, 0)], sources=1, dense_ids=10, max_orders=10)
    for window in WINDOWS:
        engine.load(window, EMPTY)
    records = np.zeros(3, RECORD)
    records["id"], records["price"], records["quantity"], records["side"] = 1, 400, 3, 1
    records["kind"] = (RecordKind.LIMIT, RecordKind.CANCEL, RecordKind.CANCEL)
    done = engine.replay(records, windows=WINDOWS, places=np.array([0, 1, 0], np.uint16))
    assert done.codes.tolist() == [Code.RESTING, Code.UNKNOWN_ORDER, Code.CANCELLED]
    assert done.remaining_wh.tolist() == [300, 0, 300] and engine.live == 0


@pytest.mark.parametrize("windows", [(5,), WINDOWS])
def test_the_quick_loop_knows_duplicates_and_halts(windows: tuple[int, ...]) -> None:
    engine = Engine([(0, 0)], sources=1, dense_ids=10, max_orders=10)
    for window in windows:
        engine.load(window, EMPTY)
    records = np.zeros(2, RECORD)
    records["id"], records["price"], records["quantity"], records["side"] = 1, 400, 3, 1
    assert engine.replay(records, windows=windows).codes.tolist() == [Code.RESTING, Code.DUPLICATE_ORDER]
    halt = np.zeros(1, OPERATION)
    halt["window"], halt["kind"] = 5, Kind.HALT
    engine.process(halt, now_ms=0, next_sequence=2)
    records["id"] = (2, 3)
    places = np.arange(len(windows), dtype=np.uint16)
    codes = engine.replay(records[:len(windows)], windows=windows, places=places, next_sequence=2).codes.tolist()
    assert codes == [Code.HALTED, Code.RESTING][:len(windows)]


def test_the_quick_loop_leaves_profiles_to_the_common_way() -> None:
    """A buyer who takes sellers of its own zone only is not sold to from the other."""
    engine = Engine([(0, 0), (0, 0)], corridors=[(0, 1, 0, 0)], sources=1, profiles=[(0xFF, 0xFFFF), (0xFF, 0b10)],
                    dense_ids=10, max_orders=10)
    engine.load(5, EMPTY, capacities=np.full((1, 2), 1000, np.int64))
    op = np.zeros(1, OPERATION)
    for name, value in {"order_id": 1, "window": 5, "zone": 1, "quantity_wh": 300, "price_mthb_kwh": 4000,
                        "profile": 1}.items():
        op[name] = value
    engine.process(op, now_ms=0, next_sequence=1)
    sells = np.zeros(2, RECORD)
    sells["id"], sells["price"], sells["quantity"], sells["side"] = (2, 3), 390, 3, 1
    done = engine.replay(sells, windows=(5,), places=np.array([0, 1], np.uint16), next_sequence=2)
    assert done.codes.tolist() == [Code.RESTING, Code.FILLED] and done.trades["taker_id"].tolist() == [3]


def test_a_page_that_looking_ahead_has_found_may_be_anothers_by_then() -> None:
    """The oldest of 1024 empty pages goes to window 8 after it was looked at for an order of window 5."""
    engine = Engine([(0, 0)], sources=1, dense_ids=2000, max_orders=3000)
    for window in (5, 8):
        engine.load(window, EMPTY)
    emptied = np.zeros(2048, RECORD)
    emptied["id"] = np.arange(2048) // 2 + 1
    emptied["price"], emptied["quantity"], emptied["side"] = 64 * emptied["id"] + 1, 1, 1
    emptied["kind"][1::2] = RecordKind.CANCEL
    done = engine.replay(emptied, windows=(5, 8), places=np.zeros(2048, np.uint16))
    assert done.codes.tolist() == [Code.RESTING, Code.CANCELLED] * 1024
    records, places = np.zeros(104, RECORD), np.zeros(104, np.uint16)
    records["id"], records["kind"] = 1999, RecordKind.CANCEL    # of nothing: something to look ahead from
    for number, (name, kind, tick, place) in enumerate(((1500, 0, 70_401, 0), (1500, RecordKind.CANCEL, 0, 0),
                                                        (1501, 0, 322, 1), (1502, 0, 65, 0)), 50):
        for field, value in (("id", name), ("kind", kind), ("price", tick), ("quantity", 1), ("side", 1)):
            records[field][number] = value
        places[number] = place
    done = engine.replay(records, windows=(5, 8), places=places, next_sequence=done.next_sequence)
    assert done.codes[50:54].tolist() == [Code.RESTING, Code.CANCELLED, Code.RESTING, Code.RESTING]
    assert engine.best(5, 0)[1] == 650 and engine.best(8, 0)[1] == 3220
    records["id"][0] = 1502
    engine.replay(records[:1], windows=(5, 8), places=places[:1], next_sequence=done.next_sequence)
    assert engine.best(5, 0)[1] is None and engine.best(8, 0)[1] == 3220


def test_a_page_that_a_queue_has_at_hand_may_be_of_another_price() -> None:
    """Of pages eight apart a queue keeps the recent one at hand."""
    engine = Engine([(0, 0)], sources=1, dense_ids=200, max_orders=200)
    for window in (5, 8):
        engine.load(window, EMPTY)
    records = np.zeros(200, RECORD)
    records["id"], records["quantity"], records["side"] = np.arange(200), 1, 1
    records["price"] = 100 + 512 * (np.arange(200) % 3)
    done = engine.replay(records, windows=(5, 8), places=np.zeros(200, np.uint16))
    assert set(done.codes.tolist()) == {Code.RESTING}
    for record in engine.records(5):
        assert record["price_mthb_kwh"] == 10 * records["price"][record["order_id"]]
    assert engine.live == len(engine.records(5)) == 200


def test_a_fill_of_the_quick_loop_may_let_others_trade() -> None:
    """Zones 0 and 6, and 6 and 11, are six corridors apart; 0 and 11 ten, so they have no path. The corridor 5-6 is
    closed from 6 to 5: the sell of zone 6 waits beside a buy of zone 11 that would pay twice its price. A trade from
    0 to 6 gives 300 Wh of the way back, by which the two trade at once."""
    ends = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (5, 7), (7, 8), (8, 9), (9, 10), (10, 11)]
    capacities = np.full((11, 2), 10_000, np.int64)
    capacities[5, 1] = 0
    records, places = np.zeros(4, RECORD), np.array([6, 11, 0, 6], np.uint16)
    records["id"], records["side"], records["price"] = (1, 2, 3, 4), (1, 0, 1, 0), (10, 20, 5, 9)
    records["quantity"] = (5, 5, 5, 3)
    quick, common = (Engine([(0, 0)] * 12, corridors=[(*pair, 0, 0) for pair in ends], sources=1, dense_ids=10)
                     for _ in range(2))
    for engine in (quick, common):
        engine.load(5, EMPTY, capacities=capacities)
    trades = quick.replay(records, windows=(5,), places=places).trades
    assert trades[["maker_id", "taker_id", "operation"]].tolist() == [(3, 4, 3), (1, 2, 3)]
    assert trades[["price_mthb_kwh", "delivered_wh"]].tolist() == [(50, 300), (100, 300)]
    assert quick.residuals(5)[5].tolist() == [10_000, 0]
    for number, record in enumerate(records):
        general(common, record, 5, int(places[number]), number + 1, SelfTrade.CANCEL_NEWEST, participant=number)
    rests = ["order_id", "quantity_wh", "zone"]
    assert quick.records(5)[rests].tolist() == [(3, 200, 0), (1, 200, 6), (2, 200, 11)]
    assert common.records(5)[rests].tolist() == quick.records(5)[rests].tolist()
