"""A uniform-price auction: all bids and offers of a window are sealed, and all that is traded has one price.

The price is that of the curves' crossing: offers from the lowest, bids from the highest, each bid as what it leaves for
the seller inside its own zone, after losses and wheeling. Between the last pair that is worth its while and the first
that is not lies an interval; the price is its middle, rounded down to the tick. At that price the bids are served from
the highest on, each by the route with the least landed price, own zone or not, and there by the lowest offer; ties go
to the lower meter. Sellers get the price, buyers pay it and the losses and wheeling of their route. All in integers.

Who is further away than the own zone pays more than the curves knew, so at times less is traded than where they cross.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

from attrs import define, frozen

from gridtokenx.units import LOT_WH, PPM, PRICE_TICK_MTHB


@frozen
class Sealed:
    """A bid or an offer: whole lots, limit price mTHB/kWh."""

    meter: int
    zone: int
    quantity_wh: int
    price: int


@frozen
class Route:
    """A path from a seller's zone to a buyer's: its corridors with their direction, loss ppm, wheeling uTHB/kWh."""

    seller_zone: int
    corridors: tuple[tuple[int, int], ...]
    loss_ppm: int
    wheel_uthb_kwh: int

    @property
    def path(self) -> tuple[int, ...]:
        return tuple(corridor for corridor, _ in self.corridors)

    def injected(self, delivered_wh: int) -> int:
        return -(-delivered_wh * PPM // (PPM - self.loss_ppm))

    def wheel(self, delivered_wh: int) -> int:
        return (self.wheel_uthb_kwh * delivered_wh + 500) // 1000

    def delivered(self, injected_wh: int) -> int:
        """The most that arrives of so much."""
        return injected_wh * (PPM - self.loss_ppm) // PPM


@frozen
class Match:
    """A trade of the auction."""

    seller: int
    buyer: int
    delivered_wh: int
    injected_wh: int
    route: Route


Residuals = dict[tuple[int, int], int]
"""What each corridor can carry, by (corridor, direction: 0 forward, 1 backward), Wh."""


def clear(bids: Sequence[Sealed], offers: Sequence[Sealed], routes: Mapping[int, Sequence[Route]],
          residuals: Residuals) -> tuple[int, list[Match]]:
    """(price, trades); price -1 without any pair worth its while. `routes` are by the buyers' zone, the one inside it
    first; what trades use of `residuals` is taken from them."""
    worth = {bid.meter: _net(bid, routes[bid.zone][0]) for bid in bids}
    ordered = sorted(bids, key=lambda bid: (-worth[bid.meter], bid.meter))
    price = uniform_price([(worth[bid.meter], bid.quantity_wh) for bid in ordered],
                          sorted((offer.price, offer.quantity_wh) for offer in offers))
    if price < 0:
        return price, []
    queues: dict[int, list[_Waiting]] = {}
    for offer in sorted(offers, key=lambda offer: (-offer.price, -offer.meter)):
        if offer.price <= price:
            queues.setdefault(offer.zone, []).append(_Waiting(offer.meter, offer.quantity_wh))
    ranked = {zone: sorted(some, key=lambda route: (_landed(route, price), len(route.corridors), route.path))
              for zone, some in routes.items()}
    matches: list[Match] = []
    for bid in ordered:
        if worth[bid.meter] < price:
            break
        left = bid.quantity_wh
        for route in ranked[bid.zone]:
            if left >= LOT_WH:
                left -= _serve(bid, left, route, price, queues.get(route.seller_zone, []), residuals, matches)
    return price, matches


def uniform_price(bids: Sequence[tuple[int, int]], offers: Sequence[tuple[int, int]]) -> int:
    """The middle of the interval of prices at which (price, quantity) clear, on the tick; -1 when nothing does.

    Bids come from the highest on, offers from the lowest.
    """
    bid = offer = 0
    bid_left, offer_left = (some[0][1] if some else 0 for some in (bids, offers))
    last: tuple[int, int] | None = None
    while bid < len(bids) and offer < len(offers) and bids[bid][0] >= offers[offer][0]:
        last = bids[bid][0], offers[offer][0]
        less = min(bid_left, offer_left)
        bid_left, offer_left = bid_left - less, offer_left - less
        if not bid_left:
            bid += 1
            bid_left = bids[bid][1] if bid < len(bids) else 0
        if not offer_left:
            offer += 1
            offer_left = offers[offer][1] if offer < len(offers) else 0
    if last is None:
        return -1
    high, low = last
    if offer < len(offers):             # the first offer, or the rest of the last, that found nobody
        high = min(high, offers[offer][0]) if offers[offer][0] >= low else high
    if bid < len(bids):
        low = max(low, bids[bid][0]) if bids[bid][0] <= high else low
    return (low + high) // 2 // PRICE_TICK_MTHB * PRICE_TICK_MTHB


@define
class _Waiting:
    meter: int
    left_wh: int


def _serve(bid: Sealed, wanted: int, route: Route, price: int, queue: list[_Waiting], residuals: Residuals,
           matches: list[Match]) -> int:
    """Serves a bid by one route, as far as it goes; returns what was delivered. The best offer is the queue's last."""
    served = 0
    while queue and wanted - served >= LOT_WH:
        offer = queue[-1]
        room = min((residuals[way] for way in route.corridors), default=offer.left_wh)
        reach = route.delivered(offer.left_wh)
        if reach < LOT_WH:
            if route.corridors:
                break                   # too little is left for a way with more losses than others have
            queue.pop()
            continue
        delivered = min(wanted - served, reach, route.delivered(max(room, 0))) // LOT_WH * LOT_WH
        injected = route.injected(delivered)
        if not delivered or price * injected + route.wheel(delivered) > bid.price * delivered:
            break
        for corridor, direction in route.corridors:
            residuals[corridor, direction] -= injected
            residuals[corridor, 1 - direction] += delivered
        matches.append(Match(offer.meter, bid.meter, delivered, injected, route))
        offer.left_wh -= injected
        served += delivered
        if not offer.left_wh:
            queue.pop()
    return served


def _net(bid: Sealed, route: Route) -> int:
    """The highest price on the tick that the bid leaves for a seller of its own zone; below 0 when there is none."""
    quantity = bid.quantity_wh
    return (bid.price * quantity - route.wheel(quantity)) // route.injected(quantity) // PRICE_TICK_MTHB \
        * PRICE_TICK_MTHB


def _landed(route: Route, price: int) -> Fraction:
    return Fraction(price * PPM, PPM - route.loss_ppm) + Fraction(route.wheel_uthb_kwh, 1000)
