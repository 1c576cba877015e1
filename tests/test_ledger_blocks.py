"""Blocks: validity, execution order, roots and proofs, competing children, determinism, weight and size."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from ledger_support import EGAT, FEE, ISSUER, REGISTRAR, THB, Chain, genesis, key, trading_chain

from gridtokenx.crypto import mountain_range
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.merkle import merkle_root
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import build, spaces, trie, weights
from gridtokenx.ledger.build import build_block
from gridtokenx.ledger.execute import BlockInputs, execute_block
from gridtokenx.ledger.operations import CancelOrder, PlaceOrder, Transfer
from gridtokenx.ledger.receipts import Code, InvalidBlock
from gridtokenx.ledger.records import Account, Authorities, Peaks
from gridtokenx.ledger.run import authorities_hash
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.state import StateView
from gridtokenx.market.book import Books
from gridtokenx.market.clock import gate_ms
from gridtokenx.market.desk import Desk
from gridtokenx.market.orders import Force, Side

A = key("a")


def books(chain: Chain) -> Books:
    return chain.genesis.books()


def order(chain: Chain, meter: int, side: Side = Side.BUY, price: int = 5000, quantity: int = 100) -> PlaceOrder:
    return PlaceOrder(meter, chain.window, side, price, quantity)


def test_what_a_block_read_is_given_back_at_once() -> None:
    """Not when Python next looks for cycles: a node would keep many blocks, and look through them for long."""
    chain = trading_chain()
    gc.collect()
    gc.disable()
    try:
        before = sum(type(found) is Session for found in gc.get_objects())
        chain.do(key("house 0"), order(chain, 1))
        assert sum(type(found) is Session for found in gc.get_objects()) == before
    finally:
        gc.enable()


# ---------------------------------------------------------------- validity


def test_a_block_with_a_transaction_that_may_not_be_in_it_is_invalid() -> None:
    chain = Chain(genesis())
    chain.do(ISSUER, Transfer(A.public, THB))
    other = Chain(genesis(rate=7))
    cases = [
        (chain.transaction(A, Transfer(ISSUER.public, 1), nonce=1), Code.WRONG_NONCE),
        (chain.transactions[-1][0], Code.WRONG_NONCE),                                  # replayed
        (chain.transaction(A, Transfer(ISSUER.public, 1), until=1), Code.EXPIRED),
        (chain.transaction(A, Transfer(ISSUER.public, 1), fee=999), Code.FEE_TOO_LOW),
        (chain.transaction(A, *[Transfer(ISSUER.public, 1)] * 2, fee=1999), Code.FEE_TOO_LOW),
        (chain.transaction(A, Transfer(ISSUER.public, 1), fee=THB + 1), Code.UNFUNDED_FEE),
        (chain.transaction(key("nobody"), Transfer(ISSUER.public, 1)), Code.UNFUNDED_FEE),
        (chain.transaction(A, Transfer(ISSUER.public, 1), keys=[ISSUER]), Code.WRONG_SIGNERS),
        (chain.transaction(A, Transfer(ISSUER.public, 1), keys=[ISSUER, A]), Code.WRONG_SIGNERS),
    ]
    for transaction, code in cases:
        with pytest.raises(InvalidBlock, match=code.name):
            execute_block(chain.head, chain.inputs(), [transaction], books(chain))
        result, included, refused = build_block(chain.head, chain.inputs(), [transaction], books(chain))
        assert not included
        assert result.receipts == ()
        waits = (code is Code.WRONG_NONCE and transaction.nonce > 0 and transaction.sender == A.public)
        assert bool(refused) is not (waits or code is Code.UNFUNDED_FEE)
    foreign = other.transaction(A, Transfer(ISSUER.public, 1))
    assert not foreign.signatures_verify(chain.genesis.chain_id)


@pytest.mark.parametrize("change, message", [
    ({"height": 3}, "height"), ({"height": 1}, "height"), ({"parent_hash": bytes(32)}, "parent"),
    ({"timestamp_ms": 0}, "timestamp"),
])
def test_inputs_must_follow_on_the_parent(change: dict[str, int], message: str) -> None:
    chain = Chain(genesis())
    chain.block()
    with pytest.raises(InvalidBlock, match=message):
        execute_block(chain.head, evolve(chain.inputs(), **change), [], books(chain))


def test_the_interval_between_blocks_is_a_rule() -> None:
    chain = Chain(genesis())
    chain.block(0)                       # the first block follows genesis at any time
    with pytest.raises(InvalidBlock, match="timestamp"):
        execute_block(chain.head, chain.inputs(99), [], books(chain))
    execute_block(chain.head, chain.inputs(100), [], books(chain))


def test_execution_order_is_not_the_producers_choice() -> None:
    chain = trading_chain(6)
    chain.do(ISSUER, Transfer(A.public, THB), Transfer(key("b").public, THB))
    made = [chain.transaction(key(f"house {number}"), Transfer(ISSUER.public, 1), nonce=nonce)
            for number in range(6) for nonce in (0, 1)]
    made += [chain.transaction(who, Transfer(ISSUER.public, 1)) for who in (A, key("b"))]
    result, included, _ = build_block(chain.head, chain.inputs(), list(reversed(made)), books(chain))
    assert set(included) == set(made)
    height = chain.inputs().height
    ids = {key(f"house {number}").public: number + 1 for number in range(6)}
    expected = sorted(made, key=lambda t: (
        t.sender not in ids,
        digest(Domain.EXECUTION_ORDER, chain.genesis.chain_id, height.to_bytes(8, "big"),
               ids.get(t.sender, 0).to_bytes(8, "big")), t.sender, t.nonce))
    assert included == expected
    assert {t.sender for t in included[-2:]} == {A.public, key("b").public}
    swapped = [included[1], included[0], *included[2:]]
    with pytest.raises(InvalidBlock, match="execution order"):
        execute_block(chain.head, chain.inputs(), swapped, books(chain))
    with pytest.raises(InvalidBlock, match="execution order"):
        execute_block(chain.head, chain.inputs(), [included[0], included[0]], books(chain))
    assert execute_block(chain.head, chain.inputs(), included, books(chain)).header == result.header
    later = build_block(chain.head, evolve(chain.inputs(), view=9), made, books(chain))[1]
    assert later == included              # a view later, the same height: the same order


def test_size_is_bounded() -> None:
    chain = Chain(genesis(max_block_bytes=65_536))
    chain.do(ISSUER, *[Transfer(key(f"s{number}").public, THB) for number in range(20)])
    made = [chain.transaction(key(f"s{number}"), *[Transfer(ISSUER.public, 1, bytes(64))] * 40) for number in range(20)]
    assert sum(len(t.raw) for t in made) > 65_536
    _, included, refused = build_block(chain.head, chain.inputs(), made, books(chain))
    assert not refused
    assert 0 < sum(len(t.raw) for t in included) <= 65_536
    everything = build_block(StateView(chain.head, chain.head.header), chain.inputs(), made[:0], books(chain))
    assert everything[1] == []
    with pytest.raises(InvalidBlock, match="bytes"):
        execute_block(chain.head, chain.inputs(), made, books(chain))


def test_weight_is_bounded_and_the_builder_stays_below() -> None:
    chain = trading_chain(20, max_block_weight=20_000, money=10_000 * THB)
    made = [chain.transaction(key(f"house {number}"), order(chain, number + 1, Side(nonce % 2), 4500 + 10 * number),
                              nonce=nonce) for number in range(20) for nonce in range(10)]
    result, included, refused = build_block(chain.head, chain.inputs(), made, books(chain))
    assert not refused
    assert 30 < len(included) < 200
    assert result.weight <= 20_000
    again = execute_block(chain.head, chain.inputs(), included, books(chain))
    assert again.weight == result.weight
    in_order = sorted(made, key=lambda t: ([i.sender for i in included].index(t.sender)
                                           if t.sender in {i.sender for i in included} else 99, t.nonce))
    with pytest.raises(InvalidBlock):
        execute_block(chain.head, chain.inputs(), in_order, books(chain))


def test_a_transaction_too_heavy_for_any_block_is_refused() -> None:
    """It is tried, since its bound says nothing certain, and the block is then built without it."""
    chain = trading_chain(2, max_block_weight=20_000, injection_w=4_000_000, withdrawal_w=4_000_000,
                          money=10_000 * THB)
    for _ in range(14):
        chain.do(key("house 0"), *[order(chain, 1, Side.SELL, 4500) for _ in range(40)])
    heavy = chain.transaction(key("house 1"), *[order(chain, 2, quantity=10_000) for _ in range(5)])
    light = chain.transaction(key("house 0"), order(chain, 1, Side.SELL, 4500))
    result, included, refused = build_block(chain.head, chain.inputs(), [heavy, light], books(chain))
    assert included == [light]
    assert refused == [(heavy, Code.TOO_HEAVY, "it does not fit into a block")]
    assert execute_block(chain.head, chain.inputs(), [light], books(chain)).header == result.header
    with pytest.raises(InvalidBlock, match="weight"):
        execute_block(chain.head, chain.inputs(), [heavy], books(chain))


def test_a_transaction_that_only_might_be_too_heavy_is_included() -> None:
    chain = trading_chain(2, max_block_weight=20_000, injection_w=4_000_000, withdrawal_w=4_000_000,
                          money=10_000 * THB)
    for _ in range(14):
        chain.do(key("house 0"), *[order(chain, 1, Side.SELL, 4500) for _ in range(40)])
    broad = chain.send(key("house 1"), *[order(chain, 2, price=4400, quantity=10_000) for _ in range(64)])
    chain.block()
    assert all(outcome.code is Code.OK for outcome in chain.outcomes(broad))


@given(st.integers(1, 100_000), st.integers(0, 300_000), st.integers(0, 500_000))
def test_the_bound_on_fills_holds(lots: int, loss: int, more: int) -> None:
    """A fill that does not end the search takes at least 50 Wh of the incoming order, whatever the losses."""
    quantity, keep = 100 * lots, 1_000_000 - max(loss, more)
    delivered = 100 * keep // 1_000_000                 # a whole resting sell of one lot
    injected = -(-100 * 1_000_000 // keep)              # a whole resting buy of one lot
    assert delivered >= 50
    assert injected >= 100
    assert weights.most_fills(quantity) >= min(128, -(-quantity // delivered))


def test_an_empty_block_takes_nothing() -> None:
    chain = Chain(genesis())
    made = chain.transaction(ISSUER, Transfer(A.public, 1))
    result, included, _ = build_block(chain.head, chain.inputs(), [made], books(chain), empty=True)
    assert included == []
    assert result.header.transactions_root == merkle_root([])


# ---------------------------------------------------------------- roots


def test_header_and_proofs() -> None:
    chain = Chain(genesis())
    first = chain.genesis.header()
    assert first.height == 0
    assert first.chain_id == chain.genesis.chain_id == digest(Domain.GENESIS, chain.genesis.canonical())
    sent = chain.send(ISSUER, Transfer(A.public, 5 * THB))
    result = chain.block()
    header = result.header
    assert header.parent == first.hash
    assert header.transactions_root == merkle_root([sent.id])
    assert header.receipts_root == merkle_root([receipt.encode() for receipt in result.receipts])
    peaks = mountain_range.append(mountain_range.EMPTY, first.hash)
    assert header.headers_root == mountain_range.root(peaks)
    assert Peaks.decode(chain.head.get(spaces.PEAKS) or b"").peaks == peaks
    members = Authorities((("EGAT", EGAT.public),))
    assert header.authorities_hash == header.next_authorities_hash == authorities_hash(members)
    where = spaces.account(A.public)
    value = Account(balance=5 * THB).encode()
    assert trie.verify_proof(header.state_root, where, value, chain.head.prove(where))
    nowhere = spaces.account(bytes(32))
    assert trie.verify_proof(header.state_root, nowhere, None, chain.head.prove(nowhere))
    assert not trie.verify_proof(header.state_root, where, None, chain.head.prove(where))


def test_the_root_is_that_of_the_whole_state() -> None:
    chain = trading_chain(3)
    chain.do(key("house 0"), order(chain, 1, Side.SELL, 4500, 1000))
    chain.do(key("house 1"), order(chain, 2, Side.BUY, 5000, 300))
    content = list(chain.head.scan(b""))
    root, _ = trie.update(lambda path: None, trie.EMPTY_ROOT, content)
    assert root == chain.head.header.state_root
    assert [k for k, _ in content] == sorted({k for k, _ in content})


# ---------------------------------------------------------------- views and children


def test_competing_children_share_one_engine() -> None:
    chain = trading_chain(4)
    window = chain.window
    chain.do(key("house 0"), PlaceOrder(1, window, Side.SELL, 4500, 1000))
    shared, parent, inputs = books(chain), chain.head, chain.inputs()
    buys = [chain.transaction(key(f"house {n}"), PlaceOrder(n + 1, window, Side.BUY, 5000, 300 * n)) for n in (1, 2, 3)]
    alone = [execute_block(parent, inputs, [buy], books(chain)) for buy in buys]
    for _ in range(2):
        for buy, expected in zip(buys, alone, strict=True):
            again = execute_block(parent, inputs, [buy], shared)
            assert again.header == expected.header
            child = evolve(inputs, height=inputs.height + 1, view=inputs.view + 1,
                           timestamp_ms=inputs.timestamp_ms + 200, parent_hash=again.header.hash)
            cancel = chain.transaction(key("house 0"), CancelOrder(spaces.order_id(window, 1)))
            warm = execute_block(again.state, child, [cancel], shared)
            cold = execute_block(expected.state, child, [cancel], books(chain))
            assert warm.header == cold.header


def test_a_failed_block_leaves_the_books_as_they_were() -> None:
    chain = trading_chain(3)
    chain.do(key("house 0"), order(chain, 1, Side.SELL, 4500, 1000))
    shared, inputs = books(chain), chain.inputs()
    good = chain.transaction(key("house 1"), order(chain, 2, Side.BUY, 5000, 300))
    bad = chain.transaction(key("house 2"), order(chain, 3), nonce=7)
    expected = execute_block(chain.head, inputs, [good], books(chain))
    for _ in range(2):
        with pytest.raises(InvalidBlock):
            execute_block(chain.head, inputs, build_block(chain.head, inputs, [good], shared)[1] + [bad], shared)
        assert execute_block(chain.head, inputs, [good], shared).header == expected.header


def test_broken_conservation_is_no_block(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = Chain(genesis())
    real = Transfer.apply

    def generous(self: Transfer, block: object, sender: bytes) -> tuple[object, ...]:
        from gridtokenx.ledger import funds

        done = real(self, block, sender)  # type: ignore[arg-type]
        funds.credit(block.context.session, self.to, 1)  # type: ignore[attr-defined]
        return done

    monkeypatch.setattr(Transfer, "apply", generous)
    made = chain.transaction(ISSUER, Transfer(A.public, 5))
    with pytest.raises(InvariantError, match="THB"):
        execute_block(chain.head, chain.inputs(), [made], books(chain))
    _, included, refused = build_block(chain.head, chain.inputs(), [made], books(chain))
    assert included == []
    assert [code for _, code, _ in refused] == [Code.INTERNAL]


def test_escrow_that_goes_astray_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = trading_chain(2)
    [placed] = chain.do(key("house 0"), order(chain, 1))
    monkeypatch.setattr("gridtokenx.market.posting.escrow_of", lambda order, quantity: 0)
    cancel = chain.transaction(key("house 0"), CancelOrder(placed.data[0]))
    with pytest.raises(InvariantError, match="BIDS"):
        execute_block(chain.head, chain.inputs(), [cancel], books(chain))


def test_a_transaction_that_raises_is_quarantined(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = trading_chain(3)
    real = Desk.place

    def broken(self: Desk, sender: bytes, *arguments: object) -> object:
        if sender == key("house 1").public:
            raise ZeroDivisionError("a bug")
        return real(self, sender, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Desk, "place", broken)
    made = [chain.transaction(key(f"house {n}"), order(chain, n + 1)) for n in range(3)]
    result, included, refused = build_block(chain.head, chain.inputs(), made, books(chain))
    assert len(included) == 2
    assert refused == [(made[1], Code.INTERNAL, "ZeroDivisionError: a bug")]
    assert execute_block(chain.head, chain.inputs(), included, books(chain)).header == result.header
    assert build.MAX_REBUILDS >= 2


# ---------------------------------------------------------------- timed work


def test_timed_work_is_bounded_and_goes_on_in_the_next_block() -> None:
    chain = trading_chain(4, max_timed_weight=1_000, rate=1_000)
    window = chain.window
    for house in range(4):
        chain.do(key(f"house {house}"), *[PlaceOrder(house + 1, window, Side.BUY, 4000, 100) for _ in range(40)])
    chain.until(gate_ms(window))
    assert chain.results[-1].unfinished
    blocks = 0
    while chain.results[-1].unfinished:
        chain.block(100)
        blocks += 1
    assert blocks >= 2
    assert not list(chain.head.scan(spaces.orders_of_window(window)))
    assert all(chain.account(key(f"house {house}")).bids == 0 for house in range(4))


def lagging(side: Side, *, gtt: bool = False) -> tuple[Chain, int]:
    """House 0 has some 200 orders due at the same time, and the sweep needs several blocks for them."""
    chain = trading_chain(1, max_timed_weight=1_000, rate=100, money=110 * THB, injection_w=80_000,
                          withdrawal_w=80_000)
    window = chain.window
    until = chain.now_ms + 1_000_000
    for _ in range(4):
        outcomes = chain.do(key("house 0"), *[
            PlaceOrder(1, window, side, 4000, 100, Force.GOOD_TILL_TIME if gtt else Force.GOOD_TILL_GATE,
                       until if gtt else 0) for _ in range(50)])
        assert all(outcome.code is Code.OK for outcome in outcomes)
    chain.until(until if gtt else gate_ms(window))
    assert chain.results[-1].unfinished
    assert len(list(chain.head.scan(spaces.orders_of_window(window)))) > 120
    return chain, window


@pytest.mark.parametrize("side", list(Side))
def test_unswept_money_can_be_spent_at_once(side: Side) -> None:
    """An order closed by the parent's time counts as released although the sweep is far behind."""
    chain, _ = lagging(side)
    account = chain.account(key("house 0"))
    assert account.bids + account.locked > 5 * THB
    [moved] = chain.do(key("house 0"), Transfer(A.public, account.total - FEE))
    assert moved.code is Code.OK
    account = chain.account(key("house 0"))
    assert (account.total, account.collateral) == (0, 0)


