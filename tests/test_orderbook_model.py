"""The compiled book against the model: every trade, result, closed order, remainder, depth and digest."""

from __future__ import annotations

import struct

import model_orderbook as model
import numpy as np
import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridtokenx._native.orderbook import (
    CLOSED,
    MOST_FILLS,
    MOST_VISITS,
    OPERATION,
    RESTING,
    RESULT,
    TRADE,
    BookError,
    Code,
    Engine,
    EngineFull,
    Reason,
    WindowNotLoaded,
)
from gridtokenx.crypto.hashing import Domain, digest

ZONES = [(0, 0), (20_000, 150_000), (499_999, 1_000_000_000), (500_000, 7), (0, 5)]
EMPTY = np.empty(0, RESTING)


FIELDS = ("order_id", "quantity", "expires_ms", "participant", "meter", "window", "price", "minimum", "display", "zone",
          "kind", "side", "force", "flags", "profile", "source", "to_zone", "path", "corridor", "group", "reserved")


def operations(ops: list[model.Operation]) -> np.ndarray:
    array = np.zeros(len(ops), OPERATION)
    for index, op in enumerate(ops):
        array[index] = tuple(getattr(op, name) for name in FIELDS)
    return array


def rows(array: np.ndarray) -> list[tuple[int, ...]]:
    return [tuple(int(value) for value in row) for row in array.tolist()]


def check_equal(engine: Engine, book: model.Book, now: int) -> None:
    expected = []
    for window in (7, 8):
        records = book.records(window)
        assert rows(engine.records(window)) == records
        w = book.windows[window]
        flags = model.HALTED * w.halted + model.UNFINISHED * (w.point is not None)
        work = book.work_left(window)
        assert rows(engine.work_left(window)) == work
        assert engine.flags_of(window) == flags
        edges = sorted(w.capacity)
        assert engine.residuals(window).ravel().tolist() == [w.residual[edge] for edge in edges]
        packed = b"".join(struct.pack("<QQqqIIiiIIIBBBBBBHI", *record) for record in records)
        if edges or flags:
            packed = b"".join((struct.pack("<iIQ", window, flags, len(packed)),
                               *(struct.pack("<QQQiiII", *row) for row in work),
                               *(struct.pack("<q", w.capacity[edge]) for edge in edges),
                               *(struct.pack("<q", w.residual[edge]) for edge in edges), packed))
        expected.append(packed)
        for zone in range(len(book.zones)):
            for side in (0, 1):
                for levels in (0, 1, 3, 1000):
                    assert rows(engine.depth(window, zone, side, levels, now_ms=now)) == book.depth(
                        window, zone, side, levels, now)
            best = [level[0][0] if (level := book.depth(window, zone, side, 1, -1)) else None for side in (0, 1)]
            assert engine.best(window, zone) == tuple(best)
    assert engine.digest() == digest(Domain.BOOK_DIGEST, *expected)
    assert engine.live == len(book.orders)


