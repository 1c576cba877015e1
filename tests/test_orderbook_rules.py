"""Rules of the book that random streams seldom decide, each in one small case with its numbers written out."""

from __future__ import annotations

import model_orderbook as model
import numpy as np
import pytest
from test_orderbook_model import one, opened, operations, rows

from gridtokenx._native.orderbook import RESTING, Code, Engine, Reason

EMPTY = np.empty(0, RESTING)


def sell(order_id: int, **other: int) -> model.Operation:
    return model.Operation(order_id, **{"participant": 1, "price": 4000, "side": 1, "quantity": 1000, **other})


def buy(order_id: int, **other: int) -> model.Operation:
    return model.Operation(order_id, **{"participant": 2, "price": 4000, "quantity": 1000, **other})


@pytest.mark.parametrize(("now", "code"), [(4, Code.FILLED), (5, Code.RESTING), (6, Code.RESTING)])
def test_an_order_is_expired_from_its_very_millisecond(now: int, code: Code) -> None:
    engine = opened()
    one(engine, sell(1, force=1, expires_ms=5))
    assert len(engine.depth(0, 0, 1, now_ms=now)) == (now < 5)
    _, result, closed = one(engine, buy(2), 2, now)
    assert result[5] == code and result[3] == (now < 5)      # expired: no visit
    assert [row[8] for row in rows(closed)] == ([] if now < 5 else [Reason.EXPIRED])


@pytest.mark.parametrize("now", [4, 5])
def test_an_expired_order_neither_enters_nor_changes(now: int) -> None:
    engine = opened()
    one(engine, sell(1, force=1, expires_ms=5))
    _, amended, _ = one(engine, sell(1, kind=model.AMEND, quantity=900), 2, now)
    assert amended[5] == (Code.REDUCED if now < 5 else Code.EXPIRED)
    _, placed, _ = one(engine, sell(2, force=1, expires_ms=5), 2, now)
    assert placed[5] == (Code.RESTING if now < 5 else Code.EXPIRED)


@pytest.mark.parametrize(("now", "traded"), [(4, True), (5, False)])
def test_an_expired_order_does_not_uncross(now: int, traded: bool) -> None:
    for expiring in (0, 1):
        engine = Engine([(0, 0), (0, 0)], corridors=[(0, 1, 0, 0)])
        engine.load(0, EMPTY)
        times = [{"force": 1, "expires_ms": 5} if side == expiring else {} for side in (0, 1)]
        engine.process(operations([buy(1, **times[0]), sell(2, zone=1, **times[1])]), now_ms=0, next_sequence=1)
        outcome = engine.process(operations([model.Operation(kind=model.CAPACITY, corridor=0, side=1, quantity=1000)]),
                                 now_ms=now, next_sequence=3)
        assert len(outcome.trades) == traded


def test_an_operation_makes_128_fills() -> None:
    engine = opened()
    engine.process(operations([sell(i, quantity=100) for i in range(1, 131)]), now_ms=0, next_sequence=1)
    _, result, _ = one(engine, buy(999, quantity=12_900), 500)
    assert result == (0, 12_800, 100, 128, 128, Code.CANCELLED_LIMIT)
    engine = opened()
    engine.process(operations([sell(i, quantity=100) for i in range(1, 131)]), now_ms=0, next_sequence=1)
    assert one(engine, buy(999, quantity=12_800), 500)[1] == (0, 12_800, 0, 128, 128, Code.FILLED)


def test_an_operation_makes_1024_visits() -> None:
    """Own orders are visited and cancelled: the one behind 1023 of them is still reached, that behind 1024 is not."""
    for own, code in ((1023, Code.FILLED), (1024, Code.CANCELLED_LIMIT)):
        engine = opened()
        batch = [sell(i, quantity=100, participant=2) for i in range(1, own + 1)] + [sell(5000, quantity=100)]
        engine.process(operations(batch), now_ms=0, next_sequence=1)
        _, result, _ = one(engine, buy(9999, quantity=100, flags=model.OLDEST), 5000)
        assert result[3] == 1024 and result[5] == code


def test_expired_orders_count_neither_as_visit_nor_as_fill() -> None:
    engine = opened()
    batch = [sell(i, quantity=100, price=3990, force=1, expires_ms=5) for i in range(1, 1201)] + [sell(5000)]
    engine.process(operations(batch), now_ms=0, next_sequence=1)
    _, result, closed = one(engine, buy(9999), 5000, now=5)
    assert result == (0, 1000, 0, 1, 1, Code.FILLED) and len(closed) == 1200


