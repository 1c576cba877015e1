"""The closed lists that meters and participants are described by. Numbers are in state: frozen."""

from __future__ import annotations

from enum import IntEnum


class Source(IntEnum):
    """What a meter's injection is made from; MIXED where it cannot be told."""

    MIXED = 0
    SOLAR = 1
    WIND = 2
    HYDRO = 3
    BIOMASS = 4
    GEOTHERMAL = 5
    STORAGE = 6
    THERMAL = 7


RENEWABLE = frozenset({Source.SOLAR, Source.WIND, Source.HYDRO, Source.BIOMASS, Source.GEOTHERMAL})
"""Sources whose energy certificates are made of (MARKET 8)."""


class Network(IntEnum):
    """Whose wires a meter hangs on."""

    EGAT = 0
    MEA = 1
    PEA = 2


class Voltage(IntEnum):
    """Where a tariff class takes its energy; ranges of the Thai tariffs."""

    BELOW_12_KV = 0
    FROM_12_TO_24_KV = 1
    FROM_69_KV = 2


class TradeKind(IntEnum):
    """How a trade came about."""

    CONTINUOUS = 0
    BILATERAL = 1


class Role(IntEnum):
    """What a participant's licence is for."""

    CONSUMER = 1
    PROSUMER = 2
    GENERATOR = 3
    RETAILER = 4
    UTILITY = 5
    GRID_OPERATOR = 6
