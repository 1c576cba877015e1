"""Settlement stays in 64 bits at the bounds of all settings (`market.money`); what is beyond is refused when set."""

from __future__ import annotations

import pytest
from attrs import evolve
from certificate_support import plant
from ledger_support import ISSUER, REGISTRAR, REGULATOR, START_MS, TAX, THB, Chain, genesis, key, trading_chain

from gridtokenx.grid.kinds import Network, Role, Source, Voltage
from gridtokenx.ledger import spaces
from gridtokenx.ledger.genesis_state import SupplyRates
from gridtokenx.ledger.metering_records import Balance, Due, Settlement
from gridtokenx.ledger.operations import (
    Deposit,
    PlaceOrder,
    PublishRate,
    PublishTariff,
    RegisterMeter,
    RegisterParticipant,
)
from gridtokenx.ledger.operations.register_meter import MAX_POWER_W
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.records import Account, Totals
from gridtokenx.ledger.tariff_records import DEMAND_MOST, RATE_MOST, SERVICE_MOST, Series, Terms, Usage, tariff
from gridtokenx.market.clock import settles_ms
from gridtokenx.market.money import DEBT_MOST, DUES_MOST, SUPPLY_MOST
from gridtokenx.market.monthly import monthly_lines
from gridtokenx.market.orders import Side
from gridtokenx.market.rules import BillRule

H = [key(f"house {number}") for number in range(2)]
UTILITY = key("utility North")


def bill(chain: Chain, window: int, meter: int) -> Settlement:
    return Settlement.decode(chain.head.get(spaces.settlement(window, meter)) or b"")


def with_balance(chain: Chain, who: bytes, balance: int, **changes: int) -> None:
    """The account with another balance; what it has more or less counts as minted or burned."""
    before = Account.decode(chain.head.get(spaces.account(who)) or Account().encode())
    totals = Totals.decode(chain.head.get(spaces.TOTALS) or b"")
    more = balance - before.balance
    plant(chain, {spaces.account(who): evolve(before, balance=balance, **changes),
                  spaces.TOTALS: evolve(totals, minted_uthb=totals.minted_uthb + max(0, more),
                                        burned_uthb=totals.burned_uthb + max(0, -more))})


def test_what_could_overflow_is_refused_when_it_is_set() -> None:
    chain = Chain(genesis())
    chain.do(REGISTRAR, RegisterParticipant(H[0].public, "L", Role.PROSUMER, 0, 2 * START_MS))
    since = chain.window + 2
    good = PublishTariff(len(chain.genesis.tariffs), "dear", Voltage(0), since, RATE_MOST, RATE_MOST, SERVICE_MOST,
                         DEMAND_MOST)
    meter = RegisterMeter(1, key("m").public, 0, Network.PEA, Source.SOLAR, 0, MAX_POWER_W, MAX_POWER_W)
    for sender, operation, *changes in (
            (REGULATOR, good, {"on_peak": RATE_MOST + 1}, {"off_peak": RATE_MOST + 1}, {"service": SERVICE_MOST + 1},
             {"demand": DEMAND_MOST + 1}),
            (REGULATOR, PublishRate(Series.BUY_BACK, since, RATE_MOST), {"value": RATE_MOST + 1}),
            (REGULATOR, PublishRate(Series.FT, since, 10**7), {"value": 10**7 + 1}),
            (REGULATOR, PublishRate(Series.VAT, since, 500_000), {"value": 500_001}),
            (REGISTRAR, meter, {"injection_w": MAX_POWER_W + 1}, {"withdrawal_w": MAX_POWER_W + 1})):
        for change in changes:
            assert chain.do(sender, evolve(operation, **change))[0].code is Code.OUT_OF_RANGE, change
        assert chain.do(sender, operation)[0].code is Code.OK
    assert chain.do(ISSUER, Deposit(H[0].public, SUPPLY_MOST))[0].code is Code.SUPPLY_LIMIT


