"""Who gets a trade's wheeling (MARKET 5): the networks of the path, the parts adding up to what the buyer paid.

Network k of the path gets `round_half_up(Wcum_k q / 1000) - round_half_up(Wcum_(k-1) q / 1000)`. In path order come the
seller's zone, the corridors, the buyer's zone; inside one zone it is that zone alone. Rates are those in force when the
trade was made: no operation changes them, but a fork may, and keeps the former ones in state (`FormerWheeling`).
"""

from __future__ import annotations

from gridtokenx.errors import InvariantError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.market_records import FormerWheeling
from gridtokenx.ledger.records import Corridor, Trade, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.market.money import round_half_up


def path_parts(delivered_wh: int, rates: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    """(network, uTHB) for `delivered_wh` over elements of (network, uTHB/kWh) in path order; zero parts included."""
    parts = []
    cumulative = paid = 0
    for network, rate in rates:
        cumulative += rate
        due = round_half_up(cumulative * delivered_wh, 1000)
        parts.append((network, due - paid))
        paid = due
    return parts


def network_parts(session: Session, trade: Trade) -> list[tuple[bytes, int]]:
    """(network account, uTHB) of every element of the trade's path, in path order; they add up to its wheeling.

    Raises InvariantError when the trade's wheeling is not what the rates make it.
    """
    former: FormerWheeling | None = session.get(spaces.FORMER_WHEELING)
    if trade.sell_zone == trade.buy_zone and former is None:        # most trades of a live chain
        zone: Zone = session.get(spaces.zone(trade.sell_zone))
        due = round_half_up(zone.wheel_uthb_kwh * trade.delivered_wh, 1000)
        parts = [(zone.network, due)]
    else:
        parts = path_parts(trade.delivered_wh, _rates(session, trade, former))
        due = sum(part for _, part in parts)
    if due != trade.wheel_uthb:
        raise InvariantError(f"the trade of orders {trade.buy_order} and {trade.sell_order} in window "
                             f"{spaces.window_of(trade.buy_order)} has {trade.wheel_uthb} uTHB of wheeling; the rates "
                             f"on its path make it {due}: {trade}")
    return parts


def _rates(session: Session, trade: Trade, former: FormerWheeling | None) -> list[tuple[bytes, int]]:
    """(network, uTHB/kWh) of every element of the path when the trade was made."""
    keys = [spaces.zone(trade.sell_zone), *map(spaces.corridor, trade.path)]
    if trade.buy_zone != trade.sell_zone:
        keys.append(spaces.zone(trade.buy_zone))
    rates = []
    for key in keys:
        element: Zone | Corridor = session.get(key)
        rate = element.wheel_uthb_kwh
        rates.append((element.network, rate if former is None else former.rate(key, trade.height, rate)))
    return rates
