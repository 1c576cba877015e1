"""Month-end lines: service, demand, block true-up, VAT; months by Bangkok's calendar; a run in small pieces."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve, make_class
from ledger_support import REGISTRAR, Chain, genesis, key, trading_chain

from gridtokenx._native.monthly import Months
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger import spaces, tariff_queries
from gridtokenx.ledger.metering_records import Settlement
from gridtokenx.ledger.operations import RegisterMeter, RegisterParticipant, ReportReadings
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.tariff_records import Billing, MonthlyBill, Terms, Usage, block_tariff, tariff
from gridtokenx.market import monthly
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.monthly import first_window, month_of_window, monthly_lines
from gridtokenx.market.rules import BillRule
from gridtokenx.units import bangkok_s

BLOCKS = ((150_000, 3_248_400), (400_000, 4_221_800), (0, 4_421_700))
MAY = 12 * 2026 + 4
CORRECTIONS_MS = 7_200_000


def test_a_window_belongs_to_the_month_in_which_it_begins_in_bangkok() -> None:
    first = bangkok_s(2026, 5, 1) // 900
    assert (month_of_window(first - 1), month_of_window(first)) == (MAY - 1, MAY)
    assert first_window(MAY) == first
    assert month_of_window(bangkok_s(2026, 12, 31, 23, 45) // 900) + 1 == month_of_window(bangkok_s(2027, 1, 1) // 900)


def test_lines_of_a_month() -> None:
    medium = Terms(0, 4_329_700, 2_636_900, 312_240_000, 210_000_000, ())
    assert monthly_lines(medium, Usage(50_000, 40_000, 3_001), 70_000) == (
        (BillRule.SERVICE, 1, 312_240_000, 312_240_000),
        (BillRule.DEMAND, 12_004, 210_000_000, 2_520_840_000),          # 12.004 kW x 210 THB
        (BillRule.MONTHLY_VAT, 1, 70_000, 198_315_600))                 # 7 % of 2 833.08 THB
    assert monthly_lines(medium, Usage(), 0) == ((BillRule.SERVICE, 1, 312_240_000, 312_240_000),
                                                 (BillRule.MONTHLY_VAT, 1, 0, 0))
    assert monthly_lines(Terms(0, 1, 1, 0, 0, ()), Usage(9, 9, 9), 70_000) == ()


def test_blocks_are_trued_up_at_the_edges() -> None:
    terms = Terms(0, 3_248_400, 3_248_400, 0, 0, BLOCKS)

    def true_up(supplied: int) -> list[tuple[int, int]]:
        return [(quantity, rate) for rule, quantity, rate, _ in monthly_lines(terms, Usage(0, supplied, 0), 70_000)
                if rule == BillRule.BLOCK_TRUE_UP]

    assert true_up(150_000) == []
    assert true_up(150_001) == [(1, 973_400)]
    assert true_up(400_000) == [(250_000, 973_400)]
    assert true_up(400_007) == [(250_000, 973_400), (7, 1_173_300)]
    # 1 Wh of the dearer block: 973.4 uTHB, rounded; VAT on it, 68.11, rounded.
    assert monthly_lines(terms, Usage(0, 150_001, 0), 70_000) == (
        (BillRule.BLOCK_TRUE_UP, 1, 973_400, 973), (BillRule.MONTHLY_VAT, 1, 70_000, 68))


def final_ms(window: int) -> int:
    return (window + 1) * WINDOW_MS + CORRECTIONS_MS


def reach(chain: Chain, market_ms: int) -> None:
    """Blocks up to a market time, and as many more as the timed work until then needs."""
    while chain.now_ms < market_ms:
        chain.until(min(market_ms, chain.now_ms + 2 * WINDOW_MS))
    while chain.results[-1].unfinished:
        chain.block(100)


def month_end_chain(**options: int) -> Chain:
    """Three meters without readings for the last three windows of May; the second account has no money."""
    last = first_window(MAY + 1) - 1
    classes = (tariff("medium", 4_329_700, 2_636_900, service=312_240_000, demand=210_000_000),
               block_tariff("block", (1_000, 1_000_000), (0, 2_000_000), service=24_620_000))
    chain = Chain(evolve(genesis(rate=1000, corrections_ms=CORRECTIONS_MS, **options), tariffs=classes,
                         market_start_ms=(last - 2) * WINDOW_MS - 10 * 60_000), twice=False)
    chain.do(REGISTRAR, *[RegisterParticipant(key(f"house {n}").public, f"L-{n}", Role.CONSUMER, 0, 10 * chain.now_ms)
                          for n in range(3)])
    chain.do(REGISTRAR, *[
        RegisterMeter(n + 1, key(f"meter {n}").public, 0, Network.PEA, Source.SOLAR, n % 2, 0, 4_000)
        for n in range(3)])
    return chain


def bills(chain: Chain) -> list[MonthlyBill | None]:
    found = [chain.head.get(spaces.monthly_bill(MAY, n + 1)) for n in range(3)]
    return [None if raw is None else MonthlyBill.decode(raw) for raw in found]


def test_the_month_is_billed_when_its_last_window_is_final() -> None:
    chain = month_end_chain(monthly_bill_keep_days=1)
    last = first_window(MAY + 1) - 1
    reach(chain, final_ms(last) - 400_000)
    assert bills(chain) == [None] * 3
    assert chain.head.get(spaces.usage(MAY, 1)) is not None
    before = beside_windows(chain)
    reach(chain, final_ms(last) + 1000)
    first, second, third = bills(chain)
    assert first is not None
    assert second is not None
    assert third is not None
    assert first == evolve(third, owner=first.owner) == MonthlyBill(first.owner, 0, 0, 3_000, 3_000, 0, (
        (BillRule.SERVICE, 1, 312_240_000, 312_240_000), (BillRule.MONTHLY_VAT, 1, 70_000, 21_856_800)))
    assert second.lines == (
        (BillRule.SERVICE, 1, 24_620_000, 24_620_000), (BillRule.BLOCK_TRUE_UP, 2_000, 1_000_000, 2_000_000),
        (BillRule.MONTHLY_VAT, 1, 70_000, 1_863_400))
    # Nobody has money: the utility bears it, the tax account has its VAT, the rest is owed.
    assert [now - then for now, then in zip(beside_windows(chain), before, strict=True)] == [
        334_096_800, 28_483_400, 334_096_800, -45_577_000, 45_577_000]
    [row] = tariff_queries.monthly_bills(chain.head, key("house 1").public, MAY)
    assert (row["billed"], row["tariff"], len(row["lines"])) == (True, 1, 3)
    assert chain.head.get(spaces.usage(MAY, 1)) is None
    assert Billing.decode(chain.head.get(spaces.BILLING) or b"") == Billing()
    reach(chain, final_ms(last) + 86_400_000 + 400_000)
    assert bills(chain) == [None] * 3


def beside_windows(chain: Chain) -> list[int]:
    """What the three owners owe, and what utility and tax account have, beside the bills of windows."""
    owed, vat = [0, 0, 0], 0
    for where, raw in chain.head.scan(bytes((spaces.Space.SETTLEMENT,))):
        lines = Settlement.decode(raw).lines
        owed[int.from_bytes(where[5:], "big") - 1] += sum(amount for _, _, _, amount in lines)
        vat += sum(amount for rule, _, _, amount in lines if rule == BillRule.SUPPLY_VAT)
    return [*(chain.account(key(f"house {n}")).dues - owed[n] for n in range(3)),
            chain.account(key("utility North")).balance + vat, chain.account(key("tax")).balance - vat]


def test_a_run_in_small_pieces_bills_alike() -> None:
    """Blocks with room for a part of a window's meters only."""
    whole, pieces = month_end_chain(), month_end_chain(max_timed_weight=1_000)
    for chain in (whole, pieces):
        reach(chain, final_ms(first_window(MAY + 1) - 1) + 1000)
    assert bills(whole) == bills(pieces)
    assert len(pieces.results) > len(whole.results)