@pytest.mark.parametrize("side", list(Side))
def test_unswept_money_and_capacity_serve_new_orders_at_once(side: Side) -> None:
    chain, window = lagging(side, gtt=True)
    before = chain.account(key("house 0"))
    [full] = chain.do(key("house 0"), PlaceOrder(1, window, side, 4000, 20_000))
    assert full.code is Code.OK
    after = chain.account(key("house 0"))
    assert after.total == before.total - FEE
    assert after.bids + after.collateral > 60 * THB


@pytest.mark.parametrize("side", list(Side))
def test_unswept_money_alone_serves_new_orders_at_once(side: Side) -> None:
    """In another window, where capacity is free and only the money is missing."""
    chain, window = lagging(side)
    [full] = chain.do(key("house 0"), PlaceOrder(1, window + 4, side, 4000, 20_000))
    assert full.code is Code.OK


def test_an_unswept_order_cannot_be_cancelled() -> None:
    chain, window = lagging(Side.BUY, gtt=True)
    last = max(where for where, _ in chain.head.scan(spaces.orders_of_window(window)))
    [refused] = chain.do(key("house 0"), CancelOrder(int.from_bytes(last[1:], "big")))
    assert refused.code is Code.UNKNOWN_ORDER
    assert chain.head.get(last) is not None         # it was the time that counted, not the sweep


