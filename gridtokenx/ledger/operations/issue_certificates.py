"""Claims bundled into certificates of 1 MWh: `[50, meter, count]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger import certificates
from gridtokenx.ledger.operations.base import Block, check_count, integer

MOST_ISSUED = 64


@frozen
class IssueCertificates:
    """The sender's oldest claims on the meter's energy become `count` certificates with the next serial numbers.

    The receipt's data is the first serial number and the count.
    """

    meter: int
    count: int = 1

    KIND: ClassVar[int] = 50
    NAME: ClassVar[str] = "issue certificates"
    WEIGHT: ClassVar[int] = 50
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> IssueCertificates:
        check_count(fields, "meter", "count")
        return cls(integer("meter", fields[0], 1, (1 << 32) - 1), integer("count", fields[1], 1, MOST_ISSUED))

    def fields(self) -> list[Any]:
        return [self.KIND, self.meter, self.count]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        return certificates.issue(block.context, sender, self.meter, self.count), self.count
