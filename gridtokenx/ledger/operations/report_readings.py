"""Readings of meters, each signed by its meter: `[30, [[meter, window, injected_wh, withdrawn_wh, quality, revision,
signature], ...]]`.

The operation is to look at every reading: each one is taken or refused by itself, and the receipt names the refused
ones. A collector brings hundreds of households in one transaction; if one broken meter could fail them all, and the
deadline passed meanwhile, the others would be billed by estimate. Only if none is taken the operation fails, with
the code of the first.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx import codec
from gridtokenx.crypto.hashing import Domain
from gridtokenx.crypto.keys import SIGNATURE_BYTES, PrivateKey
from gridtokenx.ledger import weights
from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.market.readings import KERNEL, MAX_REVISION, SignedReading, report

__all__ = ["ReportReadings", "SignedReading", "sign_reading"]

MAX_READINGS = 512
_NAMES = ("meter", "window", "injected_wh", "withdrawn_wh", "quality", "revision", "signature")


@frozen
class ReportReadings:
    """The receipt's data: how many were taken, then index and code of each that was not."""

    readings: tuple[SignedReading, ...]

    KIND: ClassVar[int] = 30
    NAME: ClassVar[str] = "report readings"
    WEIGHT: ClassVar[int] = 20      # beside what each reading weighs
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> ReportReadings:
        check_count(fields, "readings")
        if type(fields[0]) is not tuple or not 1 <= len(fields[0]) <= MAX_READINGS:
            raise Failed(Code.BAD_FIELDS, f"readings must be an array of 1 to {MAX_READINGS}")
        return cls(KERNEL.parse(fields[0]) or tuple(_read(entry) for entry in fields[0]))

    def fields(self) -> list[Any]:
        return [self.KIND, [[r.meter, r.window, r.injected_wh, r.withdrawn_wh, r.quality, r.revision, r.signature]
                            for r in self.readings]]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        refused, corrected = report(block.context, sender, self.readings)
        block.desk.weight += weights.READING * len(self.readings) + weights.CORRECTION * corrected
        if len(refused) == len(self.readings):
            raise refused[0][1]
        data: list[int] = [len(self.readings) - len(refused)]
        for index, failure in refused:
            data += (index, int(failure.code))
        return tuple(data)


def _read(entry: Any) -> SignedReading:
    if type(entry) is not tuple:
        raise Failed(Code.BAD_FIELDS, f"a reading is an array of {', '.join(_NAMES)}")
    check_count(entry, *_NAMES)
    signature = entry[6]
    if type(signature) is not bytes or len(signature) != SIGNATURE_BYTES:
        raise Failed(Code.BAD_FIELDS, f"signature must be {SIGNATURE_BYTES} bytes")
    return SignedReading(
        integer("meter", entry[0], 1, (1 << 32) - 1), integer("window", entry[1], 0, MAX_WINDOW),
        integer("injected_wh", entry[2]), integer("withdrawn_wh", entry[3]), integer("quality", entry[4], 0, 2),
        integer("revision", entry[5], 0, MAX_REVISION), signature)


def sign_reading(key: PrivateKey, chain_id: bytes, meter: int, window: int, injected_wh: int, withdrawn_wh: int,
                 quality: int = 0, revision: int = 0) -> SignedReading:
    """What a meter does: `key` is the meter's own."""
    payload = codec.encode([window, injected_wh, withdrawn_wh, quality, revision])
    return SignedReading(meter, window, injected_wh, withdrawn_wh, quality, revision,
                         key.sign(Domain.METER_READING, chain_id, payload))
