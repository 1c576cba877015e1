"""What clients ask about settlement: bills, a window's balance, flags, dues, and which meter may be wrong.

As in `ledger.queries`: maps with text keys and the unit in the name, read from one state. Settled windows stay
readable for `bill_keep_days`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import asdict

from gridtokenx.ledger import spaces
from gridtokenx.ledger.metering_records import Balance, Correction, Due, Energy, Flag, Settlement, Settling
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.ledger.queries import Map, market_clock, meters_of, zones
from gridtokenx.ledger.records import WindowBook
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.clock import WINDOW_S, gate_ms, opens_ms
from gridtokenx.market.deadlines import closes_ms, deadline_ms
from gridtokenx.market.suspects import zone_suspects

WINDOWS_PER_DAY = 96
BANGKOK_S = 25_200
MAX_SEARCHED = 672
"""Windows that the search for a meter looks back at most: a week."""

_ENERGIES = ("minted", "consumed", "supplied", "taken", "bought", "sold", "losses", "imports", "exports")


def first_window(day: int) -> int:
    """The window that begins at midnight in Bangkok of a day since 1970-01-01."""
    return (day * WINDOWS_PER_DAY * WINDOW_S - BANGKOK_S) // WINDOW_S


def settling(state: StateReader) -> Settling:
    raw = state.get(spaces.SETTLING)
    return Settling() if raw is None else Settling.decode(raw)


# ------------------------------------------------------------------ bills


def bill(state: StateReader, address: bytes, day: int) -> Map:
    """Every settled window of an account's meters on a day (since 1970-01-01, Bangkok), with all lines, and sums."""
    start = first_window(day)
    entries: list[Map] = []
    for meter in meters_of(state, address):
        for window in range(start, start + WINDOWS_PER_DAY):
            raw = state.get(spaces.settlement(window, meter))
            if raw is not None:
                found = Settlement.decode(raw)
                if found.owner == address:
                    entries.append(_entry(state, window, meter, found))
    entries.sort(key=lambda entry: (entry["window"], entry["meter"]))
    return {
        "address": address, "day": day, "first_window": start, "windows": entries, "rules": _by_rule(entries),
        "pays_uthb": sum(line["amount_uthb"] for entry in entries for line in entry["lines"]),
        "withdrawn_wh": sum(entry["withdrawn_wh"] for entry in entries),
        "injected_wh": sum(entry["injected_wh"] for entry in entries),
        "estimated": sum(entry["quality"] == 1 for entry in entries),
        "corrected": sum(entry["revision"] > 0 for entry in entries),
        "dues_uthb": sum(due["amount_uthb"] for due in dues(state, address)),
    }


def settlement(state: StateReader, window: int, meter: int) -> Map | None:
    """The bill of one meter and window."""
    raw = state.get(spaces.settlement(window, meter))
    return None if raw is None else _entry(state, window, meter, Settlement.decode(raw))


def _entry(state: StateReader, window: int, meter: int, found: Settlement) -> Map:
    entry = {
        "window": window, "meter": meter, "owner": found.owner, "zone": found.zone, "injected_wh": found.injected,
        "withdrawn_wh": found.withdrawn, "bought_wh": found.bought, "sold_wh": found.sold,
        "supplied_wh": found.supplied, "taken_wh": found.taken, "quality": found.quality, "revision": found.revision,
        "lines": [{"rule": rule, "quantity_wh": wh, "rate": rate, "amount_uthb": amount}
                  for rule, wh, rate, amount in found.lines],
    }
    if found.revision:
        entry["corrections"] = corrections(state, window, meter)
    return entry


def _by_rule(entries: Iterable[Map]) -> list[Map]:
    sums: dict[int, list[int]] = {}
    for entry in entries:
        for line in entry["lines"]:
            total = sums.setdefault(line["rule"], [0, 0])
            total[0] += line["quantity_wh"]
            total[1] += line["amount_uthb"]
    return [{"rule": rule, "quantity_wh": wh, "amount_uthb": amount} for rule, (wh, amount) in sorted(sums.items())]


def corrections(state: StateReader, window: int, meter: int) -> list[Map]:
    """The trail of a meter's readings that were replaced, oldest first."""
    return [{"revision": int.from_bytes(key[-2:], "big"), **asdict(Correction.decode(raw))}
            for key, raw in state.scan(spaces.correction(window, meter))]


def dues(state: StateReader, address: bytes) -> list[Map]:
    """What an account owes, by utility."""
    return [{"utility": key[33:], **asdict(Due.decode(raw))} for key, raw in state.scan(spaces.due(address))]


def energy(state: StateReader, address: bytes) -> Map:
    """An account's GT since the beginning, Wh."""
    raw = state.get(spaces.energy(address))
    return {f"{name}_wh": value for name, value in asdict(Energy() if raw is None else Energy.decode(raw)).items()}


# ------------------------------------------------------------------ a window