def test_the_lines_of_a_month_fit_at_their_bounds() -> None:
    terms = Terms(0, 0, 0, SERVICE_MOST, DEMAND_MOST, ((1, 0), (0, RATE_MOST)))
    month = MAX_POWER_W * 744
    lines = monthly_lines(terms, Usage(month, month, MAX_POWER_W // 4), 500_000)
    assert (1 << 60) < sum(amount for _, _, _, amount in lines) < 1 << 61


def test_every_setting_at_its_bound_settles() -> None:
    """Two meters of 10 GW, one without readings and nobody with money for it: three windows, and a correction."""
    dear = evolve(genesis(short_penalty_ppm=10_000_000, source_default_rate=10**9, price_band_ppm=1_000_000),
                  tariffs=(tariff("dear", RATE_MOST, RATE_MOST),), supply=SupplyRates(10**7, RATE_MOST, 500_000))
    chain = Chain(dear)
    chain.do(ISSUER, *[Deposit(house.public, 10**8 * THB) for house in H])
    chain.do(REGISTRAR, *[RegisterParticipant(house.public, f"L-{number}", Role.PROSUMER, 0, 2 * START_MS)
                          for number, house in enumerate(H)])
    chain.do(REGISTRAR, *[RegisterMeter(number + 1, key(f"meter {number}").public, 0, Network.PEA, Source.SOLAR, 0,
                                        MAX_POWER_W, MAX_POWER_W) for number in range(2)])
    window = chain.settling.window
    chain.do(H[0], PlaceOrder(1, chain.window, Side.SELL, 100_000, 10**7))
    chain.do(H[1], PlaceOrder(2, chain.window, Side.BUY, 200_000, 10**7))
    most = MAX_POWER_W // 4
    chain.settle(window, {1: (most, 0), 2: (0, most)})
    assert bill(chain, window, 1).lines == ((BillRule.BUY_BACK, most, RATE_MOST, -most * RATE_MOST // 1000),)
    chain.until(settles_ms(window + 2))
    assert chain.settling.window > window + 2
    owed = most * (RATE_MOST + 10**7) // 1000 * 3 // 2
    assert bill(chain, window + 1, 2).lines[2][3] == owed // 3
    assert chain.account(H[1]).dues > owed
    chain.report(window, {1: (0, most)}, revision=1)
    assert bill(chain, window, 1).revision == 1


def test_beyond_the_debt_that_a_utility_may_have_no_money_moves() -> None:
    chain = trading_chain(2)
    window = chain.settling.window
    with_balance(chain, UTILITY.public, -DEBT_MOST + 17_600_000)
    chain.settle(window, {1: (8_000, 0), 2: (0, 0)})                    # a buy-back of 17.6 THB: to the last unit
    assert chain.account(UTILITY).balance == -DEBT_MOST
    before = [chain.account(who).balance for who in (*H, UTILITY, TAX)]
    chain.settle(window + 1, {1: (8_000, 0), 2: (0, 500)})
    assert [chain.account(who).balance for who in (*H, UTILITY, TAX)] == before
    assert bill(chain, window + 1, 1).lines == ((BillRule.BUY_BACK, 8_000, 0, 0),)
    assert [line[3] for line in bill(chain, window + 1, 2).lines] == [0, 0, 0]
    zone = Balance.decode(chain.head.get(spaces.balance(window + 1, 0)) or b"")
    assert (zone.minted, zone.consumed, zone.supplied, zone.taken) == (8_000, 500, 500, 8_000)
    chain.report(window, {1: (9_000, 0)}, revision=1)                   # energy is corrected, its bill is not
    assert (bill(chain, window, 1).injected, bill(chain, window, 1).lines[0][3]) == (9_000, -17_600_000)
    assert [chain.account(who).balance for who in (H[0], UTILITY)] == [before[0], before[2]]
    chain.do(ISSUER, Deposit(UTILITY.public, 100 * THB))
    chain.settle(window + 2, {1: (8_000, 0), 2: (0, 0)})
    assert chain.account(H[0]).balance == before[0] + 17_600_000


@pytest.mark.parametrize("room", [0, 1_000])
def test_dues_end(room: int) -> None:
    """What is above is the utility's alone."""
    chain = trading_chain(1)
    with_balance(chain, H[0].public, 0, dues=DUES_MOST - room)
    plant(chain, {spaces.due(H[0].public, UTILITY.public): Due(DUES_MOST - room)})
    window = chain.settling.window
    chain.settle(window, {1: (0, 1_000)})
    assert chain.account(H[0]).dues == DUES_MOST
    assert Due.decode(chain.head.get(spaces.due(H[0].public, UTILITY.public)) or b"").amount_uthb == DUES_MOST
    assert chain.account(UTILITY).balance == -417_235 and chain.account(TAX).balance == 417_235
