"""Brings the households onto the chain: money from the issuer, licences and meters from the registrar; and the grid
operator with its boundary meters, and the collector of readings.

Repeatable: what a chain that goes on has already is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, frozen

from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.errors import GridTokenXError
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.operations import (
    Deposit,
    RegisterBoundaryMeter,
    RegisterCollector,
    RegisterMeter,
    RegisterParticipant,
)
from gridtokenx.ledger.operations.base import Operation
from gridtokenx.ledger.transaction import MAX_OPERATIONS
from gridtokenx.units import UTHB_PER_THB
from testnet.agents import Agent
from testnet.households import Household
from testnet.keys import testnet_key

DEPOSIT_UTHB = 2_000 * UTHB_PER_THB
LICENCE_DAYS = 365
DAY_MS = 86_400_000
BOUNDARY_W = 10_000_000_000
TARIFF_CLASS = 0            # residential time of use, low voltage


class EnrolmentError(GridTokenXError):
    """The chain refused what a household needs to trade."""


@define(eq=False)
class Enrolled:
    """A household with its account, and its meter's id on the chain."""

    household: Household
    key: PrivateKey
    participant: int
    meter: int
    since_ms: int
    """Market time of the meter's registration: it measures windows that begin later."""


@frozen
class Boundary:
    """A boundary meter of the grid operator: a zone's supply point, or its end of a corridor."""

    name: str
    zone: int
    corridor: int | None
    meter: int
    since_ms: int


async def _batches(agent: Agent, operations: Sequence[Operation]) -> list[list[Any]]:
    """Carries out all, many to a transaction; the receipt `[code, data]` of each, in order. Raises EnrolmentError."""
    sent = [await agent.send(operations[start:start + MAX_OPERATIONS])
            for start in range(0, len(operations), MAX_OPERATIONS)]
    outcomes: list[list[Any]] = []
    for one in sent:
        await one.done.wait()
        if not one.final:
            raise EnrolmentError(f"refused with code {one.code}: {one.reason}")
        state: Any = await agent.link.call("transaction", one.signed.id)
        outcomes += state["receipts"]
        if one.code:
            raise EnrolmentError(f"an operation failed with code {one.code}: {state['receipts']}")
    return outcomes


async def enrol(households: Sequence[Household], zones: Sequence[str], issuer: Agent, registrar: Agent, now_ms: int,
                tell: Callable[[str], None]) -> tuple[list[Enrolled], int]:
    """All households, ready to trade, and the THB deposited for them (uTHB). `now_ms` is market time."""
    keys = [testnet_key(f"household {household.index}") for household in households]
    known: list[Any] = [await issuer.link.call("account", key.public) for key in keys]
    poor = [key for key, account in zip(keys, known, strict=True) if account is None]
    tell(f"depositing THB for {len(poor)} households")
    await _batches(issuer, [Deposit(key.public, DEPOSIT_UTHB, b"testnet") for key in poor])

    participants: dict[bytes, int] = {key.public: account["participant"]
                                      for key, account in zip(keys, known, strict=True) if account is not None}
    new = [(household, key) for household, key in zip(households, keys, strict=True)
           if not participants.get(key.public)]
    tell(f"registering {len(new)} participants")
    outcomes = await _batches(registrar, [
        RegisterParticipant(key.public, f"TESTNET-{household.index:04}",
                            Role.PROSUMER if household.pv_w else Role.CONSUMER, zones.index(household.zone),
                            now_ms + LICENCE_DAYS * DAY_MS)
        for household, key in new])
    participants |= {key.public: outcome[1][0] for (_, key), outcome in zip(new, outcomes, strict=True)}

    meters: dict[bytes, int] = {}
    for key in keys:
        found: Any = await registrar.link.call("participant", key.public)
        for meter in found["meters"] if found is not None else ():
            meters[key.public] = meter
    new = [(household, key) for household, key in zip(households, keys, strict=True) if key.public not in meters]
    tell(f"registering {len(new)} meters")
    outcomes = await _batches(registrar, [
        RegisterMeter(participants[key.public], testnet_key(f"meter {household.index}").public,
                      zones.index(household.zone), Network.MEA if household.zone == "Bangkok" else Network.PEA,
                      Source.SOLAR if household.pv_w else Source.MIXED, TARIFF_CLASS, household.injection_w,
                      household.withdrawal_w)
        for household, key in new])
    meters |= {key.public: outcome[1][0] for (_, key), outcome in zip(new, outcomes, strict=True)}
    since = {meter: await _since(registrar, meter) for meter in meters.values()}
    return [Enrolled(household, key, participants[key.public], meters[key.public], since[meters[key.public]])
            for household, key in zip(households, keys, strict=True)], len(poor) * DEPOSIT_UTHB


async def _since(agent: Agent, meter: int) -> int:
    found: Any = await agent.link.call("meter", meter)
    return int(found["since_ms"])


async def enrol_grid(genesis: Genesis, issuer: Agent, registrar: Agent, now_ms: int,
                     tell: Callable[[str], None]) -> tuple[list[Boundary], int]:
    """The grid operator's boundary meters, the collector, and the THB deposited for them (uTHB).

    A supply point for every zone, and a meter at either end of every corridor. Repeatable, like `enrol`.
    """
    operator, collector = testnet_key("grid operator"), testnet_key("collector")
    known: list[Any] = [await issuer.link.call("account", key.public) for key in (operator, collector)]
    poor = [key for key, account in zip((operator, collector), known, strict=True) if account is None]
    await _batches(issuer, [Deposit(key.public, DEPOSIT_UTHB, b"testnet") for key in poor])
    holder: Any = await registrar.link.call("participant", operator.public)
    if holder is None:
        tell("registering the grid operator and the collector")
        [outcome, _] = await _batches(registrar, [
            RegisterParticipant(operator.public, "TESTNET-GRID", Role.GRID_OPERATOR, 0,
                                now_ms + LICENCE_DAYS * DAY_MS),
            RegisterCollector(collector.public, (1 << len(genesis.zones)) - 1)])
        participant, there = outcome[1][0], 0
    else:
        participant, there = holder["participant"], len(holder["meters"])
    places: list[tuple[str, int, int | None]] = [
        (f"supply point {zone.name}", number, None) for number, zone in enumerate(genesis.zones)]
    for number, corridor in enumerate(genesis.corridors):
        places += [(f"corridor {number} in zone {zone}", zone, number) for zone in (corridor.first, corridor.second)]
    if not there:
        tell(f"registering {len(places)} boundary meters")
        await _batches(registrar, [
            RegisterBoundaryMeter(participant, testnet_key(name).public, zone, -1 if corridor is None else corridor,
                                  BOUNDARY_W, BOUNDARY_W) for name, zone, corridor in places])
        holder = await registrar.link.call("participant", operator.public)
    return [Boundary(name, zone, corridor, meter, await _since(registrar, meter))
            for (name, zone, corridor), meter in zip(places, holder["meters"], strict=True)], len(poor) * DEPOSIT_UTHB
