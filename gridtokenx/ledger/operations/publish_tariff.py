"""A regulator sets a tariff class from a window on, or opens one:
`[40, class, name, voltage, since, on_peak, off_peak, service, demand, [[edge_wh, rate], ...]]`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import evolve, frozen

from gridtokenx.grid.kinds import Voltage
from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations.base import Block, check_count, integer, text
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.ledger.tariff_records import (
    BLOCK_EDGE_MOST,
    BLOCKS_MOST,
    DEMAND_MOST,
    MAX_TARIFFS,
    RATE_MOST,
    SERVICE_MOST,
    Tariff,
)
from gridtokenx.market.tables import check_regulator, next_version

MAX_NAME_BYTES = 64


@frozen
class PublishTariff:
    """Rates uTHB/kWh without Ft and VAT, `service` uTHB a month, `demand` uTHB per kW and month.

    `number` is a class that exists, with its name and voltage, or the next free one. With `blocks` (upper edge in Wh
    of the month, rate; the last edge 0) both time-of-use rates are the first block's.
    """

    number: int
    name: str
    voltage: Voltage
    since: int
    on_peak: int
    off_peak: int
    service: int = 0
    demand: int = 0
    blocks: tuple[tuple[int, int], ...] = ()

    KIND: ClassVar[int] = 40
    NAME: ClassVar[str] = "publish tariff"
    WEIGHT: ClassVar[int] = 40
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> PublishTariff:
        check_count(fields, "class", "name", "voltage", "since", "on_peak", "off_peak", "service", "demand", "blocks")
        blocks = _blocks(fields[8])
        on_peak, off_peak = integer("on_peak", fields[4], 0, RATE_MOST), integer("off_peak", fields[5], 0, RATE_MOST)
        if blocks and not on_peak == off_peak == blocks[0][1]:
            raise Failed(Code.BAD_BLOCKS, "with blocks, both time-of-use rates are the first block's")
        return cls(integer("class", fields[0], 0, MAX_TARIFFS - 1), text("name", fields[1], MAX_NAME_BYTES),
                   Voltage(integer("voltage", fields[2], 0, max(Voltage))),
                   integer("since", fields[3], 0, MAX_WINDOW), on_peak, off_peak,
                   integer("service", fields[6], 0, SERVICE_MOST), integer("demand", fields[7], 0, DEMAND_MOST),
                   blocks)

    def fields(self) -> list[Any]:
        return [self.KIND, self.number, self.name, int(self.voltage), self.since, self.on_peak, self.off_peak,
                self.service, self.demand, [list(block) for block in self.blocks]]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        session = block.context.session
        check_regulator(block.context, sender)
        version = (self.since, self.on_peak, self.off_peak, self.service, self.demand, self.blocks)
        tariff: Tariff | None = session.get(spaces.tariff(self.number))
        if tariff is None:
            if self.number and session.get(spaces.tariff(self.number - 1)) is None:
                raise Failed(Code.UNKNOWN_TARIFF, f"no tariff class {self.number}, and it is not the next free number")
            versions = next_version(block.context, (), version)
            session.put(spaces.tariff(self.number), Tariff(self.name, int(self.voltage), versions))
            return ()
        if (tariff.name, tariff.voltage) != (self.name, self.voltage):
            raise Failed(Code.OTHER_CLASS, f"class {self.number} is {tariff.name!r} with voltage {tariff.voltage}: it "
                                           "keeps both")
        session.put(spaces.tariff(self.number),
                    evolve(tariff, versions=next_version(block.context, tariff.versions, version)))
        return ()


def _blocks(value: Any) -> tuple[tuple[int, int], ...]:
    if type(value) not in (list, tuple) or len(value) > BLOCKS_MOST or any(
            type(entry) not in (list, tuple) or len(entry) != 2 for entry in value):
        raise Failed(Code.BAD_FIELDS, f"blocks must be a list of at most {BLOCKS_MOST} pairs [upper edge, rate]")
    blocks = tuple((integer("edge", edge, 0, BLOCK_EDGE_MOST), integer("rate", rate, 0, RATE_MOST))
                   for edge, rate in value)
    edges = [edge for edge, _ in blocks]
    if edges and (edges.pop() or edges != sorted(set(edges)) or 0 in edges):
        raise Failed(Code.BAD_BLOCKS, "upper edges of blocks rise, and the last is 0: no end")
    rates = [rate for _, rate in blocks]
    if rates != sorted(rates):
        raise Failed(Code.BAD_BLOCKS, "rates of blocks never fall")
    return blocks
