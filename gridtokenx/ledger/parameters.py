"""The chain's parameters: named integers in state, each with its bounds. Numbers are state keys: frozen."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cbor2
from attrs import define, fields, frozen

from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.state import StateReader


class ParameterError(GridTokenXError):
    """A parameter that does not exist or is out of bounds; the message gives both."""


@frozen
class Parameter:
    """One line of the registry. `help` says what the number does, with its unit."""

    number: int
    name: str
    default: int
    low: int
    high: int
    unit: str
    help: str


_TABLE = (
    # Blocks and consensus.
    (1, "min_block_interval_ms", 100, 10, 60_000, "ms", "least time between the timestamps of two blocks"),
    (2, "block_time_ms", 10_000, 1_000, 30_000, "ms", "heartbeat: a block at least so often"),
    (3, "delta_ms", 100, 10, 2_000, "ms", "bound on message delay that consensus starts from"),
    (4, "max_block_bytes", 262_144, 65_536, 1 << 20, "bytes", "transactions of a block, in all"),
    (5, "max_block_weight", 100_000, 20_000, 10_000_000, "weight", "execution of a block, in all; about a us each"),
    (6, "max_timed_weight", 30_000, 1_000, 10_000_000, "weight", "timed work of a block, beside max_block_weight"),
    (7, "epoch_length", 100_000, 10, 1 << 40, "blocks", "least length of an epoch"),
    # Money.
    (20, "min_fee_uthb", 1_000, 0, 10**12, "uTHB", "least fee of a transaction, per operation it carries"),
    (21, "fee_ppm", 5_000, 0, 100_000, "ppm", "market operator's fee on the value of a fill"),
    # Orders.
    (40, "price_band_ppm", 300_000, 0, 1_000_000, "ppm", "how far a limit may be from the reference price"),
    (41, "order_most_wh", 10_000_000, 100, 10_000_000, "Wh", "greatest quantity of one order"),
    (42, "short_cap_mthb_kwh", 7_500, 0, 1_000_000, "mTHB/kWh", "least price that collateral of sales must reach"),
    (43, "max_open_orders", 100_000, 100, 120_000, "orders", "resting orders in all windows together"),
    (44, "max_credit_uthb", 10**15, 0, 10**18, "uTHB", "greatest credit limit of a licence"),
    (45, "uncross_fills", 256, 1, 4096, "fills", "of resting orders with each other in a block's transactions"),
    (46, "uncross_visits", 4096, 1, 65_536, "visits", "of orders for that"),
    (47, "breaker_pause_ms", 300_000, 1_000, 86_400_000, "ms", "how long the breaker halts a window, block time"),
    (48, "breaker_least_wh", 100_000, 0, 10**12, "Wh", "traded volume from which on the breaker looks at prices"),
    (49, "breaker_participants", 5, 1, 16, "participants", "of each side from which on it does"),
    # Tariffs.
    (62, "reference_tariff", 0, 0, 255, "tariff class", "the class whose energy rate is the reference price"),
    (63, "congestion_from_ppm", 800_000, 0, 999_999, "ppm", "use of a zone's corridors from which its price moves"),
    (64, "congestion_ppm", 200_000, 0, 1_000_000, "ppm", "indicative price: what full corridors add or take"),
    (65, "renewable_premium_uthb_kwh", 100_000, 0, 10**9, "uTHB/kWh", "indicative price: if all offered is renewable"),
    (66, "monthly_bill_keep_days", 400, 1, 4_000, "days", "how long the lines of a month stay in state"),
    # Settlement.
    (70, "short_penalty_ppm", 200_000, 0, 10_000_000, "ppm", "what energy sold but not delivered costs above retail"),
    (71, "bill_keep_days", 35, 29, 400, "days", "how long readings and bills stay in state after delivery"),
    (72, "tolerance_wh", 1_000, 0, 10**12, "Wh", "least residual of a zone and window that raises a flag"),
    (73, "tolerance_ppm", 20_000, 0, 1_000_000, "ppm", "the same, of the zone's withdrawal; the greater counts"),
    (74, "corrections_ms", 604_800_000, 0, 2_419_200_000, "ms",
     "market time after delivery in which a reading may be corrected; then a window is final and gives claims"),
    # Certificates.
    (90, "source_default_rate", 250_000, 0, 10**9, "uTHB/kWh",
     "what a seller pays for energy of a source that the buyer asked for and did not get [P]"),
)

REGISTRY: tuple[Parameter, ...] = tuple(Parameter(*line) for line in _TABLE)
BY_NAME: dict[str, Parameter] = {parameter.name: parameter for parameter in REGISTRY}
_KEYS = [spaces.parameter(parameter.number) for parameter in REGISTRY]


def check(name: str, value: Any) -> int:
    """`value` if the parameter exists and the value is within its bounds. Raises ParameterError."""
    parameter = BY_NAME.get(name)
    if parameter is None:
        raise ParameterError(f"no parameter {name!r}; there are {', '.join(sorted(BY_NAME))}")
    if type(value) is not int or not parameter.low <= value <= parameter.high:
        raise ParameterError(
            f"parameter {name} is {value!r}; an integer from {parameter.low} to {parameter.high} ({parameter.unit}) "
            "is allowed")
    return value


@define
class Parameters:
    """All of them at one state; attribute names are those of the registry."""

    min_block_interval_ms: int
    block_time_ms: int
    delta_ms: int
    max_block_bytes: int
    max_block_weight: int
    max_timed_weight: int
    epoch_length: int
    min_fee_uthb: int
    fee_ppm: int
    price_band_ppm: int
    order_most_wh: int
    short_cap_mthb_kwh: int
    max_open_orders: int
    max_credit_uthb: int
    uncross_fills: int
    uncross_visits: int
    breaker_pause_ms: int
    breaker_least_wh: int
    breaker_participants: int
    reference_tariff: int
    congestion_from_ppm: int
    congestion_ppm: int
    renewable_premium_uthb_kwh: int
    monthly_bill_keep_days: int
    short_penalty_ppm: int
    bill_keep_days: int
    tolerance_wh: int
    tolerance_ppm: int
    corrections_ms: int
    source_default_rate: int


assert tuple(BY_NAME) == tuple(attribute.name for attribute in fields(Parameters))


def read_parameters(state: StateReader) -> Parameters:
    """The parameters in force in `state`. Raises ParameterError when one is missing: not a state of this chain."""
    raws = [state.get(key) for key in _KEYS]
    if None in raws:
        raise ParameterError(f"parameter {REGISTRY[raws.index(None)].name} is not in this state")
    return _parameters(*raws)


@lru_cache(maxsize=16)      # every block asks for them, and they hardly ever change
def _parameters(*raws: bytes) -> Parameters:
    return Parameters(*(cbor2.loads(raw) for raw in raws))


def encode_parameter(name: str, value: int) -> tuple[bytes, bytes]:
    """Key and value in state of a parameter. Raises ParameterError."""
    return spaces.parameter(BY_NAME[name].number), cbor2.dumps(check(name, value))
