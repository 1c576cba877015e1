"""A session cleared by the uniform-price auction (`auction`) in the place of the order book.

Its trades are posted as bilateral trades, signed by both sides: the same escrow, capacity, losses, wheeling, fee, VAT,
settlement and conservation check as any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gridtokenx.crypto.hashing import Domain
from gridtokenx.crypto.keys import NO_SIGNATURE, signed_bytes, taken_as_good
from gridtokenx.forks import Chain
from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations import BilateralTrade
from gridtokenx.ledger.records import Corridor, CorridorWindow, Zone
from gridtokenx.market.agreements import Agreement
from gridtokenx.scenario.auction import Match, Residuals, Route, Sealed, clear
from gridtokenx.scenario.population import QUARTERS
from gridtokenx.units import LOT_WH

if TYPE_CHECKING:
    from gridtokenx.scenario.trading import Floor

UNTIL = 1 << 40         # the last height at which an agreement may be carried out


def hold_auction(floor: Floor, windows: range) -> None:
    """Asks every agent once, clears each window by itself, and posts what is traded."""
    sealed: list[list[Sealed]] = [[] for _ in windows]
    wanted, price = floor.answers(windows, 0)
    rows, columns = np.nonzero(wanted)
    for number, at, quantity, limit in zip(rows.tolist(), columns.tolist(), wanted[rows, columns].tolist(),
                                           price[rows, columns].tolist(), strict=True):
        house, lots = floor.houses[number], abs(quantity) // LOT_WH * LOT_WH
        sealed[at].append(Sealed(house.meter, house.zone, lots if quantity > 0 else -lots, limit))
    routes = routes_of(floor.chain)
    made: list[tuple[int, int, Match]] = []
    for at, window in enumerate(windows):
        bids = [Sealed(each.meter, each.zone, -each.quantity_wh, each.price)
                for each in sealed[at] if each.quantity_wh < 0]
        offers = [each for each in sealed[at] if each.quantity_wh > 0]
        at_price, matches = clear(bids, offers, routes, residuals_of(floor.chain, window)) if bids and offers else (
            -1, [])
        made += [(window, at_price, match) for match in matches]
    _post(floor, made)


def _post(floor: Floor, made: list[tuple[int, int, Match]]) -> None:
    chain = floor.chain
    houses = {house.meter: house for house in floor.houses}
    operations: dict[int, list[tuple[int, BilateralTrade]]] = {}
    claimed: list[tuple[bytes, bytes, bytes]] = []
    for window, price, match in made:
        terms = Agreement(match.seller, match.buyer, window, price, match.delivered_wh, match.route.path, UNTIL, b"")
        seller = houses[match.seller]
        if chain.signs:
            signed = terms.sign(chain.key(f"house {seller.name}"), chain.chain_id)
        else:                               # this process has all the keys anyway
            signed = seller.address, NO_SIGNATURE
            claimed.append((*signed, signed_bytes(Domain.AGREEMENT, chain.chain_id, terms.payload())))
        operations.setdefault(match.buyer, []).append((window, BilateralTrade(terms, (signed,))))
    with taken_as_good(claimed):
        floor.send(operations)


def routes_of(chain: Chain) -> dict[int, list[Route]]:
    """Every path to each zone, the one inside it first."""
    zones: list[Zone] = []
    while (zone := chain.record(spaces.zone(len(zones)))) is not None:
        zones.append(zone)
    found: dict[int, list[Route]] = {}
    for buyer in range(len(zones)):
        inside = Route(buyer, (), zones[buyer].loss_ppm, zones[buyer].wheel_uthb_kwh)
        found[buyer] = [inside, *(_route(chain, zones, seller, buyer, path) for seller in range(len(zones))
                                  if seller != buyer for path in chain.paths(seller, buyer))]
    return found


def _route(chain: Chain, zones: list[Zone], seller: int, buyer: int, path: tuple[int, ...]) -> Route:
    loss = zones[seller].loss_ppm + zones[buyer].loss_ppm
    wheel = zones[seller].wheel_uthb_kwh + zones[buyer].wheel_uthb_kwh
    ways, at = [], seller
    for number in path:
        line: Corridor = chain.record(spaces.corridor(number))
        forward = line.first == at
        ways.append((number, 0 if forward else 1))
        at = line.second if forward else line.first
        loss, wheel = loss + line.loss_ppm, wheel + line.wheel_uthb_kwh
    return Route(seller, tuple(ways), loss, wheel)


def residuals_of(chain: Chain, window: int) -> Residuals:
    """What every corridor can still carry in a window."""
    found: Residuals = {}
    number = 0
    while (line := chain.record(spaces.corridor(number))) is not None:
        used: CorridorWindow | None = chain.record(spaces.corridor_window(window, number))
        declared: Corridor = line
        if used is None:
            found[number, 0], found[number, 1] = declared.forward_w // QUARTERS, declared.backward_w // QUARTERS
        else:
            found[number, 0], found[number, 1] = used.forward_left_wh, used.backward_left_wh
        number += 1
    return found

