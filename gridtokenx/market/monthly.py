"""What a month adds to a meter's bill: service, demand, block tariff, and VAT on them (MARKET 7.5; docs/bills.md).

A window counts for the month in which it begins in Bangkok, once: when its corrections have ended, so that no sum
here is ever taken back. The last window of a month, once counted, bills the month. Both are timed work in bounded
pieces; `Billing` in state says how far it has come.
"""

from __future__ import annotations

from collections.abc import Callable

from gridtokenx._native.monthly import Months
from gridtokenx.ledger import funds, spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.metering_records import Line, Settlement
from gridtokenx.ledger.records import Counters, Meter, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.tariff_records import Billing, MonthlyBill, Series, Tariff, Terms, Usage
from gridtokenx.market.bills import ENERGY, line
from gridtokenx.market.clock import WINDOW_S
from gridtokenx.market.money import PPM, round_half_up
from gridtokenx.market.rates import is_on_peak, series_at
from gridtokenx.market.rules import BillRule
from gridtokenx.market.settlement import bill_owner
from gridtokenx.market.tariffs import BANGKOK_S, DAY_S, bangkok_day, first_day, month_of
from gridtokenx.market.work import Work, timed_key

FORGET_MONTH = 1 << 32
"""Added to a month, the item of timed work that takes the month's bills out of state."""
QUARTERS_OF_AN_HOUR = 4
DAY_MS = 86_400_000

_KERNEL = Months({"Usage": Usage}, Space.__members__, energy=ENERGY, count_weight=weights.COUNT_METER,
                 clear_weight=weights.CLEAR_RECORD)
"""Counts a window for a meter as `_count` does."""

Spend = Callable[[int], bool]
"""Asked with a weight before each piece of work: has this block room for it?"""


def month_of_window(window: int) -> int:
    """The month in Bangkok in which the window begins: 12 x year + month - 1."""
    return month_of(bangkok_day(window * WINDOW_S))


def first_window(month: int) -> int:
    return (first_day(month) * DAY_S - BANGKOK_S) // WINDOW_S


def run(context: Context, item: int, spend: Spend) -> bool:
    """One item of timed work: a window to count, or a month to forget. False when the block is full."""
    if item & FORGET_MONTH:
        return _forget(context.session, item - FORGET_MONTH, spend)
    month = month_of_window(item)
    if not _count(context, item, month, spend):
        return False
    return first_window(month + 1) != item + 1 or _bill_all(context, month, spend)


# ------------------------------------------------------------------ counting


def _count(context: Context, window: int, month: int, spend: Spend) -> bool:
    session = context.session
    billing: Billing = session.get(spaces.BILLING)
    counters: Counters = session.get(spaces.COUNTERS)
    if billing.counted:
        return True
    peak = is_on_peak(session, window)
    number = billing.meter
    while number < counters.meters:
        number, goes_on = _KERNEL.count(session, window, month, peak, number, counters.meters, spend)
        if number == counters.meters:
            break
        if not goes_on:
            session.put(spaces.BILLING, Billing(number, 0))
            return False
        bill: Settlement | None = session.get(spaces.settlement(window, number + 1))
        if not spend(weights.CLEAR_RECORD if bill is None else weights.COUNT_METER):
            session.put(spaces.BILLING, Billing(number, 0))
            return False
        number += 1
        if bill is not None:
            accumulate(session, month, number, peak, bill.withdrawn, supplied_wh(bill.lines))
    last = first_window(month + 1) == window + 1
    if billing.meter or last:
        session.put(spaces.BILLING, Billing(0, int(last)))
    return True


def supplied_wh(lines: tuple[Line, ...]) -> int:
    """Withdrawal that the utility supplied at the meter's own tariff, (a) of MARKET 7.2."""
    return sum(quantity for rule, quantity, _, _ in lines if rule == ENERGY)


