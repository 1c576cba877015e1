"""Energy that is not there: each attempt is refused with its code, flagged, or stopped by the conservation check.

What no operation can do is put into a block's changes by hand here; the check must name it. `docs/settlement.md` 10
lists one test for each attempt; all refusals of readings are in test_ledger_readings.py, and how flags rise and fall in
test_ledger_settlement.py.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from attrs import evolve
from ledger_support import FEE, TAX, Chain, key, trading_chain

from gridtokenx.errors import InvariantError
from gridtokenx.ledger import funds, spaces
from gridtokenx.ledger.conservation import check_changes
from gridtokenx.ledger.metering_records import Due, Lot, Reading
from gridtokenx.ledger.operations import PlaceOrder, ReportReadings, SignedReport
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.deadlines import deadline_ms
from gridtokenx.market.orders import BUY, SELL

H = [key(f"house {number}") for number in range(4)]


def settled_chain() -> tuple[Chain, int]:
    chain = trading_chain(2)
    window = chain.window
    chain.do(H[0], PlaceOrder(1, window, SELL, 4500, 1000))
    chain.do(H[1], PlaceOrder(2, window, BUY, 5000, 800))
    chain.settle(window, {1: (700, 300), 2: (50, 1_200)})
    return chain, window


def test_energy_cannot_be_sold_twice() -> None:
    chain = trading_chain(2, injection_w=4_000)
    sold = PlaceOrder(1, chain.window, SELL, 4500, 800)
    assert [o.code for o in chain.do(H[0], sold)] == [Code.OK]
    chain.do(H[1], PlaceOrder(2, chain.window, BUY, 5000, 700))
    assert [o.code for o in chain.do(H[0], sold)] == [Code.NO_CAPACITY]


def report(chain: Chain, *readings: SignedReport) -> Code:
    [outcome] = chain.do(H[0], ReportReadings(readings))
    return outcome.code


def waiting_chain() -> tuple[Chain, int]:
    """A window that has ended and waits for readings; meters can do 10 000 Wh each way."""
    chain = trading_chain(2)
    window = chain.settling.window
    chain.until((window + 1) * WINDOW_MS)
    return chain, window


def test_a_reading_above_capacity_is_refused() -> None:
    chain, window = waiting_chain()
    assert report(chain, chain.signed(1, window, 10_001, 0)) is Code.ABOVE_CAPACITY
    assert report(chain, chain.signed(1, window, 0, 10_001)) is Code.ABOVE_CAPACITY
    assert chain.head.get(spaces.reading(window, 1)) is None


def test_a_forged_meter_is_refused() -> None:
    chain, window = waiting_chain()
    assert report(chain, chain.signed(1, window, 700, 0, signer=key("meter 1"))) is Code.BAD_READING_SIGNATURE
    raised = evolve(chain.signed(1, window, 700, 0), energies=(7_000, 0))
    assert report(chain, raised) is Code.BAD_READING_SIGNATURE
    assert report(chain, chain.signed(9, window, 700, 0)) is Code.UNKNOWN_METER
    assert chain.head.get(spaces.reading(window, 1)) is None


def test_a_replayed_reading_mints_nothing() -> None:
    chain, window = waiting_chain()
    measured = chain.signed(1, window, 700, 0)
    assert report(chain, measured) is Code.OK
    assert report(chain, measured) is Code.READING_KNOWN
    assert report(chain, evolve(measured, window=window - 1)) is Code.METER_NOT_THEN
    chain.until(deadline_ms(chain.settling, window))
    chain.block()
    lots = [Lot.decode(raw) for _, raw in chain.head.scan(bytes((Space.LOT,)))]
    assert [lot.minted_wh for lot in lots] == [700]
    assert report(chain, measured) is Code.READING_KNOWN      # settled by now


def test_a_correction_counts_once() -> None:
    chain, window = settled_chain()
    corrected = chain.signed(1, window, 900, 300, revision=1)
    assert report(chain, corrected) is Code.OK
    worth = chain.account(H[0]).balance
    assert report(chain, corrected) is Code.READING_KNOWN
    assert report(chain, chain.signed(1, window, 950, 300, revision=1)) is Code.READING_CONFLICT
    assert report(chain, chain.signed(1, window, 700, 300)) is Code.READING_SUPERSEDED
    assert chain.account(H[0]).balance == worth - 3 * FEE
    assert Reading.decode(chain.head.get(spaces.reading(window, 1)) or b"").injected_wh == 900
    assert Lot.decode(chain.head.get(spaces.lot(window, 1)) or b"").minted_wh == 900


def test_a_lot_cannot_be_spent_twice() -> None:
    """Neither is more delivered nor more claimed of it than was minted, nor is it minted again."""
    for tamper, message in ((_put(lambda w: spaces.lot(w, 1), delivered_wh=2 * 700), "LOT .* is impossible"),
                            (_put(lambda w: spaces.lot(w, 1), claimed_wh=2 * 700), "LOT .* is impossible"),
                            (_second_lot, "minted Wh of lots.*LOT")):
        test_what_is_not_there_is_named(tamper, message)


def test_delivered_is_at_most_injected_less_losses() -> None:
    """825 Wh at 3 % loss arrive as 800: a trade of 801 is named."""
    test_what_is_not_there_is_named(_put(lambda w: spaces.trade(w, 0), delivered_wh=801), "")


Tamper = Callable[[Session, int], None]


def _put(key_: Callable[[int], bytes], **changes: int) -> Tamper:
    def tamper(session: Session, window: int) -> None:
        where = key_(window)
        session.put(where, evolve(session.get(where), **changes))
    return tamper


def _second_lot(session: Session, window: int) -> None:
    session.put(spaces.lot(window + 1, 1), Lot(0, 1, 700, 700))


def _forgiven(session: Session, window: int) -> None:
    del window
    account = funds.get_account(session, H[0].public)
    funds.put_account(session, H[0].public, evolve(account, dues=5))


def _double_credit(session: Session, window: int) -> None:
    """A correction whose difference is posted to the owner, and to nobody else."""
    del window
    funds.credit(session, H[0].public, 1)


def _in_debt(session: Session, window: int) -> None:
    """Only a utility's balance may be below zero."""
    del window
    for who, amount in ((TAX.public, -10**9), (H[0].public, 10**9)):
        account = funds.get_account(session, who)
        funds.put_account(session, who, evolve(account, balance=account.balance + amount))


