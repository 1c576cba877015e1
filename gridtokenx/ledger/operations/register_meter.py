"""Registration of a meter by a registrar:
`[11, participant, key, zone, network, source, tariff, injection_w, withdrawal_w]`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import evolve, frozen

from gridtokenx.crypto.keys import is_point
from gridtokenx.grid.kinds import Network, Source
from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations.base import Block, address, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Counters, Meter, Participant
from gridtokenx.ledger.tariff_records import Tariff
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.deadlines import begin_settling

MAX_POWER_W = 10_000_000_000
"""10 GW. What `market.money` says of 64 bits rests on it."""


@frozen
class RegisterMeter:
    """The participant's account owns it. `key` will sign its readings. The receipt's data is the meter's id."""

    participant: int
    key: bytes
    zone: int
    network: Network
    source: Source
    tariff: int
    injection_w: int
    withdrawal_w: int

    KIND: ClassVar[int] = 11
    NAME: ClassVar[str] = "register meter"
    WEIGHT: ClassVar[int] = 50
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> RegisterMeter:
        check_count(fields, "participant", "key", "zone", "network", "source", "tariff", "injection_w",
                    "withdrawal_w")
        network = integer("network", fields[3])
        if network not in set(Network):
            raise Failed(Code.UNKNOWN_NETWORK, f"network {network}; 0 to {max(Network)} exist")
        return cls(integer("participant", fields[0], 1, (1 << 32) - 1), address("key", fields[1]),
                   integer("zone", fields[2], 0, 255), Network(network),
                   Source(integer("source", fields[4], 0, max(Source))), integer("tariff", fields[5], 0, 255),
                   integer("injection_w", fields[6], 0, MAX_POWER_W),
                   integer("withdrawal_w", fields[7], 0, MAX_POWER_W))

    def fields(self) -> list[Any]:
        return [self.KIND, self.participant, self.key, self.zone, int(self.network), int(self.source), self.tariff,
                self.injection_w, self.withdrawal_w]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        context = block.context
        session = context.session
        if sender not in context.roles.registrars:
            raise Failed(Code.NOT_ALLOWED, "only a registrar registers meters")
        participant: Participant | None = session.get(spaces.participant(self.participant))
        if participant is None:
            raise Failed(Code.UNKNOWN_PARTICIPANT, f"no participant {self.participant}")
        if participant.expires_ms <= context.now_ms:
            raise Failed(Code.LICENCE_EXPIRED, f"the licence of participant {self.participant} has expired")
        if session.get(spaces.zone(self.zone)) is None:
            raise Failed(Code.UNKNOWN_ZONE, f"no zone {self.zone}")
        tariff: Tariff | None = session.get(spaces.tariff(self.tariff))
        if tariff is None:
            raise Failed(Code.UNKNOWN_TARIFF, f"no tariff class {self.tariff}")
        first = -(-context.now_ms // WINDOW_MS)
        if tariff.versions[0][0] > first:
            raise Failed(Code.UNKNOWN_TARIFF, f"tariff class {self.tariff} is in force from window "
                                              f"{tariff.versions[0][0]} on; the meter's first is {first}")
        if not is_point(self.key):
            raise Failed(Code.BAD_KEY, "the meter's key is no Ed25519 public key")
        if session.get(spaces.meter_key(self.key)) is not None:
            raise Failed(Code.METER_KEY_TAKEN, "another meter has this key")
        counters: Counters = session.get(spaces.COUNTERS)
        number = counters.meters + 1
        owner = participant.account
        session.put(spaces.COUNTERS, evolve(counters, meters=number))
        session.put(spaces.meter_key(self.key), spaces.number(number))
        session.put(spaces.meters_of(owner, number), spaces.PRESENT)
        session.put(spaces.meter(number), Meter(
            owner, self.participant, self.key, self.zone, self.network, self.source, self.tariff, self.injection_w,
            self.withdrawal_w, context.now_ms))
        begin_settling(context)
        return (number,)
