"""The reference price of a window and the band around it, from tariffs and calendar in state (MARKET 3)."""

from __future__ import annotations

from gridtokenx.ledger import spaces
from gridtokenx.ledger.parameters import Parameters
from gridtokenx.ledger.records import Calendar, Tariff
from gridtokenx.ledger.session import Session
from gridtokenx.market.clock import WINDOW_S
from gridtokenx.market.tariffs import Band, band, on_peak


def reference_uthb_kwh(session: Session, parameters: Parameters, window: int) -> int:
    """Residential time-of-use energy rate + Ft of the window's delivery, uTHB/kWh."""
    tariff: Tariff = session.get(spaces.tariff(parameters.reference_tariff))
    calendar: Calendar = session.get(spaces.CALENDAR)
    peak = on_peak(window * WINDOW_S, frozenset(calendar.holidays))
    return max(0, (tariff.on_peak_uthb_kwh if peak else tariff.off_peak_uthb_kwh) + parameters.ft_uthb_kwh)


def window_band(session: Session, parameters: Parameters, window: int) -> Band:
    """The limits that orders of the window may carry, the same in all zones for now."""
    return band(reference_uthb_kwh(session, parameters, window), parameters.buy_back_uthb_kwh,
                parameters.price_band_ppm)
