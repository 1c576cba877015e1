"""Claims of a window, issued when its corrections end (MARKET 8).

The unit is a Wh that a meter of a renewable source injected beyond what it withdrew, by its final reading and never by
an estimate. Claims go to the trades whose buyers asked for the source (`sharing`), the rest to the producer. What a
buyer who asked misses, the seller pays at `source_default_rate`, a line of both bills.

Meters are taken in the order of their ids, and of each its trades, one by one: any bound on a block's work gives the
same claims. `Claiming` keeps how far a window has come. The claims of a meter are issued in one step, after its trades
were added up; from then on those for buyers are its `held_wh`, until each has its share.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, evolve

from gridtokenx.errors import InvariantError
from gridtokenx.grid.kinds import RENEWABLE, Source
from gridtokenx.ledger import funds, spaces, weights
from gridtokenx.ledger.certificate_records import Carbon, Claim, Claiming, ClaimStage, MeterClaims
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.metering_records import Line, Lot, Quality, Settlement
from gridtokenx.ledger.records import Counters, Meter, Profile, Trade, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.market.holdings import add_claim
from gridtokenx.market.money import round_half_up
from gridtokenx.market.rules import BillRule
from gridtokenx.market.sharing import Ranking, is_full, ratio_rank, whole_part

ALL_SOURCES = (1 << len(Source)) - 1
_NOT_BEGUN, _COLLECT, _FILL, _CUT, _GIVE = (int(stage) for stage in ClaimStage)
"""Stages as numbers: a look at a member of an enumeration costs as much as a look into state's cache."""

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

    Whoever clears the window removes its `Claiming` at last.
    """
    session = context.session
    counters: Counters = session.get(spaces.COUNTERS)
    before: Claiming | None = session.get(spaces.claiming(window))
    progress = before or Claiming(1)
    asked = next(session.scan(spaces.asked(window)), None) is not None
    while progress.meter <= counters.meters:
        if progress.stage == _NOT_BEGUN:
            if not spend(weights.CLAIM_LOOK):
                break
            if not _has_claims(session, window, progress.meter, asked):
                progress = Claiming(progress.meter + 1)
                continue
        work = _Meter(context, window, spend, progress, asked)
        done = work.run()
        progress = Claiming(progress.meter + 1) if done else work.progress
        if not done:
            break
    if progress != (before or Claiming(1)):
        session.put(spaces.claiming(window), progress)
    return progress.meter > counters.meters


def _has_claims(session: Session, window: int, meter_id: int, asked: bool) -> bool:
    meter: Meter = session.get(spaces.meter(meter_id))
    return meter.source in RENEWABLE and (
        session.get(spaces.lot(window, meter_id)) is not None
        or (asked and next(session.scan(spaces.asked(window, meter_id)), None) is not None))


@define
class _Meter:
    """What one block does for the claims of one meter."""

    context: Context
    window: int
    spend: Spend
    progress: Claiming
    asked: bool                 # whether any trade of the window did
    _carbon: tuple[int, int] = (0, 0)
    _utility: bytes = b""       # of the meter's zone
    _paid_before: int = 0       # in earlier blocks

    def run(self) -> bool:
        """True when the meter is done; otherwise `progress` says where the next block goes on."""
        session, p = self.context.session, self.progress
        meter: Meter = session.get(spaces.meter(p.meter))
        carbon: Carbon = session.get(spaces.CARBON)
        self._carbon = carbon.at(self.window, meter.source)
        by_ratio = Ranking(session, self.window, p.meter, _FILL, new=p.stage == _NOT_BEGUN)
        by_remainder = Ranking(session, self.window, p.meter, _GIVE, new=p.stage < _CUT)
        zone: Zone = session.get(spaces.zone(meter.zone))
        self._utility, self._paid_before = zone.utility, p.paid_uthb
        done = (self._collect(by_ratio) and self._issue(meter) and self._fill(by_ratio)
                and self._cut(by_ratio, by_remainder) and self._give(by_remainder))
        by_ratio.save()
        by_remainder.save()
        if self.progress.paid_uthb != self._paid_before:
            self._charge(meter, self.progress.paid_uthb - self._paid_before)
        if done and self.progress.paid_uthb:
            _bill(session, self.window, p.meter, (int(BillRule.SOURCE_DEFAULT), self.progress.missed_wh,
                                                  self.context.parameters.source_default_rate,
                                                  self.progress.paid_uthb))
        return done

    # ------------------------------------------------------------ in this order

    def _collect(self, by_ratio: Ranking) -> bool:
        """Adds up the meter's trades that asked, and ranks them."""
        p = self.progress
        if p.stage > _COLLECT:
            return True
        session, window = self.context.session, self.window
        weight, delivered, full = p.weight_wh, p.left_wh, False
        for key, _ in session.scan(spaces.asked(window, p.meter)) if self.asked else ():
            if not self.spend(weights.CLAIM_RANK):
                full = True
                break
            number = int.from_bytes(key[9:], "big")
            trade: Trade = session.get(spaces.trade(window, number))
            weight += trade.injected_wh
            delivered += trade.delivered_wh
            by_ratio.add(ratio_rank(trade.injected_wh, trade.delivered_wh), number)
            session.put(key, None)
        self.progress = Claiming(p.meter, _COLLECT, weight, delivered, p.over_wh, p.held_wh, p.missed_wh, p.paid_uthb)
        return not full

    def _issue(self, meter: Meter) -> bool:
        """Claims of the meter and window: its lot is spent on them, the producer has its part."""
        p = self.progress
        if p.stage > _COLLECT:
            return True
        if not self.spend(weights.CLAIM_METER):
            return False
        session, window = self.context.session, self.window
        place = spaces.claim(window, p.meter)
        if session.get(place) is not None:
            raise InvariantError(f"meter {p.meter}: claims of window {window} were issued already")
        bill: Settlement = session.get(spaces.settlement(window, p.meter))
        net = max(0, bill.injected - bill.withdrawn)
        available = 0 if bill.quality == Quality.ESTIMATED else net
        bought = min(available, p.left_wh)
        missed = p.left_wh - bought
        self.progress = Claiming(p.meter, _FILL, p.weight_wh, bought, p.over_wh, bought, p.missed_wh, p.paid_uthb)
        if not net and not missed:
            return True
        session.put(place, Claim(meter.source, bill.quality, bill.injected, bill.withdrawn, bought, available - bought,
                                 missed))
        if available:
            lot: Lot = session.get(spaces.lot(window, p.meter))
            session.put(spaces.lot(window, p.meter),
                        Lot(lot.zone, lot.source, lot.minted_wh, lot.delivered_wh, available))
        before: MeterClaims = session.get(spaces.meter_claims(p.meter)) or MeterClaims()
        session.put(spaces.meter_claims(p.meter), MeterClaims(
            before.metered_wh + net, before.claimed_wh + available, before.certified_wh, before.retired_wh))
        if available > bought:
            add_claim(session, meter.owner, p.meter, window, available - bought, *self._carbon)
        return True

    def _fill(self, by_ratio: Ranking) -> bool:
        """Trades that can take all that they delivered."""
        if self.progress.stage > _FILL:
            return True
        while (number := by_ratio.first()) is not None:
            p, trade = self.progress, self._trade(number)
            if not is_full(p.left_wh, p.weight_wh, trade.injected_wh, trade.delivered_wh):
                break
            if not self.spend(weights.CLAIM_TRADE):
                return False
            by_ratio.take()
            self.progress = evolve(p, left_wh=p.left_wh - trade.delivered_wh, weight_wh=p.weight_wh - trade.injected_wh)
            self._share(trade, trade.delivered_wh)
        p = self.progress
        self.progress = Claiming(p.meter, _CUT, p.weight_wh, p.left_wh, p.left_wh, p.held_wh, p.missed_wh, p.paid_uthb)
        return True

    def _cut(self, by_ratio: Ranking, by_remainder: Ranking) -> bool:
        """The whole Wh of the others' shares are counted, and they are ranked by remainder."""
        p = self.progress
        if p.stage > _CUT:
            return True
        over = p.over_wh
        while (number := by_ratio.first()) is not None and self.spend(weights.CLAIM_RANK):
            part, rank = whole_part(p.left_wh, p.weight_wh, self._trade(number).injected_wh)
            over -= part
            by_ratio.take()
            by_remainder.add(rank, number)
        done = number is None
        self.progress = Claiming(p.meter, _GIVE if done else _CUT, p.weight_wh, p.left_wh, over, p.held_wh, p.missed_wh,
                                 p.paid_uthb)
        return done

    def _give(self, by_remainder: Ranking) -> bool:
        while (number := by_remainder.first()) is not None:
            if not self.spend(weights.CLAIM_TRADE):
                return False
            p, trade = self.progress, self._trade(number)
            part, _ = whole_part(p.left_wh, p.weight_wh, trade.injected_wh)
            by_remainder.take()
            if p.over_wh:
                self.progress = evolve(p, over_wh=p.over_wh - 1)
                part += 1
            self._share(trade, part)
        return True

    # ------------------------------------------------------------ one trade

    def _trade(self, number: int) -> Trade:
        trade: Trade = self.context.session.get(spaces.trade(self.window, number))
        return trade

    def _share(self, trade: Trade, part: int) -> None:
        """The buyer's claims, and what the seller pays it for energy that it misses, rounded per trade."""
        session, p = self.context.session, self.progress
        buyer: Meter = session.get(spaces.meter(trade.buy_meter))
        if part:
            add_claim(session, buyer.owner, p.meter, self.window, part, *self._carbon)
        missed, rate = trade.delivered_wh - part, self.context.parameters.source_default_rate
        amount = round_half_up(missed * rate, 1000)
        if amount and not funds.can_bear(session, self._utility, p.paid_uthb - self._paid_before + amount):
            amount = 0
        self.progress = evolve(p, held_wh=p.held_wh - part, missed_wh=p.missed_wh + missed,
                               paid_uthb=p.paid_uthb + amount)
        if amount:
            _bill(session, self.window, trade.buy_meter, (int(BillRule.SOURCE_DEFAULT), missed, rate, -amount))
            funds.credit(session, buyer.owner, amount)

    def _charge(self, meter: Meter, amount: int) -> None:
        """The seller pays what its buyers have got in this block."""
        session = self.context.session
        payer = funds.get_account(session, meter.owner)
        funds.put_account(session, meter.owner, funds.charge_bill(session, meter.owner, payer, amount, self._utility))


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
