"""Amounts of the market in exact integers (MARKET 3, 5 and 9). Prices mTHB/kWh, energy Wh, money uTHB.

mTHB/kWh x Wh is uTHB exactly; only wheeling, fee and VAT round.
"""

from __future__ import annotations

from gridtokenx.errors import GridTokenXError

PPM = 1_000_000
MAX_MONEY = (1 << 63) - 1


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
