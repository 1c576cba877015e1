"""Parameters at the ends of their ranges, and work that must be weighed: what an adversary or a clumsy operator finds.
"""

from __future__ import annotations

import pytest
from ledger_support import FAR, FEE, REGISTRAR, REGULATOR, THB, key, trading_chain
from test_ledger_grid import GRID, H, crossed, grid_chain, order

from gridtokenx.grid.kinds import Network, Source, Voltage
from gridtokenx.ledger import spaces, weights
from gridtokenx.ledger.metering_records import Balance
from gridtokenx.ledger.operations import BilateralTrade, PublishTariff, RegisterMeter, SetAccountKeys, SetCapacity
from gridtokenx.ledger.receipts import Code
from gridtokenx.market.agreements import Agreement
from gridtokenx.market.clock import WINDOW_MS, window_at
from gridtokenx.market.orders import BUY, SELL


@pytest.mark.parametrize("bounds", [
    {"max_timed_weight": 1_000, "uncross_fills": 1},
    {"uncross_fills": 1, "uncross_visits": 1},
    {"max_timed_weight": 1_000, "uncross_fills": 4_096, "uncross_visits": 65_536},
])
def test_uncrossing_ends_whatever_the_bounds(bounds: dict[str, int]) -> None:
    chain, window = crossed(**bounds)
    chain.do(GRID, SetCapacity(0, window, window, 40_000, 0))
    for _ in range(40):
        if not chain.results[-1].unfinished:
            break
        chain.block()
    assert sum(len(result.trades) for result in chain.results) == 5
    assert chain.head.get(spaces.work_left(window)) is None


def test_uncrossing_leaves_room_for_what_caused_it() -> None:
    """The bounds allow more than a block's weight: the grid operator must be able to open a corridor all the same."""
    chain = grid_chain(max_block_weight=20_000, uncross_fills=4_096, uncross_visits=65_536, injection_w=400_000,
                       withdrawal_w=400_000)
    window = chain.window
    for side, house, meter, price in ((SELL, 0, 1, 4_000), (BUY, 1, 2, 5_000)):
        for _ in range(5):
            chain.do(H[house], *[order(chain, meter, side, price, 100)] * 64, fee=64 * FEE)
    chain.do(GRID, SetCapacity(0, window, window, 400_000, 0))
    assert 0 < len(chain.results[-1].trades) < 320
    while chain.results[-1].unfinished:
        chain.block()
    assert sum(len(result.trades) for result in chain.results) == 320


def test_a_class_that_is_only_announced_prices_no_window_that_delivers() -> None:
    """The price of a shortfall starts from the dearest class in force: an announced one must not reach back."""
    chain = trading_chain(1)
    window = window_at(chain.now_ms) + 1
    chain.until((window + 1) * WINDOW_MS)
    chain.do(REGULATOR, PublishTariff(5, "dear", Voltage.BELOW_12_KV, window + 1_000, 10**9, 10**9))
    chain.settle(window, {1: (0, 0)})
    balance = Balance.decode(chain.head.get(spaces.balance(window, 0)) or b"")
    assert balance.short_uthb_kwh == 7_152_600
    [refused] = chain.do(REGISTRAR, RegisterMeter(1, key("meter 1").public, 0, Network.PEA, Source.SOLAR, 5, 0, 0))
    assert refused.code is Code.UNKNOWN_TARIFF


def test_each_signature_under_a_bilateral_trade_weighs() -> None:
    found = []
    for signers in (1, 16):
        chain = trading_chain(2, loss_ppm=0, wheel=0, money=1_000 * THB)
        keys = sorted((key(f"signer {number}") for number in range(signers)), key=lambda signer: signer.public)
        chain.do(key("house 1"), SetAccountKeys(signers, tuple(signer.public for signer in keys)))
        terms = Agreement(1, 2, chain.window, 3_000, 1_000, (), FAR, b"1")
        outcomes = chain.do(key("house 0"), BilateralTrade(terms, tuple(sorted(
            terms.sign(signer, chain.genesis.chain_id) for signer in keys))))
        assert outcomes[0].code is Code.OK
        found.append(chain.results[-1].weight)
    assert found[1] - found[0] == 15 * weights.SIGNATURE
