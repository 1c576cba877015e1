"""What clients ask about tariffs and indicative prices (rpc, CLI); the rules of `ledger.queries`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import asdict, evolve

from gridtokenx.ledger import spaces
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.ledger.queries import market_clock, meters_of, zones
from gridtokenx.ledger.records import Meter, Order, WindowBook
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader
from gridtokenx.ledger.tariff_records import Calendar, Indicative, MonthlyBill, Rate, Schedule, Series, Terms, Usage
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.closing import due_ms
from gridtokenx.market.indicative import count_order, priced, window_pricing
from gridtokenx.market.monthly import demand_w
from gridtokenx.market.rates import tariff_classes, window_rates

Map = dict[str, Any]


def rates(state: StateReader, window: int) -> Map:
    """What utilities charge and pay per kWh in the window; `energy_uthb_kwh` is by class, without Ft and VAT."""
    session, values = Session(state, market_clock(state).height + 1), read_parameters(state)
    found = window_rates(session, values, window)
    return {
        "window": window, "on_peak": found.on_peak, "energy_uthb_kwh": list(found.energy), "ft_uthb_kwh": found.ft,
        "buy_back_uthb_kwh": found.buy_back, "vat_ppm": found.vat_ppm,
        "reference_uthb_kwh": found.reference,
    }


def indicative_prices(state: StateReader, window: int,
                      energy: Callable[[int], tuple[int, int, int]] | None = None) -> list[Map]:
    """Per zone the indicative price and what it follows from; `published` once the window's gate has fixed it.

    `energy(zone)` knows what rests of orders (asked for, offered, renewable Wh); without it the state is read.
    """
    session, values = Session(state, market_clock(state).height + 1), read_parameters(state)
    raw = state.get(spaces.window(window))
    closed = raw is not None and bool(WindowBook.decode(raw).gated)
    pricing = window_pricing(session, values, window)
    resting: dict[int, Indicative] = {}
    if not closed and energy is not None:
        for entry in zones(state):
            demand, supply, renewable = energy(entry["zone"])
            before = session.get(spaces.indicative(window, entry["zone"])) or Indicative()
            resting[entry["zone"]] = evolve(
                before, demand_wh=before.demand_wh + demand, supply_wh=before.supply_wh + supply,
                renewable_wh=before.renewable_wh + renewable)
    elif not closed:
        now_ms = market_clock(state).now_ms
        for _, order_raw in state.scan(spaces.orders_of_window(window)):
            found = Order.decode(order_raw)
            if due_ms(found, window) > now_ms or due_ms(found, window) == gate_ms(window):
                before = resting.get(found.zone) or session.get(spaces.indicative(window, found.zone)) or Indicative()
                resting[found.zone] = count_order(before, found)
    rows = []
    for entry in zones(state):
        zone = entry["zone"]
        stored: Indicative | None = session.get(spaces.indicative(window, zone)) if closed else None
        record = stored or priced(session, pricing, window, zone, resting.get(zone, Indicative()))
        rows.append({"zone": zone, "name": entry["name"], "window": window, "published": stored is not None,
                     **asdict(record)})
    return rows


def monthly_bills(state: StateReader, address: bytes, month: int) -> list[Map]:
    """What a month (12 x year + month - 1) adds to the bills of an account's meters, or what was counted of it so far.

    Without `billed` the month's last window is not final yet, and there are no lines.
    """
    rows = []
    for meter in meters_of(state, address):
        raw, counted = state.get(spaces.monthly_bill(month, meter)), state.get(spaces.usage(month, meter))
        bill = None if raw is None else MonthlyBill.decode(raw)
        if bill is not None and bill.owner == address:
            rows.append({
                "meter": meter, "month": month, "billed": True, "tariff": bill.tariff,
                "withdrawn_wh": bill.withdrawn_wh, "supplied_wh": bill.supplied_wh, "demand_w": bill.demand_w,
                "lines": [{"rule": rule, "quantity": quantity, "rate": rate, "amount_uthb": amount}
                          for rule, quantity, rate, amount in bill.lines]})
        elif counted is not None:
            usage = Usage.decode(counted)
            rows.append({
                "meter": meter, "month": month, "billed": False,
                "tariff": Meter.decode(state.get(spaces.meter(meter)) or b"").tariff,
                "withdrawn_wh": usage.withdrawn_wh, "supplied_wh": usage.supplied_wh, "demand_w": demand_w(usage),
                "lines": []})
    return rows


def tariffs(state: StateReader) -> Map:
    """Every table with its versions, each with the first window that it applies to."""
    session = Session(state, market_clock(state).height + 1)
    schedule: Schedule = session.get(spaces.SCHEDULE)
    series: Map = {}
    for number in Series:
        rate: Rate = session.get(spaces.rate(number))
        series[number.name.lower()] = [{"since": since, "value": value} for since, value in rate.versions]
    return {
        "classes": [{"class": number, "name": tariff.name, "voltage": tariff.voltage,
                     "versions": [_terms_map(Terms(*version)) for version in tariff.versions]}
                    for number, tariff in enumerate(tariff_classes(session))],
        "series": series,
        "schedule": [{"since": since, "hours": [hour for hour in range(24) if hours >> hour & 1],
                      "weekdays": [day + 1 for day in range(7) if weekdays >> day & 1]}
                     for since, hours, weekdays in schedule.versions],
        "calendars": {int.from_bytes(key[1:], "big"): list(Calendar.decode(raw).holidays)
                      for key, raw in state.scan(bytes((Space.CALENDAR,)))},
    }


def _terms_map(terms: Terms) -> Map:
    return {"since": terms.since, "on_peak_uthb_kwh": terms.on_peak, "off_peak_uthb_kwh": terms.off_peak,
            "service_uthb_month": terms.service, "demand_uthb_kw": terms.demand,
            "blocks": [{"upto_wh": edge, "uthb_kwh": rate} for edge, rate in terms.blocks]}
