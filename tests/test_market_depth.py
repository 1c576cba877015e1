"""Depth that follows the blocks equals depth read from the state, landed depth the engine's; what a window does."""

from __future__ import annotations

import numpy as np
import pytest
from ledger_support import Chain
from test_ledger_grid import GRID, OPERATOR, H, grid_chain, moved_chain, order
from test_ledger_streams import play, stream_chain

from gridtokenx._native.orderbook import Engine
from gridtokenx.ledger import market_queries, queries, tariff_queries
from gridtokenx.ledger.depth import WindowDepth, landed
from gridtokenx.ledger.operations import HaltWindows, SetCapacity
from gridtokenx.ledger.queries import market_clock
from gridtokenx.ledger.session import Session
from gridtokenx.market.clock import gate_ms, window_at
from gridtokenx.market.loading import window_content
from gridtokenx.market.orders import BUY, SELL


@pytest.mark.parametrize("seed", [3, 4])
def test_depth_follows_the_blocks(seed: int) -> None:
    chain = stream_chain(uncross_fills=4_000, uncross_visits=60_000)
    kept: dict[int, WindowDepth] = {}
    compared = 0

    def look(chain: Chain, number: int) -> None:
        nonlocal compared
        now_ms = market_clock(chain.head).now_ms
        for window in range(window_at(now_ms), window_at(now_ms) + 4):
            kept.setdefault(window, WindowDepth(chain.results[-2].state, window) if number % 2 and len(
                chain.results) > 1 else WindowDepth(chain.head, window))
        for window, depth in kept.items():
            depth.follow(chain.head.changes.items())
            depth.at(now_ms)
            for zone in range(3):
                book = queries.book(chain.head, window, zone, 5)
                assert (depth.side(zone, BUY, 5), depth.side(zone, SELL, 5)) == (book["bids"], book["asks"])
                compared += len(book["bids"]) + len(book["asks"])
            assert queries.prices(chain.head, window, depth.side) == queries.prices(chain.head, window)
            assert tariff_queries.indicative_prices(chain.head, window, depth.energy) == (
                tariff_queries.indicative_prices(chain.head, window))

    play(chain, seed, 40, each=look)
    assert compared > 100


def test_landed_depth_is_the_engines() -> None:
    chain = stream_chain()
    play(chain, 5, 12)
    rows = 0
    for window in range(window_at(chain.now_ms) + 2, window_at(chain.now_ms) + 5):
        content = window_content(Session(chain.head, 1 << 40), window, 3)
        engine: Engine = chain.genesis.books().engine
        engine.load(window, content.records, capacities=content.capacities, residuals=content.residuals)
        depth = WindowDepth(chain.head, window)
        depth.at(chain.now_ms)
        residuals = market_queries.residuals(chain.head, window)
        assert np.array_equal(engine.residuals(window), [[r.forward_left_wh, r.backward_left_wh] for r in residuals])
        for zone in range(3):
            for side, other in ((BUY, SELL), (SELL, BUY)):
                routes = [(far, number, path) for far in range(3)
                          for number, path in enumerate(engine.paths(*((far, zone) if side == BUY else (zone, far))))]
                found = landed(depth, routes, residuals, side, 20)
                expected = engine.landed_depth(window, zone, other, 20, now_ms=chain.now_ms)
                assert [(row["zone"], row["number"], row["price_mthb_kwh"], row["orders"], row["shown_wh"])
                        for row in found] == [row[1:] for row in expected]
                for row, (fraction, *_) in zip(found, expected, strict=True):
                    exact = fraction[0] * 1000, fraction[1]
                    assert row["landed_uthb_kwh"] == (-(-exact[0] // exact[1]) if side == BUY else exact[0] // exact[1])
                rows += len(found)
    assert rows > 10


def test_what_a_window_does_and_what_corridors_carry() -> None:
    chain = grid_chain()
    window = chain.window
    assert market_queries.trading(chain.head, window)["phase"] == "open"
    assert market_queries.trading(chain.head, window + 5_000)["phase"] == "early"
    assert market_queries.trading(chain.head, window - 8)["phase"] == "closed"
    chain.do(OPERATOR, HaltWindows(window, window + 1, True))
    found = market_queries.trading(chain.head, window)
    assert (found["phase"], found["halted_until_ms"]) == ("halted", None)
    assert market_queries.halts(chain.head, 10) == [
        {"window": window, "halted_until_ms": None}, {"window": window + 1, "halted_until_ms": None}]
    assert len(market_queries.halts(chain.head, 1)) == 1
    chain.do(OPERATOR, HaltWindows(window, window + 1, False))
    assert market_queries.halts(chain.head, 10) == []
    chain.do(GRID, SetCapacity(0, window, window, 4_000, 2_000))
    chain.do(H[0], order(chain, 1, SELL, 4000, 300))
    chain.do(H[1], order(chain, 2, BUY, 5000, 300))
    [row] = market_queries.capacities(chain.head, window)
    assert (row["forward_wh"], row["forward_left_wh"], row["backward_wh"], row["backward_left_wh"]) == (
        1_000, 700, 500, 800)
    assert market_queries.profiles(chain.head)[0]["profile"] == 0


def test_the_breakers_count_is_shown() -> None:
    chain, window = moved_chain()
    for number in range(5, 9):
        chain.do(H[number], order(chain, number + 1, SELL, 3000, 24_000, window))
    shown = market_queries.trading(chain.head, window)["breaker"]
    assert (shown["injected_wh"], shown["buyers"], shown["sellers"], shown["average_mthb_kwh"]) == (
        96_000, 4, 4, 7000)
    chain.do(H[9], order(chain, 10, SELL, 3000, 24_000, window))
    found = market_queries.trading(chain.head, window)
    assert found["phase"] == "halted" and found["halted_until_ms"] < gate_ms(window)
    assert found["breaker"]["injected_wh"] == 0