def check_stream(zones, corridors, profiles, batches, bounds=(1024, 8192)) -> model.Book:  # type: ignore[no-untyped-def]
    """Both run the batches; between them windows are loaded anew or the engine is restored from a snapshot."""
    engine = Engine(zones, corridors=corridors, profiles=profiles, max_orders=2000, max_windows=3)
    book = model.Book(zones, corridors, profiles)
    for window in (7, 8):
        engine.load(window, EMPTY)
        book.open(window)
    now = 0
    for step in batches:
        if step == "restore":
            before, saved = engine.digest(), engine.snapshot()
            engine = Engine(zones, corridors=corridors, profiles=profiles, max_orders=2000, max_windows=3)
            engine.restore(saved)
            assert engine.digest() == before and engine.snapshot() == saved
            continue
        if isinstance(step, str):
            for window in {"go on": (), "reload 7": (7,), "reload both": (8, 7)}[step]:
                kept = (engine.records(window), engine.capacities(window), engine.residuals(window))
                flags, left, before = engine.flags_of(window), engine.work_left(window), engine.digest()
                engine.forget(window)
                engine.load(window, kept[0], capacities=kept[1], residuals=kept[2], flags=flags, work_left=left)
                assert engine.digest() == before
            continue
        now += 10
        first = book.sequence
        trades, results, closed = book.process(step, now, *bounds)
        outcome = engine.process(operations(step), now_ms=now, next_sequence=first, uncross_fills=bounds[0],
                                 uncross_visits=bounds[1])
        assert rows(outcome.trades) == trades
        assert rows(outcome.results) == results
        assert rows(outcome.closed) == closed
        assert outcome.next_sequence == book.sequence
        touched = sorted({op.window for op in step})
        assert rows(outcome.work_left) == [row for window in touched for row in book.work_left(window)]
        assert (outcome.uncross_fills, outcome.uncross_visits) == (bounds[0] - book.uncross_fills,
                                                                   bounds[1] - book.uncross_visits)
        check_equal(engine, book, now)
    return book


GRID = [(0, 0), (2_000, 50_000), (0, 7_500), (30_000, 0)]
CORRIDORS = [(0, 1, 1_200, 20_000), (1, 2, 0, 10_000), (0, 2, 0, 30_000), (2, 3, 500, 4), (1, 2, 0, 10_000)]
PROFILES = [(0xFF, 0xFFFF), (0b10, 0xFFFF), (0xFF, 0b0101)]