def window(state: StateReader, number: int) -> Map:
    """A window's whole balance, per zone and in all, and whether it is exact: GT in Wh, electricity beside it.

    `phase` is opens_later, trading, closed (delivering, or readings may come), settling, settled or final.
    """
    now_ms, progress = market_clock(state).now_ms, settling(state)
    closes = closes_ms(read_parameters(state), progress, number)
    found = {key[5]: Balance.decode(raw) for key, raw in state.scan(spaces.balance(number))}
    rows = []
    for zone in zones(state):
        entry = found.get(zone["zone"])
        if entry is not None:
            rows.append({"zone": zone["zone"], "name": zone["name"], **_balance(entry)})
    totals = {f"{name}_wh": sum(row[f"{name}_wh"] for row in rows) for name in _ENERGIES}
    source = totals["minted_wh"] + totals["supplied_wh"]
    sink = totals["consumed_wh"] + totals["losses_wh"] + totals["taken_wh"]
    return {
        "window": number, "phase": _phase(number, now_ms, progress, closes),
        "deadline_ms": deadline_ms(progress, number), "final_ms": closes, "zones": rows, "totals": totals,
        "exact": source == sink and totals["sold_wh"] == totals["bought_wh"] + totals["losses_wh"],
        "flags": [row["zone"] for row in rows if row["flagged"]],
    }


def _balance(entry: Balance) -> Map:
    row: Map = {f"{name}_wh": getattr(entry, name) for name in _ENERGIES}
    row |= {
        "residual_wh": entry.residual, "tolerance_wh": entry.tolerance, "flagged": bool(entry.flagged),
        "meters": entry.meters, "estimated": entry.estimated, "boundary_meters": entry.boundary,
        "short_uthb_kwh": entry.short_uthb_kwh, "long_uthb_kwh": entry.long_uthb_kwh,
    }
    return row


def _phase(number: int, now_ms: int, progress: Settling, closes: int) -> str:
    if now_ms < opens_ms(number):
        return "opens_later"
    if now_ms < gate_ms(number):
        return "trading"
    if not progress.window or number > progress.window or now_ms < deadline_ms(progress, number):
        return "closed"
    if number == progress.window:
        return "settling"
    return "settled" if now_ms < closes else "final"


# ------------------------------------------------------------------ what does not add up


def flags(state: StateReader, zone: int | None, limit: int) -> list[Map]:
    """The newest flags, newest first: zones whose electricity did not add up in a window."""
    found: list[Map] = []
    for key, raw in state.scan(bytes((Space.FLAG,))):
        if zone in (None, key[5]):
            entry = Flag.decode(raw)
            found.append({"window": int.from_bytes(key[1:5], "big"), "zone": key[5], "residual_wh": entry.residual,
                          "tolerance_wh": entry.tolerance, "height": entry.height, "cleared": entry.cleared})
    return found[:-limit - 1:-1]


def suspects(state: StateReader, zone: int, windows: int, limit: int) -> Map:
    """Which meters' readings would explain a zone's residuals over the latest settled windows (`market.suspects`).

    `share_ppm` is the part of the residuals' variation that a register explains, `slope_ppm` what is missing per Wh
    that it shows. A hint to where to look, not a proof.
    """
    last = settling(state).window
    past = range(max(0, last - min(windows, MAX_SEARCHED)), last)
    found = [Balance.decode(raw) for number in past if (raw := state.get(spaces.balance(number, zone))) is not None]
    return {
        "zone": zone, "windows": sum(1 for entry in found if entry.boundary),
        "residual_wh": sum(entry.residual for entry in found if entry.boundary),
        "meters": [asdict(suspect) for suspect in zone_suspects(state, zone, past, limit)],
    }


def settled_windows(state: StateReader) -> Map:
    """How far settlement has come, and the sums of GT over every settled window still in state.

    Every one of them must be exact; `inexact` names those that are not.
    """
    totals: dict[int, dict[str, int]] = {}
    for key, raw in state.scan(bytes((Space.BALANCE,))):
        sums = totals.setdefault(int.from_bytes(key[1:5], "big"), dict.fromkeys(_ENERGIES, 0))
        entry: Any = Balance.decode(raw)
        for name in _ENERGIES:
            sums[name] += getattr(entry, name)
    progress = settling(state)
    done = {number: sums for number, sums in totals.items() if number < progress.window}
    inexact = [number for number, sums in sorted(done.items())
               if sums["minted"] + sums["supplied"] != sums["consumed"] + sums["losses"] + sums["taken"]
               or sums["sold"] != sums["bought"] + sums["losses"]]
    held = 0
    for key, raw in state.scan(bytes((Space.WINDOW,))):
        if int.from_bytes(key[1:], "big") < progress.window:
            book = WindowBook.decode(raw)
            held += book.trades - book.settled
    return {
        "next_window": progress.window, "windows": len(done), "inexact": inexact, "unsettled_trades": held,
        **{f"{name}_wh": sum(sums[name] for sums in done.values()) for name in _ENERGIES},
        "flags": sum(1 for _ in state.scan(bytes((Space.FLAG,)))),
    }
