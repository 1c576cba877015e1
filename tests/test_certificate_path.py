"""From the meter to a retired certificate, through blocks alone: the worked example of docs/certificates.md."""

from __future__ import annotations

from functools import cache
from typing import Any

from attrs import define, evolve
from certificate_support import CREDITS
from ledger_support import REGULATOR, THB, Chain, key, trading_chain

from gridtokenx.grid.kinds import Source
from gridtokenx.ledger import certificate_queries as queries
from gridtokenx.ledger import spaces
from gridtokenx.ledger.certificate_conservation import audit_certificates
from gridtokenx.ledger.certificate_records import Holding
from gridtokenx.ledger.context import open_context
from gridtokenx.ledger.metering_records import Settlement
from gridtokenx.ledger.operations import (
    BuyCertificate,
    IssueCertificates,
    OfferCertificate,
    PlaceOrder,
    PublishCarbon,
    RetireCertificate,
)
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.records import Profile
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.state import StateView
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.deadlines import closes_ms, deadline_ms
from gridtokenx.market.orders import Force, Side
from gridtokenx.market.readings import report
from gridtokenx.market.rules import BillRule
from gridtokenx.node.audit_sums import Tally

ROOF, FIRST, SECOND, PARK = 1, 2, 3, 4              # meters
H = {meter: key(f"house {meter - 1}") for meter in (ROOF, FIRST, SECOND, PARK)}
SOLAR_ONLY = 1
HOUR_MS = 3_600_000

# By window from the first: readings of those that sent one, (injected, withdrawn) Wh.
READINGS: dict[int, dict[int, tuple[int, int]]] = {
    0: {ROOF: (6_000, 400), FIRST: (0, 2_910), SECOND: (0, 1_940), PARK: (600_000, 0)},
    1: {ROOF: (5_900, 0), FIRST: (0, 2_910), SECOND: (0, 1_940), PARK: (402_000, 2_000)},
    2: {ROOF: (4_401, 0), FIRST: (0, 2_910), SECOND: (0, 1_940), PARK: (2_400_000, 0)},
    3: {FIRST: (0, 2_910), SECOND: (0, 1_940), PARK: (0, 500)},
}
CORRECTED = (4_500, 0)                               # what the rooftop says of the second window after settlement


@define
class Story:
    chain: Chain
    first: int                                       # the window that READINGS begin with
    early: Any                                       # claims of the first window just before its corrections end


@cache
def story() -> Story:
    """Trades, readings and a correction; goes on until the corrections of all four windows have ended."""
    chain = trading_chain(4, money=100_000 * THB, injection_w=16_000_000, rate=1_000, wheel=0,
                          profiles=(Profile("solar only", 1 << Source.SOLAR, 0xFFFF),), corrections_ms=4 * HOUR_MS)
    first = chain.window
    windows = range(first, first + len(READINGS))
    none = (0,) * len(Source)
    chain.do(REGULATOR, PublishCarbon(first, 499_900, none, CREDITS), PublishCarbon(first + 1, 475_000, none, CREDITS))
    for buyer, energy in ((FIRST, 3_000), (SECOND, 2_000)):
        for meter, side, price, profile in ((ROOF, Side.SELL, 4_000, 0), (buyer, Side.BUY, 5_000, SOLAR_ONLY)):
            outcomes = chain.do(H[meter], *[
                PlaceOrder(meter, window, side, price, energy, Force.GOOD_TILL_GATE, 0, profile=profile)
                for window in windows])
            assert {outcome.code for outcome in outcomes} == {Code.OK}
    while (at := chain.settling.window) < windows.stop:
        chain.until((at + 1) * WINDOW_MS)
        chain.report(at, READINGS.get(at - first, dict.fromkeys(H, (0, 0))))
        chain.until(deadline_ms(chain.settling, at))
        while chain.settling.window == at:
            chain.block()
    [outcome] = chain.report(first + 1, {ROOF: CORRECTED}, revision=1)
    assert outcome.code is Code.OK
    closes = closes_ms(chain.genesis.parameters, chain.settling, first)
    while chain.now_ms + 400_000 < closes:
        chain.block(200)
    early = queries.claim(chain.head, first, ROOF), queries.claims(chain.head, H[ROOF].public)
    chain.until(closes_ms(chain.genesis.parameters, chain.settling, windows.stop))
    chain.block()
    return Story(chain, first, early)


def bill(window: int, meter: int) -> list[tuple[int, ...]]:
    found = Settlement.decode(story().chain.head.get(spaces.settlement(story().first + window, meter)) or b"")
    return [line[1:] for line in found.lines if line[0] == BillRule.SOURCE_DEFAULT]


def claim(window: int, meter: int) -> tuple[int, ...] | None:
    found = queries.claim(story().chain.head, story().first + window, meter)
    return None if found is None else tuple(found[name] for name in ("net_wh", "bought_wh", "kept_wh", "missed_wh"))


