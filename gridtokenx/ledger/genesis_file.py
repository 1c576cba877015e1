"""Genesis as a TOML file: strict reading, every mistake named with its key and what is allowed; and writing."""

from __future__ import annotations

import tomllib
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from attrs import evolve

from gridtokenx._native.orderbook import BookError
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keys import is_point
from gridtokenx.grid.kinds import Source
from gridtokenx.ledger import parameters as registry
from gridtokenx.ledger.genesis_carbon import dump_carbon, read_carbon
from gridtokenx.ledger.genesis_state import ANY_PROFILE, Authority, Genesis, GenesisError
from gridtokenx.ledger.genesis_table import Table as _Table
from gridtokenx.ledger.genesis_table import no_repeats as _clash
from gridtokenx.ledger.genesis_table import quoted as _quoted
from gridtokenx.ledger.genesis_table import read_address as _address
from gridtokenx.ledger.genesis_tariffs import Decimal, dump_tariffs, read_schedule, read_supply, read_tariffs
from gridtokenx.ledger.parameters import ParameterError, Parameters
from gridtokenx.ledger.records import Corridor, Profile, Roles, Zone
from gridtokenx.market.money import DEBT_MOST, SUPPLY_MOST

MAX_AUTHORITIES = 64
MAX_ZONES = 16
MAX_CORRIDORS = 32
MAX_PROFILES = 31
SOURCES = {source.name.lower(): int(source) for source in Source}
_DAY_ZERO = date(1970, 1, 1)


