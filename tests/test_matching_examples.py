"""The worked examples of docs/matching.md (2 and its quote are in test_orderbook_replay.py)."""

from __future__ import annotations

import numpy as np
import pytest

from gridtokenx._native.orderbook import OPERATION, RESTING, Code, Engine, Force, Kind, Reason

EMPTY = np.empty(0, RESTING)


class Market:
    """An engine with one window, driven order by order."""

    def __init__(self, zones=((0, 0),), corridors=(), capacity: int = 0) -> None:  # type: ignore[no-untyped-def]
        self.engine = Engine(zones, corridors=corridors)
        self.engine.load(0, EMPTY, capacities=np.full((len(corridors), 2), capacity, np.int64))
        self.sequence = 1

    def do(self, **fields: int):  # type: ignore[no-untyped-def]
        op = np.zeros(1, OPERATION)
        for name, value in fields.items():
            op[name] = value
        op["participant"] = op["order_id"]
        outcome = self.engine.process(op, now_ms=0, next_sequence=self.sequence)
        self.sequence = outcome.next_sequence
        return outcome

    def order(self, number: int, side: int, quantity: int, price: int, **fields: int):  # type: ignore[no-untyped-def]
        return self.do(order_id=number, side=side, quantity_wh=quantity, price_mthb_kwh=price, **fields)


def test_1_a_fill_inside_a_zone() -> None:
    market = Market([(20_000, 150_000)])
    market.order(1, 1, 1000, 4000)
    outcome = market.order(2, 0, 2000, 4240)
    trade = outcome.trades[0]
    assert (trade["delivered_wh"], trade["injected_wh"], trade["wheel_uthb"]) == (980, 1000, 147_000)
    assert trade["price_mthb_kwh"] * trade["injected_wh"] + trade["wheel_uthb"] == 4_147_000
    assert outcome.results["remaining_wh"][0] == 1020
    assert market.order(3, 1, 1000, 4000).trades["price_mthb_kwh"].tolist() == [4000]


def test_3_capacity_is_signed() -> None:
    market = Market([(0, 0), (0, 0)], [(0, 1, 0, 0)], 1000)
    market.order(1, 1, 600, 4000, zone=0)
    market.order(2, 0, 600, 4000, zone=1)
    assert market.engine.residuals(0).tolist() == [[400, 1600]]
    # 700 Wh are wanted where 400 can go; the rest waits, and trades when the corridor is widened, at the earlier price
    market.order(3, 1, 700, 3900, zone=0)
    assert market.order(4, 0, 700, 4000, zone=1).trades["delivered_wh"].tolist() == [400]
    assert market.engine.residuals(0).tolist() == [[0, 2000]]
    outcome = market.do(kind=Kind.CAPACITY, corridor=0, side=0, quantity_wh=2000)
    assert outcome.trades[["maker_id", "taker_id", "delivered_wh", "price_mthb_kwh"]].tolist() == [(3, 4, 300, 3900)]
    assert market.engine.residuals(0).tolist() == [[700, 2300]]


@pytest.mark.parametrize(("fields", "traded", "code", "resting"), [
    ({}, 300, Code.RESTING, 200),
    ({"force": Force.IOC}, 300, Code.CANCELLED_IOC, 0),
    ({"force": Force.FOK}, 0, Code.KILLED, 0),
    ({"flags": 4}, 0, Code.WOULD_TRADE, 0),
    ({"minimum_wh": 300}, 300, Code.RESTING, 200),
    ({"minimum_wh": 400}, 0, Code.RESTING, 500),
    ({"minimum_wh": 400, "force": Force.IOC}, 0, Code.KILLED, 0),
])
def test_4_conditions(fields: dict[str, int], traded: int, code: Code, resting: int) -> None:
    market = Market()
    market.order(1, 1, 300, 4000)
    outcome = market.order(2, 0, 500, 4000, **fields)
    assert outcome.trades["delivered_wh"].sum() == traded and outcome.results["code"][0] == code
    buys = market.engine.records(0)
    assert buys["quantity_wh"][buys["side"] == 0].sum() == resting


def test_4_an_iceberg_has_four_slices() -> None:
    market = Market()
    market.order(1, 1, 1000, 4000, display_wh=300)
    market.order(2, 1, 100, 4000)
    outcome = market.order(3, 0, 1100, 4000)
    # the first slice, the order behind it, then the other slices
    assert outcome.trades[["maker_id", "delivered_wh"]].tolist() == [(1, 300), (2, 100), (1, 300), (1, 300), (1, 100)]
    assert (outcome.closed["reason"] == Reason.SLICE).sum() == 3


def test_4_an_amend_down_keeps_its_place() -> None:
    for total, price, first in ((800, 4000, 1), (1200, 4000, 2), (1000, 4000, 2), (800, 4010, 2)):
        market = Market()
        market.order(1, 1, 1000, 4000)
        market.order(2, 1, 1000, 4000)
        market.do(kind=Kind.AMEND, order_id=1, quantity_wh=total, price_mthb_kwh=price)
        assert market.order(3, 0, 100, 4010).trades["maker_id"].tolist() == [first]
