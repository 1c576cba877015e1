"""Settlement of one meter and window as plain arithmetic (MARKET 7): energy, prices, lines of the bill. No state.

Energy Wh, rates uTHB/kWh, money uTHB. A line is `round_half_up(Wh x rate / 1000)`, debited and credited alike.
"""

from __future__ import annotations

from attrs import frozen

from gridtokenx.ledger.metering_records import Line, Traded
from gridtokenx.market.money import PPM, round_half_up
from gridtokenx.market.rules import BillRule

MTHB = 1000     # uTHB in one mTHB
KWH = 1000      # Wh in one kWh

# As numbers: lines hold these, and an enumeration's members cost more to look up.
_PURCHASE, _WHEELING, _TRADE_FEE, _TRADE_VAT, _SALE = map(int, (
    BillRule.PURCHASE, BillRule.WHEELING, BillRule.TRADE_FEE, BillRule.TRADE_VAT, BillRule.SALE))
ENERGY, _FT, _SUPPLY_VAT, _BUY_BACK, _SHORTFALL, _SURPLUS, _SHORTFALL_VAT = map(int, (
    BillRule.ENERGY, BillRule.FT, BillRule.SUPPLY_VAT, BillRule.BUY_BACK, BillRule.SHORTFALL, BillRule.SURPLUS,
    BillRule.SHORTFALL_VAT))
TRADE_RULES = frozenset((_PURCHASE, _WHEELING, _TRADE_FEE, _TRADE_VAT, _SALE))
TAX_RULES = frozenset((_SUPPLY_VAT, _SHORTFALL_VAT))


@frozen
class Cover:
    """How a meter ends at zero: what the utility supplies, (a) and (c), and takes, (b) and (d) of MARKET 7.2."""

    withdrawn_uncovered: int    # (a)
    injected_unsold: int        # (b)
    sold_uncovered: int         # (c)
    bought_unused: int          # (d)

    @property
    def supplied(self) -> int:
        return self.withdrawn_uncovered + self.sold_uncovered

    @property
    def taken(self) -> int:
        return self.injected_unsold + self.bought_unused


def cover(injected: int, withdrawn: int, bought: int, sold: int) -> Cover:
    """Sales use injection first, then purchases; what purchases are left covers withdrawal."""
    resold = sold - injected if sold > injected else 0
    left = bought - resold if bought > resold else 0
    return Cover(withdrawn - left if withdrawn > left else 0, injected - sold if injected > sold else 0,
                 resold - bought if resold > bought else 0, left - withdrawn if left > withdrawn else 0)


def estimated_withdrawal(bought: int, sold: int, highest_measured: int | None, withdrawal_w: int) -> int:
    """What a meter without a reading is taken to have withdrawn, injection being 0 (MARKET 7.6).

    `highest_measured` is of that quarter-hour in the last 28 days, None if there is none.
    """
    resold = min(bought, sold)      # without injection, sales are made from purchases
    return max(bought - resold, withdrawal_w // 4 if highest_measured is None else highest_measured)


# ------------------------------------------------------------------ prices


def short_price(highest_retail: int, penalty_ppm: int, buy_back: int) -> int:
    """Of energy sold but neither injected nor bought: the highest retail rate of any class and a penalty.

    Never below the buy-back rate, so that `short >= long` always.
    """
    return max(buy_back, round_half_up(highest_retail * (PPM + penalty_ppm), PPM))


def long_price(buy_back: int, lowest_trade_mthb: int | None) -> int:
    """Of energy bought but neither withdrawn nor resold; None: the zone had no trade in the window."""
    return buy_back if lowest_trade_mthb is None else min(buy_back, lowest_trade_mthb * MTHB)


@frozen
class Prices:
    """What a meter's energy beside its trades costs in a window: retail by its own class."""

    energy: int
    ft: int             # as charged: retail - energy, so that retail is never below zero
    buy_back: int
    short: int
    long: int
    vat_ppm: int


FREE = Prices(0, 0, 0, 0, 0, 0)
"""Of a zone whose utility owes as much as any may (`market.money`): energy is counted, and no money moves."""


# ------------------------------------------------------------------ lines


def line(rule: int, quantity_wh: int, rate: int, sign: int = 1) -> Line:
    return (int(rule), quantity_wh, rate, sign * round_half_up(quantity_wh * rate, KWH))


def supply_lines(energy: Cover, prices: Prices) -> list[Line]:
    """What the owner settles with the zone's utility, and the VAT on what the utility supplied."""
    lines: list[Line] = []
    wh = energy.withdrawn_uncovered
    if wh:
        lines += [line(ENERGY, wh, prices.energy), line(_FT, wh, prices.ft)]
        vat = round_half_up((lines[0][3] + lines[1][3]) * prices.vat_ppm, PPM)
        lines.append((_SUPPLY_VAT, wh, prices.vat_ppm, vat))
    if energy.injected_unsold:
        lines.append(line(_BUY_BACK, energy.injected_unsold, prices.buy_back, -1))
    wh = energy.sold_uncovered
    if wh:
        shortfall = line(_SHORTFALL, wh, prices.short)
        lines += [shortfall, (_SHORTFALL_VAT, wh, prices.vat_ppm,
                              round_half_up(shortfall[3] * prices.vat_ppm, PPM))]
    if energy.bought_unused:
        lines.append(line(_SURPLUS, energy.bought_unused, prices.long, -1))
    return sorted(lines)


def trade_lines(traded: Traded, bought: int, sold: int) -> list[Line]:
    """The meter's trades, each line the sum of their own rounded amounts. They have many rates: 0 is given."""
    t = traded
    lines: list[Line] = []
    if bought:
        for rule, amount in ((_PURCHASE, t.purchase_uthb), (_WHEELING, t.wheel_uthb),
                             (_TRADE_FEE, t.fee_uthb), (_TRADE_VAT, t.vat_uthb)):
            lines.append((rule, bought, 0, amount))
    if sold:
        lines.append((_SALE, sold, 0, -t.sale_uthb))
    return lines


def dues_of(lines: tuple[Line, ...] | list[Line]) -> tuple[int, int]:
    """(to the utility, to the tax account) that the owner pays by the lines beside its trades; may be below zero."""
    utility = tax = 0
    for rule, _, _, amount in lines:
        if rule in TAX_RULES:
            tax += amount
        elif rule not in TRADE_RULES:
            utility += amount
    return utility, tax


# ------------------------------------------------------------------ physical balance


def residual(injected: int, imported: int, withdrawn: int, exported: int, loss_ppm: int) -> int:
    """Metered energy of a zone that neither its consumption nor its assumed losses explain (MARKET 7.7)."""
    entered = injected + imported
    return entered - withdrawn - exported - round_half_up(loss_ppm * entered, PPM)


def tolerance(withdrawn: int, least_wh: int, part_ppm: int) -> int:
    return max(least_wh, round_half_up(withdrawn * part_ppm, PPM))
