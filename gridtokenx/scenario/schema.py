"""A scenario: one TOML file, read strictly; `template` writes one with every key explained (docs/scenarios.md)."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from gridtokenx.ledger import parameters as registry
from gridtokenx.ledger.parameters import ParameterError
from gridtokenx.ledger.tariff_records import SERIES_BOUNDS, Series
from gridtokenx.scenario.agents import Strategy
from gridtokenx.scenario.devices import Battery, Cars, day_of
from gridtokenx.scenario.errors import ScenarioError
from gridtokenx.scenario.profiles import HOUSEHOLDS
from gridtokenx.scenario.strategies import STRATEGIES, read_strategy
from gridtokenx.scenario.table import Table

WINDOWS_OF_A_DAY = 96
MOST_DAYS = 366
MOST_HOUSES = 20_000
MOST_GROUPS = 64
CONTINUOUS, UNIFORM_PRICE = MECHANISMS = ("continuous", "uniform-price")
RESIDENTS = "residents"
CHARGING = ("arrival", "off-peak")
TABLES = ("trades", "settlements", "bills", "accounts", "energy", "prices", "flows", "meters", "blocks", "parameters")
THAILAND = "thailand"
SERIES = {"ft_uthb_kwh": Series.FT, "buy_back_uthb_kwh": Series.BUY_BACK, "vat_ppm": Series.VAT}
_RATES = {name: SERIES_BOUNDS[series] for name, series in SERIES.items()}
_TARIFF = {"on_peak_uthb_kwh": (0, 10**9), "off_peak_uthb_kwh": (0, 10**9), "service_uthb_month": (0, 10**12),
           "demand_uthb_kw": (0, 10**12)}
_ZONE = {"loss_ppm": (0, 250_000), "wheeling_uthb_kwh": (0, 10**9)}
_CORRIDOR = _ZONE | {"forward_w": (0, 10**12), "backward_w": (0, 10**12)}


@frozen
class Place:
    """The chain that the scenario runs on: a genesis, or a fork of a node's data directory."""

    genesis: str = THAILAND
    fork: str = ""
    height: int | None = None


@frozen
class Trading:
    """Sessions: the windows of one are traded together, in some rounds, before the first one's gate."""

    session_windows: int
    rounds: int


@frozen
class Forecast:
    """Relative standard deviations of what houses expect, drawn for every window."""

    load_error: float
    pv_error: float


@frozen(eq=False)
class Weather:
    """What makes days other than the profiles: factors of PV and load, by day from the horizon's first (0) on.

    `days` are (day, PV, load) that differ from the rest; with `foreseen` houses expect all of it.
    """

    pv_factor: float
    load_factor: float
    foreseen: bool
    days: tuple[tuple[int, float, float], ...]

    def factors(self, windows: range) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(PV, load) in each window."""
        sun, use = np.full(len(windows), self.pv_factor), np.full(len(windows), self.load_factor)
        numbers = day_of(windows)
        for day, pv, load in self.days:
            sun[numbers == day], use[numbers == day] = pv, load
        return sun, use


@frozen
class Group:
    """Houses of a kind. `zones` are weights by name; none means all zones alike."""

    name: str
    count: int
    profiles: str
    zones: tuple[tuple[str, int], ...]
    tariff: int
    load_scale: float
    pv_kw: float
    money_thb: int
    strategy: Strategy
    battery: Battery | None
    cars: Cars


@frozen
class Residents:
    """Whoever has a meter on the chain already: what they are dealt, how their panels grow, how they trade."""

    profiles: str
    load_scale: float
    pv_scale: float
    strategy: Strategy


@frozen
class Outage:
    """A corridor that carries less, or nothing, in some windows; all know it from the beginning."""

    corridor: tuple[str, str]
    start: datetime
    windows: int
    forward_w: int
    backward_w: int


@frozen
class Overrides:
    """What is set before anybody trades: by parameter, series, tariff class, zone and corridor."""

    parameters: Mapping[str, int]
    rates: Mapping[str, int]
    tariffs: tuple[tuple[int, Mapping[str, int]], ...]
    zones: tuple[tuple[str, Mapping[str, int]], ...]
    corridors: tuple[tuple[tuple[str, str], Mapping[str, int]], ...]


@frozen
class Scenario:
    """A whole scenario. `text` is the file as it was read, `base` the folder that its paths are relative to."""

    name: str
    seed: int
    start: datetime | None
    windows: int
    mechanism: str
    place: Place
    trading: Trading
    forecast: Forecast
    weather: Weather
    groups: tuple[Group, ...]
    residents: Residents | None
    outages: tuple[Outage, ...]
    overrides: Overrides
    tables: tuple[str, ...]
    text: str
    base: Path

    @property
    def profiles(self) -> set[str]:
        """The names and files of all profiles that are dealt."""
        dealt = {group.profiles for group in self.groups}
        return dealt if self.residents is None else dealt | {self.residents.profiles}

    @property
    def houses(self) -> int:
        return sum(group.count for group in self.groups)


def load_scenario(path: str | Path, strategies: Mapping[str, type[Any]] = STRATEGIES) -> Scenario:
    """Reads a scenario file. `strategies` are the kinds of agents that it may name. Raises ScenarioError."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"the scenario {path} cannot be read: {error}") from error
    try:
        return parse_scenario(text, Path(path).parent, strategies)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from error


