"""Certificates in state: issue from bundles, change of owner, offers, retirement. What operations share."""

from __future__ import annotations

from attrs import evolve

from gridtokenx.ledger import spaces
from gridtokenx.ledger.certificate_records import CERTIFICATE_WH, Bundles, Certificate, MeterClaims, Registry
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Meter
from gridtokenx.ledger.session import Session
from gridtokenx.market.holdings import take_bundles

UG_PER_G = 1_000_000


def issue(context: Context, owner: bytes, meter_id: int, count: int) -> int:
    """Issues `count` certificates of the oldest bundles; the first serial number. Raises Failed(TOO_FEW_CLAIMS)."""
    session = context.session
    runs = take_bundles(session, owner, meter_id, count)
    meter: Meter = session.get(spaces.meter(meter_id))
    registry: Registry = session.get(spaces.REGISTRY)
    serial = registry.issued
    for run in runs:
        for _ in range(run.count):
            serial += 1
            session.put(spaces.certificate(serial), _certificate(context, owner, meter_id, meter, run))
            session.put(spaces.certificates_of(owner, serial), spaces.PRESENT)
    session.put(spaces.REGISTRY, evolve(registry, issued=serial))
    claims: MeterClaims = session.get(spaces.meter_claims(meter_id))
    session.put(spaces.meter_claims(meter_id),
                evolve(claims, certified_wh=claims.certified_wh + count * CERTIFICATE_WH))
    return registry.issued + 1


def _certificate(context: Context, owner: bytes, meter_id: int, meter: Meter, run: Bundles) -> Certificate:
    return Certificate(meter_id, owner, meter.source, meter.zone, run.first_window, run.last_window,
                       run.avoided_ug // UG_PER_G, run.credit_ug // UG_PER_G, context.height, context.now_ms)


def get_certificate(session: Session, serial: int) -> Certificate:
    """A certificate that is not retired. Raises Failed(UNKNOWN_CERTIFICATE or CERTIFICATE_RETIRED)."""
    found: Certificate | None = session.get(spaces.certificate(serial))
    if found is None:
        raise Failed(Code.UNKNOWN_CERTIFICATE, f"no certificate {serial}")
    if found.retired_ms:
        raise Failed(Code.CERTIFICATE_RETIRED, f"certificate {serial} was retired for {found.beneficiary!r}: it can "
                                               "neither change hands nor be retired again")
    return found


def get_own(session: Session, serial: int, sender: bytes) -> Certificate:
    """A certificate of `sender`'s. Raises Failed as above, or with NOT_CERTIFICATE_OWNER."""
    found = get_certificate(session, serial)
    if found.owner != sender:
        raise Failed(Code.NOT_CERTIFICATE_OWNER, f"certificate {serial} is another account's")
    return found


def end_offer(session: Session, serial: int, certificate: Certificate) -> Certificate:
    """The certificate not offered any more; the caller stores it."""
    if not certificate.price_uthb:
        return certificate
    session.put(spaces.certificate_offer(certificate.source, certificate.price_uthb, serial), None)
    return evolve(certificate, price_uthb=0, buyer=b"")


def hand_over(session: Session, serial: int, certificate: Certificate, to: bytes) -> None:
    """Gives the certificate to another account; an offer ends with that."""
    session.put(spaces.certificates_of(certificate.owner, serial), None)
    session.put(spaces.certificates_of(to, serial), spaces.PRESENT)
    session.put(spaces.certificate(serial), evolve(end_offer(session, serial, certificate), owner=to))


def retire(context: Context, serial: int, certificate: Certificate, beneficiary: str, purpose: str) -> None:
    """Uses the certificate up, for good."""
    session = context.session
    session.put(spaces.certificate(serial), evolve(
        end_offer(session, serial, certificate), beneficiary=beneficiary, purpose=purpose,
        retired_ms=context.now_ms))
    registry: Registry = session.get(spaces.REGISTRY)
    session.put(spaces.REGISTRY, evolve(registry, retired=registry.retired + 1))
    claims: MeterClaims = session.get(spaces.meter_claims(certificate.meter))
    session.put(spaces.meter_claims(certificate.meter),
                evolve(claims, retired_wh=claims.retired_wh + CERTIFICATE_WH))
