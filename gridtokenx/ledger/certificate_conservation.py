"""Certified energy never exceeds metered energy (MARKET 8): checked in each block, and over a whole state.

Per meter and window, claims are issued once and at most what the meter injected net. From then on every Wh of them is
either in somebody's holding or in a certificate, and a certificate is retired once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from attrs import define, evolve, field, frozen

from gridtokenx._native.conservation import RECORD, check_sums, find_negative
from gridtokenx._native.contributions import Entries
from gridtokenx._native.state import Changes
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.certificate_records import (
    CERTIFICATE_WH,
    Bundles,
    Certificate,
    Claim,
    Claiming,
    Holding,
    MeterClaims,
    Registry,
)
from gridtokenx.ledger.metering_records import Lot, Quality, Reading, Settlement
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader

SPACES = frozenset({Space.CLAIM, Space.CLAIMING, Space.HOLDING, Space.BUNDLES, Space.METER_CLAIMS, Space.CERTIFICATE,
                    Space.CERTIFICATES_OF, Space.CERTIFICATE_OFFER})

_NOT_READ = Reading(0, 0, Quality.ESTIMATED, 0, 0)

# Groups of a block, then of each meter that it touches: each adds up to nothing.
ISSUED, RETIRED, LISTED, OFFERED, BUNDLED = range(5)
METER_GROUPS = 5
METERED, CLAIMED, HELD, CERTIFIED, USED_UP = range(METER_GROUPS)
_CHAIN_GROUPS = ("certificates issued", "certificates retired", "certificates in their owners' lists",
                 "certificates in the list of offers", "bundles of holdings")
_METER_GROUP_NAMES = ("metered", "claimed", "held in claims and certificates", "certified", "retired")


_CLAIM, _CLAIMING, _HOLDING, _BUNDLES, _METER_CLAIMS, _CERTIFICATE, _CERTIFICATES_OF = map(int, (
    Space.CLAIM, Space.CLAIMING, Space.HOLDING, Space.BUNDLES, Space.METER_CLAIMS, Space.CERTIFICATE,
    Space.CERTIFICATES_OF))


@define
class _Sums:
    entries: Entries = field(factory=Entries)
    meters: dict[int, int] = field(factory=dict)

    def chain(self, group: int, index: int, amount: int) -> None:
        self.entries += (index << 32 | group, amount)

    def meter(self, meter: int, group: int, index: int, amount: int) -> None:
        place = self.meters.setdefault(meter, len(self.meters))
        self.entries += (index << 32 | len(_CHAIN_GROUPS) + place * METER_GROUPS + group, amount)

    def check(self) -> None:
        expected = np.zeros(len(_CHAIN_GROUPS) + len(self.meters) * METER_GROUPS, np.int64)
        for violation in check_sums(_array(self.entries), expected, limit=1):
            if violation.group < len(_CHAIN_GROUPS):
                raise InvariantError(f"{_CHAIN_GROUPS[violation.group]} are off by {violation.actual}")
            place, group = divmod(violation.group - len(_CHAIN_GROUPS), METER_GROUPS)
            meter = list(self.meters)[place]
            raise InvariantError(f"meter {meter}: energy {_METER_GROUP_NAMES[group]} is off by {violation.actual} Wh")


def _array(entries: Entries) -> np.ndarray[Any, Any]:
    if entries.beyond is not None:
        raise InvariantError(f"certificates: {entries.beyond[1]} needs more than 64 bits")
    return np.frombuffer(entries.raw(), RECORD)


def check_certificates(session: Session, changes: Changes, mine: list[int]) -> None:
    """Checks the changes at the indexes `mine`, those of `SPACES`; `session` reads the state after the block.

    Raises InvariantError naming the record that is impossible, or what does not add up.
    """
    sums = _Sums()
    bounds = Entries()          # what may not be below zero
    for index in mine:
        key, before, now = changes[index]
        space, at = key[0], index << 32
        if space == _CLAIM:
            if before is None:
                _claim(session, changes, key, now)
                meter = int.from_bytes(key[5:9], "big")
                sums.meter(meter, METERED, index, -now.net_wh)
                sums.meter(meter, CLAIMED, index, -now.issued_wh)
                sums.meter(meter, HELD, index, -now.issued_wh)
                bounds += (at, now.bought_wh, at, now.kept_wh, at, now.missed_wh)
            elif now is not None:
                raise InvariantError(f"claims {key[1:].hex()} were issued already")
        elif space == _CLAIMING:
            for claiming, sign in ((before, -1), (now, 1)):
                if claiming is not None and claiming.held_wh:
                    sums.meter(claiming.meter, HELD, index, sign * claiming.held_wh)
                    bounds += (at, claiming.held_wh)
        elif space == _HOLDING:
            meter = int.from_bytes(key[33:37], "big")
            for holding, sign in ((before, -1), (now, 1)):
                if holding is not None:
                    sums.meter(meter, HELD, index, sign * holding.total_wh)
                    sums.chain(BUNDLED, index, sign * holding.ready)
            if now is not None:
                bounds += (at, now.open_wh, at, CERTIFICATE_WH - 1 - now.open_wh, at, now.ready,
                           at, now.tail - now.head)
        elif space == _BUNDLES:
            sums.chain(BUNDLED, index, (0 if before is None else before.count) - (0 if now is None else now.count))
        elif space == _METER_CLAIMS:
            _meter(sums, bounds, index, key, before or MeterClaims(), now)
        elif space == _CERTIFICATE:
            _certificate(sums, index, key, before, now)
        else:
            group = LISTED if space == _CERTIFICATES_OF else OFFERED
            sums.chain(group, index, (now is not None) - (before is not None))
    for key, before, now in changes.of_space(Space.CHAIN):
        if key == spaces.REGISTRY:
            sums.chain(ISSUED, 0, now.issued - before.issued)
            sums.chain(RETIRED, 0, now.retired - before.retired)
    for violation in find_negative(_array(bounds), limit=1):
        key, _, now = changes[violation.identity]
        raise InvariantError(f"record {key.hex()} is impossible: {now}")
    sums.check()


def _claim(session: Session, changes: Changes, key: bytes, claim: Claim) -> None:
    """The claim says what the reading says that the window was settled by, and the lot gives it once."""
    window, meter = int.from_bytes(key[1:5], "big"), int.from_bytes(key[5:9], "big")
    most = 0 if claim.quality == Quality.ESTIMATED else claim.net_wh
    if claim.issued_wh > most:
        raise InvariantError(f"meter {meter}, window {window}: claims of {claim.issued_wh} Wh; the meter allows {most}")
    place = spaces.reading(window, meter)
    reading: Reading | None = session.get(place) or changes.before(place)
    if reading is None:
        reading = _NOT_READ
    if claim.issued_wh and (reading.injected_wh, reading.withdrawn_wh, reading.quality) != (
            claim.injected_wh, claim.withdrawn_wh, claim.quality):
        raise InvariantError(f"meter {meter}, window {window}: claims of another reading than the meter's: {claim}")
    lot: Lot | None = session.get(spaces.lot(window, meter))
    if lot is not None and lot.claimed_wh != claim.issued_wh:
        raise InvariantError(f"meter {meter}, window {window}: the lot gave {lot.claimed_wh} Wh of claims, not "
                             f"{claim.issued_wh}")


def _meter(sums: _Sums, bounds: Entries, index: int, key: bytes, before: MeterClaims,
           now: MeterClaims) -> None:
    meter = int.from_bytes(key[1:], "big")
    sums.meter(meter, METERED, index, now.metered_wh - before.metered_wh)
    sums.meter(meter, CLAIMED, index, now.claimed_wh - before.claimed_wh)
    sums.meter(meter, CERTIFIED, index, now.certified_wh - before.certified_wh)
    sums.meter(meter, USED_UP, index, now.retired_wh - before.retired_wh)
    at = index << 32
    bounds += (at, now.metered_wh - now.claimed_wh, at, now.claimed_wh - now.certified_wh,
               at, now.certified_wh - now.retired_wh, at, now.retired_wh)


def _certificate(sums: _Sums, index: int, key: bytes, before: Certificate | None, now: Certificate) -> None:
    if now is None or (before is not None and (before.retired_ms or _fixed(before) != _fixed(now))):
        raise InvariantError(f"certificate {int.from_bytes(key[1:], 'big')} cannot change from {before} to {now}")
    if now.retired_ms:
        sums.meter(now.meter, USED_UP, index, -CERTIFICATE_WH)
        sums.chain(RETIRED, index, -1)
    if before is None:
        sums.meter(now.meter, HELD, index, CERTIFICATE_WH)
        sums.meter(now.meter, CERTIFIED, index, -CERTIFICATE_WH)
        sums.chain(ISSUED, index, -1)
        sums.chain(LISTED, index, -1)
    offered = (now.price_uthb > 0) - (before is not None and before.price_uthb > 0)
    sums.chain(OFFERED, index, -offered)


def _fixed(certificate: Certificate) -> Certificate:
    """The certificate without what may change."""
    return evolve(certificate, owner=b"", price_uthb=0, buyer=b"", beneficiary="", purpose="", retired_ms=0)


# ------------------------------------------------------------------ a whole state


@frozen
class CertificateAudit:
    """Sums over a whole state. metered >= claimed = held + certified, Wh; certified is 10^6 for each certificate."""

    metered_wh: int
    claimed_wh: int
    held_wh: int
    certified_wh: int
    certificates: int
    retired: int
    windows_checked: int


def audit_certificates(state: StateReader) -> CertificateAudit:
    """Adds up every claim, holding and certificate of `state`. Raises InvariantError naming what is wrong.

    Claims are compared with the bills that their windows were settled by.
    """
    held = _audit_holdings(state)
    certified, retired, serials = _audit_list(state)
    registry = Registry.decode(state.get(spaces.REGISTRY) or b"")
    if (registry.issued, registry.retired) != (serials, sum(retired.values())):
        raise InvariantError(f"{serials} certificates, {sum(retired.values())} retired; the registry says {registry}")
    total = MeterClaims()
    for key, raw in state.scan(bytes((Space.METER_CLAIMS,))):
        meter, claims = int.from_bytes(key[1:], "big"), MeterClaims.decode(raw)
        of_meter = (held.pop(meter, 0) + certified.get(meter, 0) * CERTIFICATE_WH,
                    certified.pop(meter, 0) * CERTIFICATE_WH, retired.pop(meter, 0) * CERTIFICATE_WH)
        if (of_meter != (claims.claimed_wh, claims.certified_wh, claims.retired_wh)
                or claims.claimed_wh > claims.metered_wh):
            raise InvariantError(f"meter {meter}: {claims}, but held and certified, certified, retired are {of_meter}")
        total = MeterClaims(total.metered_wh + claims.metered_wh, total.claimed_wh + claims.claimed_wh,
                            total.certified_wh + claims.certified_wh, total.retired_wh + claims.retired_wh)
    if held or certified:
        raise InvariantError(f"claims or certificates of meters that never claimed: {sorted({*held, *certified})}")
    return CertificateAudit(total.metered_wh, total.claimed_wh, total.claimed_wh - total.certified_wh,
                            total.certified_wh, serials, registry.retired, _audit_claims(state))


def _audit_claims(state: StateReader) -> int:
    checked = 0
    for key, raw in state.scan(bytes((Space.CLAIM,))):
        window, meter = int.from_bytes(key[1:5], "big"), int.from_bytes(key[5:9], "big")
        claim = Claim.decode(raw)
        most = 0 if claim.quality == Quality.ESTIMATED else claim.net_wh
        bill = state.get(spaces.settlement(window, meter))
        if bill is not None:
            settled = Settlement.decode(bill)
            if (settled.injected, settled.withdrawn) != (claim.injected_wh, claim.withdrawn_wh):
                raise InvariantError(f"meter {meter}, window {window}: {claim}, but settled with {settled.injected} Wh "
                                     f"injected, {settled.withdrawn} Wh withdrawn")
        if not 0 <= claim.issued_wh <= most or min(claim.bought_wh, claim.kept_wh, claim.missed_wh) < 0:
            raise InvariantError(f"meter {meter}, window {window}: {claim}, but the meter allows {most} Wh")
        checked += 1
    return checked


def _audit_holdings(state: StateReader) -> dict[int, int]:
    """Wh held by meter."""
    ready: dict[bytes, int] = {}
    for key, raw in state.scan(bytes((Space.BUNDLES,))):
        run = Bundles.decode(raw)
        if run.count < 1 or run.first_window > run.last_window:
            raise InvariantError(f"bundles {key[1:].hex()} are impossible: {run}")
        ready[key[1:37]] = ready.get(key[1:37], 0) + run.count
    held: dict[int, int] = {}
    for _, raw in state.scan(bytes((Space.CLAIMING,))):         # issued, and on its way to its buyers
        claiming = Claiming.decode(raw)
        if claiming.held_wh:
            held[claiming.meter] = held.get(claiming.meter, 0) + claiming.held_wh
    for key, raw in state.scan(bytes((Space.HOLDING,))):
        holding = Holding.decode(raw)
        if holding.ready != ready.pop(key[1:], 0) or not 0 <= holding.open_wh < CERTIFICATE_WH:
            raise InvariantError(f"holding {key[1:].hex()} is not what its bundles say: {holding}")
        meter = int.from_bytes(key[33:37], "big")
        held[meter] = held.get(meter, 0) + holding.total_wh
    if ready:
        raise InvariantError(f"bundles of no holding: {next(iter(ready)).hex()}")
    return held


def _audit_list(state: StateReader) -> tuple[dict[int, int], dict[int, int], int]:
    """Certificates and retired ones by meter, and how many there are: serial numbers from 1 without gaps."""
    certified: dict[int, int] = {}
    retired: dict[int, int] = {}
    serial = listed = offered = 0
    for key, raw in state.scan(bytes((Space.CERTIFICATE,))):
        certificate = Certificate.decode(raw)
        serial += 1
        if int.from_bytes(key[1:], "big") != serial:
            raise InvariantError(f"there is no certificate {serial}, but there are later ones")
        certified[certificate.meter] = certified.get(certificate.meter, 0) + 1
        retired[certificate.meter] = retired.get(certificate.meter, 0) + (certificate.retired_ms > 0)
        if state.get(spaces.certificates_of(certificate.owner, serial)) is None:
            raise InvariantError(f"certificate {serial} is not in its owner's list")
        if certificate.price_uthb:
            offered += 1
            if certificate.retired_ms or state.get(spaces.certificate_offer(
                    certificate.source, certificate.price_uthb, serial)) is None:
                raise InvariantError(f"certificate {serial} is not in the list of offers as it says: {certificate}")
    listed = sum(1 for _ in state.scan(bytes((Space.CERTIFICATES_OF,))))
    offers = sum(1 for _ in state.scan(bytes((Space.CERTIFICATE_OFFER,))))
    if (listed, offers) != (serial, offered):
        raise InvariantError(f"{listed} certificates in owners' lists and {offers} in that of offers; there are "
                             f"{serial} and {offered}")
    return certified, retired, serial