def parse_scenario(text: str, base: Path = Path(), strategies: Mapping[str, type[Any]] = STRATEGIES) -> Scenario:
    """Reads the text of a scenario file; its paths are relative to `base`. Raises ScenarioError naming the key."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"not TOML: {error}") from error
    return read_scenario(document, text, base, strategies)


def read_scenario(document: Mapping[str, Any], text: str, base: Path,
                  strategies: Mapping[str, type[Any]] = STRATEGIES) -> Scenario:
    """The scenario in a TOML document; `text` is what stands for it in the provenance. Raises ScenarioError."""
    root = Table("", dict(document))
    name, seed = root.text("name"), root.integer("seed", 0, (1 << 63) - 1)
    start = root.time("start")
    windows = _windows(root)
    mechanism = root.choice("mechanism", MECHANISMS, MECHANISMS[0])
    place = _place(root.table("chain"))
    if start is None and not place.fork:
        raise root.wrong("start", "a scenario on a chain of its own says when it begins")
    trading = root.table("trading")
    sessions = Trading(trading.integer("session_windows", 1, WINDOWS_OF_A_DAY, WINDOWS_OF_A_DAY),
                       trading.integer("rounds", 1, 10, 1))
    trading.close()
    if mechanism == UNIFORM_PRICE and sessions.rounds > 1:
        raise ScenarioError(f"trading.rounds is {sessions.rounds}; with mechanism = {UNIFORM_PRICE!r} bids are sealed: "
                            "1 is allowed")
    errors = root.table("forecast")
    forecast = Forecast(errors.number("load_error", 0, 1, 0.2), errors.number("pv_error", 0, 1, 0.15))
    errors.close()
    residents = _residents(root.table("residents"), strategies) if root.has("residents") else None
    groups = tuple(_group(table, strategies) for table in root.tables("groups", 0 if residents else 1, MOST_GROUPS))
    named = [group.name for group in groups]
    if residents is not None and RESIDENTS in named:
        raise ScenarioError(f"groups.name {RESIDENTS!r} is taken by [residents]")
    if len(set(named)) != len(named):
        raise ScenarioError(f"groups.name must not repeat: {', '.join(named)}")
    outputs = root.table("outputs")
    tables = outputs.names("tables", TABLES)
    outputs.close()
    made = Scenario(
        name, seed, start, windows, mechanism, place, sessions, forecast, _weather(root.table("weather")), groups,
        residents,
        tuple(_outage(table) for table in root.tables("outages", 0, 64)), _overrides(root.table("overrides")),
        tables, text, base)
    root.close()
    if made.houses > MOST_HOUSES:
        raise ScenarioError(f"groups have {made.houses} houses together; at most {MOST_HOUSES} are allowed")
    return made


def _windows(root: Table) -> int:
    """The horizon, given in days or in windows."""
    if root.has("days") == root.has("windows"):
        raise ScenarioError("a scenario has either days or windows")
    if "days" in root.values:
        return WINDOWS_OF_A_DAY * root.integer("days", 1, MOST_DAYS)
    return root.integer("windows", 1, WINDOWS_OF_A_DAY * MOST_DAYS)


def _place(table: Table) -> Place:
    if table.has("genesis") and table.has("fork"):
        raise ScenarioError("chain has either genesis or fork")
    fork = table.text("fork", "", 4096)
    height = table.integer("height", 0, 1 << 62) if table.has("height") else None
    if height is not None and not fork:
        raise ScenarioError("chain.height goes with chain.fork: a chain of one's own begins with genesis")
    place = Place(table.text("genesis", THAILAND, 4096), fork, height)
    table.close()
    return place


def _group(table: Table, strategies: Mapping[str, type[Any]]) -> Group:
    weights = table.table("zones")
    zones = tuple((zone, weights.integer(zone, 1, 10**9)) for zone in weights.values)
    group = Group(
        table.text("name", most=32), table.integer("count", 1, MOST_HOUSES), table.text("profiles", HOUSEHOLDS, 4096),
        zones, table.integer("tariff", 0, 255, 0), table.number("load_scale", 0, 10_000, 1.0),
        table.number("pv_kw", 0, 100_000, 0.0), table.integer("money_thb", 0, 10**9, 10_000),
        read_strategy(table.table("agent"), strategies), _battery(table), _cars(table))
    table.close()
    return group


def _residents(table: Table, strategies: Mapping[str, type[Any]]) -> Residents:
    found = Residents(table.text("profiles", HOUSEHOLDS, 4096), table.number("load_scale", 0, 10_000, 1.0),
                      table.number("pv_scale", 0, 1_000, 1.0), read_strategy(table.table("agent"), strategies))
    table.close()
    return found


def _battery(table: Table) -> Battery | None:
    kwh, kw = table.number("battery_kwh", 0, 100_000, 0.0), table.number("battery_kw", 0, 100_000, 0.0)
    efficiency = table.number("battery_efficiency", 0.1, 1, 0.9)
    if bool(kwh) != bool(kw):
        raise table.wrong("battery_kw" if kwh else "battery_kwh", "a battery has both battery_kwh and battery_kw")
    return Battery(round(kwh * 1000), round(kw * 250), efficiency) if kwh else None


def _cars(table: Table) -> Cars:
    return Cars(table.number("ev_share", 0, 1, 0.0), table.number("ev_kwh_day", 0, 1_000, 8.0),
                table.number("ev_kw", 0.1, 1_000, 7.0),
                table.choice("ev_charging", CHARGING, CHARGING[0]) == CHARGING[1])


def _weather(table: Table) -> Weather:
    sun, use = table.number("pv_factor", 0, 10, 1.0), table.number("load_factor", 0, 10, 1.0)
    days = []
    for entry in table.tables("days", 0, MOST_DAYS):
        days.append((entry.integer("day", 0, MOST_DAYS - 1), entry.number("pv_factor", 0, 10, sun),
                     entry.number("load_factor", 0, 10, use)))
        entry.close()
    weather = Weather(sun, use, table.flag("foreseen", True), tuple(days))
    table.close()
    return weather


def _ends(table: Table) -> tuple[str, str]:
    table.has("corridor")
    value = table.values.get("corridor")
    if type(value) is not list or len(value) != 2 or any(type(zone) is not str for zone in value):
        raise table.wrong("corridor", 'the names of its two zones are allowed, like ["Bangkok", "Central"]')
    return value[0], value[1]


def _outage(table: Table) -> Outage:
    start = table.time("start")
    if start is None:
        raise table.wrong("start", "it is the beginning of the first window")
    outage = Outage(_ends(table), start, table.integer("windows", 1, WINDOWS_OF_A_DAY * MOST_DAYS),
                    table.integer("forward_w", 0, 10**12, 0), table.integer("backward_w", 0, 10**12, 0))
    table.close()
    return outage


def _overrides(table: Table) -> Overrides:
    chosen = table.table("parameters")
    parameters = {}
    for name, value in chosen.values.items():
        try:
            parameters[name] = registry.check(name, value)
        except ParameterError as error:
            raise ScenarioError(f"overrides.parameters: {error}") from error
    rates = table.table("rates")
    series = rates.integers(_RATES)
    rates.close()
    tariffs, zones, corridors = [], [], []
    for entry in table.tables("tariffs", 0, 256):
        tariffs.append((entry.integer("tariff", 0, 255), entry.integers(_TARIFF)))
        entry.close()
    for entry in table.tables("zones", 0, 16):
        zones.append((entry.text("zone", most=32), _some(entry, _ZONE)))
        entry.close()
    for entry in table.tables("corridors", 0, 32):
        corridors.append((_ends(entry), _some(entry, _CORRIDOR)))
        entry.close()
    table.close()
    return Overrides(parameters, series, tuple(tariffs), tuple(zones), tuple(corridors))


def _some(table: Table, known: Mapping[str, tuple[int, int]]) -> dict[str, int]:
    found = table.integers(known)
    if not found:
        raise ScenarioError(f"{table.where} sets nothing; allowed here: {', '.join(known)}")
    return found
