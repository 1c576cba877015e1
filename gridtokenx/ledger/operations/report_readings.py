"""Readings of meters, in reports each signed by its meter: `[30, [[meter, window, quality, revision, [injected_wh,
withdrawn_wh, ...], signature], ...]]`, where `window` is the first of those that follow each other in the report.

The operation is to look at every reading: each one is taken or refused by itself, and the receipt names the refused
ones. A collector brings hundreds of households in one transaction; if one broken meter could fail them all, and the
deadline passed meanwhile, the others would be billed by estimate. Only if none is taken the operation fails, with
the code of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.crypto.hashing import Domain
from gridtokenx.crypto.keys import SIGNATURE_BYTES, PrivateKey
from gridtokenx.ledger import weights
from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.market.readings import KERNEL, MAX_REPORT_WINDOWS, MAX_REVISION, SignedReport, payload, report

__all__ = ["ReportReadings", "SignedReport", "sign_reading", "sign_report"]

MAX_READINGS = 512
_NAMES = ("meter", "window", "quality", "revision", "energies", "signature")


@frozen
class ReportReadings:
    """The receipt's data: how many readings were taken, then number and code of each that was not, where they are
    numbered from 0 through all reports."""

    reports: tuple[SignedReport, ...]

    KIND: ClassVar[int] = 30
    NAME: ClassVar[str] = "report readings"
    WEIGHT: ClassVar[int] = 20      # beside what each reading weighs
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> ReportReadings:
        check_count(fields, "reports")
        if type(fields[0]) is not tuple or not 1 <= len(fields[0]) <= MAX_READINGS:
            raise Failed(Code.BAD_FIELDS, f"reports must be an array of 1 to {MAX_READINGS}")
        reports = KERNEL.parse(fields[0]) or tuple(_read(entry) for entry in fields[0])
        if (readings := KERNEL.count(reports)) > MAX_READINGS:
            raise Failed(Code.BAD_FIELDS, f"{readings} readings; an operation has at most {MAX_READINGS}")
        return cls(reports)

    def fields(self) -> list[Any]:
        return [self.KIND, [[r.meter, r.window, r.quality, r.revision, list(r.energies), r.signature]
                            for r in self.reports]]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        readings = KERNEL.count(self.reports)
        refused, corrected = report(block.context, sender, self.reports)
        block.desk.weight += (weights.SIGNATURE * len(self.reports) + weights.READING * readings
                              + weights.CORRECTION * corrected)
        if len(refused) == readings:
            raise refused[0][1]
        data: list[int] = [readings - len(refused)]
        for number, failure in refused:
            data += (number, int(failure.code))
        return tuple(data)


def _read(entry: Any) -> SignedReport:
    if type(entry) is not tuple:
        raise Failed(Code.BAD_FIELDS, f"a report is an array of {', '.join(_NAMES)}")
    check_count(entry, *_NAMES)
    energies, signature = entry[4:]
    if type(energies) is not tuple or len(energies) % 2 or not 2 <= len(energies) <= 2 * MAX_REPORT_WINDOWS:
        raise Failed(Code.BAD_FIELDS, "energies must be an array of injected and withdrawn Wh of 1 to "
                                      f"{MAX_REPORT_WINDOWS} windows")
    if type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
        raise Failed(Code.BAD_FIELDS, f"signature must be {SIGNATURE_BYTES} bytes")
    return SignedReport(
        integer("meter", entry[0], 1, (1 << 32) - 1),
        integer("window", entry[1], 0, MAX_WINDOW + 1 - len(energies) // 2),
        integer("quality", entry[2], 0, 2), integer("revision", entry[3], 0, MAX_REVISION),
        tuple(integer("an energy in Wh", energy) for energy in energies), signature)


def sign_report(key: PrivateKey, chain_id: bytes, meter: int, window: int, energies: Sequence[int], quality: int = 0,
                revision: int = 0) -> SignedReport:
    """What a meter does: `key` is its own, `energies` injected and withdrawn Wh of `window`, of the next one, ..."""
    signature = key.sign(Domain.METER_READING, chain_id, payload(window, quality, revision, energies))
    return SignedReport(meter, window, quality, revision, tuple(energies), signature)


def sign_reading(key: PrivateKey, chain_id: bytes, meter: int, window: int, injected_wh: int, withdrawn_wh: int,
                 quality: int = 0, revision: int = 0) -> SignedReport:
    """A report of one window."""
    return sign_report(key, chain_id, meter, window, (injected_wh, withdrawn_wh), quality, revision)
