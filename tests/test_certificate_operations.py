"""Certificates by operations: their life, each refusal, and what a block may never do to them."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from certificate_support import CREDITS, EMISSIONS, GRID, MWH, W, carbon, claimed_chain, plant
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_support import FEE, ISSUER, REGISTRAR, THB, Chain, genesis, key
from model_certificates import Model

from gridtokenx._native.state import Changes
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.errors import InvariantError
from gridtokenx.grid import thailand
from gridtokenx.grid.kinds import Source
from gridtokenx.ledger import certificate_queries as queries
from gridtokenx.ledger import spaces
from gridtokenx.ledger.certificate_conservation import audit_certificates
from gridtokenx.ledger.certificate_records import (
    Bundles,
    Carbon,
    Certificate,
    Claim,
    Holding,
    MeterClaims,
    Registry,
)
from gridtokenx.ledger.conservation import check_changes
from gridtokenx.ledger.genesis import GenesisError, decode_genesis, dump_genesis, load_genesis, parse_genesis
from gridtokenx.ledger.metering_records import Lot, Quality, Reading, Settlement
from gridtokenx.ledger.operations import (
    BuyCertificate,
    IssueCertificates,
    OfferCertificate,
    Operation,
    PublishCarbon,
    RetireCertificate,
    TransferCertificate,
)
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.schema import VALUES
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.transaction import FLAG_ALL_OR_NOTHING
from gridtokenx.units import bangkok_s
from testnet.layout import FOLDER

A, B, C = key("house 0"), key("house 1"), key("house 2")


def codes(chain: Chain, sender: PrivateKey, *operations: Operation | list[Any], **options: Any) -> list[Code]:
    return [outcome.code for outcome in chain.do(sender, *operations, **options)]


def certificate(chain: Chain, serial: int) -> Certificate:
    return Certificate.decode(chain.head.get(spaces.certificate(serial)) or b"")


# ---------------------------------------------------------------- the life of a certificate


def test_a_whole_life() -> None:
    chain = claimed_chain()
    [issued] = chain.do(A, IssueCertificates(1, 2))
    assert (issued.code, issued.data) == (Code.OK, (1, 2))
    first = certificate(chain, 1)
    assert (first.meter, first.owner, first.source, first.first_window, first.last_window) == (
        1, A.public, Source.SOLAR, W, W + 2)
    assert (first.avoided_g, first.credit_g) == (474_999, 499_999)       # floored per certificate
    assert (certificate(chain, 2).avoided_g, certificate(chain, 2).credit_g) == (475_000, 500_000)

    assert codes(chain, A, OfferCertificate(1, 900 * THB), OfferCertificate(2, 30 * THB, B.public)) == [Code.OK] * 2
    assert [offer["certificate"] for offer in queries.offers(chain.head, None, 10)] == [2, 1]
    before = chain.account(A), chain.account(B)
    assert codes(chain, B, BuyCertificate(2, 30 * THB)) == [Code.OK]
    assert chain.account(A).balance == before[0].balance + 30 * THB
    assert chain.account(B).balance == before[1].balance - 30 * THB - FEE
    assert certificate(chain, 2).owner == B.public
    assert queries.certificates(chain.head, B.public, 0, 10)[0]["certificate"] == 2

    assert codes(chain, B, TransferCertificate(2, C.public)) == [Code.OK]
    assert codes(chain, C, RetireCertificate(2, "Chiang Mai University", "campus electricity 2026")) == [Code.OK]
    retired = certificate(chain, 2)
    assert (retired.owner, retired.beneficiary, retired.purpose) == (
        C.public, "Chiang Mai University", "campus electricity 2026")
    assert retired.retired_ms == chain.now_ms
    audit = audit_certificates(chain.head)
    assert (audit.certificates, audit.retired, audit.held_wh, audit.certified_wh) == (2, 1, 1_400_000, 2 * MWH)
    assert queries.certificate(chain.head, 2)["status"] == "retired"
    assert queries.claims(chain.head, A.public) == [
        {"meter": 1, "source": Source.SOLAR, "held_wh": 1_400_000, "ready": 1, "first_window": W + 3,
         "last_window": W + 3}]


def test_bundled_once() -> None:
    """The claims that made a certificate are gone; what does not make 1 MWh stays."""
    chain = claimed_chain()
    assert codes(chain, A, IssueCertificates(1, 4)) == [Code.TOO_FEW_CLAIMS]
    assert codes(chain, A, IssueCertificates(1, 3), IssueCertificates(1, 1)) == [Code.OK, Code.TOO_FEW_CLAIMS]
    assert codes(chain, A, IssueCertificates(1, 1)) == [Code.TOO_FEW_CLAIMS]
    assert [certificate(chain, serial).first_window for serial in (1, 2, 3)] == [W, W + 3, W + 3]
    assert audit_certificates(chain.head).held_wh == 400_000


def test_claims_of_another_are_nobodys_else() -> None:
    chain = claimed_chain()
    assert codes(chain, B, IssueCertificates(1, 1), IssueCertificates(9, 1)) == [Code.TOO_FEW_CLAIMS] * 2


def test_retired_once_and_for_good() -> None:
    chain = claimed_chain()
    retire = RetireCertificate(1, "me", "my house")
    assert codes(chain, A, IssueCertificates(1, 1), OfferCertificate(1, THB), retire, retire,
                 TransferCertificate(1, B.public), OfferCertificate(1, THB)) == [
        Code.OK, Code.OK, Code.OK] + [Code.CERTIFICATE_RETIRED] * 3
    assert codes(chain, B, BuyCertificate(1, THB), retire) == [Code.CERTIFICATE_RETIRED] * 2
    assert queries.offers(chain.head, None, 10) == []


def test_refusals() -> None:
    chain = claimed_chain()
    chain.do(A, IssueCertificates(1, 2), OfferCertificate(1, 5 * THB, B.public))
    assert codes(chain, B, TransferCertificate(1, B.public), OfferCertificate(1, 1), RetireCertificate(1, "x", "y"),
                 BuyCertificate(7, 1), BuyCertificate(2, 1), BuyCertificate(1, 4 * THB)) == [
        Code.NOT_CERTIFICATE_OWNER] * 3 + [Code.UNKNOWN_CERTIFICATE, Code.NOT_OFFERED, Code.PRICE_CHANGED]
    assert codes(chain, C, BuyCertificate(1, 5 * THB)) == [Code.NOT_OFFERED]
    assert codes(chain, A, BuyCertificate(1, 5 * THB), OfferCertificate(1, 1, A.public)) == [Code.OWN_CERTIFICATE] * 2
    assert codes(chain, A, OfferCertificate(1, 0)) == [Code.OK]         # taken back
    assert codes(chain, B, BuyCertificate(1, 5 * THB)) == [Code.NOT_OFFERED]
    assert codes(chain, A, [50, 1, 0], [50, 1, 65], [51, 1, b"short"], [52, 1, 1, b"short"], [53, 1, 0],
                 [54, 1, "", "y"], [54, 1, "x", "y" * 129], [50, 1]) == [
        Code.OUT_OF_RANGE, Code.OUT_OF_RANGE, Code.BAD_FIELDS, Code.BAD_FIELDS, Code.OUT_OF_RANGE, Code.BAD_FIELDS,
        Code.BAD_FIELDS, Code.BAD_FIELDS]


def test_a_sale_is_whole_or_not_at_all() -> None:
    chain = claimed_chain()
    chain.do(A, IssueCertificates(1, 1), OfferCertificate(1, 10_000 * THB))
    assert codes(chain, B, BuyCertificate(1, 10_000 * THB)) == [Code.UNFUNDED]
    assert certificate(chain, 1).owner == A.public
    chain.do(A, OfferCertificate(1, 2 * THB))
    # Bought and retired together: the second cannot fail without the first.
    assert codes(chain, B, BuyCertificate(1, 2 * THB), RetireCertificate(2, "x", "y"),
                 flags=FLAG_ALL_OR_NOTHING) == [Code.NOT_APPLIED, Code.UNKNOWN_CERTIFICATE]
    assert codes(chain, B, BuyCertificate(1, 2 * THB), RetireCertificate(1, "x", "y"),
                 flags=FLAG_ALL_OR_NOTHING) == [Code.OK] * 2


def test_two_buyers_in_a_block() -> None:
    chain = claimed_chain()
    chain.do(A, IssueCertificates(1, 1), OfferCertificate(1, THB))
    both = [chain.send(who, BuyCertificate(1, THB)) for who in (B, C)]
    chain.block()
    assert sorted(outcome.code for outcome in chain.outcomes(*both)) == [Code.OK, Code.NOT_OFFERED]


# ---------------------------------------------------------------- any order of operations

STEPS = st.tuples(st.sampled_from(["issue", "transfer", "offer", "buy", "retire"]), st.integers(0, 2),
                  st.integers(1, 4), st.sampled_from([0, THB, 2 * THB, 900 * THB]), st.integers(0, 3))


@settings(max_examples=25, deadline=None)
@given(st.lists(STEPS, min_size=6, max_size=14))
def test_any_order_of_operations_is_the_models(steps: list[tuple[str, int, int, int, int]]) -> None:
    """Who owns what, what it is for and every code, as the plain model says; the whole state adds up after each."""
    chain, names = claimed_chain(), [A, B, C]
    factors = {source: (GRID - EMISSIONS[source], CREDITS[source]) for source in range(1, 6)}
    model = Model(0, {0: factors}, {1: 1}, {1: "0"}, {("0", 1): [
        (W, 300_000), (W + 1, 300_000), (W + 2, 400_000), (W + 3, 2_400_000)]})
    for name, who, number, price, other in steps:
        sender, to = names[who], names[other % 3]
        free = chain.account(sender).balance - FEE
        operation: Operation
        if name == "issue":
            operation, code = IssueCertificates(1, number % 3 + 1), model.issue(str(who), 1, number % 3 + 1)
        elif name == "transfer":
            operation, code = TransferCertificate(number, to.public), model.transfer(str(who), number, str(other % 3))
        elif name == "offer":
            buyer = "" if other == 3 else str(other)
            operation = OfferCertificate(number, price, names[other].public if buyer else b"")
            code = model.offer(str(who), number, price, buyer)
        elif name == "buy":
            wanted = price or THB
            operation, code = BuyCertificate(number, wanted), model.buy(str(who), number, wanted, free)
        else:
            operation = RetireCertificate(number, f"use {who}", "its year")
            code = model.retire(str(who), number, f"use {who}", "its year")
        assert codes(chain, sender, operation) == [code], (name, who, number, price, other)
        assert audit_certificates(chain.head).certificates == len(model.papers)
    for serial, paper in enumerate(model.papers, 1):
        found = certificate(chain, serial)
        assert found.owner == names[int(paper.owner)].public
        assert found.price_uthb == paper.price
        assert found.buyer == (names[int(paper.buyer)].public if paper.buyer else b"")
        assert ((found.beneficiary, found.purpose) if found.retired_ms else None) == paper.retired
        assert (found.first_window, found.last_window) == (paper.windows[0][0], paper.windows[-1][0])


# ---------------------------------------------------------------- carbon


def test_factors_hold_from_a_window_that_has_not_delivered() -> None:
    chain = Chain(evolve(genesis(), roles=evolve(genesis().roles, regulators=(REGISTRAR.public,)), carbon=carbon(W)))
    ahead = chain.now_ms // 900_000 + 4
    new = PublishCarbon(ahead, 400_000, EMISSIONS, CREDITS)
    assert codes(chain, ISSUER, new) == [Code.NOT_ALLOWED]
    assert codes(chain, REGISTRAR, evolve(new, window=ahead - 4), new, evolve(new, window=ahead + 9),
                 evolve(new, grid_ug_wh=390_000), [55, ahead, 1, [0], [0]]) == [
        Code.VERSION_TOO_LATE, Code.OK, Code.OK, Code.OK, Code.BAD_FIELDS]
    found = Carbon.decode(chain.head.get(spaces.CARBON) or b"")
    assert [version[0] for version in found.versions] == [W, ahead]      # what was announced later is replaced
    assert found.at(ahead - 1, Source.SOLAR) == (475_000, 500_000)
    assert found.at(ahead, Source.BIOMASS) == (390_000 - 18_000, 300_000)
    assert found.at(ahead, Source.THERMAL) == (0, 0)                     # never below nothing
    assert found.at(W - 1, Source.SOLAR) == (0, 0)
    assert queries.carbon(chain.head)[1]["grid_ug_wh"] == 390_000


def test_genesis_states_factors() -> None:
    """The testnet's are the Thai defaults; what a file says reads back the same; mistakes are named."""
    built = load_genesis(FOLDER / "genesis.toml")
    again = parse_genesis(dump_genesis(built))
    assert again.carbon == built.carbon == decode_genesis(built.canonical()).carbon
    assert again.chain_id == built.chain_id
    credits = tuple(thailand.CARBON_CREDIT_UG_WH.get(source.name.lower(), 0) for source in Source)
    assert built.carbon.versions == tuple(
        (bangkok_s(entry.year, 1, 1, 0, 0) // 900, entry.grid_ug_wh, (0,) * len(Source), credits)
        for entry in thailand.CARBON)
    text = (FOLDER / "genesis.toml").read_text()
    for wrong, old, new in (
            ("quarter hour", "from = 2026-01-01T00:00:00", "from = 2026-01-01T00:01:00"),
            ("follow each other", "from = 2026-01-01T00:00:00", "from = 2021-01-01T00:00:00"),
            ("solr is unknown", "credit_ug_wh = { solar", "credit_ug_wh = { solr"),
            ("grid_ug_wh", "grid_ug_wh = 475_000", "grid_ug_wh = -1")):
        with pytest.raises(GenesisError, match=wrong):
            parse_genesis(text.replace(old, new))


# ---------------------------------------------------------------- what no block may do


def broken(chain: Chain, *puts: tuple[bytes, Any]) -> str:
    """What the checker says about a block that writes these records."""
    session = Session(chain.head, chain.head.header.height + 1)
    for place, record in puts:
        session.put(place, record)
    with pytest.raises(InvariantError) as refused:
        check_changes(session, session.changed())
    return str(refused.value)


def test_a_block_cannot_create_claims_or_certificates() -> None:
    chain = claimed_chain()
    chain.do(A, IssueCertificates(1, 1))
    one = certificate(chain, 1)
    held = Holding.decode(chain.head.get(spaces.holding(A.public, 1)) or b"")
    claims = MeterClaims.decode(chain.head.get(spaces.meter_claims(1)) or b"")
    assert "held in claims and certificates" in broken(
        chain, (spaces.holding(A.public, 1), evolve(held, open_wh=held.open_wh + 1)))
    assert "held in claims and certificates" in broken(
        chain, (spaces.certificate(2), one), (spaces.certificates_of(A.public, 2), spaces.PRESENT),
        (spaces.REGISTRY, Registry(2, 0)), (spaces.meter_claims(1), evolve(claims, certified_wh=2 * MWH)))
    assert "certificates issued" in broken(chain, (spaces.REGISTRY, Registry(2, 0)), (spaces.holding(B.public, 1),
                                                                                     Holding()))
    assert "certificates in their owners' lists" in broken(
        chain, (spaces.certificates_of(A.public, 1), None))
    assert "bundles" in broken(chain, (spaces.bundles(A.public, 1, 9), Bundles(1, W, W, 0, 0)))
    assert "is impossible" in broken(chain, (spaces.meter_claims(1), evolve(claims, claimed_wh=3_600_000)),
                                     (spaces.holding(A.public, 1), evolve(held, open_wh=600_000)))
    assert "cannot change" in broken(chain, (spaces.certificate(1), evolve(one, avoided_g=one.avoided_g + 1)))
    assert "cannot change" in broken(chain, (spaces.certificate(1), None))


def test_a_block_cannot_retire_twice() -> None:
    chain = claimed_chain()
    chain.do(A, IssueCertificates(1, 2), RetireCertificate(1, "x", "y"))
    gone, kept = certificate(chain, 1), certificate(chain, 2)
    assert "cannot change" in broken(chain, (spaces.certificate(1), evolve(gone, beneficiary="another")))
    assert "cannot change" in broken(chain, (spaces.certificate(1), evolve(gone, retired_ms=0)))
    assert "retired" in broken(chain, (spaces.certificate(2), evolve(kept, retired_ms=5)))


def test_a_block_cannot_claim_more_than_the_meter_says() -> None:
    chain = claimed_chain()
    plant(chain, {spaces.reading(W + 9, 2): Reading(700, 100, Quality.MEASURED, 0, 1),
                  spaces.lot(W + 9, 2): Lot(0, Source.SOLAR, 700, 0)})

    def claiming(claim: Claim, lot: int) -> str:
        issued = claim.issued_wh
        return broken(chain, (spaces.claim(W + 9, 2), claim), (spaces.holding(B.public, 2), Holding(issued, W, W)),
                      (spaces.meter_claims(2), MeterClaims(claim.net_wh, issued)),
                      (spaces.lot(W + 9, 2), Lot(0, Source.SOLAR, 700, 0, lot)))

    good = Claim(Source.SOLAR, Quality.MEASURED, 700, 100, 0, 600, 0)
    assert "the meter allows 600" in claiming(evolve(good, kept_wh=601), 601)
    assert "another reading" in claiming(evolve(good, injected_wh=800, kept_wh=700), 700)
    assert "the meter allows 0" in claiming(evolve(good, quality=Quality.ESTIMATED), 600)
    assert "the lot gave 599" in claiming(good, 599)
    plant(chain, {spaces.claim(W + 9, 2): good, spaces.holding(B.public, 2): Holding(600, W, W),
                  spaces.meter_claims(2): MeterClaims(600, 600)})
    assert "were issued already" in claiming(evolve(good, kept_wh=599), 599)
    assert audit_certificates(chain.head).windows_checked == 1


def test_the_audit_names_what_is_wrong() -> None:
    chain = claimed_chain()
    chain.do(A, IssueCertificates(1, 2), OfferCertificate(2, THB))
    one = certificate(chain, 1)
    claims = MeterClaims.decode(chain.head.get(spaces.meter_claims(1)) or b"")
    claim = Claim(Source.SOLAR, Quality.MEASURED, 700, 100, 0, 601, 0)
    bill = Settlement(A.public, 0, 699, 100, 0, 0, 0, 0, 0, 0, ())
    for wrong, records in (
            ("the registry says", {spaces.REGISTRY: Registry(3, 0)}),
            ("there is no certificate 1", {spaces.certificate(1): None}),
            ("not in its owner's list", {spaces.certificate(1): evolve(one, owner=B.public)}),
            ("not in the list of offers", {spaces.certificate(1): evolve(one, price_uthb=5)}),
            ("in that of offers", {spaces.certificate_offer(1, 5, 9): spaces.PRESENT}),
            ("never claimed", {spaces.holding(B.public, 2): Holding(5, W, W)}),
            ("held and certified", {spaces.meter_claims(1): evolve(claims, claimed_wh=3_400_001)}),
            ("held and certified", {spaces.meter_claims(1): evolve(claims, metered_wh=3_399_999)}),
            ("not what its bundles say", {spaces.bundles(A.public, 1, 1): None}),
            ("of no holding", {spaces.bundles(B.public, 1, 1): Bundles(1, W, W, 0, 0)}),
            ("are impossible", {spaces.bundles(A.public, 1, 1): Bundles(1, W, W - 1, 0, 0)}),
            ("the meter allows 600", {spaces.claim(W, 1): claim}),
            ("settled with 699", {spaces.claim(W, 1): claim, spaces.settlement(W, 1): bill})):
        head = chain.head
        plant(chain, records)
        with pytest.raises(InvariantError, match=wrong):
            audit_certificates(chain.head)
        chain.head = head
    audit_certificates(chain.head)


def test_more_than_64_bits_of_claims_are_named() -> None:
    place = spaces.meter_claims(1)
    session = Session(genesis().view(), 1)
    with pytest.raises(InvariantError, match="certificates: 1180591620717411303424 needs more than 64 bits"):
        check_changes(session, Changes(VALUES, [(place, None, MeterClaims(1 << 70, 0, 0, 0))]))