def test_claims_of_the_worked_example() -> None:
    assert claim(0, ROOF) == (5_600, 4_850, 750, 0)
    assert claim(1, ROOF) == (4_500, 4_500, 0, 350)          # by the correction, not by what it was settled by first
    assert claim(2, ROOF) == (4_401, 4_401, 0, 449)
    assert claim(3, ROOF) == (0, 0, 0, 4_850)
    held = {meter: {row["meter"]: row["held_wh"] for row in queries.claims(story().chain.head, H[meter].public)}
            for meter in H}
    assert held[ROOF] == {ROOF: 750}
    assert held[FIRST] == {ROOF: 2_910 + 2_700 + 2_641}
    assert held[SECOND] == {ROOF: 1_940 + 1_800 + 1_760}
    assert queries.meter_claims(story().chain.head, ROOF) == {
        "meter": ROOF, "metered_wh": 14_501, "claimed_wh": 14_501, "certified_wh": 0, "retired_wh": 0}


def test_what_buyers_miss_is_on_the_bills() -> None:
    assert bill(0, ROOF) == bill(0, FIRST) == bill(0, SECOND) == []
    assert (bill(1, ROOF), bill(1, FIRST), bill(1, SECOND)) == (
        [(350, 250_000, 87_500)], [(210, 250_000, -52_500)], [(140, 250_000, -35_000)])
    assert (bill(2, ROOF), bill(2, FIRST), bill(2, SECOND)) == (
        [(449, 250_000, 112_250)], [(269, 250_000, -67_250)], [(180, 250_000, -45_000)])
    assert (bill(3, ROOF), bill(3, FIRST), bill(3, SECOND)) == (
        [(4_850, 250_000, 1_212_500)], [(2_910, 250_000, -727_500)], [(1_940, 250_000, -485_000)])


def test_no_claims_before_corrections_end() -> None:
    assert story().early == (None, [])


def test_what_has_claims_is_not_corrected_any_more() -> None:
    """Not even if the time for corrections were made longer afterwards."""
    chain, window = story().chain, story().first + 2
    late = [chain.signed(ROOF, window, 4_402, 0, revision=1)]
    for corrections_ms in (4 * HOUR_MS, 99 * HOUR_MS):
        rules = evolve(chain.genesis.parameters, corrections_ms=corrections_ms)
        context = open_context(Session(chain.head, chain.head.header.height + 1), rules,
                               chain.head.header.timestamp_ms + 200)
        [(_, refused)], _ = report(context, H[ROOF].public, late)
        assert refused.code is Code.READING_TOO_LATE


def test_two_versions_of_factors_in_one_certificate_and_its_life() -> None:
    """600 kWh at 0.4999 and 400 kWh at 0.4750 kg/kWh; then 2.4 MWh more."""
    chain, first, park, buyer = story().chain, story().first, H[PARK], H[FIRST]
    [row] = queries.claims(chain.head, park.public)
    assert (row["held_wh"], row["ready"], row["first_window"], row["last_window"]) == (
        3_400_000, 3, first, first + 2)
    outcomes = chain.do(park, IssueCertificates(PARK, 3), IssueCertificates(PARK, 1), OfferCertificate(1, 30 * THB))
    assert [outcome.code for outcome in outcomes] == [Code.OK, Code.TOO_FEW_CLAIMS, Code.OK]
    made = queries.certificate(chain.head, 1)
    assert made is not None
    assert (made["avoided_g"], made["credit_g"], made["first_window"], made["last_window"]) == (
        489_940, 500_000, first, first + 1)
    outcomes = chain.do(buyer, BuyCertificate(1, 30 * THB), RetireCertificate(1, "the first house", "its year"),
                        RetireCertificate(1, "the first house", "its year"))
    assert [outcome.code for outcome in outcomes] == [Code.OK, Code.OK, Code.CERTIFICATE_RETIRED]
    audit = audit_certificates(chain.head)
    assert (audit.metered_wh, audit.claimed_wh, audit.certified_wh, audit.held_wh) == (
        3_414_501, 3_414_501, 3_000_000, 414_501)
    assert (audit.certificates, audit.retired, audit.windows_checked) == (3, 1, 7)
    # An auditor counts the same from the blocks; a certificate too many, and claims from nowhere, are named.
    tally, parent = Tally(chain.genesis), chain.genesis.view()
    for transactions, result in zip(chain.transactions, chain.results, strict=True):
        tally.block(parent, transactions, result)
        parent = result.state
    found: list[tuple[object, ...]] = []
    sums = tally.finish(chain.head, lambda *finding: found.append(finding))
    assert found == []
    assert (sums.certificates, sums.retired, sums.certified_wh, sums.metered_wh) == (3, 1, 3_000_000, 3_414_501)
    tally.certificates = 4
    tally.finish(chain.head, lambda *finding: found.append(finding))
    planted = StateView(chain.head, chain.head.header, {spaces.holding(buyer.public, PARK): Holding(5, 1, 1).encode()})
    tally.finish(planted, lambda *finding: found.append(finding))
    assert [where for _, where, _ in found] == ["certificates", "certificates"]
    assert "blocks add up to 4" in str(found[0]) and "held and certified" in str(found[1])
