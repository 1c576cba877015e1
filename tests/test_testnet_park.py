"""The testnet's solar park: its meter, and what becomes of its claims."""

from __future__ import annotations

from typing import Any

import trio
from attrs import define, field

from gridtokenx.ledger.genesis import load_genesis
from gridtokenx.ledger.operations import BuyCertificate, IssueCertificates, OfferCertificate, RetireCertificate
from testnet.households import load_households
from testnet.layout import FOLDER
from testnet.park import PARK_W, PRICE_UTHB, PURPOSE, ZONE, Certificates, park_of
from testnet.trading import RENEWABLE_PROFILE


def test_the_park_is_a_meter_among_the_others() -> None:
    homes = load_households(40)
    park = park_of(homes)
    assert park.index == 40
    assert park.load_wh.sum() == 0
    assert PARK_W // 4 * 8 // 10 < park.pv_wh.max() <= PARK_W // 4
    assert park.pv_wh.min() == 0
    assert park.pv_wh.shape == homes[0].pv_wh.shape


def test_genesis_has_its_zone_and_the_filter_for_renewable_energy() -> None:
    genesis = load_genesis(FOLDER / "genesis.toml")
    assert ZONE in {zone.name for zone in genesis.zones}
    assert genesis.profiles[RENEWABLE_PROFILE].name == "renewable"


@define
class Sent:
    ok: bool = True
    signed: Any = None

    def __attrs_post_init__(self) -> None:
        self.signed = self

    id: bytes = b""


@define
class Link:
    ready: int
    offered: list[dict[str, int]] = field(factory=list)

    async def call(self, method: str, *parameters: Any) -> Any:
        if method == "claims":
            return [{"meter": 7, "ready": self.ready}, {"meter": 8, "ready": 9}]
        if method == "certificate_offers":
            return self.offered[:parameters[1]]
        assert method == "transaction"
        return {"receipts": [[0, [31, self.ready]]]}


@define
class Agent:
    link: Link
    done: list[Any] = field(factory=list)

    @property
    def key(self) -> Any:
        return self

    public: bytes = b"\x01" * 32

    async def do(self, operations: list[Any]) -> Sent:
        self.done.append(operations)
        return Sent()


async def test_what_is_ready_is_issued_and_offered_and_households_take_turns() -> None:
    link = Link(2, [{"certificate": 31, "price_uthb": PRICE_UTHB}])
    owner, buyers = Agent(link), [Agent(link), Agent(link)]
    park = Certificates(owner, 7, buyers)       # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(park.run, 0.0)
        while park.turn < 3:
            await trio.sleep(0)
        nursery.cancel_scope.cancel()
    assert owner.done[:2] == [[IssueCertificates(7, 2)],
                              [OfferCertificate(31, PRICE_UTHB), OfferCertificate(32, PRICE_UTHB)]]
    assert buyers[0].done[0] == [BuyCertificate(31, PRICE_UTHB), RetireCertificate(31, "household 0", PURPOSE)]
    assert buyers[1].done[0] == [BuyCertificate(31, PRICE_UTHB), RetireCertificate(31, "household 1", PURPOSE)]


async def test_nothing_ready_and_nothing_for_sale_sends_nothing() -> None:
    link = Link(0)
    owner, buyer = Agent(link), Agent(link)
    with trio.move_on_after(0.05):
        await Certificates(owner, 7, [buyer]).run(0.0)     # type: ignore[arg-type, list-item]
    assert owner.done == buyer.done == []
