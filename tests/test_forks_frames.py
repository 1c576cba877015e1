"""Tables of a fork: what they hold agrees with the state, adds up, and shows what an override changed."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest
from ledger_support import THB, genesis, key
from polars.testing import assert_frame_equal
from test_forks_override import BUYER, HOME, LINE, ROOF, SELLER, people, trade

import gridtokenx
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.forks import Chain
from gridtokenx.ledger.operations import PlaceOrder
from gridtokenx.ledger.spaces import trade as trade_key
from gridtokenx.market.orders import Side


def day(wheel: int | None = None) -> Chain:
    """Three traded, metered and settled windows, and an order that rests."""
    chain = people(gridtokenx.new_chain(genesis(rate=180, lines=(LINE,))))
    if wheel is not None:
        chain.override.zone(0, wheel_uthb_kwh=wheel)
    first = chain.window + 4
    for window in range(first, first + 3):
        trade(chain, window, 1_000 + 100 * (window - first))
    while chain.window < first + 9:
        chain.advance()
        over = chain.window - 1
        if first <= over < first + 3:
            chain.report(over, {ROOF: (1_050, 10), HOME: (0, 1_300)})
        elif over > first - 4:
            chain.report(over, {ROOF: (0, 0), HOME: (0, 0)})
    chain.send(BUYER, PlaceOrder(HOME, chain.window + 20, Side.BUY, 5_000, 700))
    return chain


@pytest.fixture(scope="module")
def chain() -> Chain:
    return day()


def test_trades_settle_into_bills_that_add_up(chain: Chain) -> None:
    trades, bills, settled = chain.frames.trades(), chain.frames.bills(), chain.frames.settlements()
    assert trades.height == 3
    assert trades["delivery"][1] - trades["delivery"][0] == timedelta(minutes=15)
    assert set(trades["buyer"]) == {encode_address(BUYER)} and set(trades["taker"]) == {"buy"}
    mine = bills.filter(owner=encode_address(BUYER))
    bought = mine.filter(rule="purchase")
    assert bought["amount_uthb"].sum() == trades["value_uthb"].sum()
    assert mine.filter(rule="wheeling")["amount_uthb"].sum() == trades["wheel_uthb"].sum()
    assert settled["pays_uthb"].sum() == bills["amount_uthb"].sum()
    assert settled.filter(meter=HOME)["bought_wh"].sum() == trades["delivered_wh"].sum()
    traded = settled.filter(pl.col("window").is_in(trades["window"].implode()))
    assert (traded["injected_wh"] + traded["bought_wh"] + traded["supplied_wh"]
            == traded["withdrawn_wh"] + traded["sold_wh"] + traded["taken_wh"]).all()


def test_trades_that_state_has_cleared_are_told_by_their_blocks() -> None:
    chain = day()
    before = chain.frames.trades()
    gone = trade_key(before["window"][1], before["number"][1])
    chain.edit(lambda session: session.put(gone, None))
    assert before.height == 3 and chain.record(gone) is None
    assert_frame_equal(chain.frames.trades(), before)
    del chain.blocks[:]
    assert_frame_equal(chain.frames.trades(), before[[0, 2]])


def test_energy_and_readings_agree(chain: Chain) -> None:
    readings, energy = chain.frames.readings(), chain.frames.energy()
    assert readings.filter(pl.col("withdrawn_wh") > 0).height == 6
    assert energy["minted_wh"].sum() == readings["injected_wh"].sum()
    measured = energy.filter(pl.col("window").is_in(readings["window"].implode()))
    assert measured["consumed_wh"].sum() == readings["withdrawn_wh"].sum()
    assert energy["sold_wh"].sum() == energy["bought_wh"].sum() + energy["losses_wh"].sum()


def test_accounts_and_orders_agree(chain: Chain) -> None:
    accounts, orders = chain.frames.accounts(), chain.frames.orders()
    assert orders.select("meter", "side", "remaining_wh").rows() == [(HOME, "buy", 700)]
    buyer, = accounts.filter(account=encode_address(BUYER)).rows(named=True)
    assert buyer["bids_uthb"] == chain.account(BUYER).bids > 0
    assert chain.frames.meters()["owner"].to_list() == [encode_address(SELLER), encode_address(BUYER)]
    assert chain.frames.prices()["trades"].sum() == 3
    assert chain.frames.flows()["net_forward_wh"].sum() == chain.frames.trades()["injected_wh"].sum()
    assert chain.frames.blocks()["height"].is_sorted()
    assert dict(chain.frames.parameters().select("parameter", "value").rows())["fee_ppm"] == 5_000


def test_an_empty_chain_has_empty_tables_of_the_same_columns() -> None:
    empty = gridtokenx.new_chain(genesis())
    full = day()
    for name in ("trades", "orders", "readings", "bills", "settlements", "energy", "prices", "flows", "blocks"):
        before, after = getattr(empty.frames, name)(), getattr(full.frames, name)()
        assert before.is_empty() and not after.is_empty(), name
        assert before.schema == after.schema, name


def test_the_difference_of_equal_chains_is_nothing(chain: Chain) -> None:
    assert chain.diff(day()).same
    other = day()
    other.override.balance(key("somebody").public, THB)
    found = other.diff(chain)
    assert not found.same
    assert found.accounts.rows() == [(encode_address(key("somebody").public), THB, 0, THB)]


def test_the_difference_shows_what_an_override_changed(chain: Chain) -> None:
    free = day(wheel=0)
    found = free.diff(chain)
    totals = dict(found.totals.select("measure", "change").rows())
    assert totals["traded.wheel_uthb"] < 0 == totals["traded.delivered_wh"]
    rules = dict(found.bills.filter(owner=encode_address(BUYER)).select("rule", "change").rows())
    assert rules["wheeling"] == totals["traded.wheel_uthb"]
    assert found.flows.is_empty()
    assert chain.diff(free).totals["change"].to_list() == [-change for change in found.totals["change"].to_list()]


def test_net_flows_are_those_of_the_corridors(chain: Chain) -> None:
    """As state keeps them, as long as it does; afterwards the trades still tell."""
    kept = chain.frames.flows().filter(pl.col("net_forward_wh") != 0).select("window", "corridor", "net_forward_wh")
    told = chain.frames.net_flows().select("window", "corridor", "net_forward_wh")
    assert kept.height and kept.rows() == told.rows()