def operation_strategy(draw, counter, zones, corridors, profiles, shape):  # type: ignore[no-untyped-def]
    """One operation; ids of earlier ones come up again, prices lie close together, quantities are small or huge."""
    window = draw(st.integers(7, 8))
    kinds = [model.PLACE] * 12 + [model.CANCEL] * 3 + [model.AMEND] * 3
    if shape["all"]:
        kinds += [model.BILATERAL] + [model.CAPACITY] * 3 + [model.HALT, model.RESUME, model.RESUME, model.UNCROSS]
    kind = draw(st.sampled_from(kinds))
    zone = draw(st.integers(0, len(zones) - 1))
    side = draw(st.integers(0, 1))
    quantity = draw(st.one_of(st.integers(1, 30).map(lambda lots: lots * 100),
                              st.sampled_from([100, 200, 10_000_000, 5_000_000])))
    loss, wheeling = zones[zone]
    base = shape["base"]
    fair = base if side else base * 1_000_000 // (1_000_000 - loss) + wheeling // 1000
    price = max(0, min((fair // 10 + draw(st.integers(-shape["near"], shape["near"]))) * 10, 1_000_000))
    if kind == model.CANCEL:
        return model.Operation(draw(st.integers(1, counter)), window=window, kind=kind)
    if kind == model.AMEND:
        return model.Operation(draw(st.integers(1, counter)), quantity if draw(st.integers(0, 5)) else 0, window=window,
                               kind=kind, price=price, flags=draw(st.sampled_from([0, 0, 4])))
    if kind == model.BILATERAL:
        return model.Operation(counter, quantity, window=window, kind=kind, price=price, zone=zone,
                               to_zone=draw(st.integers(0, len(zones) - 1)), path=draw(st.integers(0, 3)))
    if kind == model.CAPACITY:
        return model.Operation(quantity=draw(st.sampled_from([0, 50, 700, 1500, 3000, 100_000])), window=window,
                               kind=kind, side=side, corridor=draw(st.integers(0, max(0, len(corridors) - 1))))
    if kind != model.PLACE:
        return model.Operation(window=window, kind=kind)
    force = draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))
    flags = draw(st.integers(0, 2)) + (4 if force < 2 and draw(st.integers(0, 6)) == 0 else 0)
    minimum = display = 0
    if flags < 4 and force != 3 and draw(st.integers(0, 6)) == 0:
        minimum = draw(st.integers(1, quantity))
    if force < 2 and draw(st.integers(0, 3)) == 0:
        display = max(100, -(-quantity // 2000) * 100) * draw(st.integers(1, 3))
        display = min(display, quantity)
    return model.Operation(
        counter if draw(st.integers(0, 30)) else 1, quantity, draw(st.integers(1, 80)) if force == 1 else 0,
        draw(st.integers(0, 4)), counter, window, price, minimum, display, zone, kind, side, force, flags,
        0 if side else draw(st.integers(0, len(profiles) - 1)) if profiles else 0,
        draw(st.integers(0, 2)) if side else 0)


@st.composite
def streams(draw, zones, corridors, profiles):  # type: ignore[no-untyped-def]
    shape = {"base": draw(st.sampled_from([0, 4000, 4000, 40_950, 200_000])), "near": draw(st.integers(1, 30)),
             "all": draw(st.booleans())}
    batches: list[object] = []
    if corridors:
        batches.append([model.Operation(quantity=draw(st.sampled_from([0, 900, 5000, 10**9])), kind=model.CAPACITY,
                                        window=window, corridor=corridor, side=side)
                        for window in (7, 8) for corridor in range(len(corridors)) for side in (0, 1)])
    counter = group = 0
    for _ in range(draw(st.integers(1, 5))):
        batch = []
        for _ in range(draw(st.integers(0, 22))):
            counter += 1
            if draw(st.integers(0, 12)) == 0:
                group += 1
                for _ in range(draw(st.integers(0, 2))):
                    batch.append(model.Operation(draw(st.integers(1, counter)), window=draw(st.integers(7, 8)),
                                                 kind=model.CANCEL, group=group))
                for _ in range(draw(st.integers(1, 2))):
                    counter += 1
                    op = operation_strategy(draw, counter, zones, corridors, profiles, {**shape, "all": False})
                    batch.append(evolve(op, flags=op.flags & 3 | 4, group=group, minimum=0, kind=model.PLACE,
                                        quantity=max(op.quantity, 100), force=0, expires_ms=0, display=0))
                continue
            batch.append(operation_strategy(draw, counter, zones, corridors, profiles, shape))
        batches.append(batch)
        batches.append(draw(st.sampled_from(["go on", "go on", "reload 7", "reload both", "restore"])))
    return batches


SLOW = settings(max_examples=120, deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@SLOW
@given(streams(ZONES, [], []))
def test_zones_apart_equal_the_model(batches: list[object]) -> None:
    check_stream(ZONES, [], [], batches)


@SLOW
@given(streams(GRID, CORRIDORS, PROFILES),
       st.sampled_from([(1024, 8192), (1024, 8192), (3, 8192), (1024, 4), (1, 1), (0, 5)]))
def test_the_shared_book_equals_the_model(batches: list[object], bounds: tuple[int, int]) -> None:
    check_stream(GRID, CORRIDORS, PROFILES, batches, bounds)


# ---------------------------------------------------------------- limits, and the rules in numbers


def one(engine: Engine, op: model.Operation, sequence: int = 1, now: int = 0):  # type: ignore[no-untyped-def]
    outcome = engine.process(operations([op]), now_ms=now, next_sequence=sequence)
    return outcome.trades, rows(outcome.results)[0], outcome.closed


def opened(zones: list[tuple[int, int]] = ZONES, **limits: int) -> Engine:
    engine = Engine(zones, **limits)
    engine.load(0, EMPTY)
    return engine


def test_worked_example_of_a_fill() -> None:
    """L = 2 %, W = 0.15 THB/kWh: a seller's 1000 Wh deliver 980; buyer pays 4.00 x 1.0 kWh + 0.147 THB."""
    engine = opened([(20_000, 150_000)])
    one(engine, model.Operation(1, 1000, participant=1, price=4000, side=1))
    trades, result, closed = one(engine, model.Operation(2, 2000, participant=2, price=4240), 2)
    assert rows(trades) == [(1, 2, 980, 1000, 147_000, 0, 1020, 0, 0, 4000, 0, 0, 0, 0)]
    assert result == (2, 980, 1020, 1, 1, Code.RESTING)
    assert not len(closed)
    # Incoming sell: p = floor_to_tick((4240 x 980 - 147 000) / 1000) = floor_to_tick(4008.2) = 4000
    trades, result, closed = one(engine, model.Operation(3, 1000, participant=3, price=4000, side=1), 3)
    assert rows(trades)[0][2:5] == (980, 1000, 147_000) and trades["price_mthb_kwh"][0] == 4000
    assert result == (0, 1000, 0, 1, 1, Code.FILLED)
    # 40 Wh are left of the buy: below one lot, closed with the fill.
    assert rows(closed) == [(2, 40, 0, 0, 0, 2, 0, 0, Reason.BELOW_LOT)]


@pytest.mark.parametrize(("limit", "code"), [(4230, Code.RESTING), (4240, Code.FILLED)])
def test_one_tick_decides_whether_a_fill_is_admissible(limit: int, code: Code) -> None:
    """900 Wh take 919 Wh at 4000 and 135 000 uTHB wheeling: 3 811 000 uTHB <= 900 limit, from 4234.4 on."""
    engine = opened([(20_000, 150_000)])
    one(engine, model.Operation(1, 5000, participant=1, price=4000, side=1))
    _, result, _ = one(engine, model.Operation(2, 900, participant=2, price=limit), 2)
    assert result[5] == code
    assert 4000 * 919 + 135_000 == 3_811_000


def test_wheeling_rounds_half_up() -> None:
    """5 uTHB/kWh over 100, 200 and 300 Wh: 0.5, 1.0 and 1.5 uTHB."""
    engine = opened([(0, 5)])
    one(engine, model.Operation(1, 5000, participant=1, price=4000, side=1))
    wheels = []
    for number, quantity in enumerate((100, 200, 300), 2):
        trades, _, _ = one(engine, model.Operation(number, quantity, participant=2, price=4010), number)
        wheels.append(int(trades["wheel_uthb"][0]))
    assert wheels == [1, 1, 2]


def test_fills_of_one_operation_are_limited() -> None:
    engine = opened()
    count = MOST_FILLS + 5
    sells = [model.Operation(i, 100, participant=1, price=4000, side=1) for i in range(1, count + 1)]
    engine.process(operations(sells), now_ms=0, next_sequence=1)
    _, result, _ = one(engine, model.Operation(999, 100 * count, participant=2, price=4000), 500)
    assert result == (0, 12_800, 500, MOST_FILLS, MOST_FILLS, Code.CANCELLED_LIMIT)
    assert engine.live == 5


def test_visits_of_one_operation_are_limited_and_expired_orders_are_free() -> None:
    engine = opened()
    own = [model.Operation(i, 100, participant=1, price=4000, side=1) for i in range(1, MOST_VISITS + 3)]
    gone = [model.Operation(5000 + i, 100, 5, participant=3, price=3990, side=1, force=1) for i in range(2000)]
    engine.process(operations(own + gone), now_ms=0, next_sequence=1)
    _, result, closed = one(engine, model.Operation(9999, 100, participant=1, price=4000, flags=1), 9000, now=5)
    assert result == (0, 0, 100, MOST_VISITS, 0, Code.CANCELLED_LIMIT)
    assert engine.live == 2
    assert (closed["reason"] == Reason.EXPIRED).sum() == 2000
    assert (closed["reason"] == Reason.SELF_TRADE).sum() == MOST_VISITS


def test_a_window_that_is_not_loaded_changes_nothing() -> None:
    engine = opened()
    batch = operations([model.Operation(1, price=10), model.Operation(2, window=3)])
    with pytest.raises(WindowNotLoaded, match="operation 1 is for window 3"):
        engine.process(batch, now_ms=0, next_sequence=1)
    assert engine.live == 0
    with pytest.raises(WindowNotLoaded):
        engine.best(1 << 40, 0)


def test_a_full_engine_says_so_before_anything_changes() -> None:
    engine = opened(max_orders=3, max_windows=1)
    engine.process(operations([model.Operation(i, price=10) for i in (1, 2)]), now_ms=0, next_sequence=1)
    before = engine.digest()
    with pytest.raises(EngineFull, match="2 orders rest and 2 may join; the engine holds 3"):
        engine.process(operations([model.Operation(i, price=10) for i in (3, 4)]), now_ms=0, next_sequence=3)
    with pytest.raises(EngineFull):
        engine.load(1, EMPTY)
    assert engine.digest() == before


def test_every_order_on_a_page_of_its_own_fits() -> None:
    """The worst spread of prices within the bound: a level page for each order, twice over to reuse what was freed."""
    engine = opened([(0, 0)] * 7, max_orders=5000)
    for turn in range(2):
        ops = [model.Operation(i, price=(i * 64 % 100_001) * 10, zone=i % 7, participant=i) for i in range(1, 5001)]
        outcome = engine.process(operations(ops), now_ms=0, next_sequence=1 + turn * 5000)
        assert (outcome.results["code"] == Code.RESTING).all()
        ops = [model.Operation(i, kind=model.CANCEL) for i in range(1, 5001)]
        outcome = engine.process(operations(ops), now_ms=0, next_sequence=5001 + turn * 5000)
        assert (outcome.results["code"] == Code.CANCELLED).all()
    assert engine.live == 0


@pytest.mark.parametrize("ids", ["scattered", "dense", "equal low halves"])
def test_every_id_is_found_among_thousands(ids: str) -> None:
    """Orders come and go in random order; the index must not lose one when entries move up."""
    rng = np.random.default_rng(5)
    count = 6000
    names = {
        "scattered": rng.choice(np.arange(1, 1 << 40, 123_456_789, dtype=np.uint64), count, replace=False),
        "dense": np.arange(1, count + 1, dtype=np.uint64),
        "equal low halves": (np.arange(count, dtype=np.uint64) % 40 << np.uint64(32)) + np.arange(
            count, dtype=np.uint64) // 40,
    }[ids]
    engine = opened(max_orders=count)
    ops = np.zeros(count, OPERATION)
    ops["order_id"], ops["quantity_wh"], ops["price_mthb_kwh"] = names, 100, 10
    assert (engine.process(ops, now_ms=0, next_sequence=1).results["code"] == Code.RESTING).all()
    cancels = ops.copy()
    cancels["kind"] = model.CANCEL

    def codes(batch: np.ndarray, sequence: int) -> set[int]:
        return set(engine.process(batch, now_ms=0, next_sequence=sequence).results["code"].tolist())

    for _ in range(3):
        gone = rng.permutation(count)[: count // 2]
        assert codes(cancels[gone], 10**6) == {Code.CANCELLED}
        left = np.setdiff1d(np.arange(count), gone)
        assert codes(ops[left], 10**6) == {Code.DUPLICATE_ORDER}
        assert codes(cancels[gone], 10**6) == {Code.UNKNOWN_ORDER}
        engine.forget(0)
        engine.load(0, EMPTY)
        assert codes(ops, 1) == {Code.RESTING}


@pytest.mark.parametrize("bad", [-1, 0, 1 << 63, 2])
def test_sequences_must_rise(bad: int) -> None:
    engine = opened()
    one(engine, model.Operation(1, price=10), 2)
    with pytest.raises(BookError, match="next_sequence"):
        one(engine, model.Operation(2, price=10), bad)


def test_load_refuses_bad_records() -> None:
    engine = opened()
    one(engine, model.Operation(1, 500, participant=1, price=10), 1)
    one(engine, model.Operation(2, 500, participant=1, price=10), 2)
    records = engine.records(0)
    engine.forget(0)
    with pytest.raises(BookError, match="order"):
        engine.load(0, records[::-1])
    with pytest.raises(BookError, match="out of range"):
        engine.load(1, records)
    double = records.copy()
    double["order_id"] = 1
    with pytest.raises(BookError, match="rests already"):
        engine.load(0, double)
    assert engine.windows() == [] and engine.live == 0
    for field, value in (("quantity_wh", 99), ("price_mthb_kwh", 15), ("zone", 5), ("side", 2), ("sequence", 0),
                         ("flags", 3)):
        wrong = records.copy()
        wrong[field][1] = value
        with pytest.raises(BookError):
            engine.load(0, wrong)
    engine.load(0, records)
    with pytest.raises(BookError, match="loaded already"):
        engine.load(0, records)


def test_queries_check_their_arguments() -> None:
    engine = opened()
    for zone, side in ((5, 0), (-1, 0), (0, 2), (0, -1)):
        with pytest.raises(BookError):
            engine.depth(0, zone, side)
    for zones in ([], [(-1, 0)], [(500_001, 0)], [(0, 1_000_000_001)], [(0, 0)] * 17):
        with pytest.raises(BookError):
            Engine(zones)
    with pytest.raises(BookError):
        Engine(ZONES, max_orders=0)
    with pytest.raises(BookError):
        engine.process(np.zeros(3, np.uint8), now_ms=0, next_sequence=1)


# ---------------------------------------------------------------- arbitrary bytes


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=64 * 20), st.integers(0, 3), st.integers(0, 7))
def test_arbitrary_bytes_give_results_or_errors(raw: bytes, tame: int, offset: int) -> None:
    """From wild bytes to ones whose windows, kinds and zones are tamed so that they get further in."""
    usable = len(raw) // OPERATION.itemsize * OPERATION.itemsize
    ops = np.frombuffer(raw[:usable], OPERATION)
    if tame:
        ops = np.frombuffer(bytearray(b"x" * offset + raw[:usable]), OPERATION, offset=offset)     # unaligned, writable
        ops["window"] %= 2
    if tame > 1:
        for field, modulus in (("kind", 2), ("zone", 5), ("side", 2), ("force", 3), ("flags", 3), ("order_id", 8)):
            ops[field] %= modulus
        for field in ("profile", "reserved", "minimum_wh", "display_wh", "source", "to_zone", "path", "corridor",
                      "group"):
            ops[field] = 0
    if tame > 2:
        ops["price_mthb_kwh"] = ops["price_mthb_kwh"] % 100_001 * 10
        ops["quantity_wh"] = (ops["quantity_wh"] % 100_000 + 1) * 100
        ops["expires_ms"] = np.where(ops["force"] == 1, np.abs(ops["expires_ms"] % 1000) + 1, 0)
    engine = Engine(ZONES, max_orders=64, max_windows=3)
    engine.load(0, EMPTY)
    engine.load(1, EMPTY)
    before = engine.digest()
    try:
        outcome = engine.process(ops, now_ms=0, next_sequence=1)
    except BookError:
        assert engine.digest() == before
        return
    assert len(outcome.results) == len(ops)
    assert {int(code) for code in outcome.results["code"]} <= {int(code) for code in Code}
    rested = outcome.results["sequence"] != 0
    assert rested.sum() == outcome.next_sequence - 1
    for window in (0, 1):
        records = engine.records(window)
        engine.forget(window)
        engine.load(window, records)
    assert outcome.trades.dtype == TRADE and outcome.closed.dtype == CLOSED and outcome.results.dtype == RESULT


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=72 * 6))
def test_arbitrary_bytes_as_records(raw: bytes) -> None:
    records = np.frombuffer(raw[: len(raw) // 72 * 72], RESTING)
    engine = Engine(ZONES, max_orders=64, max_windows=3)
    try:
        engine.load(int(records["window"][0]) if len(records) else 0, records)
    except BookError:
        assert engine.windows() == [] and engine.live == 0
