"""Claims of a window, issued when its corrections end (MARKET 8).

The unit is a Wh that a meter of a renewable source injected beyond what it withdrew, by its final reading and never by
an estimate. Claims go to the trades whose buyers asked for the source (`sharing`), the rest to the producer. What a
buyer who asked misses, the seller pays at `source_default_rate`, a line of both bills.

Meters are taken in the order of their ids, in bounded pieces; `Claiming` keeps how far a window has come.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve

from gridtokenx.errors import InvariantError
from gridtokenx.grid.kinds import RENEWABLE, Source
from gridtokenx.ledger import funds, spaces, weights
from gridtokenx.ledger.certificate_records import Carbon, Claim, Claiming, MeterClaims
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.metering_records import Line, Lot, Quality, Settlement
from gridtokenx.ledger.records import Counters, Meter, Profile, Trade, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.market.holdings import add_claim
from gridtokenx.market.money import round_half_up
from gridtokenx.market.rules import BillRule
from gridtokenx.market.sharing import Asked, share

ALL_SOURCES = (1 << len(Source)) - 1

Spend = Callable[[int], bool]
"""Asked with a weight before each piece of work: has this block room for it?"""


def note_trade(session: Session, window: int, number: int, trade: Trade) -> None:
    """Called for every trade that is made: remembers those whose buyers asked for the source that they got.

    Asked has who names a filter profile that does not accept all sources, and got energy of a renewable one.
    """
    if not trade.profile or trade.source not in RENEWABLE:
        return
    profile: Profile = session.get(spaces.profile(trade.profile))
    if ALL_SOURCES & ~profile.sources:
        session.put(spaces.asked_trade(window, trade.sell_meter, number), spaces.PRESENT)


def issue_claims(context: Context, window: int, spend: Spend) -> bool:
    """Issues the window's claims; True when all are, False when the block is full. Needs all of the window's records.

    A meter is one piece: if its trades weigh more than a block's whole timed work, it takes such a block for itself.
    Whoever clears the window removes its `Claiming` at last.
    """
    session = context.session
    counters: Counters = session.get(spaces.COUNTERS)
    progress: Claiming | None = session.get(spaces.claiming(window))
    first = meter_id = 1 if progress is None else progress.meter
    most = context.parameters.max_timed_weight - weights.CLAIM_LOOK - weights.CLEAR_RECORD
    asked = next(session.scan(spaces.asked(window)), None) is not None
    while meter_id <= counters.meters and spend(weights.CLAIM_LOOK):
        meter: Meter = session.get(spaces.meter(meter_id))
        if meter.source in RENEWABLE:
            lot: Lot | None = session.get(spaces.lot(window, meter_id))
            numbers = _asked_of(session, window, meter_id) if asked else []
            if lot is not None or numbers:
                if not spend(min(most, weights.CLAIM_METER + weights.CLAIM_TRADE * len(numbers))):
                    break
                _issue(context, window, meter_id, meter, lot, numbers)
        meter_id += 1
    if meter_id != first:
        session.put(spaces.claiming(window), Claiming(meter_id))
    return meter_id > counters.meters


def _asked_of(session: Session, window: int, meter_id: int) -> list[int]:
    """Numbers of the meter's trades that asked, ascending."""
    return [int.from_bytes(key[9:], "big") for key, _ in session.scan(spaces.asked(window, meter_id))]


