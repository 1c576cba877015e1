"""Claims of an account on the energy of a meter, gathered into bundles of 1 MWh (MARKET 8).

Claims arrive in the order of their windows and leave in the same order. A bundle ends within the claim that fills it;
what is over begins the next. However large a claim is, it makes at most one bundle that was begun before, one run of
equal bundles, and one new beginning: three records at most change.
"""

from __future__ import annotations

from attrs import evolve

from gridtokenx.ledger import spaces
from gridtokenx.ledger.certificate_records import CERTIFICATE_WH, Bundles, Holding
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.session import Session


def gather(holding: Holding, window: int, energy_wh: int, avoided_ug_wh: int,
           credit_ug_wh: int) -> tuple[Holding, list[Bundles]]:
    """The holding with a claim added, and the runs of bundles that became full, to be stored from its old `tail` on."""
    h = holding
    runs: list[Bundles] = []
    opened, first, last, avoided, credit = (
        h.open_wh, h.first_window, h.last_window, h.open_avoided_ug, h.open_credit_ug)
    left = energy_wh
    if opened:
        part = min(left, CERTIFICATE_WH - opened)
        opened, left = opened + part, left - part
        first, last = min(first, window), max(last, window)
        avoided, credit = avoided + part * avoided_ug_wh, credit + part * credit_ug_wh
        if opened == CERTIFICATE_WH:
            runs.append(Bundles(1, first, last, avoided, credit))
            opened = first = last = avoided = credit = 0
    whole, left = divmod(left, CERTIFICATE_WH)
    if whole:
        runs.append(Bundles(whole, window, window, CERTIFICATE_WH * avoided_ug_wh, CERTIFICATE_WH * credit_ug_wh))
    if left:
        opened, first, last, avoided, credit = left, window, window, left * avoided_ug_wh, left * credit_ug_wh
    return Holding(opened, first, last, avoided, credit, h.head, h.tail + len(runs),
                   h.ready + sum(run.count for run in runs)), runs


def add_claim(session: Session, owner: bytes, meter: int, window: int, energy_wh: int, avoided_ug_wh: int,
              credit_ug_wh: int) -> None:
    """Gives `owner` a claim of `energy_wh` (above zero) of the meter's window."""
    place = spaces.holding(owner, meter)
    before: Holding = session.get(place) or Holding()
    after, runs = gather(before, window, energy_wh, avoided_ug_wh, credit_ug_wh)
    for number, run in enumerate(runs, before.tail):
        session.put(spaces.bundles(owner, meter, number), run)
    session.put(place, after)


def take_bundles(session: Session, owner: bytes, meter: int, count: int) -> list[Bundles]:
    """Takes the `count` oldest bundles out of the holding, as runs. Raises Failed(TOO_FEW_CLAIMS)."""
    place = spaces.holding(owner, meter)
    holding: Holding = session.get(place) or Holding()
    if holding.ready < count:
        raise Failed(Code.TOO_FEW_CLAIMS, f"the account holds {holding.total_wh} Wh of claims on meter {meter}, which "
                                          f"make {holding.ready} certificates, not {count}")
    head, left = holding.head, count
    taken = []
    while left:
        run: Bundles = session.get(spaces.bundles(owner, meter, head))
        some = min(left, run.count)
        taken.append(evolve(run, count=some))
        left -= some
        if some == run.count:
            session.put(spaces.bundles(owner, meter, head), None)
            head += 1
        else:
            session.put(spaces.bundles(owner, meter, head), evolve(run, count=run.count - some))
    after = evolve(holding, head=head, ready=holding.ready - count)
    session.put(place, after if after.total_wh else None)
    return taken
