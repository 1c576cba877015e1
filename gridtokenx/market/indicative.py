"""The indicative price of a zone and window, for information: no one trades or is billed at it (docs/prices.md).

It follows from how much was asked for and offered, from how full the corridors are, and from how much of the offer is
renewable. At the gate it is fixed and stays in state until the window is cleared; before, anyone can compute it.
"""

from __future__ import annotations

from attrs import evolve, frozen

from gridtokenx.grid.kinds import RENEWABLE
from gridtokenx.ledger import spaces
from gridtokenx.ledger.parameters import Parameters
from gridtokenx.ledger.records import Corridor, Market, Order
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.tariff_records import Indicative
from gridtokenx.market.corridors import corridor_window
from gridtokenx.market.money import PPM, round_half_up
from gridtokenx.market.orders import BUY
from gridtokenx.market.rates import window_rates
from gridtokenx.market.tariffs import MTHB, TICK, Band, band

_NONE = Indicative()


@frozen
class Pricing:
    """What the formula needs beside a zone's energy; rates uTHB/kWh."""

    retail: int                 # of the reference class, Ft included
    buy_back: int
    limits: Band
    congestion_from_ppm: int
    congestion_ppm: int
    renewable_premium: int


def supply_demand_uthb_kwh(retail: int, buy_back: int, demand_wh: int, supply_wh: int) -> int:
    """From retail, where nothing is offered, down to buy-back, where the offer covers what is asked for."""
    retail = max(retail, buy_back)
    if not supply_wh:
        return retail
    if supply_wh >= demand_wh or retail == buy_back:
        return buy_back
    return round_half_up(retail * buy_back * demand_wh, (retail - buy_back) * supply_wh + buy_back * demand_wh)


def utilisation_ppm(net_in_wh: int, capacity_in_wh: int, net_out_wh: int, capacity_out_wh: int) -> int:
    """How full a zone's corridors are, -10^6 to 10^6: above zero into the zone, below zero out of it."""
    if net_in_wh > 0:
        return min(PPM, net_in_wh * PPM // capacity_in_wh) if capacity_in_wh else 0
    if net_out_wh > 0:
        return -min(PPM, net_out_wh * PPM // capacity_out_wh) if capacity_out_wh else 0
    return 0


def congestion_factor_ppm(utilisation: int, from_ppm: int, full_ppm: int) -> int:
    """What congestion adds or takes, ppm of the price: nothing up to `from_ppm`, then evenly up to `full_ppm`."""
    excess = max(0, abs(utilisation) - from_ppm)
    factor = round_half_up(full_ppm * excess, PPM - from_ppm)
    return factor if utilisation > 0 else -factor


def indicative_mthb_kwh(pricing: Pricing, energy: Indicative) -> int:
    """The price in mTHB/kWh, on the tick and within the band."""
    demand, supply = energy.demand_wh, energy.supply_wh
    price = supply_demand_uthb_kwh(pricing.retail, pricing.buy_back, demand, supply)
    factor = congestion_factor_ppm(energy.utilisation_ppm, pricing.congestion_from_ppm, pricing.congestion_ppm)
    price = round_half_up(price * (PPM + factor), PPM)
    if supply:
        price += round_half_up(pricing.renewable_premium * energy.renewable_wh, supply)
    ticks = round_half_up(price, MTHB * TICK)
    low, high = -(-pricing.limits.low // TICK), pricing.limits.high // TICK
    return TICK * max(low, min(high, ticks))


# ------------------------------------------------------------------ from state


def window_pricing(session: Session, parameters: Parameters, window: int) -> Pricing:
    rates = window_rates(session, parameters, window)
    retail = rates.reference
    return Pricing(retail, rates.buy_back, band(retail, rates.buy_back, parameters.price_band_ppm),
                   parameters.congestion_from_ppm, parameters.congestion_ppm, parameters.renewable_premium_uthb_kwh)


def zone_utilisation_ppm(session: Session, window: int, zone: int) -> int:
    """From the residual capacities of the corridors that end in the zone."""
    net_in = capacity_in = net_out = capacity_out = number = 0
    while True:
        corridor: Corridor | None = session.get(spaces.corridor(number))
        if corridor is None:
            return utilisation_ppm(net_in, capacity_in, net_out, capacity_out)
        if zone in (corridor.first, corridor.second):
            r = corridor_window(session, window, number)
            ways = ((r.backward_wh, r.backward_left_wh), (r.forward_wh, r.forward_left_wh))
            into, out = ways if zone == corridor.first else ways[::-1]
            capacity_in += into[0]
            net_in += into[0] - into[1]
            capacity_out += out[0]
            net_out += out[0] - out[1]
        number += 1


def count_order(energy: Indicative, order: Order) -> Indicative:
    """`energy` with what rests of an order."""
    e, rest = energy, order.remaining_wh
    if order.side == BUY:
        return Indicative(e.price_mthb_kwh, e.demand_wh + rest, e.supply_wh, e.renewable_wh, e.utilisation_ppm)
    renewable = rest if order.source in RENEWABLE else 0
    return Indicative(e.price_mthb_kwh, e.demand_wh, e.supply_wh + rest, e.renewable_wh + renewable, e.utilisation_ppm)


def priced(session: Session, pricing: Pricing, window: int, zone: int, resting: Indicative) -> Indicative:
    """The zone's record with its trades added to what rests of orders, and the price."""
    market: Market = session.get(spaces.market(window, zone)) or Market()
    energy = Indicative(
        0, resting.demand_wh + market.traded_wh, resting.supply_wh + market.traded_wh,
        resting.renewable_wh + market.renewable_wh, zone_utilisation_ppm(session, window, zone))
    return evolve(energy, price_mthb_kwh=indicative_mthb_kwh(pricing, energy))


def publish(session: Session, parameters: Parameters, window: int) -> None:
    """At the gate, after all orders were closed: the prices of all zones."""
    pricing = window_pricing(session, parameters, window)
    zone = 0
    while session.get(spaces.zone(zone)) is not None:
        key = spaces.indicative(window, zone)
        session.put(key, priced(session, pricing, window, zone, session.get(key) or _NONE))
        zone += 1
