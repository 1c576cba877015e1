"""What clients ask about a window's trading and the grid under it (rpc, CLI); the rules of `ledger.queries`."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from gridtokenx.ledger import spaces
from gridtokenx.ledger.market_records import UNTIL_RESUMED, Trading
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.ledger.queries import market_clock
from gridtokenx.ledger.records import Corridor, CorridorWindow, Profile, WindowBook
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.clock import gate_ms, opens_ms
from gridtokenx.market.corridors import corridor_window
from gridtokenx.market.halts import trading as trading_record
from gridtokenx.market.reference import window_band

Map = dict[str, Any]


def trading(state: StateReader, window: int) -> Map:
    """Whether a window trades (`phase`: early, open, halted or closed); what the breaker counts since its last halt."""
    clock = market_clock(state)
    session, values = Session(state, clock.height + 1), read_parameters(state)
    found = trading_record(session, window)
    band = window_band(session, values, window)
    halted = _halted(found, clock.now_ms)
    phase = ("early" if clock.now_ms < opens_ms(window) else "closed" if clock.now_ms >= gate_ms(window)
             else "halted" if halted else "open")
    raw = state.get(spaces.window(window))
    return {
        "window": window, "phase": phase, "opens_ms": opens_ms(window), "gate_ms": gate_ms(window),
        "now_ms": clock.now_ms, "halted": halted,
        "halted_until_ms": found.halted_until_ms if halted and found.halted_until_ms != UNTIL_RESUMED else None,
        "uncrossing": state.get(spaces.work_left(window)) is not None,
        "band_low_mthb_kwh": band.low, "band_high_mthb_kwh": band.high,
        "trades": 0 if raw is None else WindowBook.decode(raw).trades,
        "breaker": {
            "injected_wh": found.injected_wh, "value_uthb": found.value_uthb,
            "average_mthb_kwh": found.value_uthb // found.injected_wh if found.injected_wh else None,
            "buyers": len(found.buyers), "sellers": len(found.sellers), "least_wh": values.breaker_least_wh,
            "participants": values.breaker_participants, "pause_ms": values.breaker_pause_ms,
        },
    }


def _halted(found: Trading, now_ms: int) -> bool:
    return found.halted_until_ms > now_ms


def halts(state: StateReader, limit: int) -> list[Map]:
    """Windows that are halted and whose gate has not passed, earliest first."""
    now_ms = market_clock(state).now_ms
    found: list[Map] = []
    for key, raw in state.scan(bytes((Space.TRADING,))):
        window, record = int.from_bytes(key[1:5], "big"), Trading.decode(raw)
        if len(found) == limit:
            break
        if gate_ms(window) > now_ms and _halted(record, now_ms):
            until = record.halted_until_ms
            found.append({"window": window, "halted_until_ms": None if until == UNTIL_RESUMED else until})
    return found


def residuals(state: StateReader, window: int) -> list[CorridorWindow]:
    """Of every corridor, by number."""
    session = Session(state, market_clock(state).height + 1)
    return [corridor_window(session, window, key[1]) for key, _ in state.scan(bytes((Space.CORRIDOR,)))]


def capacities(state: StateReader, window: int) -> list[Map]:
    """Per corridor what it can carry in the window, and what is left of it in each direction, Wh."""
    rows = []
    left = residuals(state, window)
    for (key, raw), now in zip(state.scan(bytes((Space.CORRIDOR,))), left, strict=True):
        corridor = Corridor.decode(raw)
        rows.append({
            "corridor": key[1], "window": window, "first": corridor.first, "second": corridor.second,
            "loss_ppm": corridor.loss_ppm, "wheel_uthb_kwh": corridor.wheel_uthb_kwh,
            "forward_wh": now.forward_wh, "forward_left_wh": now.forward_left_wh,
            "backward_wh": now.backward_wh, "backward_left_wh": now.backward_left_wh,
        })
    return rows


def profiles(state: StateReader) -> list[Map]:
    """The filter profiles that buyers can name: accepted sources and sellers' zones, as bits. 0 accepts all."""
    return [{"profile": key[1], **asdict(Profile.decode(raw))} for key, raw in state.scan(bytes((Space.PROFILE,)))]