def test_an_unswept_fee_is_there() -> None:
    chain, _ = lagging(Side.BUY)
    account = chain.account(key("house 0"))
    assert account.balance < account.total - THB
    [done] = chain.do(key("house 0"), Transfer(A.public, 1), fee=account.total - 1)
    assert done.code is Code.OK


def test_a_candidate_left_out_leaves_nothing_behind() -> None:
    """Looking for the fee of a transaction releases lapsed orders; left out after all, they are as they were."""
    chain, _ = lagging(Side.BUY)
    made = chain.transaction(key("house 0"), Transfer(A.public, 1), fee=chain.account(key("house 0")).total + 1)
    result, included, _ = build_block(chain.head, chain.inputs(), [made], books(chain))
    assert included == []
    assert execute_block(chain.head, chain.inputs(), [], books(chain)).header == result.header


# ---------------------------------------------------------------- determinism


_SCRIPT = """
import sys
sys.path[:0] = {paths!r}
from test_ledger_blocks import story
print(story())
"""


def story() -> str:
    """A small history of everything; the hash of its last block."""
    chain = trading_chain(5, zones=2)
    for turn in range(6):
        for number in range(5):
            house = key(f"house {number}")
            chain.send(house, PlaceOrder(number + 1, chain.window, Side((turn + number) % 2), 4500 + 10 * turn, 300,
                                         Force.IOC if number == turn else Force.GOOD_TILL_GATE),
                       Transfer(REGISTRAR.public, 5 + number))
        chain.block(300 + 100 * turn)
    chain.until(chain.now_ms + 8_000_000)
    return chain.head.header.hash.hex()


