"""A collector of readings, registered by a registrar: `[12, account, zones]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.ledger import spaces
from gridtokenx.ledger.metering_records import Collector
from gridtokenx.ledger.operations.base import Block, address, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed

MAX_ZONES = 16


@frozen
class RegisterCollector:
    """`account` may report readings of all meters in `zones` (bit k: zone k); 0 ends it. Repeating it replaces it."""

    account: bytes
    zones: int

    KIND: ClassVar[int] = 12
    NAME: ClassVar[str] = "register collector"
    WEIGHT: ClassVar[int] = 40
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> RegisterCollector:
        check_count(fields, "account", "zones")
        return cls(address("account", fields[0]), integer("zones", fields[1], 0, (1 << MAX_ZONES) - 1))

    def fields(self) -> list[Any]:
        return [self.KIND, self.account, self.zones]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        if sender not in block.context.roles.registrars:
            raise Failed(Code.NOT_ALLOWED, "only a registrar registers collectors")
        for zone in range(self.zones.bit_length()):
            if self.zones >> zone & 1 and session.get(spaces.zone(zone)) is None:
                raise Failed(Code.UNKNOWN_ZONE, f"no zone {zone}")
        session.put(spaces.collector(self.account), Collector(self.zones) if self.zones else None)
        return ()
