"""Claims: bundles of 1 MWh, whole windows against the plain model, and shares of trades."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from certificate_support import carbon, plant
from hypothesis import given, settings
from hypothesis import strategies as st
from ledger_support import START_MS, Chain, key, trading_chain
from model_certificates import MWH, Model, pro_rata

from gridtokenx.grid.kinds import RENEWABLE, Source
from gridtokenx.ledger import spaces, weights
from gridtokenx.ledger.certificate_conservation import audit_certificates
from gridtokenx.ledger.certificate_records import Bundles, Claim, Holding
from gridtokenx.ledger.conservation import check_changes
from gridtokenx.ledger.context import open_context
from gridtokenx.ledger.metering_records import Lot, Quality, Reading, Settlement
from gridtokenx.ledger.parameters import read_parameters
from gridtokenx.ledger.records import Account, Counters, Meter, Trade
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateView
from gridtokenx.market.clearing import clear_window
from gridtokenx.market.holdings import gather
from gridtokenx.market.rules import BillRule
from gridtokenx.market.sharing import ratio_rank

# ---------------------------------------------------------------- bundles


def test_a_bundle_ends_within_the_claim_that_fills_it() -> None:
    holding, runs = gather(Holding(999_000, 5, 8, 10, 20), 9, 2_500_400, 3, 4)
    assert runs == [Bundles(1, 5, 9, 10 + 3_000, 20 + 4_000), Bundles(2, 9, 9, 3 * MWH, 4 * MWH)]
    assert holding == Holding(499_400, 9, 9, 3 * 499_400, 4 * 499_400, 0, 2, 3)


def test_small_claims_gather() -> None:
    holding = Holding()
    for window in range(7, 11):
        holding, runs = gather(holding, window, 250_000, 1, 0)
        assert bool(runs) == (window == 10)
    assert runs == [Bundles(1, 7, 10, MWH, 0)]
    assert holding == Holding(tail=1, ready=1)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.integers(1, 2_000_000), st.sampled_from([1, MWH - 1, MWH, MWH + 1, 5 * MWH])),
                max_size=12), st.integers(0, 3))
def test_bundles_are_the_models(claims: list[int], factor: int) -> None:
    """The same windows and carbon as cutting the list of claims every 10^6 Wh."""
    model = Model(0, {0: {1: (factor, 2 * factor)}}, {1: 1}, {1: "a"})
    holding, runs = Holding(), []
    for window, energy in enumerate(claims):
        holding, more = gather(holding, window, energy, factor, 2 * factor)
        assert len(more) <= 2
        runs += more
        model.claims.setdefault(("a", 1), []).append((window, energy))
    assert holding.total_wh == sum(claims)
    found = [(run.first_window, run.last_window, run.avoided_ug, run.credit_ug) for run in runs
             for _ in range(run.count)]
    assert len(found) == holding.ready == sum(claims) // MWH
    assert not found or model.issue("a", 1, len(found)).name == "OK"
    assert found == [(paper.windows[0][0], paper.windows[-1][0], factor * MWH, 2 * factor * MWH)
                     for paper in model.papers]


# ---------------------------------------------------------------- whole windows

WINDOW = START_MS // 900_000 - 800
METERS = {1: Source.SOLAR, 2: Source.SOLAR, 3: Source.WIND, 4: Source.THERMAL, 5: Source.STORAGE, 6: Source.SOLAR}
HOUSE = {1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 6: 3}
RATE = 250_000


def base_chain() -> Chain:
    """Six meters of four households; house 0 owns two of them."""
    chain = trading_chain(4)
    template = Meter.decode(chain.head.get(spaces.meter(1)) or b"")
    counters = chain.head.get(spaces.COUNTERS)
    assert counters is not None
    records: dict[bytes, Any] = {
        spaces.meter(meter): evolve(template, owner=key(f"house {HOUSE[meter]}").public, participant=HOUSE[meter] + 1,
                                    source=source) for meter, source in METERS.items()}
    records[spaces.COUNTERS] = evolve(Counters.decode(counters), meters=len(METERS))
    records[spaces.CARBON] = carbon(WINDOW - 10, WINDOW + 1)
    plant(chain, records)
    return chain


BASE = base_chain()


def settled(window: int, readings: dict[int, tuple[int, int, int]],
            asked: list[tuple[int, int, int, int, int]]) -> dict[bytes, Any]:
    """The records of a window as settlement leaves them when its corrections end."""
    records: dict[bytes, Any] = {}
    for meter in METERS:
        injected, withdrawn, quality = readings.get(meter, (0, 700, Quality.ESTIMATED))
        if meter in readings:
            records[spaces.reading(window, meter)] = Reading(injected, withdrawn, quality, 0, 1)
        if injected:
            records[spaces.lot(window, meter)] = Lot(0, METERS[meter], injected, 0)
        records[spaces.settlement(window, meter)] = Settlement(
            key(f"house {HOUSE[meter]}").public, 0, injected, withdrawn, 0, 0, max(0, withdrawn - injected),
            max(0, injected - withdrawn), quality, 0, ((int(BillRule.ENERGY), 100, 1, 1),))
    for number, seller, buyer, injected, delivered in asked:
        records[spaces.trade(window, number)] = Trade(1, 0, 0, buyer, seller, 0, 0, 0, 4_000, delivered, injected, 0,
                                                      0, 0, 0)
        if METERS[seller] in RENEWABLE:
            records[spaces.asked_trade(window, seller, number)] = spaces.PRESENT
    return records


def run_claims(state: StateView, window: int, budgets: list[int], blocks: list[int] | None = None) -> StateView:
    """Issues the window's claims and clears it, in as many blocks as it takes, each with the next budget of weight.

    `blocks` is given the number of records that each changed; then every block's whole state is audited too.
    """
    for turn in range(400):
        session = Session(state, state.header.height + 1 + turn)
        context = open_context(session, read_parameters(state), state.header.timestamp_ms + 1)
        left = [budgets[turn % len(budgets)]]

        def spend(weight: int, left: list[int] = left) -> bool:
            if weight > left[0]:
                return False
            left[0] -= weight
            return True

        done = clear_window(context, window, spend)
        changes = session.changed()
        check_changes(session, changes)
        state = StateView(state, state.header, changes.encoded())
        if blocks is not None:
            blocks.append(len(changes))
            audit_certificates(state)
        if done:
            return state
    raise AssertionError("the claims never end")


def readings() -> st.SearchStrategy[dict[int, tuple[int, int, int]]]:
    energy = st.one_of(st.just(0), st.integers(1, 900), st.sampled_from([999_999, 1_000_000, 3_400_000]))
    return st.dictionaries(st.sampled_from(list(METERS)),
                           st.tuples(energy, energy, st.sampled_from(list(Quality))), max_size=6)


def asked_trades() -> st.SearchStrategy[list[tuple[int, int, int, int, int]]]:
    one = st.tuples(st.sampled_from(list(METERS)), st.sampled_from(list(METERS)), st.integers(1, 700),
                    st.integers(50, 100)).map(lambda t: (t[0], t[1], t[2], max(1, t[2] * t[3] // 100)))
    return st.lists(one, max_size=8).map(lambda made: [(number, *trade) for number, trade in enumerate(made)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(readings(), asked_trades()), min_size=1, max_size=3),
       st.lists(st.sampled_from([150, 250, 700, 30_000]), min_size=1, max_size=3).map(lambda b: [*b, 30_000]))
def test_random_windows_are_the_models(windows: list[tuple[dict[int, tuple[int, int, int]],
                                                           list[tuple[int, int, int, int, int]]]],
                                       budgets: list[int]) -> None:
    model = Model(RATE, {}, dict(METERS), {meter: f"house {house}" for meter, house in HOUSE.items()})
    state = BASE.head
    for offset, (read, asked) in enumerate(windows):
        window = WINDOW + offset
        records = settled(window, read, asked)
        state = StateView(state, state.header, {where: record if type(record) is bytes else record.encode()
                                                for where, record in records.items()})
        state = run_claims(state, window, budgets)
        done = model.close(window, {meter: (i, w, q == Quality.ESTIMATED) for meter, (i, w, q) in read.items()}, asked)
        for meter, (bought, kept, missed) in done.items():
            raw = state.get(spaces.claim(window, meter))
            found = Claim.decode(raw) if raw else Claim(0, 0, 0, 0, 0, 0, 0)
            assert (found.bought_wh, found.kept_wh, found.missed_wh) == (bought, kept, missed)
            assert missed == 0 or kept == 0
        assert not any(list(state.scan(bytes((space,)))) for space in (Space.ASKED, Space.CLAIMING, Space.RANKED))
    held: dict[tuple[str, int], int] = {}
    for where, raw in state.scan(bytes((Space.HOLDING,))):
        owner = next(f"house {house}" for house in range(4) if key(f"house {house}").public == where[1:33])
        held[owner, int.from_bytes(where[33:], "big")] = Holding.decode(raw).total_wh
    assert held == {place: sum(energy for _, energy in claims) for place, claims in model.claims.items()}
    for house in range(4):
        who = key(f"house {house}")
        moved = [sum(line[3] for where, raw in state.scan(bytes((Space.SETTLEMENT,)))
                     if HOUSE[int.from_bytes(where[5:], "big")] == house
                     for line in Settlement.decode(raw).lines if line[0] == BillRule.SOURCE_DEFAULT)]
        before, after = (Account.decode(view.get(spaces.account(who.public)) or b"") for view in (BASE.head, state))
        assert -sum(moved) == after.balance - before.balance == model.money.get(f"house {house}", 0)


@settings(max_examples=25, deadline=None)
@given(readings(), asked_trades(), st.lists(st.sampled_from([150, 180, 260, 700]), min_size=1, max_size=4))
def test_pieces_of_any_size_are_one_piece(read: dict[int, tuple[int, int, int]],
                                          asked: list[tuple[int, int, int, int, int]], budgets: list[int]) -> None:
    """The whole state that is left, to the byte, whatever a block has room for."""
    records = settled(WINDOW, read, asked)
    state = StateView(BASE.head, BASE.head.header, {where: record if type(record) is bytes else record.encode()
                                                    for where, record in records.items()})

    def left(budgets: list[int]) -> dict[bytes, bytes]:
        after = run_claims(state, WINDOW, budgets)
        return {where: raw for space in Space for where, raw in after.scan(bytes((space,)))
                if space != Space.ACCOUNT} | {
                    where: Account.decode(raw).total.to_bytes(8, "big") for where, raw in after.scan(
                        bytes((Space.ACCOUNT,)))}

    assert left(budgets) == left([1_000_000])


def test_a_meter_with_many_trades_is_shared_in_bounded_pieces() -> None:
    """150 trades of one meter and window in blocks of 1 000 each; conservation holds in every block."""
    count = 150
    asked = [(number, 1, 3, 10 + number % 7, 9) for number in range(count)]
    records = settled(WINDOW, {1: (1_203, 0, Quality.MEASURED), 3: (100, 0, Quality.MEASURED)}, asked)
    state = StateView(BASE.head, BASE.head.header, {where: record if type(record) is bytes else record.encode()
                                                    for where, record in records.items()})
    blocks: list[int] = []
    final = run_claims(state, WINDOW, [1_000], blocks)
    found = Claim.decode(final.get(spaces.claim(WINDOW, 1)) or b"")
    assert (found.bought_wh, found.kept_wh, found.missed_wh) == (1_203, 0, count * 9 - 1_203)
    assert Claim.decode(final.get(spaces.claim(WINDOW, 3)) or b"").kept_wh == 100
    assert Holding.decode(final.get(spaces.holding(key("house 1").public, 1)) or b"").total_wh == 1_203
    work = count * (2 * weights.CLAIM_RANK + weights.CLAIM_TRADE)
    assert 0.95 * work / 1_000 < len(blocks) < 1.3 * work / 1_000
    assert max(blocks) <= 1_000         # records changed: each weighs more than one
    one: list[int] = []
    assert dict(run_claims(state, WINDOW, [1_000_000], one).scan(bytes((Space.HOLDING,)))) == dict(
        final.scan(bytes((Space.HOLDING,))))
    assert len(one) == 1


# ---------------------------------------------------------------- shares

BUYERS = range(7, 16)       # a meter each, of as many accounts


def buyers_chain() -> StateView:
    """The chain of whole windows with nine more meters, each of another account."""
    chain = base_chain()
    template = Meter.decode(chain.head.get(spaces.meter(4)) or b"")
    counters = Counters.decode(chain.head.get(spaces.COUNTERS) or b"")
    plant(chain, {spaces.COUNTERS: evolve(counters, meters=BUYERS[-1]),
                  **{spaces.meter(meter): evolve(template, owner=key(f"buyer {meter}").public) for meter in BUYERS}})
    return chain.head


SHARED = buyers_chain()
SMALLEST = weights.CLAIM_METER      # the least that any piece of work needs


def share(available: int, asked: list[tuple[int, int, int]], budget: int = 30_000) -> list[int]:
    """Wh of claims that a meter with `available` Wh gives each buyer of trades (number, q_in, q), in their order."""
    records = settled(WINDOW, {1: (available, 0, Quality.MEASURED)},
                      [(number, 1, meter, q_in, q) for meter, (number, q_in, q) in zip(BUYERS, asked, strict=False)])
    for meter in BUYERS:
        records[spaces.settlement(WINDOW, meter)] = Settlement(key(f"buyer {meter}").public, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                                                               ())
    state = StateView(SHARED, SHARED.header, {where: record if type(record) is bytes else record.encode()
                                              for where, record in records.items()})
    state = run_claims(state, WINDOW, [budget])
    audit_certificates(state)
    held = [state.get(spaces.holding(key(f"buyer {meter}").public, 1)) for meter in BUYERS]
    return [Holding.decode(raw).total_wh if raw else 0 for raw in held][:len(asked)]


def test_enough_for_all_gives_each_what_it_delivered() -> None:
    assert share(1_000, [(0, 500, 485), (1, 300, 291)]) == [485, 291]


def test_too_little_is_shared_by_what_was_injected() -> None:
    # 100 / 3: each 33, the Wh that is left to the lowest number.
    assert share(100, [(4, 200, 194), (2, 200, 194), (9, 200, 194)]) == [33, 34, 33]


def test_the_largest_remainder_comes_first() -> None:
    # 10 x 5 / 12 = 4.17, 10 x 7 / 12 = 5.83
    assert share(10, [(0, 5, 5), (1, 7, 7)]) == [4, 6]


def test_what_a_lossy_trade_cannot_take_goes_to_the_others() -> None:
    """185 for two trades that took 100 each: 92.5 each, but one delivered only 80; the other takes 105, at most 95."""
    assert share(175, [(0, 100, 95), (1, 100, 80)]) == [95, 80]
    assert share(170, [(0, 100, 95), (1, 100, 80)]) == [90, 80]


def test_nothing_to_share() -> None:
    assert share(0, [(0, 100, 97)]) == [0]
    assert share(50, []) == []


@given(st.lists(st.integers(1, 10_000_000).flatmap(
    lambda q_in: st.tuples(st.just(q_in), st.integers(max(1, q_in // 2), q_in))), min_size=2, max_size=2))
def test_the_rank_orders_ratios_exactly(pair: list[tuple[int, int]]) -> None:
    (a_in, a), (b_in, b) = pair
    assert (ratio_rank(a_in, a) < ratio_rank(b_in, b)) == (a * b_in < b * a_in)
    assert ratio_rank(a_in, a) <= 1 << 63 == ratio_rank(b_in, b_in)


def trades() -> st.SearchStrategy[list[tuple[int, int, int]]]:
    one = st.integers(1, 400).flatmap(lambda q_in: st.tuples(st.just(q_in), st.integers(max(1, q_in // 2), q_in)))
    return st.lists(one, max_size=7).map(lambda made: [(number, *trade) for number, trade in enumerate(made)])


@settings(max_examples=100, deadline=None)
@given(trades(), st.integers(0, 1_500), st.sampled_from([SMALLEST, 300, 30_000]))
def test_shares_are_the_models(asked: list[tuple[int, int, int]], available: int, budget: int) -> None:
    shares = share(available, asked, budget)
    assert dict(enumerate(shares)) == pro_rata(available, asked)
    assert all(0 <= part <= q for part, (_, _, q) in zip(shares, asked, strict=True))
    assert sum(shares) == min(available, sum(q for _, _, q in asked))       # a buyer misses only what is not there
