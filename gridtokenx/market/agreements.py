"""Bilateral trades: energy handed over outside the book, agreed by both meters' owners (MARKET 1).

Any price from zero and no band, but a path with its losses, wheeling and capacity, fee and VAT like any trade. One
owner sends the operation; the other signs the terms, over `Domain.AGREEMENT || chain id || canonical CBOR of [seller's
meter, buyer's meter, window, price, delivered Wh, path, last height, salt]`. The same terms are carried out once: who
means it twice chooses another salt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import frozen

from gridtokenx import codec
from gridtokenx._native.orderbook import Kind
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.keys import PrivateKey, signed_bytes, verify_known
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import funds, spaces, weights
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Account, AccountKeys, Meter, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.market.corridors import directions
from gridtokenx.market.deferred import Agreed, Deferred, bilateral_row
from gridtokenx.market.money import MAX_MONEY, PPM, collateral_rate, fee_and_vat, round_half_up
from gridtokenx.market.orders import BUY, SELL, check_price, check_quantity

if TYPE_CHECKING:
    from gridtokenx.market.desk import Desk

MOST_LOSS_PPM = 500_000


@frozen
class Agreement:
    """The terms. `path` are the corridors from the seller's zone to the buyer's, none inside a zone."""

    sell_meter: int
    buy_meter: int
    window: int
    price_mthb_kwh: int
    delivered_wh: int
    path: tuple[int, ...]
    until_height: int
    salt: bytes

    def payload(self) -> bytes:
        """What the counterparty signs."""
        return codec.encode([self.sell_meter, self.buy_meter, self.window, self.price_mthb_kwh, self.delivered_wh,
                             list(self.path), self.until_height, self.salt])

    def sign(self, key: PrivateKey, chain_id: bytes) -> tuple[bytes, bytes]:
        """(public key, signature) of a counterparty."""
        return key.public, key.sign(Domain.AGREEMENT, chain_id, self.payload())


def agree(desk: Desk, sender: bytes, terms: Agreement, signatures: tuple[tuple[bytes, bytes], ...]) -> Deferred:
    """Checks the terms, holds money, collateral and capacity of both sides, and queues the trade. Raises Failed; then
    the caller rolls back."""
    context = desk.context
    session, parameters, window = context.session, context.parameters, terms.window
    meters = []
    for number in (terms.sell_meter, terms.buy_meter):
        meter: Meter | None = session.get(spaces.meter(number))
        if meter is None:
            raise Failed(Code.UNKNOWN_METER, f"no meter {number}")
        meters.append(meter)
    seller, buyer = meters
    if sender not in (seller.owner, buyer.owner):
        raise Failed(Code.NOT_METER_OWNER, "neither meter is this account's")
    if terms.sell_meter == terms.buy_meter:
        raise Failed(Code.BAD_AGREEMENT, "a meter does not trade with itself")
    if context.height > terms.until_height:
        raise Failed(Code.BAD_AGREEMENT, f"agreed until height {terms.until_height}; this is {context.height}")
    rules = desk.open_rules(window)
    check_price(terms.price_mthb_kwh)
    check_quantity(terms.delivered_wh, parameters.order_most_wh)
    for meter in meters:
        desk.check_licence(meter)
        funds.check_dues(session, meter.owner)      # who owes too much trades in nobody's transaction
    other = buyer.owner if sender == seller.owner else seller.owner
    desk.weight += weights.SIGNATURE * max(0, len(signatures) - 1)      # one is in the operation's weight
    _check_signatures(session, context.identity.chain_id, sender, other, terms, signatures)
    loss, rate = _path(session, seller.zone, buyer.zone, terms.path)
    number = 0
    if desk.books is not None:
        known = desk.books.paths(seller.zone, buyer.zone)
        if terms.path not in known:
            raise Failed(Code.NO_PATH, f"path {list(terms.path)} is none of the market's from zone {seller.zone} to "
                                       f"{buyer.zone}")
        number = known.index(terms.path)
    desk.touch(window)
    mark = spaces.agreement(window, digest(Domain.AGREEMENT, terms.payload()))
    if session.get(mark) is not None:
        raise Failed(Code.AGREED_ALREADY, "these terms were carried out; another salt makes them new")

    injected = -(-terms.delivered_wh * PPM // (PPM - loss))
    wheel = round_half_up(rate * terms.delivered_wh, 1000)
    value = terms.price_mthb_kwh * injected
    fee, vat = fee_and_vat(value + wheel, MAX_MONEY, parameters.fee_ppm, rules.vat_ppm)
    source = desk.source_of_sale(seller.owner, window, terms.sell_meter, seller, injected)
    desk.hold_capacity(seller.owner, window, terms.sell_meter, seller, SELL, injected)
    desk.hold_capacity(buyer.owner, window, terms.buy_meter, buyer, BUY, terms.delivered_wh)
    collateral = collateral_rate(rules.short_cap, terms.price_mthb_kwh) * injected
    funds.hold_collateral(session, seller.owner, collateral)
    funds.hold_bid(session, buyer.owner, value + wheel + fee + vat)
    session.put(mark, spaces.PRESENT)
    desk.open_window(window)
    order_id = desk.next_order_id(window)
    agreed = Agreed(terms.sell_meter, terms.buy_meter, seller.owner, buyer.owner, seller.zone, buyer.zone,
                    terms.price_mthb_kwh, terms.delivered_wh, injected, wheel, fee, vat, collateral, source, terms.path,
                    mark)
    deferred = Deferred(window, Kind.BILATERAL, order_id, sender, agreed=agreed, fills_worst=1)
    desk.add(deferred, bilateral_row(window, order_id, agreed, number))
    return deferred


def _check_signatures(session: Session, chain_id: bytes, sender: bytes, other: bytes, terms: Agreement,
                      signatures: tuple[tuple[bytes, bytes], ...]) -> None:
    """The other owner's keys sign; nobody else does, and nobody when both meters are the sender's."""
    keys = {key for key, _ in signatures}
    if len(keys) != len(signatures):
        raise Failed(Code.BAD_AGREEMENT, "a key signs once")
    if other == sender:
        if signatures:
            raise Failed(Code.BAD_AGREEMENT, "both meters are the sender's: nobody else signs")
        return
    account: Account = funds.get_account(session, other)
    if account.threshold:
        allowed: AccountKeys = session.get(spaces.account_keys(other))
        enough = len(keys) >= account.threshold and keys <= set(allowed.keys)
    else:
        enough = keys == {other}
    if not enough:
        raise Failed(Code.BAD_AGREEMENT, "not signed by the keys of the other meter's account, or by others")
    message = signed_bytes(Domain.AGREEMENT, chain_id, terms.payload())
    if not all(verify_known([(key, signature, message) for key, signature in signatures])):
        raise Failed(Code.BAD_AGREEMENT, "a signature under the terms does not verify")


def _path(session: Session, start: int, end: int, path: tuple[int, ...]) -> tuple[int, int]:
    """(loss ppm, uTHB/kWh) of a path. Raises Failed(NO_PATH)."""
    zone: Zone = session.get(spaces.zone(start))
    loss, rate, at = zone.loss_ppm, zone.wheel_uthb_kwh, start
    if any(session.get(spaces.corridor(number)) is None for number in path):
        raise Failed(Code.NO_PATH, f"path {list(path)} names a corridor that does not exist")
    try:
        for _, corridor, direction in directions(session, start, path):
            loss, rate = loss + corridor.loss_ppm, rate + corridor.wheel_uthb_kwh
            at = corridor.first if direction else corridor.second
    except InvariantError as error:
        raise Failed(Code.NO_PATH, str(error)) from error
    if at != end:
        raise Failed(Code.NO_PATH, f"path {list(path)} leads from zone {start} to {at}, not to {end}")
    if path:
        last: Zone = session.get(spaces.zone(end))
        loss, rate = loss + last.loss_ppm, rate + last.wheel_uthb_kwh
    if loss > MOST_LOSS_PPM:
        raise Failed(Code.NO_PATH, f"path {list(path)} loses {loss} ppm; at most {MOST_LOSS_PPM}")
    return loss, rate