def test_the_same_on_every_hash_seed() -> None:
    here = Path(__file__).parent
    script = _SCRIPT.format(paths=[str(here), str(here.parent)])
    found = {subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, check=True,
                            capture_output=True, text=True, timeout=60).stdout.strip() for seed in ("1", "77")}
    assert found == {story()}


def test_a_restarted_peer_computes_the_same() -> None:
    """Views flattened into one plain state, cold engine: the next block is the same."""
    chain = trading_chain(4)
    for turn in range(4):
        for number in range(4):
            chain.send(key(f"house {number}"), order(chain, number + 1, Side(number % 2), 4500 + 10 * turn, 300))
        chain.block()

    before = StateView(chain.head.parent, chain.head.header, chain.head.changes, chain.head.pages)

    class Flat:
        content = dict(before.scan(b""))

        def get(self, where: bytes) -> bytes | None:
            return self.content.get(where)

        def scan(self, prefix: bytes):  # type: ignore[no-untyped-def]
            return iter(sorted((k, v) for k, v in self.content.items() if k.startswith(prefix)))

        def page(self, path: bytes) -> bytes | None:
            return before.page(path)

    made = [chain.transaction(key(f"house {n}"), order(chain, n + 1, Side.BUY, 5000, 500)) for n in range(4)]
    result, included, _ = build_block(chain.head, chain.inputs(), made, books(chain))
    flat = StateView(Flat(), chain.head.header)
    assert execute_block(flat, chain.inputs(), included, books(chain)).header == result.header
    chain.head.rebase(flat.parent)
    assert execute_block(chain.head, chain.inputs(), included, books(chain)).header == result.header


def test_inputs_are_plain_values() -> None:
    assert BlockInputs(1, 0, 1, 5, EGAT.public, bytes(32)) == BlockInputs(1, 0, 1, 5, EGAT.public, bytes(32))
