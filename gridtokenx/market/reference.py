"""The reference price of a window and the band around it, from the rates in force (MARKET 3)."""

from __future__ import annotations

from gridtokenx.ledger.parameters import Parameters
from gridtokenx.ledger.session import Session
from gridtokenx.market.rates import window_rates
from gridtokenx.market.tariffs import Band, band


def reference_uthb_kwh(session: Session, parameters: Parameters, window: int) -> int:
    """Residential time-of-use energy rate + Ft of the window's delivery, uTHB/kWh."""
    return window_rates(session, parameters, window).reference


def window_band(session: Session, parameters: Parameters, window: int) -> Band:
    """The limits that orders of the window may carry, the same in all zones for now."""
    rates = window_rates(session, parameters, window)
    return band(rates.reference, rates.buy_back, parameters.price_band_ppm)
