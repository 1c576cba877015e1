"""The houses of a scenario: where they are, what they use, make and expect; and how they get onto a chain."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
from attrs import define, evolve, frozen
from numpy.typing import NDArray

from gridtokenx.forks import Chain
from gridtokenx.forks.metering import meter_key
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger import spaces
from gridtokenx.ledger.operations import Deposit, Operation, RegisterMeter, RegisterParticipant
from gridtokenx.ledger.records import Counters, Meter, Participant, Roles, Zone
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.transaction import MAX_OPERATIONS
from gridtokenx.scenario.agents import Agent
from gridtokenx.scenario.devices import Battery, car_load
from gridtokenx.scenario.errors import ScenarioError
from gridtokenx.scenario.profiles import SHIPPED_PROFILES, Profiles, read_profiles
from gridtokenx.scenario.schema import RESIDENTS, Group, Scenario
from gridtokenx.scenario.streams import stream
from gridtokenx.units import UTHB_PER_THB

Real = NDArray[np.float64]
LEAST_WITHDRAWAL_W = 10_350     # 45 A at 230 V
QUARTERS = 4                    # of an hour: W from Wh of a window
DAY_MS = 86_400_000


@define(eq=False)
class House:
    """One house. Arrays have an entry per window of the horizon; the net ones are injection less withdrawal, Wh.

    `net_wh` is what its meter will read but for its battery, `expected_wh` what it believes beforehand: with the
    battery serving the house alone, unless its strategy plans that itself.
    """

    name: str
    zone: int
    tariff: int
    solar: bool
    injection_w: int
    withdrawal_w: int
    money_uthb: int
    net_wh: NDArray[np.int64]
    expected_wh: NDArray[np.int64]
    agent: Agent
    battery: Battery | None = None
    car: bool = False
    stored_wh: int = 0
    address: bytes = b""
    meter: int = 0

    def read(self, at: int, position_wh: int) -> int:
        """What the meter reads in a window, the battery having done its part; asked once, window by window."""
        if self.battery is None:
            return int(self.net_wh[at])
        read, self.stored_wh = self.battery.follow(int(self.net_wh[at]), position_wh, self.stored_wh)
        return read

    @property
    def source(self) -> Source:
        """PV behind a battery is storage (MARKET 3)."""
        return Source.STORAGE if self.battery is not None else Source.SOLAR if self.solar else Source.MIXED


@frozen
class World:
    """What a scenario's names mean on the chain that it runs on."""

    zones: dict[str, int]
    corridors: dict[tuple[int, int], int]
    tariffs: int

    def zone(self, where: str, name: str) -> int:
        if name not in self.zones:
            raise ScenarioError(f"{where} names the zone {name!r}; the chain has {', '.join(self.zones)}")
        return self.zones[name]

    def corridor(self, where: str, ends: tuple[str, str]) -> tuple[int, bool]:
        """(number, whether the chain has it the other way round). Raises ScenarioError."""
        first, second = (self.zone(where, name) for name in ends)
        if (first, second) in self.corridors:
            return self.corridors[first, second], False
        if (second, first) in self.corridors:
            return self.corridors[second, first], True
        names = list(self.zones)
        known = ", ".join(f"{names[one]}-{names[other]}" for one, other in self.corridors)
        raise ScenarioError(f"{where}: no corridor joins {ends[0]} and {ends[1]}; the chain has {known or 'none'}")


def world_of(chain: Chain) -> World:
    zones: dict[str, int] = {}
    while (zone := chain.record(spaces.zone(len(zones)))) is not None:
        found: Zone = zone
        zones[found.name] = len(zones)
    corridors: dict[tuple[int, int], int] = {}
    while (line := chain.record(spaces.corridor(len(corridors)))) is not None:
        corridors[line.first, line.second] = len(corridors)
    tariffs = 0
    while chain.record(spaces.tariff(tariffs)) is not None:
        tariffs += 1
    return World(zones, corridors, tariffs)


def people(scenario: Scenario, world: World, windows: range) -> list[House]:
    """The houses of all groups. Raises ScenarioError for a zone, tariff class or file that cannot be used."""
    houses: list[House] = []
    for number, group in enumerate(scenario.groups):
        where = f"groups[{number}]"
        if group.tariff >= world.tariffs:
            raise ScenarioError(f"{where}.tariff is {group.tariff}; the chain has classes 0 to {world.tariffs - 1}")
        profiles = _profiles(scenario, group.profiles)
        if group.pv_kw and not len(profiles.pv_wh_kw):
            raise ScenarioError(f"{where}.pv_kw is {group.pv_kw}; only 0 is allowed with profiles {group.profiles}, "
                                "which have no pv_wh_kw")
        houses += _group(scenario, group, _zones(scenario, group, world, where), profiles, windows)
    return houses


