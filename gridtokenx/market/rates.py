"""The rates of one window: what utilities charge and pay per kWh, by tariff class (MARKET 7.2; THAILAND, tariffs).

uTHB/kWh throughout. Retail is energy rate + Ft, before VAT. Rates never change once a window delivers.
"""

from __future__ import annotations

from attrs import frozen

from gridtokenx.ledger import spaces
from gridtokenx.ledger.parameters import Parameters
from gridtokenx.ledger.records import Calendar, Tariff
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.market.clock import WINDOW_S
from gridtokenx.market.tariffs import on_peak


@frozen
class Rates:
    """`energy` is by tariff class, without Ft and VAT. `ft` may be negative."""

    on_peak: bool
    energy: tuple[int, ...]
    ft: int
    buy_back: int
    vat_ppm: int

    def retail(self, tariff_class: int) -> int:
        """Energy rate + Ft of a class, not below zero."""
        return max(0, self.energy[tariff_class] + self.ft)

    @property
    def highest_retail(self) -> int:
        """The greatest retail rate of any class: what the price of missing energy starts from."""
        return max(0, max(self.energy) + self.ft)


def window_rates(session: Session, parameters: Parameters, window: int) -> Rates:
    """The rates in force in `window`."""
    calendar: Calendar = session.get(spaces.CALENDAR)
    peak = on_peak(window * WINDOW_S, frozenset(calendar.holidays))
    tariffs: list[Tariff] = [tariff for _, tariff in session.scan(bytes((Space.TARIFF,)))]
    energy = tuple(tariff.on_peak_uthb_kwh if peak else tariff.off_peak_uthb_kwh for tariff in tariffs)
    return Rates(peak, energy, parameters.ft_uthb_kwh, parameters.buy_back_uthb_kwh, parameters.vat_ppm)
