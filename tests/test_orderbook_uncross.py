"""An uncrossing in pieces: whatever the bounds, it gets to the end, and to what one without bounds gives."""

from __future__ import annotations

import random

import model_orderbook as model
import numpy as np
import pytest
from long_orderbook import compare
from test_orderbook_model import CORRIDORS, EMPTY, GRID, PROFILES, operations, rows

from gridtokenx._native.orderbook import (
    HALTED_FLAG,
    TRADE,
    UNFINISHED_FLAG,
    WORK_LEFT,
    BookError,
    Code,
    Engine,
    Kind,
    Outcome,
)

WITHOUT_OPERATION = [name for name in TRADE.names or () if name != "operation"]


def crossed(seed: int) -> tuple[Engine, int]:
    """A halted window whose resting orders cross when it resumes: they came while no corridor could carry a lot."""
    rng = random.Random(seed)
    engine = Engine(GRID, corridors=CORRIDORS, profiles=PROFILES, max_orders=500, max_windows=1)
    engine.load(0, EMPTY)
    ops = []
    for number in range(1, 61):
        zone = rng.randrange(4)
        side = int(zone < 2) ^ (rng.random() < 0.15)
        quantity = rng.randrange(1, 30) * 100
        ops.append(model.Operation(
            number, quantity, participant=rng.randrange(8), price=4000 + 10 * rng.randrange(-15, 16) - 60 * side,
            zone=zone, side=side, flags=rng.randrange(3), profile=0 if side else rng.randrange(3),
            source=rng.randrange(2) * side, display=-(-quantity // 300) * 100 if rng.random() < 0.3 else 0))
    ops.append(model.Operation(kind=model.HALT))
    ops += [model.Operation(quantity=rng.choice([0, 2500, 50_000, 10**6]), kind=model.CAPACITY, corridor=corridor,
                            side=side) for corridor in range(len(CORRIDORS)) for side in (0, 1)]
    return engine, engine.process(operations(ops), now_ms=0, next_sequence=1).next_sequence


def one(engine: Engine, kind: int, sequence: int, fills: int, visits: int, **fields: int) -> Outcome:
    return engine.process(operations([model.Operation(kind=kind, **fields)]), now_ms=0, next_sequence=sequence,
                          uncross_fills=fills, uncross_visits=visits)


def reloaded(engine: Engine) -> None:
    kept = engine.records(0), engine.capacities(0), engine.residuals(0), engine.flags_of(0), engine.work_left(0)
    engine.forget(0)
    engine.load(0, kept[0], capacities=kept[1], residuals=kept[2], flags=kept[3], work_left=kept[4])


@pytest.mark.parametrize(("fills", "visits"), [(1, 1), (1, 3), (2, 1), (5, 2), (3, 1000)])
def test_pieces_give_what_the_whole_gives(fills: int, visits: int) -> None:
    made = interruptions = 0
    for seed in range(40):
        whole, sequence = crossed(seed)
        done = one(whole, Kind.RESUME, sequence, 1 << 20, 1 << 20)
        assert done.results["code"][0] == Code.DONE and not len(done.work_left) and not whole.flags_of(0)
        assert done.uncross_fills == len(done.trades) == done.results["fills"][0]

        engine, sequence = crossed(seed)
        piece = one(engine, Kind.RESUME, sequence, fills, visits)
        trades = [piece.trades]
        spent = [piece.uncross_fills, piece.uncross_visits]
        for _ in range(done.uncross_visits + 1):
            assert piece.uncross_fills <= fills and piece.uncross_visits <= visits
            assert rows(piece.work_left) == rows(engine.work_left(0))
            if piece.results["code"][0] == Code.DONE:
                break
            assert piece.results["code"][0] == Code.UNFINISHED and engine.flags_of(0) == UNFINISHED_FLAG
            interruptions += 1
            if interruptions % 3 == 0:
                reloaded(engine)
            piece = one(engine, Kind.UNCROSS, piece.next_sequence, fills, visits)
            assert piece.uncross_visits > 0 or piece.results["code"][0] == Code.DONE
            trades.append(piece.trades)
            spent = [spent[0] + piece.uncross_fills, spent[1] + piece.uncross_visits]
        assert spent == [done.uncross_fills, done.uncross_visits]
        assert np.array_equal(np.concatenate(trades)[WITHOUT_OPERATION], done.trades[WITHOUT_OPERATION])
        assert engine.digest() == whole.digest() and piece.next_sequence == done.next_sequence
        made += len(done.trades)
    assert made > 400 and interruptions > 200 // fills


def test_without_a_bound_left_only_the_point_is_found() -> None:
    engine, sequence = crossed(1)
    before = engine.records(0)
    first = one(engine, Kind.RESUME, sequence, 0, 0)
    assert rows(first.results)[0] == (0, 0, 0, 0, 0, Code.UNFINISHED) and not len(first.trades)
    point = first.work_left
    assert len(point) == 1 and point["again"][0] == 0 and np.array_equal(engine.records(0), before)
    assert rows(one(engine, Kind.UNCROSS, sequence, 1, 0).work_left) == rows(point)


def test_a_residual_that_rises_meanwhile_asks_for_another_pass() -> None:
    engine, sequence = crossed(1)
    one(engine, Kind.RESUME, sequence, 0, 0)
    # the same capacity again raises nothing
    one(engine, Kind.CAPACITY, sequence, 9, 9, quantity=int(engine.capacities(0)[2][0]), corridor=2)
    assert engine.work_left(0)["again"][0] == 0
    done = one(engine, Kind.CAPACITY, sequence, 1000, 1000, quantity=10**6, corridor=2)
    assert done.work_left["again"][0] == 1 and not len(done.trades) and done.results["code"][0] == Code.DONE
    assert engine.work_left(0)["again"][0] == 1


def test_the_buy_of_the_point_may_be_cancelled() -> None:
    engine, sequence = crossed(3)
    point = one(engine, Kind.RESUME, sequence, 0, 0).work_left
    order = next(record for record in engine.records(0) if record["sequence"] == point["sequence"][0])
    gone = one(engine, Kind.CANCEL, sequence, 0, 0, order_id=int(order["order_id"]))
    assert gone.results["code"][0] == Code.CANCELLED
    done = one(engine, Kind.UNCROSS, sequence, 1000, 1000)
    assert done.results["code"][0] == Code.DONE and not engine.flags_of(0) and len(done.trades)


def test_a_halt_keeps_the_point() -> None:
    engine, sequence = crossed(1)
    point = rows(one(engine, Kind.RESUME, sequence, 0, 0).work_left)
    one(engine, Kind.HALT, sequence, 9, 9)
    assert engine.flags_of(0) == HALTED_FLAG | UNFINISHED_FLAG
    assert one(engine, Kind.UNCROSS, sequence, 9, 9).results["code"][0] == Code.HALTED
    assert one(engine, Kind.RESUME, sequence, 9, 9).results["code"][0] == Code.DONE
    assert rows(engine.work_left(0)) == point and engine.flags_of(0) == UNFINISHED_FLAG


def test_load_refuses_a_point_that_does_not_fit() -> None:
    engine, sequence = crossed(1)
    point = one(engine, Kind.RESUME, sequence, 0, 0).work_left
    records, residuals = engine.records(0), engine.residuals(0)
    engine.forget(0)

    def load(flags: int, work_left: np.ndarray | None) -> None:
        engine.load(0, records, capacities=abs(residuals), residuals=residuals, flags=flags, work_left=work_left)

    for flags, work_left in ((UNFINISHED_FLAG, None), (0, point), (UNFINISHED_FLAG, np.concatenate([point, point]))):
        with pytest.raises(BookError, match="work left"):
            load(flags, work_left)
    for field, value in (("window", 1), ("price_mthb_kwh", 5), ("again", 2), ("reserved", 1), ("sequence", 0)):
        wrong = point.copy()
        wrong[field] = value
        with pytest.raises(BookError, match="out of range"):
            load(UNFINISHED_FLAG, wrong)
    with pytest.raises(BookError, match="WORK_LEFT"):
        load(UNFINISHED_FLAG, point["sequence"])
    load(UNFINISHED_FLAG, point)
    assert rows(engine.work_left(0)) == rows(point) and point.dtype == WORK_LEFT


@pytest.mark.parametrize("seed", [4559])
def test_streams_that_once_differed_from_the_model(seed: int) -> None:
    """4559: an order that goes on after an interruption and meets nobody more must not end the turn of those behind it,
    for whom nothing is closed yet."""
    compare(seed)