def residents(scenario: Scenario, chain: Chain, windows: range, until_ms: int) -> list[House]:
    """The houses of all meters on the chain whose owners are licensed for the whole horizon, by number.

    Panels are known by the meter's capacity: so many kW as it may feed in. Raises ScenarioError when there are none.
    """
    wish = scenario.residents
    assert wish is not None
    profiles = _profiles(scenario, wish.profiles)
    load_wh, pv_wh_kw = profiles.at(windows)
    dealt = stream(scenario.seed, "profiles", RESIDENTS)
    loads, roofs = dealt.permutation(len(load_wh)), dealt.permutation(max(1, len(pv_wh_kw)))
    sky = _Sky.over(scenario, windows)
    houses: list[House] = []
    for key, raw in chain.head.scan(bytes((Space.METER,))):
        number, meter = int.from_bytes(key[1:], "big"), Meter.decode(raw)
        licence: Participant = chain.record(spaces.participant(meter.participant))
        if meter.boundary or licence.expires_ms < until_ms:
            continue
        solar = meter.source == Source.SOLAR and len(pv_wh_kw) > 0
        kw = meter.injection_w / 1000 * wish.pv_scale if solar else 0.0
        at = len(houses)
        load = load_wh[loads[at % len(loads)]] * wish.load_scale
        pv = pv_wh_kw[roofs[at % len(roofs)]] * kw if solar else np.zeros(len(windows))
        net, believed = _net(scenario, f"{RESIDENTS}/{number}", sky, pv, load, 0.0)
        houses.append(House(
            f"{RESIDENTS}/{number}", meter.zone, meter.tariff, solar,
            max(meter.injection_w, round(kw * 1000), QUARTERS * max(0, int(net.max()))),
            max(meter.withdrawal_w, QUARTERS * max(0, -int(net.min()))), 0, net, believed,
            wish.strategy.agent(stream(scenario.seed, "agent", f"{RESIDENTS}/{number}")), address=meter.owner,
            meter=number))
    if not houses:
        raise ScenarioError("[residents]: the chain has no meter whose owner is licensed for the whole horizon")
    return houses


def enlarge(chain: Chain, houses: Sequence[House]) -> None:
    """Gives the meters of residents the capacity that their panels and loads need now; closes what was on offer."""
    chain.override.close_orders()

    def change(session: Session) -> None:
        for house in houses:
            meter: Meter = session.get(spaces.meter(house.meter))
            session.put(spaces.meter(house.meter), evolve(
                meter, injection_w=house.injection_w, withdrawal_w=house.withdrawal_w))

    chain.edit(change)