def accumulate(session: Session, month: int, meter_id: int, peak: bool, withdrawn_wh: int, supplied: int) -> None:
    """Adds a final window to a meter's month."""
    key = spaces.usage(month, meter_id)
    u: Usage = session.get(key) or Usage()
    session.put(key, Usage(u.withdrawn_wh + withdrawn_wh, u.supplied_wh + supplied,
                           max(u.peak_wh, withdrawn_wh) if peak else u.peak_wh))


# ------------------------------------------------------------------ billing


def _bill_all(context: Context, month: int, spend: Spend) -> bool:
    session = context.session
    billing: Billing = session.get(spaces.BILLING)
    counters: Counters = session.get(spaces.COUNTERS)
    number = billing.meter
    while number < counters.meters:
        usage: Usage | None = session.get(spaces.usage(month, number + 1))
        if not spend(weights.CLEAR_RECORD if usage is None else weights.BILL_MONTH):
            session.put(spaces.BILLING, Billing(number, 1))
            return False
        number += 1
        if usage is not None:
            _bill(context, month, number, usage)
    session.put(spaces.BILLING, Billing())
    until = context.now_ms + context.parameters.monthly_bill_keep_days * DAY_MS
    session.put(timed_key(until, Work.MONTH, FORGET_MONTH | month), spaces.PRESENT)
    return True


def _bill(context: Context, month: int, number: int, usage: Usage) -> None:
    """Rates are those in force in the month's first window."""
    session, first = context.session, first_window(month)
    meter: Meter = session.get(spaces.meter(number))
    tariff: Tariff = session.get(spaces.tariff(meter.tariff))
    lines = monthly_lines(tariff.at(first), usage, series_at(session, Series.VAT, first))
    to_tax = sum(amount for rule, _, _, amount in lines if rule == BillRule.MONTHLY_VAT)
    to_utility = sum(amount for _, _, _, amount in lines) - to_tax
    zone: Zone = session.get(spaces.zone(meter.zone))
    if not funds.can_bear(session, zone.utility, to_utility + to_tax):
        lines = ()
    if lines:
        funds.credit(session, zone.utility, to_utility)
        funds.credit(session, context.roles.tax, to_tax)
        account = funds.get_account(session, meter.owner)
        bill_owner(session, meter.owner, account, to_utility + to_tax, zone.utility)
    session.put(spaces.usage(month, number), None)
    session.put(spaces.monthly_bill(month, number), MonthlyBill(
        meter.owner, meter.zone, meter.tariff, usage.withdrawn_wh, usage.supplied_wh, demand_w(usage), lines))


def demand_w(usage: Usage) -> int:
    """Billing demand: the greatest on-peak quarter hour, as power."""
    return usage.peak_wh * QUARTERS_OF_AN_HOUR


def monthly_lines(terms: Terms, usage: Usage, vat_ppm: int) -> tuple[Line, ...]:
    """The lines of a month by rule; quantities are 1 month, W, Wh, and for VAT again 1 month."""
    lines: list[Line] = []
    if terms.service:
        lines.append((int(BillRule.SERVICE), 1, terms.service, terms.service))
    if terms.demand and usage.peak_wh:
        lines.append(line(BillRule.DEMAND, demand_w(usage), terms.demand))
    lower = 0
    for edge, rate in terms.blocks:
        upper = edge or usage.supplied_wh
        inside = min(usage.supplied_wh, upper) - lower
        if inside > 0 and rate != terms.blocks[0][1]:
            lines.append(line(BillRule.BLOCK_TRUE_UP, inside, rate - terms.blocks[0][1]))
        lower = upper
    total = sum(amount for _, _, _, amount in lines)
    if total:
        lines.append((int(BillRule.MONTHLY_VAT), 1, vat_ppm, round_half_up(total * vat_ppm, PPM)))
    return tuple(lines)


def _forget(session: Session, month: int, spend: Spend) -> bool:
    for key, _ in session.scan(spaces.monthly_bill(month)):
        if not spend(weights.CLEAR_RECORD):
            return False
        session.put(key, None)
    return True
