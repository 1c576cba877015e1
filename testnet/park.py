"""A solar park: one meter big enough that certificates are seen in a minute. It sells its energy to the utility, and
its certificates to households, which retire them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import trio
from attrs import define

from gridtokenx.grid.kinds import Source
from gridtokenx.ledger.operations import BuyCertificate, IssueCertificates, OfferCertificate, RetireCertificate
from gridtokenx.units import UTHB_PER_THB
from testnet.agents import Agent
from testnet.households import Household

PARK_W = 12_000_000
SHARE_OF_PEAK = 9, 10       # what the best quarter hour of the households' sun makes of its power [P]
ZONE = "Northeast"
PRICE_UTHB = 150 * UTHB_PER_THB     # 0.15 THB/kWh [P]
MOST_ISSUED = 16            # certificates at a time
PURPOSE = "electricity of April 2025"


def park_of(households: Sequence[Household]) -> Household:
    """The park as a meter among the others: the sun of all households on `PARK_W`, no load."""
    sun = np.zeros_like(households[0].pv_wh)
    for household in households:
        sun += household.pv_wh
    best = PARK_W // 4 * SHARE_OF_PEAK[0] // SHARE_OF_PEAK[1]
    made = sun * best // max(1, int(sun.max()))
    return Household(len(households), ZONE, PARK_W, PARK_W, 100_000, np.zeros_like(made), made)


@define(eq=False)
class Certificates:
    """Issues what the park's claims allow, offers it, and lets one household after the other buy and retire one."""

    owner: Agent
    meter: int
    buyers: Sequence[Agent]
    turn: int = 0

    async def run(self, pause_s: float) -> None:
        while True:
            await trio.sleep(pause_s)
            await self._issue()
            await self._sell()

    async def _issue(self) -> None:
        claims: Any = await self.owner.link.call("claims", self.owner.key.public)
        ready = sum(row["ready"] for row in claims if row["meter"] == self.meter)
        if not ready:
            return
        sent = await self.owner.do([IssueCertificates(self.meter, min(ready, MOST_ISSUED))])
        if sent.ok:
            state: Any = await self.owner.link.call("transaction", sent.signed.id)
            first, count = state["receipts"][0][1]
            await self.owner.do([OfferCertificate(serial, PRICE_UTHB) for serial in range(first, first + count)])

    async def _sell(self) -> None:
        offers: Any = await self.owner.link.call("certificate_offers", int(Source.SOLAR), 1)
        for offer in offers:
            number = self.turn % len(self.buyers)
            self.turn += 1
            await self.buyers[number].do([
                BuyCertificate(offer["certificate"], offer["price_uthb"]),
                RetireCertificate(offer["certificate"], f"household {number}", PURPOSE)])
