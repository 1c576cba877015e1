"""MARKET 8 in plain Python, for reading: claims are a list, a certificate takes the first 10^6 Wh of it.

Written from the rule book, apart from the ledger: it shares only names of codes.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor

from attrs import define, field

from gridtokenx.ledger.receipts import Code

MWH = 1_000_000
RENEWABLE = {1, 2, 3, 4, 5}         # solar, wind, hydro, biomass, geothermal


def pro_rata(available: int, trades: list[tuple[int, int, int]]) -> dict[int, int]:
    """Wh for each trade (number, q_in, q): exact shares, those above q cut to it and shared again, then whole Wh."""
    if available >= sum(q for _, _, q in trades):
        return {number: q for number, _, q in trades}
    fixed: dict[int, int] = {}
    while True:
        others = [trade for trade in trades if trade[0] not in fixed]
        left = available - sum(fixed.values())
        weight = sum(q_in for _, q_in, _ in others)
        exact = {number: Fraction(left * q_in, weight) for number, q_in, _ in others}
        above = {number: q for number, _, q in others if exact[number] >= q}
        if not above:
            break
        fixed |= above
    whole = {number: floor(share) for number, share in exact.items()}
    for _ in range(left - sum(whole.values())):
        number = min(exact, key=lambda n: (whole[n] - exact[n], n))
        whole[number] += 1
        exact[number] = Fraction(whole[number])      # had its extra Wh
    return fixed | whole


@define
class Paper:
    meter: int
    owner: str
    windows: list[tuple[int, int]]          # window, Wh
    avoided_g: int
    credit_g: int
    price: int = 0
    buyer: str = ""
    retired: tuple[str, str] | None = None


@define
class Model:
    rate: int
    factors: dict[int, dict[int, tuple[int, int]]]      # first window -> source -> (avoided, credit) in ug per Wh
    sources: dict[int, int]                             # meter -> source
    owners: dict[int, str]
    claims: dict[tuple[str, int], list[tuple[int, int]]] = field(factory=dict)      # window, Wh
    papers: list[Paper] = field(factory=list)
    money: dict[str, int] = field(factory=dict)
    metered: dict[int, int] = field(factory=dict)

    def close(self, window: int, readings: dict[int, tuple[int, int, bool]],
              asked: list[tuple[int, int, int, int, int]]) -> dict[int, tuple[int, int, int]]:
        """Ends a window's corrections. Readings by meter: injected, withdrawn, estimated. Asked: number, selling meter,
        buying meter, q_in, q. Gives (to buyers, kept, missed) by meter."""
        done = {}
        for meter in sorted(self.sources):
            if self.sources[meter] not in RENEWABLE:
                continue
            injected, withdrawn, estimated = readings.get(meter, (0, 0, True))
            net = max(0, injected - withdrawn)
            usable = 0 if estimated else net
            mine = [(number, q_in, q) for number, seller, _, q_in, q in asked if seller == meter]
            shares = pro_rata(usable, mine)
            missed = 0
            for number, seller, buying, _, q in asked:
                if seller != meter:
                    continue
                self._give(self.owners[buying], meter, window, shares[number])
                missed += q - shares[number]
                default = floor(Fraction((q - shares[number]) * self.rate, 1000) + Fraction(1, 2))
                self._pay(self.owners[meter], self.owners[buying], default)
            kept = usable - sum(shares.values())
            self._give(self.owners[meter], meter, window, kept)
            self.metered[meter] = self.metered.get(meter, 0) + net
            done[meter] = (sum(shares.values()), kept, missed)
        return done

    def _give(self, owner: str, meter: int, window: int, energy: int) -> None:
        if energy:
            self.claims.setdefault((owner, meter), []).append((window, energy))

    def _pay(self, payer: str, receiver: str, amount: int) -> None:
        self.money[payer] = self.money.get(payer, 0) - amount
        self.money[receiver] = self.money.get(receiver, 0) + amount

    # ------------------------------------------------------------ certificates

    def issue(self, owner: str, meter: int, count: int) -> Code:
        held = self.claims.get((owner, meter), [])
        if sum(energy for _, energy in held) < count * MWH:
            return Code.TOO_FEW_CLAIMS
        for _ in range(count):
            windows: list[tuple[int, int]] = []
            need = MWH
            while need:
                window, energy = held.pop(0)
                if energy > need:
                    held.insert(0, (window, energy - need))
                    energy = need
                windows.append((window, energy))
                need -= energy
            carbon = [(energy, self._factor(window, self.sources[meter])) for window, energy in windows]
            self.papers.append(Paper(meter, owner, windows, sum(e * f[0] for e, f in carbon) // MWH,
                                     sum(e * f[1] for e, f in carbon) // MWH))
        return Code.OK

    def _factor(self, window: int, source: int) -> tuple[int, int]:
        first = max((start for start in self.factors if start <= window), default=None)
        return (0, 0) if first is None else self.factors[first][source]

    def _own(self, who: str, serial: int) -> Code:
        if not 1 <= serial <= len(self.papers):
            return Code.UNKNOWN_CERTIFICATE
        paper = self.papers[serial - 1]
        if paper.retired:
            return Code.CERTIFICATE_RETIRED
        return Code.OK if paper.owner == who else Code.NOT_CERTIFICATE_OWNER

    def transfer(self, who: str, serial: int, to: str) -> Code:
        code = self._own(who, serial)
        if code is Code.OK:
            self.papers[serial - 1].owner = to
            self.papers[serial - 1].price, self.papers[serial - 1].buyer = 0, ""
        return code

    def offer(self, who: str, serial: int, price: int, buyer: str) -> Code:
        if buyer == who:
            return Code.OWN_CERTIFICATE
        code = self._own(who, serial)
        if code is Code.OK:
            self.papers[serial - 1].price = price
            self.papers[serial - 1].buyer = buyer if price else ""
        return code

    def buy(self, who: str, serial: int, price: int, free: int) -> Code:
        code = self._own(who, serial)
        if code is Code.OK:
            return Code.OWN_CERTIFICATE
        if code is not Code.NOT_CERTIFICATE_OWNER:
            return code
        paper = self.papers[serial - 1]
        if not paper.price or paper.buyer not in ("", who):
            return Code.NOT_OFFERED
        if paper.price != price:
            return Code.PRICE_CHANGED
        if free < price:
            return Code.UNFUNDED
        self._pay(who, paper.owner, price)
        paper.owner, paper.price, paper.buyer = who, 0, ""
        return Code.OK

    def retire(self, who: str, serial: int, beneficiary: str, purpose: str) -> Code:
        code = self._own(who, serial)
        if code is Code.OK:
            paper = self.papers[serial - 1]
            paper.retired = (beneficiary, purpose)
            paper.price, paper.buyer = 0, ""
        return code