@pytest.mark.parametrize("last", ["an order that would trade", "a cancel after an order", "a cancel of nothing"])
def test_a_group_that_fails_leaves_nothing_behind(last: str) -> None:
    """Its cancels, its first order and the sequence that this took."""
    engine = opened()
    one(engine, sell(1))
    one(engine, sell(2, price=4100), 2)
    before = engine.records(0).tobytes()
    post = {"flags": model.POST_ONLY, "group": 7}
    batch = [model.Operation(2, kind=model.CANCEL, group=7), buy(3, price=3990, **post),
             {"an order that would trade": buy(4, **post),
              "a cancel after an order": model.Operation(1, kind=model.CANCEL, group=7),
              "a cancel of nothing": model.Operation(99, kind=model.CANCEL, group=7)}[last]]
    outcome = engine.process(operations(batch), now_ms=0, next_sequence=3)
    codes = outcome.results["code"].tolist()
    assert codes[:2] == [Code.GROUP_REFUSED] * 2
    assert codes[2] == (Code.WOULD_TRADE if last == "an order that would trade" else Code.INVALID)
    assert engine.records(0).tobytes() == before and outcome.next_sequence == 3 and not len(outcome.closed)
    good = engine.process(operations(batch[:2]), now_ms=0, next_sequence=3)
    assert good.results["code"].tolist() == [Code.CANCELLED, Code.RESTING] and good.next_sequence == 4


def stuck() -> Engine:
    """Two crossing pairs over a corridor that has just opened, and a bound of one fill: work is left."""
    engine = Engine([(0, 0), (0, 0)], corridors=[(0, 1, 0, 0)])
    engine.load(0, EMPTY)
    engine.process(operations([buy(1), buy(2), sell(3, zone=1), sell(4, zone=1)]), now_ms=0, next_sequence=1)
    opening = operations([model.Operation(kind=model.CAPACITY, corridor=0, side=1, quantity=5000)])
    outcome = engine.process(opening, now_ms=0, next_sequence=5, uncross_fills=1)
    assert outcome.results["code"].tolist() == [Code.UNFINISHED] and len(outcome.trades) == 1
    return engine


def test_a_window_with_work_left_accepts_only_cancels() -> None:
    engine = stuck()
    assert one(engine, buy(9), 5)[1][5] == Code.WORK_LEFT
    assert one(engine, sell(9, flags=model.POST_ONLY), 5)[1][5] == Code.WORK_LEFT
    assert one(engine, buy(2, kind=model.AMEND, quantity=900), 5)[1][5] == Code.WORK_LEFT
    assert one(engine, model.Operation(9, kind=model.BILATERAL, price=10), 5)[1][5] == Code.WORK_LEFT
    assert one(engine, model.Operation(2, kind=model.CANCEL), 5)[1][5] == Code.CANCELLED
    trades, result, _ = one(engine, model.Operation(kind=model.UNCROSS), 5)
    assert result[5] == Code.DONE and not len(trades)
    assert one(engine, buy(9), 5)[1][5] == Code.FILLED


def test_a_halted_window_accepts_only_cancels() -> None:
    engine = opened()
    one(engine, buy(1))
    assert one(engine, model.Operation(kind=model.HALT), 2)[1][5] == Code.DONE
    assert one(engine, buy(9), 2)[1][5] == Code.HALTED
    assert one(engine, buy(1, kind=model.AMEND, quantity=900), 2)[1][5] == Code.HALTED
    assert one(engine, model.Operation(9, kind=model.BILATERAL, price=10), 2)[1][5] == Code.HALTED
    assert one(engine, model.Operation(1, kind=model.CANCEL), 2)[1][5] == Code.CANCELLED
    assert one(engine, model.Operation(kind=model.RESUME), 2)[1][5] == Code.DONE
    assert one(engine, buy(9), 2)[1][5] == Code.RESTING


def test_a_path_may_lose_half_and_no_more() -> None:
    engine = Engine([(200_000, 0), (200_000, 0)], corridors=[(0, 1, 100_000, 0), (0, 1, 100_001, 0)])
    assert [path.corridors for path in engine.paths(0, 1)] == [(0,)]


