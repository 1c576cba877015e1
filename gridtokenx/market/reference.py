"""What the rates in force make of a window: reference price, band, and what sales must be secured for (MARKET 3)."""

from __future__ import annotations

from gridtokenx.ledger.parameters import Parameters
from gridtokenx.ledger.session import Session
from gridtokenx.market.bills import MTHB, short_price
from gridtokenx.market.money import PPM
from gridtokenx.market.rates import Rates, window_rates
from gridtokenx.market.tariffs import Band, band


def reference_uthb_kwh(session: Session, parameters: Parameters, window: int) -> int:
    """Residential time-of-use energy rate + Ft of the window's delivery, uTHB/kWh."""
    return window_rates(session, parameters, window).reference


def window_band(session: Session, parameters: Parameters, window: int) -> Band:
    """The limits that orders of the window may carry, the same in all zones for now."""
    return rates_band(window_rates(session, parameters, window), parameters)


def rates_band(rates: Rates, parameters: Parameters) -> Band:
    return band(rates.reference, rates.buy_back, parameters.price_band_ppm)


def short_cap(rates: Rates, parameters: Parameters) -> int:
    """The price, mTHB/kWh, that proceeds and collateral of a sale reach together: at least the parameter, and what a
    shortfall costs with the VAT on it, rounded up."""
    short = short_price(rates.highest_retail, parameters.short_penalty_ppm, rates.buy_back)
    return max(parameters.short_cap_mthb_kwh, -(-short * (PPM + rates.vat_ppm) // (PPM * MTHB)))
