"""A sweep: one scenario run many times with other values of some of its keys, from a TOML file of its own.

Keys are written as in the scenario, with dots; a table of a list is named by its place or its name: `trading.rounds`,
`groups[0].pv_kw`, `groups[roofs].agent.hope`, `overrides.zones[Bangkok].wheeling_uthb_kwh`. Every run is a scenario of
its own: what a value breaks is said before anything runs.
"""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from attrs import frozen

from gridtokenx import __version__
from gridtokenx.scenario.errors import ScenarioError
from gridtokenx.scenario.profiles import SHIPPED_PROFILES
from gridtokenx.scenario.schema import Scenario, read_scenario
from gridtokenx.scenario.strategies import STRATEGIES
from gridtokenx.scenario.streams import stream
from gridtokenx.scenario.table import Table

MOST_RUNS = 100_000
MOST_VALUES = 10_000
Value = int | float | str | bool
_PART = re.compile(r"([A-Za-z0-9_-]+)(?:\[([^\]]+)\])?")


@frozen
class Run:
    """One run: its number, root seed and the values of the swept keys."""

    number: int
    seed: int
    values: tuple[tuple[str, Value], ...]


@frozen
class Sweep:
    """A sweep that was read. `document` is the scenario's, `base` the folder that its paths are relative to."""

    name: str
    text: str
    scenario_text: str
    document: Mapping[str, Any]
    base: Path
    runs: tuple[Run, ...]
    strategies: Mapping[str, type[Any]] = STRATEGIES

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self.runs[0].values]

    def scenario(self, run: Run) -> Scenario:
        """The scenario of one run. Raises ScenarioError naming run and key."""
        document = copy.deepcopy(dict(self.document))
        try:
            for key, value in run.values:
                _set(document, key, value)
            document["seed"] = run.seed
            said = "".join(f"# {key} = {json.dumps(value)}\n" for key, value in run.values)
            text = f"{self.scenario_text}\n# run {run.number}, seed {run.seed}\n{said}"
            return read_scenario(document, text, self.base, self.strategies)
        except ScenarioError as error:
            raise ScenarioError(f"run {run.number} ({_shown(run)}): {error}") from error

    def _files(self) -> list[str]:
        """Profiles of one's own that the scenario reads."""
        return sorted(self.scenario(self.runs[0]).profiles - set(SHIPPED_PROFILES))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all that decides on the results: a directory of results belongs to one."""
        digest = sha256(json.dumps([__version__, self.text, self.scenario_text]).encode())
        for name in self._files():
            digest.update((self.base / Path(name).expanduser()).read_bytes())
        return digest.hexdigest()


def load_sweep(path: str | Path, strategies: Mapping[str, type[Any]] = STRATEGIES) -> Sweep:
    """Reads a sweep and the scenario it names, and checks every run. Raises ScenarioError naming the key."""
    text, document = _read(Path(path))
    try:
        return _parse(text, document, Path(path).parent, strategies)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from error


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text("utf-8")
        return text, tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ScenarioError(f"{path} cannot be read: {error}") from error


def _parse(text: str, document: dict[str, Any], folder: Path, strategies: Mapping[str, type[Any]]) -> Sweep:
    root = Table("", document)
    name = root.text("name")
    place = folder / Path(root.text("scenario", most=4096)).expanduser()
    scenario_text, scenario = _read(place)
    seeds = _seeds(root)
    grid, drawn = root.table("grid"), root.table("random")
    root.close()
    if bool(grid.values) == bool(drawn.values):
        raise ScenarioError("a sweep has either [grid] or [random], and keys in it")
    values = list(_grid(grid) if grid.values else _random(drawn))
    if len(values) * len(seeds) > MOST_RUNS:
        raise ScenarioError(f"the sweep has {len(values) * len(seeds)} runs; at most {MOST_RUNS} are allowed")
    runs = tuple(Run(number, seed, some) for number, (some, seed) in enumerate(product(values, seeds)))
    sweep = Sweep(name, text, scenario_text, scenario, place.parent.resolve(), runs, strategies)
    for run in runs:
        sweep.scenario(run)
    return sweep


def _seeds(root: Table) -> list[int]:
    root.has("seeds")
    seeds = root.values.get("seeds")
    if type(seeds) is not list or not 1 <= len(seeds) <= MOST_VALUES or len(set(map(str, seeds))) != len(seeds) or any(
            type(seed) is not int or not 0 <= seed < 1 << 63 for seed in seeds):
        raise root.wrong("seeds", "a list of root seeds is allowed, each once, like [1, 2, 3]")
    return seeds


def _grid(table: Table) -> Iterator[tuple[tuple[str, Value], ...]]:
    """All combinations, the last key changing first."""
    lists = []
    for key, values in _flat(table.values, lambda value: type(value) is dict):
        if type(values) is not list or not 1 <= len(values) <= MOST_VALUES or not all(map(_plain, values)):
            raise table.wrong(key, "a list of values is allowed, like [1, 2, 3]")
        lists.append([(key, value) for value in values])
    if np.prod([float(len(values)) for values in lists]) > MOST_RUNS:
        raise ScenarioError(f"the grid has more than {MOST_RUNS} combinations")
    yield from product(*lists)


def _random(table: Table) -> Iterator[tuple[tuple[str, Value], ...]]:
    runs, seed = table.integer("runs", 1, MOST_RUNS), table.integer("seed", 0, (1 << 63) - 1)
    keys = {key: value for key, value in table.values.items() if key not in ("runs", "seed")}
    spans = {key: _Span(Table(table.name(key), span)) for key, span in _flat(
        keys, lambda value: type(value) is dict and not {"low", "high", "choices"} & set(value))}
    if not spans:
        raise ScenarioError("random draws nothing: name a key with its low and high, or its choices")
    for number in range(runs):
        yield tuple((key, span.draw(stream(seed, "sweep", key, number))) for key, span in spans.items())


class _Span:
    """What a key is drawn from: `low` to `high` (integers when both are), evenly or by logarithm; or choices."""

    def __init__(self, table: Table) -> None:
        table.has("choices")
        choices = table.values.get("choices")
        if choices is not None and (type(choices) is not list or not choices or not all(map(_plain, choices))):
            raise table.wrong("choices", "a list of values is allowed")
        self.choices: list[Value] | None = choices
        self.low = self.high = 0.0
        self.log = False
        if choices is None:
            self.low, self.high = table.number("low", -1e15, 1e15), table.number("high", -1e15, 1e15)
            self.log = table.flag("log", False)
            self.whole = type(table.values["low"]) is type(table.values["high"]) is int
            if not self.low <= self.high or (self.log and self.low <= 0):
                raise table.wrong("high", "at least low is allowed, and with log both above 0")
        table.close()

    def draw(self, chance: np.random.Generator) -> Value:
        if self.choices is not None:
            return self.choices[int(chance.integers(len(self.choices)))]
        if self.log:
            drawn = float(np.exp(chance.uniform(np.log(self.low), np.log(self.high))))
        elif self.whole:
            return int(chance.integers(int(self.low), int(self.high), endpoint=True))
        else:
            drawn = float(chance.uniform(self.low, self.high))
        return round(drawn) if self.whole else drawn


def _flat(values: Mapping[str, Any], inner: Callable[[Any], bool], before: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values: TOML makes tables of dots that are not quoted."""
    for key, value in values.items():
        if inner(value):
            yield from _flat(value, inner, f"{before}{key}.")
        else:
            yield before + key, value


