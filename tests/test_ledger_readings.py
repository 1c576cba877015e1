"""Readings: who may report, what is refused with its own code, reports of many windows, batches, revisions, boundary
meters, weight."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import pytest
from attrs import evolve
from ledger_support import ISSUER, REGISTRAR, START_MS, THB, Chain, genesis, key, trading_chain

from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger import spaces, weights
from gridtokenx.ledger.admission import admit
from gridtokenx.ledger.metering_records import BoundaryMeter, Collector, Correction, Reading, Settlement
from gridtokenx.ledger.operations import (
    Deposit,
    RegisterBoundaryMeter,
    RegisterCollector,
    RegisterMeter,
    RegisterParticipant,
    ReportReadings,
    SignedReport,
)
from gridtokenx.ledger.receipts import Code, Refused
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.market import readings
from gridtokenx.market.clock import WINDOW_MS, final_ms, settles_ms, window_at

H = [key(f"house {number}") for number in range(4)]


def reading(chain: Chain, window: int, meter: int) -> Reading | None:
    raw = chain.head.get(spaces.reading(window, meter))
    return None if raw is None else Reading.decode(raw)


def metered(households: int = 2, **options: int) -> tuple[Chain, int]:
    """A chain whose first metered window has just ended."""
    chain = trading_chain(households, **options)
    window = chain.settling.window
    chain.until((window + 1) * WINDOW_MS)
    return chain, window


def code(chain: Chain, *readings: SignedReport, sender: int = 0) -> Code:
    [outcome] = chain.do(H[sender], ReportReadings(readings))
    return outcome.code


def test_the_owner_reports_and_a_replay_is_refused() -> None:
    chain, window = metered()
    first = chain.signed(1, window, 300, 500)
    assert code(chain, first) is Code.OK
    assert reading(chain, window, 1) == Reading(300, 500, 0, 0, chain.head.header.height)
    assert code(chain, first) is Code.READING_KNOWN
    assert code(chain, chain.signed(1, window, 300, 501)) is Code.READING_CONFLICT
    assert code(chain, chain.signed(1, window, 300, 500, quality=1)) is Code.READING_CONFLICT
    assert reading(chain, window, 1) == Reading(300, 500, 0, 0, chain.head.header.height - 3)


def test_each_reason_has_its_own_code() -> None:
    chain, window = metered()
    assert code(chain, chain.signed(9, window, 0, 0)) is Code.UNKNOWN_METER
    assert code(chain, chain.signed(2, window, 0, 0)) is Code.NOT_COLLECTOR
    assert code(chain, chain.signed(1, window - 1, 0, 0)) is Code.METER_NOT_THEN
    assert code(chain, chain.signed(1, window + 1, 0, 0)) is Code.WINDOW_NOT_DELIVERED
    assert code(chain, chain.signed(1, window, 10_001, 0)) is Code.ABOVE_CAPACITY
    assert code(chain, chain.signed(1, window, 0, 10_001)) is Code.ABOVE_CAPACITY
    assert code(chain, chain.signed(1, window, 0, 0, revision=1, quality=0)) is Code.BAD_QUALITY
    assert code(chain, chain.signed(1, window, 0, 0, quality=2)) is Code.BAD_QUALITY
    assert code(chain, chain.signed(1, window, 0, 0, signer=key("meter 1"))) is Code.BAD_READING_SIGNATURE
    forged = evolve(chain.signed(1, window, 300, 0), energies=(3000, 0))
    assert code(chain, forged) is Code.BAD_READING_SIGNATURE
    other = trading_chain(1, rate=101)      # another chain's signature of the same meter
    assert code(chain, other.signed(1, window, 300, 0)) is Code.BAD_READING_SIGNATURE
    assert reading(chain, window, 1) is None
    assert code(chain, chain.signed(1, window, 10_000, 10_000)) is Code.OK


@pytest.mark.parametrize(("reports", "refusal"), [
    ([], Code.BAD_FIELDS), (5, Code.BAD_FIELDS), ([5], Code.BAD_FIELDS), ([[1, 1, 0, 0, [0, 0]]], Code.BAD_FIELDS),
    ([[1, 1, 0, 0, [0, 0], bytes(63)]], Code.BAD_FIELDS), ([[1, 1, 0, 0, 0, bytes(64)]], Code.BAD_FIELDS),
    ([[1, 1, 0, 0, [], bytes(64)]], Code.BAD_FIELDS), ([[1, 1, 0, 0, [0], bytes(64)]], Code.BAD_FIELDS),
    ([[1, 1, 0, 0, [0] * 194, bytes(64)]], Code.BAD_FIELDS), ([[1, 1, 0, 0, [0, b""], bytes(64)]], Code.BAD_FIELDS),
    ([[1, 1, 0, 0, [0] * 192, bytes(64)]] * 6, Code.BAD_FIELDS), ([[0, 1, 0, 0, [0, 0], bytes(64)]], Code.OUT_OF_RANGE),
    ([[1, 1, 0, 0, [-1, 0], bytes(64)]], Code.OUT_OF_RANGE), ([[1, 1, 3, 0, [0, 0], bytes(64)]], Code.OUT_OF_RANGE),
    ([[1, 1, 0, 65_536, [0, 0], bytes(64)]], Code.OUT_OF_RANGE),
    ([[1, MAX_WINDOW, 0, 0, [0, 0, 0, 0], bytes(64)]], Code.OUT_OF_RANGE),
    ([[1, MAX_WINDOW, 0, 0, [0, 0], bytes(64)]], Code.WINDOW_NOT_DELIVERED),
    ([[1, 1, 0, 0, [0] * 192, bytes(64)]], Code.METER_NOT_THEN)])
def test_malformed_reports_fail_the_operation(reports: object, refusal: Code) -> None:
    chain, _ = metered(1)
    [outcome] = chain.do(H[0], [30, reports])
    assert outcome.code is refusal


def test_a_report_of_many_windows_has_one_signature() -> None:
    chain, window = metered(2)
    chain.until((window + 3) * WINDOW_MS)
    hour = chain.signed_report(1, window, (300, 500, 0, 7, 310, 10))
    forged = evolve(hour, energies=(300, 500, 0, 7, 311, 10))
    assert [o.code for o in chain.do(H[0], ReportReadings((forged,)))] == [Code.BAD_READING_SIGNATURE]
    assert [o.code for o in chain.do(H[0], ReportReadings((evolve(hour, window=window - 1),)))] == [Code.METER_NOT_THEN]
    [outcome] = chain.do(H[0], ReportReadings((hour,)))
    assert (outcome.code, outcome.data) == (Code.OK, (3,))
    height = chain.head.header.height
    assert [reading(chain, window + at, 1) for at in range(3)] == [
        Reading(300, 500, 0, 0, height), Reading(0, 7, 0, 0, height), Reading(310, 10, 0, 0, height)]
    assert code(chain, hour) is Code.READING_KNOWN


def test_of_a_report_each_reading_is_taken_or_refused() -> None:
    """Numbers count through all reports: two readings, then four."""
    chain, window = metered(2)
    chain.until((window + 3) * WINDOW_MS)
    chain.do(REGISTRAR, RegisterCollector(key("collector").public, 1))
    chain.do(ISSUER, Deposit(key("collector").public, THB))
    [outcome] = chain.do(key("collector"), ReportReadings((chain.signed(1, window + 1, 5, 5),)))
    assert outcome.data == (1,)
    [outcome] = chain.do(key("collector"), ReportReadings((
        chain.signed_report(2, window, (1, 1, 10_001, 1)), chain.signed_report(1, window, (5, 6, 5, 5, 5, 7, 5, 8)))))
    assert outcome.data == (3, 1, Code.ABOVE_CAPACITY, 3, Code.READING_KNOWN, 5, Code.WINDOW_NOT_DELIVERED)
    assert [reading(chain, window + at, 1) is not None for at in range(4)] == [True, True, True, False]


def test_a_corrected_report_of_a_settled_hour() -> None:
    chain, window = metered(1)
    chain.until(settles_ms(window + 1))
    chain.block()
    assert chain.settling.window > window + 1
    [outcome] = chain.do(H[0], ReportReadings((chain.signed_report(1, window, (0, 70, 0, 80), revision=1),)))
    assert (outcome.code, outcome.data) == (Code.OK, (2,))
    assert [Settlement.decode(chain.head.get(spaces.settlement(window + at, 1)) or b"").withdrawn
            for at in range(2)] == [70, 80]


def test_one_bad_reading_of_a_batch_fails_alone() -> None:
    chain, window = metered(4)
    chain.do(REGISTRAR, RegisterCollector(key("collector").public, 1))
    chain.do(ISSUER, Deposit(key("collector").public, THB))
    batch = (chain.signed(1, window, 1, 1), chain.signed(2, window, 0, 99_999), chain.signed(3, window, 3, 3),
             chain.signed(4, window, 4, 4, signer=key("meter 0")), chain.signed(3, window, 3, 3),
             chain.signed(3, window, 4, 4))
    [outcome] = chain.do(key("collector"), ReportReadings(batch))
    assert outcome.code is Code.OK
    assert outcome.data == (2, 1, Code.ABOVE_CAPACITY, 3, Code.BAD_READING_SIGNATURE, 4, Code.READING_KNOWN,
                            5, Code.READING_CONFLICT)
    assert [reading(chain, window, meter) is not None for meter in (1, 2, 3, 4)] == [True, False, True, False]
    weight = chain.results[-1].weight
    assert weight >= weights.BLOCK + len(batch) * (weights.SIGNATURE + weights.READING)
    with pytest.raises(Refused) as refused:     # nothing new: refused at submission, by the first reading's code
        admit(chain.head, chain.transaction(key("collector"), ReportReadings(batch)), chain.head.header.height + 1)
    assert refused.value.code is Code.READING_KNOWN


class ByRules:
    """A kernel that leaves every report to the rules."""

    parse, signed_by = readings.KERNEL.parse, readings.KERNEL.signed_by

    @staticmethod
    def check(session: object, some: Sequence[SignedReport], *_: object) -> list[None]:
        return [None] * len(some)

    @staticmethod
    def take(session: object, some: object, meters: object, good: object, index: int, in_time: object) -> int:
        return index


def test_the_kernel_takes_what_the_rules_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Revisions up and down, repeats, forgeries, too much, early, late and unknown, in one transaction and order."""
    random = Random(5)
    made = [(random.randrange(1, 6), random.choice((-1, 0, 0, 0, 1)), random.choice((
        (0, 0), (7, 7), (7, 7), (10_001, 0), (7, 7, 3, 3), (0, 0, 0, 10_001, 7, 7), (7, 7) * 4)),
        random.choice((0, 0, 1, 2)), random.randrange(8) == 0) for _ in range(120)]
    outcomes = []
    for kernel in (readings.KERNEL, ByRules):
        monkeypatch.setattr(readings, "KERNEL", kernel)
        chain, window = metered(4)
        chain.until((window + 2) * WINDOW_MS)
        chain.do(REGISTRAR, RegisterCollector(key("collector").public, 1))
        chain.do(ISSUER, Deposit(key("collector").public, THB))
        found = []
        for first, market_ms in ((0, 0), (60, settles_ms(window) + 1)):
            chain.until(max(market_ms, chain.now_ms))
            found += [outcome.data for outcome in chain.do(key("collector"), ReportReadings(tuple(
                chain.signed_report(meter, window + later, energies, revision, signer=key("x") if forged else None)
                for meter, later, energies, revision, forged in made[first:first + 60])))]
        outcomes.append((found, chain.head.header.state_root))
    assert outcomes[0] == outcomes[1]
    assert {Code.READING_SUPERSEDED, Code.READING_KNOWN, Code.BAD_READING_SIGNATURE, Code.ABOVE_CAPACITY} <= {
        Code(refused) for data in outcomes[0][0] for refused in data[2::2]}


