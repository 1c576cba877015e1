"""What a line of a bill is for. Numbers are in state: frozen; `docs/settlement.md` gives each with its formula."""

from __future__ import annotations

from enum import IntEnum


class BillRule(IntEnum):
    """A bill line is one (meter, window, rule), or one (meter, month, rule) from 20 on (MARKET 7)."""

    # The meter's trades, paid when they were made; each the sum of the trades' own rounded amounts.
    PURCHASE = 1
    WHEELING = 2
    TRADE_FEE = 3
    TRADE_VAT = 4
    SALE = 5
    # What meters say beside the trades, settled with the zone's utility.
    ENERGY = 6              # (a) withdrawal not covered by purchases, at the meter's own tariff
    FT = 7                  # (a) x Ft; below zero when Ft is
    SUPPLY_VAT = 8          # on ENERGY and FT together
    BUY_BACK = 9            # (b) injection not sold
    SHORTFALL = 10          # (c) sold, but neither injected nor bought
    SURPLUS = 11            # (d) bought, but neither withdrawn nor resold
    SHORTFALL_VAT = 12
    # Lines of a month.
    SERVICE = 20
    DEMAND = 21
    BLOCK_TRUE_UP = 22
    MONTHLY_VAT = 23
    # Certificates.
    SOURCE_DEFAULT = 30     # energy of a source that the buyer asked for and missed