def test_an_ordered_pair_has_8_paths_of_at_most_6_corridors() -> None:
    parallel = Engine([(0, 0)] * 2, corridors=[(0, 1, 0, 0)] * 9)
    assert [path.corridors for path in parallel.paths(0, 1)] == [(number,) for number in range(8)]
    chain = Engine([(0, 0)] * 8, corridors=[(zone, zone + 1, 0, 0) for zone in range(7)])
    assert len(chain.paths(0, 6)) == 1 and chain.paths(0, 7) == []


def test_paths_are_ordered_by_number_of_corridors_before_ids() -> None:
    """Equal prices go over the shorter path, whatever its corridors' ids."""
    engine = Engine([(0, 0)] * 3, corridors=[(0, 1, 0, 0), (1, 2, 0, 0), (0, 2, 0, 0)])
    assert [path.corridors for path in engine.paths(0, 2)] == [(2,), (0, 1)]
    engine.load(0, EMPTY, capacities=np.full((3, 2), 10_000, np.int64))
    one(engine, sell(1))
    trades, _, _ = one(engine, buy(2, zone=2), 2)
    assert trades["path"].tolist() == [0]
    assert engine.residuals(0).tolist() == [[10_000, 10_000], [10_000, 10_000], [9_000, 11_000]]


@pytest.mark.parametrize(("capacity", "delivered"), [(100, [100]), (99, []), (199, [199])])
def test_a_path_is_open_from_a_lot_on(capacity: int, delivered: list[int]) -> None:
    engine = Engine([(0, 0)] * 2, corridors=[(0, 1, 0, 0)])
    engine.load(0, EMPTY, capacities=np.full((1, 2), capacity, np.int64))
    one(engine, sell(1, quantity=1000))
    trades, _, _ = one(engine, buy(2, quantity=1000, zone=1), 2)
    assert trades["delivered_wh"].tolist() == delivered
    # what a fill gave back may be traded the other way, and no more
    one(engine, sell(3, quantity=1000, zone=1, price=3000), 3)
    assert engine.residuals(0).sum() == 2 * capacity


@pytest.mark.parametrize("field", ["price", "quantity", "display", "minimum"])
def test_what_is_not_on_tick_or_lot_is_invalid(field: str) -> None:
    engine = opened()
    good = {"price": 4000, "quantity": 2000, "display": 100, "minimum": 2000}
    bad = {"price": 4005, "quantity": 2050, "display": 150, "minimum": 2001}
    base = {"quantity": 2000, field: good[field]}
    assert one(engine, buy(1, **base))[1][5] == Code.RESTING
    assert one(engine, buy(2, **{**base, field: bad[field]}), 2)[1][5] == Code.INVALID


def test_an_iceberg_shows_a_twentieth_at_least() -> None:
    engine = opened()
    assert one(engine, buy(1, quantity=2000, display=100))[1][5] == Code.RESTING
    assert one(engine, buy(2, quantity=2100, display=100), 2)[1][5] == Code.INVALID
    assert one(engine, buy(1, kind=model.AMEND, quantity=2100), 2)[1][5] == Code.INVALID


def test_time_decides_between_zones_anew_after_every_fill() -> None:
    engine = Engine([(0, 0), (0, 0)], corridors=[(0, 1, 0, 0)])
    engine.load(0, EMPTY, capacities=np.full((1, 2), 10_000, np.int64))
    engine.process(operations([sell(number, zone=number % 2) for number in (1, 2, 3)]), now_ms=0, next_sequence=1)
    trades, _, _ = one(engine, buy(9, quantity=3000), 9)
    assert trades["maker_id"].tolist() == [1, 2, 3]
    engine.process(operations([buy(number, zone=number % 2) for number in (11, 12, 13)]), now_ms=0, next_sequence=20)
    trades, _, _ = one(engine, sell(19, quantity=3000), 30)
    assert trades["maker_id"].tolist() == [11, 12, 13]


def test_a_price_beyond_the_limit_is_searched_as_far_as_rounding_reaches() -> None:
    """W = 4 uTHB/kWh: 100 Wh land at 4000.004 mTHB/kWh, and their wheeling of 0.4 uTHB rounds to 0."""
    for side in (0, 1):
        engine = opened([(0, 4)])
        first, second = (buy, sell) if side else (sell, buy)
        one(engine, first(1, quantity=100))
        trades, result, _ = one(engine, second(2, quantity=100), 2)
        assert result[5] == Code.FILLED and rows(trades)[0][2:5] == (100, 100, 0)
