"""The testnet's meters: zones that add up by construction, and a thief whom the search finds."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import pytest
from model_settlement import half_up

from gridtokenx.cli.settlement import picture
from gridtokenx.ledger import settlement_queries, spaces
from gridtokenx.ledger.genesis import load_genesis
from gridtokenx.ledger.metering_records import Balance, Reading, Settling
from gridtokenx.ledger.records import Meter
from testnet.households import PROFILE_START_S, WINDOW_S, Household, load_households
from testnet.layout import FOLDER
from testnet.metering import Metering
from testnet.truth import CHARGER_W, Flow, arrives, corridor_ends, drawn, scheduled, shown, supply_point

TEN = PROFILE_START_S // WINDOW_S + 40
GENESIS = load_genesis(FOLDER / "genesis.toml")
EDGE = 1_000        # the supply point's meter
ZONES, CORRIDORS = GENESIS.zones, GENESIS.corridors


def residual(flows: list[Flow], loss_ppm: int) -> int:
    """MARKET 7.7, of all meters of a zone."""
    fed, out = sum(flow.injected_wh for flow in flows), sum(flow.withdrawn_wh for flow in flows)
    return fed - out - half_up(Fraction(loss_ppm * fed, 1_000_000))


def homes(zone: str, window: int, thief: int | None = None) -> list[tuple[Household, Flow]]:
    return [(one, drawn(one, window, thief, 1)) for one in load_households() if one.zone == zone]


def test_supply_points_close_every_zone_to_the_watt_hour() -> None:
    for window in (TEN, TEN + 8, TEN + 40):          # sun, noon, night
        for zone in ZONES:
            flows = [flow for _, flow in homes(zone.name, window)]
            for ends in ([], [Flow(700, 0), Flow(0, 300)], [Flow(50_000, 0)], [Flow(0, 50_000)]):
                supply = supply_point(flows, ends, zone)
                assert 0 <= residual([*flows, *ends, supply], zone.loss_ppm) <= 1
                assert not supply.injected_wh or not supply.withdrawn_wh


def test_trades_set_the_flow_of_corridors_and_losses_lie_between_their_ends() -> None:
    # Bangkok - Central - East; corridor 0 joins the first two, 1 the last two.
    there = {"sell_zone": 0, "path": [0, 1], "injected_wh": 1_000}
    back = {"sell_zone": 1, "path": [0], "injected_wh": 300}
    flows = scheduled([there, back, {"sell_zone": 3, "path": [], "injected_wh": 999}], ZONES, CORRIDORS)
    after = 1_000 * (10**6 - ZONES[0].loss_ppm) // 10**6
    assert flows[0] == Flow(after - 300 * (10**6 - ZONES[1].loss_ppm) // 10**6, 0)
    assert flows[1].injected_wh == 1_000 * (10**6 - ZONES[0].loss_ppm - CORRIDORS[0].loss_ppm) // 10**6
    assert flows[2:] == [Flow(0, 0)] * (len(CORRIDORS) - 2)
    sent = flows[0].injected_wh
    assert corridor_ends(flows[0], CORRIDORS[0]) == (Flow(0, sent), Flow(arrives(sent, CORRIDORS[0]), 0))
    assert sent * 98 // 100 < arrives(sent, CORRIDORS[0]) < sent


def test_the_thief_draws_more_than_it_shows_and_others_show_the_truth() -> None:
    for one, flow in homes("Northeast", TEN, thief=34):
        seen = shown(one, flow, 34)
        if one.index == 34:
            assert flow.withdrawn_wh > 0.6 * CHARGER_W / 4
            assert seen.withdrawn_wh == flow.withdrawn_wh // 10
        else:
            assert seen == flow == drawn(one, TEN, None, 1)


class State:
    """Balances and readings of some windows, as settlement leaves them."""

    def __init__(self, windows: int, zone: int, thief: int | None) -> None:
        self.values: dict[bytes, bytes] = {spaces.SETTLING: Settling(window=TEN + windows).encode()}
        name = ZONES[zone].name
        for window in range(TEN, TEN + windows):
            real = homes(name, window, thief)
            seen = [(one, shown(one, flow, thief)) for one, flow in real]
            supply = supply_point([flow for _, flow in real], [], ZONES[zone])
            missing = residual([*[flow for _, flow in seen], supply], ZONES[zone].loss_ppm)
            minted = sum(flow.injected_wh for _, flow in seen)
            self.values[spaces.balance(window, zone)] = Balance(
                minted=minted, imports=supply.injected_wh, residual=missing, tolerance=1_000, boundary=1).encode()
            self.values[spaces.meter(EDGE)] = Meter(b"", 0, b"", zone, 0, 0, 0, 0, 0, boundary=1).encode()
            self.values[spaces.reading(window, EDGE)] = Reading(supply.injected_wh, supply.withdrawn_wh, 0, 0,
                                                                1).encode()
            for one, flow in seen:
                meter = one.index + 1
                self.values[spaces.meter(meter)] = Meter(b"", 1, b"", zone, 0, 0, 0, 0, 0).encode()
                self.values[spaces.reading(window, meter)] = Reading(
                    flow.injected_wh, flow.withdrawn_wh, 0, 0, 1).encode()

    def get(self, key: bytes) -> bytes | None:
        return self.values.get(key)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return ((key, self.values[key]) for key in sorted(self.values) if key.startswith(prefix))


@pytest.mark.parametrize("thief", [household.index for household in load_households()
                                   if household.zone in ("Northeast", "West") and household.index % 3 == 1])
def test_the_search_finds_the_thief_among_its_neighbours(thief: int) -> None:
    household = load_households()[thief]
    zone = next(number for number, zone in enumerate(ZONES) if zone.name == household.zone)
    state: Any = State(10, zone, thief)
    found = settlement_queries.suspects(state, zone, 96, 3)
    first, second = found["meters"][:2]
    assert (first["meter"], first["register"]) == (thief + 1, "withdrawal")
    assert first["share_ppm"] > 990_000 and first["share_ppm"] > second["share_ppm"]
    assert 8_900_000 < first["slope_ppm"] < 9_300_000          # nine parts hidden for each one shown
    flagged = [at for at in range(10)
               if Balance.decode(state.get(spaces.balance(TEN + at, zone)) or b"").residual > 1_000]
    assert len(flagged) >= (3 if household.pv_w else 10)        # the sun charges too


def test_without_a_thief_nothing_is_missing() -> None:
    state: Any = State(6, 5, None)
    assert abs(settlement_queries.suspects(state, 5, 96, 3)["residual_wh"]) <= 6


def test_boundary_meters_are_signed_for_once_the_meter_is_there() -> None:
    from testnet.enrolment import Boundary, Enrolled
    from testnet.keys import testnet_key

    households = load_households(4)
    enrolled = [Enrolled(one, testnet_key(f"household {one.index}"), one.index + 1, one.index + 1,
                         (TEN - 5) * WINDOW_S * 1000 if one.index < 3 else (TEN + 1) * WINDOW_S * 1000)
                for one in households]
    boundaries = [Boundary(f"supply point {zone.name}", number, None, 10 + number, 0)
                  for number, zone in enumerate(ZONES)]
    collector: Any = None
    metering = Metering(collector, GENESIS, enrolled, boundaries, 1, None)
    readings, shown_wh = metering.read(TEN, [])
    assert [reading.meter for reading in readings] == [1, 2, 3, *range(10, 17)]
    assert shown_wh == (sum(reading.energies[0] for reading in readings[:3]),
                        sum(reading.energies[1] for reading in readings[:3]))
    assert len(metering.read(TEN + 1, [])[0]) == 11


def test_the_picture_is_in_proportion_and_names_every_part() -> None:
    totals = {"minted_wh": 12_000, "supplied_wh": 4_000, "consumed_wh": 7_900, "taken_wh": 8_000, "losses_wh": 100,
              "sold_wh": 5_000, "bought_wh": 4_900}
    lines = picture(totals, 16)
    text = "\n".join(lines)
    for words in ("injected by meters 12 kWh", "supplied by utilities 4 kWh", "consumed 7.9 kWh",
                  "taken by utilities 8 kWh", "lost on the way 0.1 kWh", "5 kWh traded", "16 kWh"):
        assert words in text, text
    left = [line.lstrip()[-1:] and next((mark for mark in line if mark in "█▒░"), "") for line in lines]
    assert (left.count("█"), left.count("▒")) == (12, 4)
    assert picture(dict.fromkeys(totals, 0))