@pytest.mark.parametrize("tamper, message", [
    (_put(lambda w: spaces.trade(w, 0), delivered_wh=801), ""),
    (_put(lambda w: spaces.lot(w, 1), delivered_wh=701), "LOT .* is impossible"),
    (_put(lambda w: spaces.lot(w, 1), claimed_wh=701), "LOT .* is impossible"),
    (_put(lambda w: spaces.lot(w, 1), minted_wh=701), "minted Wh of lots"),
    (_second_lot, "minted Wh of lots.*LOT"),
    (_put(lambda w: spaces.settlement(w, 1), injected=701), "SETTLEMENT .* is impossible"),
    (_put(lambda w: spaces.settlement(w, 1), injected=701, withdrawn=301), "minted Wh of accounts"),
    (_put(lambda w: spaces.settlement(w, 1), sold=800), "SETTLEMENT .* is impossible"),
    (_put(lambda w: spaces.balance(w, 0), minted=751), "BALANCE .* is impossible"),
    (_put(lambda w: spaces.balance(w, 0), minted=751, taken=51), "minted Wh of zone 0 in window"),
    (_put(lambda w: spaces.reading(w, 1), injected_wh=10_001), "READING .* is impossible"),
    (_put(lambda w: spaces.reading(w, 1), withdrawn_wh=-1), "READING .* is impossible"),
    (_put(lambda w: spaces.energy(H[0].public), burned=0), "burned Wh of accounts"),
    (_forgiven, "DUES does not balance"),
    (lambda session, _: session.put(spaces.due(H[0].public, key("utility North").public), Due(5)), "DUES"),
    (_double_credit, "THB does not balance.*ACCOUNT"),
    (_in_debt, "account .* is impossible"),
])
def test_what_is_not_there_is_named(tamper: Tamper, message: str) -> None:
    chain, window = settled_chain()
    session = Session(chain.head, chain.head.header.height + 1)
    check_changes(session, session.changed())
    tamper(session, window)
    if not message:         # trades never change: only a new one is judged
        session.put(spaces.trade(window, 1), session.get(spaces.trade(window, 0)))
        message = "TRADE .* is impossible"
    with pytest.raises(InvariantError, match=message):
        check_changes(session, session.changed())


def test_a_window_that_does_not_balance_is_named() -> None:
    """Losses that no trade explains, in the block that closes the window."""
    chain, _ = settled_chain()
    window = chain.settling.window
    session = Session(chain.head, chain.head.header.height + 1)
    settled = chain.head.get(spaces.balance(window - 1, 0))
    assert settled is not None
    before = session.get(spaces.balance(window - 1, 0))
    session.put(spaces.balance(window, 0), evolve(before, minted=0, consumed=0, supplied=0, taken=0, bought=0, sold=0,
                                                  losses=1))
    session.put(spaces.SETTLING, evolve(session.get(spaces.SETTLING), window=window + 1))
    with pytest.raises(InvariantError, match=rf"minted \+ supplied - burned - lost - taken Wh of window {window}"):
        check_changes(session, session.changed())


def test_collateral_and_proceeds_stay_until_the_bill() -> None:
    """Between the sums of the trades and the bills of the meters nothing is free yet."""
    chain = trading_chain(2, max_timed_weight=1_000)
    window = chain.window
    chain.do(H[0], PlaceOrder(1, window, SELL, 4500, 4500))
    chain.do(H[1], *[PlaceOrder(2, window, BUY, 5000, 100) for _ in range(40)])
    sold = chain.account(H[0])
    while chain.head.get(spaces.traded(window, 1)) is None:
        chain.until(chain.now_ms + 100_000)
    assert chain.results[-1].unfinished
    account = chain.account(H[0])
    assert (account.proceeds, account.collateral) == (40 * 104 * 4500, 40 * 104 * 3154)
    assert account.proceeds == sold.proceeds
    chain.block()
    assert (chain.account(H[0]).proceeds, chain.account(H[0]).collateral) == (0, 0)