def test_collectors_are_registered_for_zones() -> None:
    chain, window = metered(2, zones=2)
    collector = key("collector")
    chain.do(ISSUER, Deposit(collector.public, THB))
    both = ReportReadings((chain.signed(1, window, 1, 1), chain.signed(2, window, 2, 2)))
    register = RegisterCollector(collector.public, 2)
    assert [o.code for o in chain.do(H[0], register)] == [Code.NOT_ALLOWED]
    assert [o.code for o in chain.do(REGISTRAR, evolve(register, zones=4))] == [Code.UNKNOWN_ZONE]
    assert [o.code for o in chain.do(collector, both)] == [Code.NOT_COLLECTOR]
    chain.do(REGISTRAR, register)
    assert chain.head.get(spaces.collector(collector.public)) == Collector(2).encode()
    assert [o.data for o in chain.do(collector, both)] == [(1, 0, Code.NOT_COLLECTOR)]
    chain.do(REGISTRAR, evolve(register, zones=0))
    assert chain.head.get(spaces.collector(collector.public)) is None


def test_revisions_replace_each_other_upwards() -> None:
    chain, window = metered()
    assert code(chain, chain.signed(1, window, 300, 500)) is Code.OK
    assert code(chain, chain.signed(1, window, 310, 500, revision=2)) is Code.OK
    assert code(chain, chain.signed(1, window, 320, 500, revision=1)) is Code.READING_SUPERSEDED
    assert code(chain, chain.signed(1, window, 300, 500)) is Code.READING_SUPERSEDED
    assert code(chain, chain.signed(1, window, 311, 500, revision=2)) is Code.READING_CONFLICT
    assert code(chain, chain.signed(1, window, 310, 500, revision=2)) is Code.READING_KNOWN
    trail = Correction.decode(chain.head.get(spaces.correction(window, 1, 2)) or b"")
    assert (trail.injected_before, trail.injected_after, trail.paid_uthb) == (300, 310, 0)
    found = reading(chain, window, 1)
    assert found is not None and (found.quality, found.revision) == (2, 2)


