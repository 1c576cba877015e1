"""Registration of a boundary meter by a registrar: `[13, participant, key, zone, corridor, import_w, export_w]`."""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import evolve, frozen

from gridtokenx.crypto.keys import is_point
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger import spaces
from gridtokenx.ledger.metering_records import Boundary, BoundaryMeter
from gridtokenx.ledger.operations.base import Block, address, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Corridor, Counters, Meter, Participant
from gridtokenx.market.deadlines import begin_settling

NO_CORRIDOR = -1
MAX_POWER_W = 100_000_000_000
BOUNDARY_MOST = 64
"""Boundary meters of one zone: a window is closed with one look at each."""


@frozen
class RegisterBoundaryMeter:
    """A grid operator's meter at the edge of `zone`: its supply point (corridor -1), or the end of a corridor.

    It measures what comes in (injected) and goes out (withdrawn) and takes no part in the market. The receipt's
    data is the meter's id.
    """

    participant: int
    key: bytes
    zone: int
    corridor: int
    import_w: int
    export_w: int

    KIND: ClassVar[int] = 13
    NAME: ClassVar[str] = "register boundary meter"
    WEIGHT: ClassVar[int] = 50
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> RegisterBoundaryMeter:
        check_count(fields, "participant", "key", "zone", "corridor", "import_w", "export_w")
        return cls(integer("participant", fields[0], 1, (1 << 32) - 1), address("key", fields[1]),
                   integer("zone", fields[2], 0, 255), integer("corridor", fields[3], NO_CORRIDOR, 255),
                   integer("import_w", fields[4], 0, MAX_POWER_W), integer("export_w", fields[5], 0, MAX_POWER_W))

    def fields(self) -> list[Any]:
        return [self.KIND, self.participant, self.key, self.zone, self.corridor, self.import_w, self.export_w]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        context = block.context
        session = context.session
        if sender not in context.roles.registrars:
            raise Failed(Code.NOT_ALLOWED, "only a registrar registers meters")
        participant: Participant | None = session.get(spaces.participant(self.participant))
        if participant is None:
            raise Failed(Code.UNKNOWN_PARTICIPANT, f"no participant {self.participant}")
        if participant.role not in (Role.GRID_OPERATOR, Role.UTILITY):
            raise Failed(Code.NOT_GRID_OPERATOR, f"participant {self.participant} is neither a grid operator nor a "
                                                 "utility")
        if session.get(spaces.zone(self.zone)) is None:
            raise Failed(Code.UNKNOWN_ZONE, f"no zone {self.zone}")
        if self.corridor != NO_CORRIDOR:
            corridor: Corridor | None = session.get(spaces.corridor(self.corridor))
            if corridor is None or self.zone not in (corridor.first, corridor.second):
                raise Failed(Code.UNKNOWN_CORRIDOR, f"no corridor {self.corridor} ends in zone {self.zone}")
        if not is_point(self.key):
            raise Failed(Code.BAD_KEY, "the meter's key is no Ed25519 public key")
        if session.get(spaces.meter_key(self.key)) is not None:
            raise Failed(Code.METER_KEY_TAKEN, "another meter has this key")
        if sum(1 for _ in session.scan(spaces.boundary(self.zone))) >= BOUNDARY_MOST:
            raise Failed(Code.TOO_MANY_BOUNDARY_METERS, f"zone {self.zone} has {BOUNDARY_MOST} boundary meters already")
        counters: Counters = session.get(spaces.COUNTERS)
        number = counters.meters + 1
        owner = participant.account
        session.put(spaces.COUNTERS, evolve(counters, meters=number))
        session.put(spaces.meter_key(self.key), spaces.number(number))
        session.put(spaces.meters_of(owner, number), spaces.PRESENT)
        kind = Boundary.SUPPLY_POINT if self.corridor == NO_CORRIDOR else Boundary.CORRIDOR_END
        session.put(spaces.meter(number), Meter(
            owner, self.participant, self.key, self.zone, Network.EGAT, Source.MIXED, 0, 0, 0, context.now_ms, kind))
        session.put(spaces.boundary(self.zone, number), BoundaryMeter(self.corridor, self.import_w, self.export_w))
        begin_settling(context)
        return (number,)