def _plain(value: Any) -> bool:
    return type(value) in (int, float, str, bool)


def _set(document: dict[str, Any], key: str, value: Value) -> None:
    """Sets a dotted key. A table that is missing is made; one of a list must be there. Raises ScenarioError."""
    *way, last = key.split(".")
    at: Any = document
    for part in way:
        match = _PART.fullmatch(part)
        if match is None or type(at) is not dict:
            raise ScenarioError(f"the swept key {key} is none of a scenario")
        name, index = match.groups()
        at = at.setdefault(name, {}) if index is None else _entry(at.get(name), index, key)
    if type(at) is not dict or not _PART.fullmatch(last) or "[" in last:
        raise ScenarioError(f"the swept key {key} is none of a scenario")
    at[last] = value


def _entry(listed: Any, index: str, key: str) -> Any:
    """The table of a list at a place, or with that name, zone or tariff."""
    entries = listed if type(listed) is list else []
    known = []
    for place, entry in enumerate(entries):
        names = [str(place)]
        if type(entry) is dict:
            names += [str(entry[name]) for name in ("name", "zone", "tariff") if name in entry]
            names += [_joined(entry["corridor"])] if "corridor" in entry else []
        if index in names:
            return entry
        known.append(names[-1])
    raise ScenarioError(f"the swept key {key} names a table that the scenario has not; there it has "
                        f"{', '.join(known) or 'none'}: add the table to the scenario, or name one that it has")


def _joined(ends: Any) -> str:
    return "-".join(map(str, ends)) if type(ends) is list else ""


def _shown(run: Run) -> str:
    return ", ".join(f"{key} = {value}" for key, value in run.values)