def test_a_meter_measures_from_its_first_whole_window() -> None:
    chain, _ = metered(1)
    [late] = chain.do(REGISTRAR, RegisterMeter(1, key("meter 1").public, 0, Network.PEA, Source.SOLAR, 0, 8_000, 8_000))
    assert late.data == (2,)
    now = window_at(chain.now_ms)
    chain.until((now + 2) * WINDOW_MS)
    assert code(chain, chain.signed(2, now, 0, 0)) is Code.METER_NOT_THEN
    assert code(chain, chain.signed(2, now + 1, 0, 2_000)) is Code.OK
    chain.until(settles_ms(now + 1))
    chain.block()
    assert chain.head.get(spaces.settlement(now, 2)) is None
    assert chain.head.get(spaces.settlement(now + 1, 2)) is not None


def test_after_corrections_a_window_is_closed() -> None:
    chain = trading_chain(1, rate=10_000, money=10**6 * THB)
    window = chain.settling.window
    chain.until(final_ms(window))
    assert code(chain, chain.signed(1, window, 0, 0)) is Code.READING_TOO_LATE
    open_still = window_at(chain.now_ms - 7 * 86_400_000) + 2
    assert code(chain, chain.signed(1, open_still, 0, 0)) is Code.OK


def test_boundary_meters_are_a_grid_operators() -> None:
    chain = Chain(genesis())
    chain.do(REGISTRAR, RegisterParticipant(H[0].public, "L-1", Role.PROSUMER, 0, 2 * START_MS),
             RegisterParticipant(H[1].public, "L-2", Role.GRID_OPERATOR, 0, 2 * START_MS))
    chain.do(ISSUER, Deposit(H[1].public, THB), Deposit(H[0].public, THB))
    point = RegisterBoundaryMeter(2, key("meter 0").public, 0, -1, 8_000, 4_000)
    assert [o.code for o in chain.do(REGISTRAR, evolve(point, participant=1), evolve(point, participant=9),
                                     evolve(point, zone=9), evolve(point, corridor=0), evolve(point, key=bytes(32)),
                                     point, point)] == [
        Code.NOT_GRID_OPERATOR, Code.UNKNOWN_PARTICIPANT, Code.UNKNOWN_ZONE, Code.UNKNOWN_CORRIDOR, Code.BAD_KEY,
        Code.OK, Code.METER_KEY_TAKEN]
    assert [o.code for o in chain.do(H[0], point)] == [Code.NOT_ALLOWED]
    assert chain.head.get(spaces.boundary(0, 1)) == BoundaryMeter(-1, 8_000, 4_000).encode()
    window = chain.settling.window
    chain.until((window + 1) * WINDOW_MS)
    assert code(chain, chain.signed(1, window, 2_001, 0), sender=1) is Code.ABOVE_CAPACITY
    assert code(chain, chain.signed(1, window, 2_000, 1_000), sender=1) is Code.OK
    # it has no part in the market
    order = [20, 1, chain.window, 0, 5000, 100, 0, 0]
    assert [o.code for o in chain.do(H[1], order)] == [Code.NO_CAPACITY]


def test_a_zone_has_so_many_boundary_meters() -> None:
    chain = trading_chain(1)
    chain.do(ISSUER, Deposit(key("grid").public, THB))
    chain.do(REGISTRAR, RegisterParticipant(key("grid").public, "GRID", Role.GRID_OPERATOR, 0, 2 * START_MS))
    made = [RegisterBoundaryMeter(2, key(f"edge {number}").public, 0, -1, 1_000, 1_000) for number in range(65)]
    assert {outcome.code for outcome in chain.do(REGISTRAR, *made[:64])} == {Code.OK}
    assert chain.do(REGISTRAR, made[64])[0].code is Code.TOO_MANY_BOUNDARY_METERS
    assert chain.do(REGISTRAR, evolve(made[64], zone=1))[0].code is Code.OK