def _zones(scenario: Scenario, group: Group, world: World, where: str) -> list[int]:
    """The zone of every house of a group: by weight, largest remainder first, then dealt at random."""
    weights = {world.zone(f"{where}.zones", name): weight for name, weight in group.zones} or \
        dict.fromkeys(world.zones.values(), 1)
    whole = sum(weights.values())
    shares = {zone: group.count * weight // whole for zone, weight in weights.items()}
    left = sorted(weights, key=lambda zone: (-(group.count * weights[zone] % whole), zone))
    for zone in left[:group.count - sum(shares.values())]:
        shares[zone] += 1
    places = [zone for zone in sorted(shares) for _ in range(shares[zone])]
    order = stream(scenario.seed, "zones", group.name).permutation(group.count)
    return [places[at] for at in order]


def _group(scenario: Scenario, group: Group, zones: Sequence[int], profiles: Profiles, windows: range) -> list[House]:
    load_wh, pv_wh_kw = profiles.at(windows)
    dealt = stream(scenario.seed, "profiles", group.name)
    loads, roofs = dealt.permutation(len(load_wh)), dealt.permutation(len(pv_wh_kw))
    with_car = set(stream(scenario.seed, "cars", group.name).permutation(group.count)[
        :round(group.cars.share * group.count)].tolist())
    sky = _Sky.over(scenario, windows)
    houses = []
    for index in range(group.count):
        name = f"{group.name}/{index}"
        load = load_wh[loads[index % len(loads)]] * group.load_scale
        pv = pv_wh_kw[roofs[index % len(roofs)]] * group.pv_kw if group.pv_kw else np.zeros(len(windows))
        car = car_load(group.cars, windows, stream(scenario.seed, "car", name)) if index in with_car else 0.0
        net, believed = _net(scenario, name, sky, pv, load, car)
        battery, more_w = group.battery, 0
        if battery is not None:
            more_w = battery.power_wh * QUARTERS
            if not getattr(group.strategy, "PLANS", False):
                believed = battery.alone(believed)
        houses.append(House(
            name, zones[index], group.tariff, group.pv_kw > 0,
            max(round(group.pv_kw * 1000), QUARTERS * max(0, int(net.max()))) + more_w,
            max(LEAST_WITHDRAWAL_W, QUARTERS * max(0, -int(net.min()))) + more_w, group.money_thb * UTHB_PER_THB,
            net, believed, group.strategy.agent(stream(scenario.seed, "agent", name)), battery, index in with_car))
    return houses


def _profiles(scenario: Scenario, name: str) -> Profiles:
    return SHIPPED_PROFILES[name]() if name in SHIPPED_PROFILES else read_profiles(
        scenario.base / Path(name).expanduser())


@frozen(eq=False)
class _Sky:
    """The weather's factors of PV and load in each window, and those that houses expect."""

    sun: Real
    use: Real
    sun_foreseen: Real
    use_foreseen: Real

    @classmethod
    def over(cls, scenario: Scenario, windows: range) -> _Sky:
        sun, use = scenario.weather.factors(windows)
        return cls(sun, use, *((sun, use) if scenario.weather.foreseen else (np.ones(len(windows)),) * 2))


def _net(scenario: Scenario, name: str, sky: _Sky, pv: Real, load: Real,
         car: Real | float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(what the meter will read, what the house expects): the weather, and an error of the forecast of its own."""
    errors = stream(scenario.seed, "forecast", name).standard_normal((2, len(sky.sun)))
    believed = pv * sky.sun_foreseen * np.maximum(0, 1 + scenario.forecast.pv_error * errors[0]) \
        - load * sky.use_foreseen * np.maximum(0, 1 + scenario.forecast.load_error * errors[1]) - car
    return np.rint(pv * sky.sun - load * sky.use - car).astype(np.int64), np.rint(believed).astype(np.int64)


def register(chain: Chain, houses: Sequence[House], until_ms: int) -> None:
    """Gives every house an account with money, a licence and a meter whose key is the fork's, in a few blocks.

    Raises ScenarioError when the chain cannot have them.
    """
    roles: Roles = chain.record(spaces.ROLES)
    if not roles.issuers or not roles.registrars:
        raise ScenarioError("the chain has no issuer or no registrar; its genesis names them under [roles]")
    issuer, registrar = roles.issuers[0], roles.registrars[0]
    for who in (issuer, registrar):
        fees = 2 * len(houses) * chain.parameters.min_fee_uthb
        chain.override.balance(who, chain.account(who).balance + fees)
    counters: Counters = chain.record(spaces.COUNTERS)
    for house in houses:
        house.address = chain.key(f"house {house.name}").public
        if chain.account(house.address).participant:
            raise ScenarioError(f"the chain has the house {house.name} already, from a run before; groups with other "
                                "names are allowed")
    _all(chain, issuer, [Deposit(house.address, house.money_uthb) for house in houses if house.money_uthb])
    numbers = _all(chain, registrar, [
        RegisterParticipant(house.address, f"SCENARIO-{house.name}",
                            Role.PROSUMER if house.solar or house.battery else Role.CONSUMER,
                            house.zone, until_ms) for house in houses])
    first = counters.meters + 1
    made = _all(chain, registrar, [
        RegisterMeter(number, meter_key(chain, meter).public, house.zone, Network.PEA, house.source, house.tariff,
                      house.injection_w, house.withdrawal_w)
        for meter, house, number in zip(count(first), houses, numbers, strict=False)])
    for house, meter in zip(houses, made, strict=True):
        house.meter = meter


def _all(chain: Chain, sender: bytes, operations: list[Operation]) -> list[int]:
    """Sends them in as few transactions as can be; the number that each gave (0 for none)."""
    found: list[int] = []
    for first in range(0, len(operations), MAX_OPERATIONS):
        found += [data[0] if data else 0 for data in chain.send(sender, *operations[first:first + MAX_OPERATIONS])]
    return found