def read_text(path: str | Path) -> str:
    """The file's text. Raises GenesisError when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GenesisError(f"genesis file {path} cannot be read: {error}") from error


def parse_genesis(text: str) -> Genesis:
    """Reads the text of a genesis file (docs/ledger.md). Raises GenesisError naming key and allowed values."""
    try:
        document = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise GenesisError(f"not TOML: {error}") from error
    root = _Table("", document)
    name, salt = root.text("name"), root.text("salt")
    genesis_ms = root.time_ms("time_ms")
    clock = _Table("clock", root.get("clock", "a table with start and rate"))
    start_ms, rate = clock.time_ms("start"), clock.integer("rate", 1, 100_000)
    clock.close()
    authorities = _authorities(root.tables("authorities", 1, MAX_AUTHORITIES))
    zones = tuple(_zone(table) for table in root.tables("zones", 1, MAX_ZONES))
    _clash("zones.name", [zone.name for zone in zones])
    names = {zone.name: number for number, zone in enumerate(zones)}
    corridors = tuple(_corridor(table, names) for table in root.tables("corridors", 0, MAX_CORRIDORS))
    tariffs = read_tariffs(root)
    parameters = _parameters(root.optional("parameters", {}))
    if parameters.reference_tariff >= len(tariffs):
        raise GenesisError(f"parameters.reference_tariff is {parameters.reference_tariff}; there are tariff classes "
                           f"0 to {len(tariffs) - 1}")
    genesis = Genesis(
        name=name, salt=salt, genesis_ms=genesis_ms, market_start_ms=start_ms, market_rate=rate,
        authorities=authorities, zones=zones, corridors=corridors, tariffs=tariffs,
        holidays=_holidays(root.optional("holidays", [])), roles=_roles(root), accounts=_accounts(root),
        parameters=parameters, profiles=(ANY_PROFILE, *_profiles(root.tables("profiles", 0, MAX_PROFILES), names)),
        supply=read_supply(root), schedule=read_schedule(root),
        carbon=read_carbon(root),
    )
    root.close()
    try:
        genesis.books(max_orders=1, max_windows=1)
    except BookError as error:
        raise GenesisError(f"[[corridors]]: {error}") from error
    return genesis


def _authorities(tables: list[_Table]) -> tuple[Authority, ...]:
    members = []
    for table in tables:
        member = Authority(table.text("name", 32), table.address("key"))
        if not is_point(member.public):
            raise GenesisError(f"{table.name('key')} is no Ed25519 public key")
        table.close()
        members.append(member)
    _clash("authorities.name", [member.name for member in members])
    _clash("authorities.key", [member.public for member in members])
    return tuple(members)


def _zone(table: _Table) -> Zone:
    zone = Zone(table.text("name", 32), table.integer("loss_ppm", 0, 250_000),
                table.integer("wheeling_uthb_kwh", 0, 10**9), table.address("network"), table.address("utility"))
    if "utility_credit_uthb" in table.values:
        zone = evolve(zone, credit_uthb=table.integer("utility_credit_uthb", 0, DEBT_MOST))
    table.close()
    return zone


def _corridor(table: _Table, zones: dict[str, int]) -> Corridor:
    ends = []
    for key in ("from", "to"):
        name = table.text(key, 32)
        if name not in zones:
            raise GenesisError(f"{table.name(key)} is {name!r}; a zone is one of {', '.join(zones)}")
        ends.append(zones[name])
    if ends[0] == ends[1]:
        raise GenesisError(f"{table.where} must join two different zones")
    corridor = Corridor(
        ends[0], ends[1], table.integer("forward_w", 0, 10**12), table.integer("backward_w", 0, 10**12),
        table.integer("loss_ppm", 0, 250_000), table.integer("wheeling_uthb_kwh", 0, 10**9), table.address("network"))
    table.close()
    return corridor


def _profiles(tables: list[_Table], zones: dict[str, int]) -> list[Profile]:
    found = []
    for table in tables:
        found.append(Profile(table.text("name", 32), table.mask("sources", SOURCES), table.mask("zones", zones)))
        table.close()
    _clash("profiles.name", [ANY_PROFILE.name, *(profile.name for profile in found)])
    return found


def _parameters(values: Any) -> Parameters:
    if type(values) is not dict:
        raise GenesisError("parameters must be a table")
    chosen = {parameter.name: parameter.default for parameter in registry.REGISTRY}
    try:
        for name, value in values.items():
            chosen[name] = registry.check(name, value)
    except ParameterError as error:
        raise GenesisError(f"[parameters]: {error}") from error
    return Parameters(**chosen)


def _roles(root: _Table) -> Roles:
    table = _Table("roles", root.get("roles", "a table of issuers, registrars, market_operator and tax"))
    lists = []
    for key in ("issuers", "registrars", "regulators"):
        values = table.optional(key, []) if key == "regulators" else table.get(key, "a list of addresses")
        if type(values) is not list or len(values) > 64:
            raise GenesisError(f"{table.name(key)} must be a list of at most 64 addresses")
        addresses = [_address(f"{table.name(key)}[{index}]", value) for index, value in enumerate(values)]
        _clash(table.name(key), addresses)
        lists.append(tuple(addresses))
    roles = Roles(lists[0], lists[1], table.address("market_operator"), table.address("tax"), lists[2])
    table.close()
    return roles


def _accounts(root: _Table) -> tuple[tuple[bytes, int], ...]:
    accounts = []
    for table in root.tables("accounts", 0, 100_000):
        accounts.append((table.address("address"), table.integer("balance_uthb", 0, SUPPLY_MOST)))
        table.close()
    _clash("accounts.address", [address for address, _ in accounts])
    total = sum(balance for _, balance in accounts)
    if total > SUPPLY_MOST:
        raise GenesisError(f"accounts.balance_uthb sum up to {total}; at most {SUPPLY_MOST} is allowed")
    return tuple(sorted(accounts))


def _holidays(values: Any) -> tuple[int, ...]:
    if type(values) is not list or len(values) > 4096 or any(type(value) is not date for value in values):
        raise GenesisError("holidays must be a list of at most 4096 dates like 2026-05-01")
    days = [(value - _DAY_ZERO).days for value in values]
    _clash("holidays", days)
    return tuple(sorted(days))


def dump_genesis(genesis: Genesis) -> str:
    """The genesis as the text of a file that reads back the same."""
    lines = [
        f"name = {_quoted(genesis.name)}", f"salt = {_quoted(genesis.salt)}", f"time_ms = {genesis.genesis_ms}",
        "holidays = [" + ", ".join((_DAY_ZERO + timedelta(days=day)).isoformat() for day in genesis.holidays) + "]",
        "", "[clock]", f"start = {genesis.market_start_ms}", f"rate = {genesis.market_rate}",
        "", "[roles]",
        "issuers = [" + ", ".join(_shown(address) for address in genesis.roles.issuers) + "]",
        "registrars = [" + ", ".join(_shown(address) for address in genesis.roles.registrars) + "]",
        "regulators = [" + ", ".join(_shown(address) for address in genesis.roles.regulators) + "]",
        f"market_operator = {_shown(genesis.roles.market_operator)}", f"tax = {_shown(genesis.roles.tax)}",
        "", "[parameters]",
        *(f"{parameter.name} = {getattr(genesis.parameters, parameter.name)}" for parameter in registry.REGISTRY),
    ]
    for authority in genesis.authorities:
        lines += ["", "[[authorities]]", f"name = {_quoted(authority.name)}", f"key = {_shown(authority.public)}"]
    for zone in genesis.zones:
        lines += ["", "[[zones]]", f"name = {_quoted(zone.name)}", f"loss_ppm = {zone.loss_ppm}",
                  f"wheeling_uthb_kwh = {zone.wheel_uthb_kwh}", f"network = {_shown(zone.network)}",
                  f"utility = {_shown(zone.utility)}", f"utility_credit_uthb = {zone.credit_uthb}"]
    for corridor in genesis.corridors:
        lines += ["", "[[corridors]]", f"from = {_quoted(genesis.zones[corridor.first].name)}",
                  f"to = {_quoted(genesis.zones[corridor.second].name)}", f"forward_w = {corridor.forward_w}",
                  f"backward_w = {corridor.backward_w}", f"loss_ppm = {corridor.loss_ppm}",
                  f"wheeling_uthb_kwh = {corridor.wheel_uthb_kwh}", f"network = {_shown(corridor.network)}"]
    zones = {zone.name: number for number, zone in enumerate(genesis.zones)}
    for profile in genesis.profiles[1:]:
        lines += ["", "[[profiles]]", f"name = {_quoted(profile.name)}",
                  f"sources = {_masked(profile.sources, SOURCES)}", f"zones = {_masked(profile.zones, zones)}"]
    lines += dump_tariffs(genesis)
    lines += dump_carbon(genesis)
    for address, balance in genesis.accounts:
        lines += ["", "[[accounts]]", f"address = {_shown(address)}", f"balance_uthb = {balance}"]
    return "\n".join(lines) + "\n"


def _shown(address: bytes) -> str:
    return f'"{encode_address(address)}"'


def _masked(mask: int, names: dict[str, int]) -> str:
    return "[" + ", ".join(_quoted(name) for name, bit in names.items() if mask >> bit & 1) + "]"
