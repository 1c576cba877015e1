"""Amounts of the market in exact integers (MARKET 3, 5 and 9). Prices mTHB/kWh, energy Wh, money uTHB.

mTHB/kWh x Wh is uTHB exactly; only wheeling, fee and VAT round.
"""

from __future__ import annotations

from gridtokenx.errors import GridTokenXError

PPM = 1_000_000
MAX_MONEY = (1 << 63) - 1

# Why no amount of settlement leaves 64 bits (MARKET 9), whatever tariffs and parameters say within their bounds:
# - A window's lines of one meter are on at most (injection + withdrawal) / 4 <= 5 x 10^9 Wh (`MAX_POWER_W`) at no more
#   than (10^8 + 10^7) x 11 uTHB/kWh (`RATE_MOST`, Ft, `short_penalty_ppm`), and half of it as VAT: below 10^16.
# - A month's: 10^10 W x 744 h at 10^8, demand 10^7 kW at 10^10 (`DEMAND_MOST`), service 10^12, and half of it: below
#   1.3 x 10^18 < 2^61.
# - Money is made by `deposit`, at most SUPPLY_MOST in all, and by utilities that owe, at most DEBT_MOST each: a bill
#   that could take its zone's utility further moves no money. With 16 zones all that accounts hold is at most
#   2^62 + 16 x 2^57 = 2^62 + 2^61, and collateral at most that and a credit limit.
# - An account's dues end at DUES_MOST, a bill's more: what is above is the utility's, without a due.
SUPPLY_MOST = 1 << 62
DEBT_MOST = 1 << 57
DUES_MOST = 1 << 61


class AmountError(GridTokenXError):
    """An amount that does not fit into 64 bits."""


def checked(amount: int) -> int:
    """`amount` itself. Raises AmountError unless 0 <= amount < 2^63."""
    if not 0 <= amount <= MAX_MONEY:
        raise AmountError(f"{amount} uTHB is outside 0 to 2^63-1")
    return amount


def round_half_up(numerator: int, denominator: int) -> int:
    """numerator / denominator to the nearest integer, halves up; for numerator >= 0, denominator > 0."""
    return (2 * numerator + denominator) // (2 * denominator)


def buy_escrow(limit: int, quantity_wh: int, fee_ppm: int, vat_ppm: int) -> int:
    """What a buy order of `quantity_wh` holds back: `ceil(limit q (10^6 + fee) (10^6 + vat) / 10^12)` (MARKET 3)."""
    return -(-limit * quantity_wh * (PPM + fee_ppm) * (PPM + vat_ppm) // (PPM * PPM))


def fee_and_vat(value: int, room: int, fee_ppm: int, vat_ppm: int) -> tuple[int, int]:
    """Fee on `value` and VAT on value and fee of one fill, each rounded half up, together at most `room` (MARKET 3)."""
    fee = min(room, round_half_up(value * fee_ppm, PPM))
    vat = min(room - fee, round_half_up((value + fee) * vat_ppm, PPM))
    return fee, vat


def collateral_rate(short_cap: int, price: int) -> int:
    """mTHB/kWh that a sale at `price` must be able to pay for energy it fails to deliver (MARKET 3)."""
    return max(0, short_cap - price)


def locked_money(collateral: int, credit: int) -> int:
    """The part of the collateral that the licence's credit limit does not cover."""
    return max(0, collateral - credit)
