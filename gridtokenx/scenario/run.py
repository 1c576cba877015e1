"""A run: the chain of a scenario, its people, and the horizon window by window: readings, trading, settlement.

Three windows before the horizon everybody is registered; the session of the first windows begins one later. The
run ends when the last window of the horizon is settled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
from attrs import define, evolve

from gridtokenx.forks import Chain, fork, new_chain
from gridtokenx.forks.metering import prepare, transactions, weight
from gridtokenx.ledger import spaces
from gridtokenx.ledger.genesis import load_genesis
from gridtokenx.ledger.metering_records import Settling
from gridtokenx.market.clock import WINDOW_MS, window_at
from gridtokenx.market.deadlines import deadline_ms
from gridtokenx.node.collector import ALLOCATIONS_OF_A_RUN, collecting_less
from gridtokenx.scenario.errors import ScenarioError
from gridtokenx.scenario.population import House, World, enlarge, people, register, residents, world_of
from gridtokenx.scenario.profiles import DATA
from gridtokenx.scenario.result import Result
from gridtokenx.scenario.schema import SERIES, THAILAND, Place, Scenario
from gridtokenx.scenario.trading import Floor

LEAD = 3                    # windows before the horizon in which the houses are registered
DEADLINE_WINDOWS = 4        # readings are due an hour after their window
SETTLING_WINDOWS = 8        # after the horizon: readings' deadline, and its work
LICENCE_MS = 366 * 86_400_000
_TERMS = {"on_peak_uthb_kwh": "on_peak", "off_peak_uthb_kwh": "off_peak", "service_uthb_month": "service",
          "demand_uthb_kw": "demand"}
Progress = Callable[[int, int], None]
Launch = Callable[[Chain], Chain]


@collecting_less(ALLOCATIONS_OF_A_RUN)
def run(scenario: Scenario, *, seed: int | None = None, chain: Chain | None = None,
        progress: Progress | None = None, launch: Launch | None = None) -> Result:
    """Runs a scenario, on `chain` as it stands if one is given, else on the one that the scenario names.

    `progress(done, all)` is called as windows pass. `launch` is given the chain when everybody is registered, and
    the run goes on with the one that it returns: from there on there are only transactions, as on a live network.
    Close the result when done with it. Raises ScenarioError.
    """
    if seed is not None:
        scenario = evolve(scenario, seed=seed)
    simulation = begin(scenario, chain, launch)
    try:
        for _ in simulation.sessions(progress):
            pass
        return simulation.result()
    except BaseException:
        if chain is None:
            simulation.chain.close()
        raise


@define(eq=False)
class Simulation:
    """A run that is under way: everybody is registered, nothing is traded yet."""

    scenario: Scenario
    chain: Chain
    windows: range
    houses: list[House]
    floor: Floor
    first_mined: int

    def sessions(self, progress: Progress | None = None) -> Iterator[range]:
        """Lets the horizon pass, with a stop before every session at its windows. Raises ScenarioError, AgentError."""
        with self.chain.unrooted():
            yield from self._sessions(progress)

    def _sessions(self, progress: Progress | None) -> Iterator[range]:
        chain, windows, houses, floor = self.chain, self.windows, self.houses, self.floor
        start, size = windows.start, self.scenario.trading.session_windows
        order = np.argsort([house.meter for house in houses])
        meters = [houses[number].meter for number in order.tolist()]
        net = np.array([house.net_wh for house in houses], np.int64)
        with_battery = [(number, house) for number, house in enumerate(houses) if house.battery is not None]
        stops, span = _stops(windows, size, _report_windows(chain, len(houses))), _span(windows)
        for before, present, following in zip([span.start - 1, *stops], stops, [*stops[1:], span.stop], strict=False):
            chain.reach(present)
            over = range(max(before, span.start), present)      # in the first of the span meters begin to measure
            if over:
                read = np.zeros((len(over), len(houses)), np.int64)
                for row, at in enumerate(range(over.start - start, over.stop - start)):
                    if at in range(len(windows)):
                        read[row] = net[:, at]
                        for number, house in with_battery:
                            read[row, number] = house.read(at, int(floor.position_wh[number, at]))
                both = np.stack((read.clip(min=0), (-read).clip(min=0)), axis=1)[..., order].reshape(-1, len(houses))
                _in_time(chain, over.start, chain.report_columns(
                    over.start, meters, list(zip(*both.tolist(), strict=True))))
            if chain.unfinished:
                chain.flush(following * WINDOW_MS)
            offset = present + LEAD - 1 - start
            if 0 <= offset < len(windows) and offset % size == 0:
                session = windows[offset:offset + size]
                yield session
                floor.session(session)
            if progress is not None:
                progress(present + 1 - span.start, len(span))
            if _settled(chain, windows):
                break
        else:
            raise ScenarioError("the horizon is not settled in time; max_timed_weight is too low for so many houses")
        if progress is not None:
            progress(len(span), len(span))

    def result(self) -> Result:
        """What came of it; once the horizon has passed."""
        return Result(self.scenario, self.chain, self.windows, tuple(self.houses), self.floor.tally,
                      self.floor.orders(), self.first_mined)


def begin(scenario: Scenario, chain: Chain | None = None, launch: Launch | None = None) -> Simulation:
    """Everything up to the first session, as `run` does it. Raises ScenarioError."""
    own = chain is None
    made = _chain(scenario) if chain is None else chain
    try:
        return _begin(scenario, made, launch)
    except BaseException:
        if own:
            made.close()
        raise


def _begin(scenario: Scenario, chain: Chain, launch: Launch | None) -> Simulation:
    earliest = chain.window + LEAD + (1 if chain.now_ms % WINDOW_MS else 0)
    start = earliest if scenario.start is None else window_at(round(scenario.start.timestamp() * 1000))
    if start < earliest:
        soonest = chain.now + timedelta(milliseconds=earliest * WINDOW_MS - chain.now_ms)
        raise ScenarioError(f"start is {scenario.start}; the chain stands at {chain.now}, so {soonest} or later is "
                            "allowed")
    windows = range(start, start + scenario.windows)
    world = world_of(chain)
    until_ms = windows.stop * WINDOW_MS
    there = [] if scenario.residents is None else residents(scenario, chain, windows, until_ms)
    houses = people(scenario, world, windows)
    first_mined = len(chain.blocks)
    if (begin_ms := (start - LEAD) * WINDOW_MS) > chain.now_ms:
        chain.warp(begin_ms)
    _override(chain, scenario, world)
    register(chain, houses, until_ms + LICENCE_MS)
    if there:
        enlarge(chain, there)
        houses += there
    _outages(chain, scenario, world)
    stops = _stops(windows, scenario.trading.session_windows, _report_windows(chain, len(houses)))
    prepare(chain, sum(transactions(len(houses), stop - before) for before, stop in pairwise(stops)))
    if launch is not None:
        chain, first_mined = launch(chain), 0
    return Simulation(scenario, chain, windows, houses, Floor(chain, houses, windows, scenario.trading.rounds,
                                                              scenario.mechanism), first_mined)


def _span(windows: range) -> range:
    """The windows that pass in a run."""
    return range(windows.start - LEAD + 1, windows.stop + SETTLING_WINDOWS)


def _stops(windows: range, session: int, report: int) -> list[int]:
    """The windows of the span at whose beginning something is done: sessions, reports of at most `report` windows."""
    span, due = _span(windows), windows.stop + DEADLINE_WINDOWS
    trading = range(span.start, span.start + len(windows), session)
    stops = [span.start]
    while (present := stops[-1]) < span.stop - 1:
        begun = (present - span.start) // session + 1           # sessions
        nearest = min(present + report, *trading[begun:begun + 1], span.stop - 1)
        stops.append(min(nearest, due) if present < due else nearest)
    return stops


def _report_windows(chain: Chain, houses: int) -> int:
    """How many windows meters report at once: an hour's, if the first of them still comes long before its deadline."""
    parameters = chain.parameters
    for windows in range(DEADLINE_WINDOWS, 1, -1):
        blocks = 1 + -(-weight(houses, windows) // parameters.max_block_weight)
        room_ms = (DEADLINE_WINDOWS + 1 - windows) * WINDOW_MS
        if 2 * blocks * parameters.min_block_interval_ms * chain.identity.market_rate < room_ms:
            return windows
    return 1


def _in_time(chain: Chain, window: int, came_ms: int) -> None:
    """Raises ScenarioError when readings of a window came after its deadline: its bills would be estimates."""
    settling: Settling = chain.record(spaces.SETTLING)
    if came_ms >= deadline_ms(settling, window):
        raise ScenarioError(
            f"the chain cannot keep up: readings of window {window} came after their deadline; fewer houses, a slower "
            "clock, a lower min_block_interval_ms or higher max_block_weight and max_timed_weight are needed")


def _settled(chain: Chain, windows: range) -> bool:
    settling: Settling = chain.record(spaces.SETTLING)
    return settling.window >= windows.stop


# ---------------------------------------------------------------- what it runs on


def _chain(scenario: Scenario) -> Chain:
    place: Place = scenario.place
    if place.fork:
        return fork(scenario.base / Path(place.fork).expanduser(), place.height)
    path = DATA / "thailand.toml" if place.genesis == THAILAND else scenario.base / Path(place.genesis).expanduser()
    assert scenario.start is not None
    begin_ms = round(scenario.start.timestamp() * 1000) - LEAD * WINDOW_MS
    return new_chain(evolve(load_genesis(path), genesis_ms=begin_ms, market_start_ms=begin_ms))


def _override(chain: Chain, scenario: Scenario, world: World) -> None:
    wanted: Mapping[str, int] = scenario.overrides.parameters
    if wanted:
        chain.override.parameters(**wanted)
    for name, value in scenario.overrides.rates.items():
        chain.override.series(SERIES[name], value)
    for number, terms in scenario.overrides.tariffs:
        if number >= world.tariffs:
            raise ScenarioError(f"overrides.tariffs names class {number}; the chain has 0 to {world.tariffs - 1}")
        chain.override.tariff(number, **{_TERMS[name]: value for name, value in terms.items()})
    for zone, values in scenario.overrides.zones:
        chain.override.zone(world.zone("overrides.zones", zone), loss_ppm=values.get("loss_ppm"),
                            wheel_uthb_kwh=values.get("wheeling_uthb_kwh"))
    for ends, values in scenario.overrides.corridors:
        corridor, turned = world.corridor("overrides.corridors", ends)
        there, back = values.get("forward_w"), values.get("backward_w")
        chain.override.corridor(corridor, loss_ppm=values.get("loss_ppm"),
                                wheel_uthb_kwh=values.get("wheeling_uthb_kwh"),
                                forward_w=back if turned else there, backward_w=there if turned else back)


def _outages(chain: Chain, scenario: Scenario, world: World) -> None:
    for number, outage in enumerate(scenario.outages):
        corridor, turned = world.corridor(f"outages[{number}].corridor", outage.corridor)
        first = window_at(round(outage.start.timestamp() * 1000))
        if first <= chain.window + 1:
            raise ScenarioError(f"outages[{number}].start is {outage.start}; a window that is still traded is allowed")
        there, back = outage.forward_w, outage.backward_w
        chain.override.capacity(corridor, range(first, first + outage.windows), *((back, there) if turned else
                                                                                   (there, back)))