def _issue(context: Context, window: int, meter_id: int, meter: Meter, lot: Lot | None, numbers: list[int]) -> None:
    """Claims of one meter, its lot spent on them, and what buyers miss."""
    session = context.session
    if session.get(spaces.claim(window, meter_id)) is not None:
        raise InvariantError(f"meter {meter_id}: claims of window {window} were issued already")
    bill: Settlement = session.get(spaces.settlement(window, meter_id))
    net = max(0, bill.injected - bill.withdrawn)
    available = 0 if bill.quality == Quality.ESTIMATED else net
    trades: list[Trade] = [session.get(spaces.trade(window, number)) for number in numbers]
    shares = share(available, [Asked(number, trade.injected_wh, trade.delivered_wh)
                               for number, trade in zip(numbers, trades, strict=True)])
    gains: dict[bytes, int] = {}
    for trade, part in zip(trades, shares, strict=True):
        buyer: Meter = session.get(spaces.meter(trade.buy_meter))
        gains[buyer.owner] = gains.get(buyer.owner, 0) + part
    bought = sum(shares)
    gains[meter.owner] = gains.get(meter.owner, 0) + available - bought
    carbon: Carbon = session.get(spaces.CARBON)
    avoided, credit = carbon.at(window, meter.source)
    for owner, energy in gains.items():
        if energy:
            add_claim(session, owner, meter_id, window, energy, avoided, credit)
    missed = _pay_missed(context, window, meter_id, trades, shares)
    for number in numbers:
        session.put(spaces.asked_trade(window, meter_id, number), None)
    if not net and not missed:
        return
    session.put(spaces.claim(window, meter_id), Claim(
        meter.source, bill.quality, bill.injected, bill.withdrawn, bought, available - bought, missed))
    if available:
        assert lot is not None
        session.put(spaces.lot(window, meter_id), Lot(lot.zone, lot.source, lot.minted_wh, lot.delivered_wh, available))
    before: MeterClaims = session.get(spaces.meter_claims(meter_id)) or MeterClaims()
    session.put(spaces.meter_claims(meter_id), MeterClaims(
        before.metered_wh + net, before.claimed_wh + available, before.certified_wh, before.retired_wh))


# ------------------------------------------------------------------ what buyers miss


def _pay_missed(context: Context, window: int, seller: int, trades: list[Trade], shares: list[int]) -> int:
    """The seller pays for what each trade misses, rounded per trade; the Wh missed in all."""
    session = context.session
    rate = context.parameters.source_default_rate
    missed: dict[int, list[int]] = {}
    for trade, part in zip(trades, shares, strict=True):
        if part < trade.delivered_wh:
            of_meter = missed.setdefault(trade.buy_meter, [0, 0])
            of_meter[0] += trade.delivered_wh - part
            of_meter[1] += round_half_up((trade.delivered_wh - part) * rate, 1000)
    energy, amount = sum(wh for wh, _ in missed.values()), sum(uthb for _, uthb in missed.values())
    if not energy:
        return 0
    for buyer, (wh, uthb) in missed.items():
        _bill(session, window, buyer, (int(BillRule.SOURCE_DEFAULT), wh, rate, -uthb))
        funds.credit(session, _owner(session, buyer), uthb)
    _bill(session, window, seller, (int(BillRule.SOURCE_DEFAULT), energy, rate, amount))
    meter: Meter = session.get(spaces.meter(seller))
    zone: Zone = session.get(spaces.zone(meter.zone))
    payer = funds.get_account(session, meter.owner)
    funds.put_account(session, meter.owner, funds.charge_bill(session, meter.owner, payer, amount, zone.utility))
    return energy


def _owner(session: Session, meter_id: int) -> bytes:
    meter: Meter = session.get(spaces.meter(meter_id))
    return meter.owner


def _bill(session: Session, window: int, meter_id: int, line: Line) -> None:
    """Adds the line to the meter's bill of the window. A buyer has one, for all its sellers; what it owes as a seller
    itself is another."""
    bill: Settlement = session.get(spaces.settlement(window, meter_id))
    lines = list(bill.lines)
    for at, (rule, quantity, rate, amount) in enumerate(lines):
        if rule == line[0] and amount < 0 and line[3] < 0:
            lines[at] = (rule, quantity + line[1], rate, amount + line[3])
            break
    else:
        lines.append(line)
    session.put(spaces.settlement(window, meter_id), evolve(bill, lines=tuple(lines)))
