"""What clients ask of certificates, claims and carbon in a state, as `ledger.queries` answers."""

from __future__ import annotations

from typing import Any

from attrs import asdict

from gridtokenx.grid.kinds import Source
from gridtokenx.ledger import spaces
from gridtokenx.ledger.certificate_conservation import audit_certificates
from gridtokenx.ledger.certificate_records import Bundles, Carbon, Certificate, Claim, Holding, MeterClaims
from gridtokenx.ledger.records import Meter
from gridtokenx.ledger.state import StateReader

Map = dict[str, Any]


def certificate(state: StateReader, serial: int) -> Map | None:
    """One certificate, in whatever state it is: `held`, `offered` or `retired`."""
    raw = state.get(spaces.certificate(serial))
    if raw is None:
        return None
    found = Certificate.decode(raw)
    status = "retired" if found.retired_ms else "offered" if found.price_uthb else "held"
    return {"certificate": serial, "status": status, **asdict(found)}


def certificates(state: StateReader, owner: bytes, after: int, limit: int) -> list[Map]:
    """An account's certificates with serial numbers above `after`, ascending, retired ones included."""
    rows: list[Map] = []
    for key, _ in state.scan(spaces.certificates_of(owner)):
        serial = int.from_bytes(key[33:], "big")
        if serial > after:
            found = certificate(state, serial)
            assert found is not None
            rows.append(found)
            if len(rows) == limit:
                break
    return rows


def offers(state: StateReader, source: int | None, limit: int) -> list[Map]:
    """Certificates that anyone, or one account, can buy: by source, cheapest first."""
    rows: list[Map] = []
    for key, _ in state.scan(spaces.certificate_offers(source)):
        found = certificate(state, int.from_bytes(key[10:], "big"))
        assert found is not None
        rows.append(found)
        if len(rows) == limit:
            break
    return rows


def claims(state: StateReader, owner: bytes) -> list[Map]:
    """What an account holds of claims, by meter: Wh, certificates that can be issued now, and the windows it is of."""
    rows = []
    for key, raw in state.scan(spaces.holding(owner)):
        meter, holding = int.from_bytes(key[33:], "big"), Holding.decode(raw)
        meter_raw = state.get(spaces.meter(meter))
        runs = [Bundles.decode(run) for _, run in state.scan(spaces.bundles(owner, meter))]
        windows = [(run.first_window, run.last_window) for run in runs]
        if holding.open_wh:
            windows.append((holding.first_window, holding.last_window))
        rows.append({"meter": meter, "source": Meter.decode(meter_raw or b"").source, "held_wh": holding.total_wh,
                     "ready": holding.ready, "first_window": windows[0][0], "last_window": windows[-1][1]})
    return rows


def claim(state: StateReader, window: int, meter: int) -> Map | None:
    """What was claimed of a meter's window, as long as its bill is in state."""
    raw = state.get(spaces.claim(window, meter))
    if raw is None:
        return None
    found = Claim.decode(raw)
    return {"window": window, "meter": meter, "net_wh": found.net_wh, **asdict(found)}


def meter_claims(state: StateReader, meter: int) -> Map | None:
    """A meter's net injection, claims, certificates and retirements since the beginning, Wh."""
    raw = state.get(spaces.meter_claims(meter))
    return None if raw is None else {"meter": meter, **asdict(MeterClaims.decode(raw))}


def carbon(state: StateReader) -> list[Map]:
    """All versions of the carbon factors, micrograms per Wh, with sources by name."""
    found = Carbon.decode(state.get(spaces.CARBON) or b"")
    return [{"first_window": first, "grid_ug_wh": grid,
             "emission_ug_wh": {source.name.lower(): emissions[source] for source in Source},
             "credit_ug_wh": {source.name.lower(): credits[source] for source in Source}}
            for first, grid, emissions, credits in found.versions]


def certificate_totals(state: StateReader) -> Map:
    """All claims and certificates added up anew. Raises InvariantError."""
    return asdict(audit_certificates(state))
