"""Who gets a trade's wheeling (MARKET 5): the networks of the path, the parts adding up to what the buyer paid.

Network k of the path gets `round_half_up(Wcum_k q / 1000) - round_half_up(Wcum_(k-1) q / 1000)`. In path order come the
seller's zone, the corridors, the buyer's zone; inside one zone it is that zone alone.
"""

from __future__ import annotations

from gridtokenx.ledger import spaces
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
    """(network account, uTHB) of every element of the trade's path, in path order; they add up to its wheeling."""
    seller: Zone = session.get(spaces.zone(trade.sell_zone))
    if trade.sell_zone == trade.buy_zone:
        return [(seller.network, trade.wheel_uthb)]
    rates = [(seller.network, seller.wheel_uthb_kwh)]
    for number in trade.path:
        corridor: Corridor = session.get(spaces.corridor(number))
        rates.append((corridor.network, corridor.wheel_uthb_kwh))
    buyer: Zone = session.get(spaces.zone(trade.buy_zone))
    rates.append((buyer.network, buyer.wheel_uthb_kwh))
    parts = path_parts(trade.delivered_wh, rates)
    if sum(part for _, part in parts) != trade.wheel_uthb:
        return _shares(trade.wheel_uthb, rates)
    return parts


def _shares(wheel_uthb: int, rates: list[tuple[bytes, int]]) -> list[tuple[bytes, int]]:
    """What the buyer paid, in proportion to the rates: only in a fork can they change between trade and settlement."""
    total = sum(rate for _, rate in rates)
    if not total:
        return [(rates[0][0], wheel_uthb)]
    shares = []
    cumulative = shared = 0
    for network, rate in rates:
        cumulative += rate
        due = round_half_up(cumulative * wheel_uthb, total)
        shares.append((network, due - shared))
        shared = due
    return shares