def test_demand_is_the_greatest_on_peak_quarter_hour() -> None:
    chain = trading_chain(1, rate=1000, corrections_ms=CORRECTIONS_MS)
    window = -(-chain.now_ms // WINDOW_MS)
    for at, withdrawn in enumerate((700, 2_500, 900)):
        chain.until((window + at + 1) * WINDOW_MS)
        [outcome] = chain.do(key("house 0"), ReportReadings((chain.signed(1, window + at, 0, withdrawn),)))
        assert outcome.ok
    reach(chain, final_ms(window + 2) + 1000)
    assert Usage.decode(chain.head.get(spaces.usage(MAY, 1)) or b"") == Usage(4_100, 4_100, 2_500)
    [row] = tariff_queries.monthly_bills(chain.head, key("house 0").public, MAY)
    assert (row["billed"], row["demand_w"], row["lines"]) == (False, 10_000, [])


def counted(seed: int) -> tuple[Any, ...]:
    """What is changed, and what room is left, when bills of all sorts are counted for the month."""
    random = Random(seed)
    session, window = Session(genesis().view(), 40), 2_000_000
    month, room = month_of_window(window), random.choice((10**6, 10**6, random.randrange(400)))

    def put(place: bytes, record: Settlement | Usage) -> None:
        session.put(place, record if random.random() < 0.3 else record.encode())

    def wh() -> int:
        return random.choice((0, random.randrange(30), random.randrange(10**6), random.randrange(10**6), 1 << 40, -3))

    for number in range(1, 31):
        if random.random() < 0.9:
            lines = tuple((random.randrange(1, 8), wh(), 0, wh()) for _ in range(random.randrange(5)))
            put(spaces.settlement(window, number),
                Settlement(key("owner").public, 1, 5, wh(), 5, 5, 5, 5, 0, 0, lines))
        if random.random() < 0.7:
            put(spaces.usage(month, number), Usage(wh(), wh(), wh()))
    session.put(spaces.COUNTERS, evolve(session.get(spaces.COUNTERS), meters=30))
    session.put(spaces.BILLING, Billing(random.choice((0, 4)), 0))

    def spend(weight: int) -> bool:
        nonlocal room
        if weight > room:
            return False
        room -= weight
        return True

    context: Any = SimpleNamespace(session=session)
    return monthly._count(context, window, month, spend), room, list(session.changed())


def test_the_kernel_counts_what_the_rules_count(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(60):
        fast = counted(seed)
        with monkeypatch.context() as without:
            without.setattr(monthly, "_KERNEL", SimpleNamespace(count=lambda *given: (given[4], True)))
            assert fast == counted(seed), seed


def test_usage_that_the_kernel_does_not_know_stops_it() -> None:
    with pytest.raises(ValueError, match="attributes of Usage"):
        Months({"Usage": make_class("Usage", ["a"])}, spaces.Space.__members__, energy=6, count_weight=1,
               clear_weight=1)
