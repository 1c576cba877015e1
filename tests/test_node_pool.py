"""The pool of pending transactions: its bounds, what gives way when it is full, replacement, gaps, reasons kept."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from node_support import BAHT, ISSUER, OTHER, TRADER, Cluster, key, signed, small_genesis, transfer

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.receipts import Code, Refused
from gridtokenx.ledger.transaction import (
    MAX_INT64,
    Transaction,
    decode_transaction,
    encode_payload,
    sign_transaction,
    transaction_head,
)
from gridtokenx.node import pending
from gridtokenx.node.fates import Fates
from gridtokenx.node.inbox import BULK_MOST, BULK_MOST_BYTES, Inbox
from gridtokenx.node.pace import FULL_LEAST, FULL_S, PLENTY_LEAST, PLENTY_S, PLENTY_SHARE, SLICE_S, Pace
from gridtokenx.node.pool import Pool
from gridtokenx.node.pool_entries import GAPPED, Left, PoolRefused, memory_of, rank_of

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))


def made(sender: bytes, nonce: int, fee: int = 1000, *, operations: int = 1, length: int = 100,
         until: int = 1 << 40) -> Transaction:
    """Only what the pool looks at."""
    raw = sender + nonce.to_bytes(8, "big") + fee.to_bytes(8, "big") + bytes(length)
    return Transaction(sender=sender, nonce=nonce, valid_until_height=until, fee_uthb=fee, flags=0,
                       operations=((1,),) * operations, payload=b"", signatures=(), raw=raw,
                       id=digest(Domain.TRANSACTION, raw))


def nonce_zero(_: bytes) -> int:
    return 0


def refusal(pool: Pool, transaction: Transaction, nonce: int = 0) -> Code:
    with pytest.raises(PoolRefused) as caught:
        pool.check(transaction, nonce)
    with pytest.raises(PoolRefused) as again:
        pool.add(transaction, nonce)
    assert caught.value.code is again.value.code
    assert str(caught.value)
    return caught.value.code


# ---------------------------------------------------------------- bounds


def test_bounded_in_number_memory_and_per_account() -> None:
    number = Pool(max_transactions=3)
    for sender in (A, B, C):
        number.add(made(sender, 0), 0)
    assert refusal(number, made(bytes(32), 0)) is Code.POOL_FULL
    share = Pool(max_per_account=2)
    share.add(made(A, 0), 0)
    share.add(made(A, 1), 0)
    assert refusal(share, made(A, 2)) is Code.POOL_FULL
    share.add(made(B, 0), 0)
    memory = Pool(max_bytes=16 * 4000)
    memory.add(made(A, 0), 0)
    assert memory_of(made(A, 0)) * 2 < 4000 < memory_of(made(A, 1, length=400)) + memory_of(made(A, 0))
    assert refusal(memory, made(A, 1, length=400)) is Code.POOL_FULL
    memory.add(made(B, 0, length=400), 0)
    assert memory.statistics().refused == {Code.POOL_FULL: 2}


def test_same_transaction_used_nonce_and_far_nonce() -> None:
    pool = Pool()
    pool.add(made(A, 5), 5)
    assert refusal(pool, made(A, 5), 5) is Code.DUPLICATE_TRANSACTION
    assert refusal(pool, made(A, 4), 5) is Code.WRONG_NONCE
    assert refusal(pool, made(A, 5 + 1025), 5) is Code.WRONG_NONCE


# ---------------------------------------------------------------- who gives way


def test_a_full_pool_gives_way_to_higher_fees_only() -> None:
    pool = Pool(max_transactions=3)
    first, second, dear = made(A, 0), made(B, 0), made(C, 0, 5000)
    for transaction in (first, second, dear):
        pool.add(transaction, 0)
    assert refusal(pool, made(bytes(32), 0, 1000)) is Code.POOL_FULL
    assert refusal(pool, made(bytes(32), 0, 1900, operations=2)) is Code.POOL_FULL
    [gone] = pool.add(made(bytes(32), 0, 1001), 0)
    assert (gone.id, gone.code) == (second.id, Code.POOL_FULL)         # the newest of the cheapest
    assert first.id in pool
    assert dear.id in pool
    assert pool.statistics().evicted == {Code.POOL_FULL: 1}


def test_of_an_account_the_last_nonces_go_and_never_for_its_own() -> None:
    pool = Pool(max_transactions=4)
    chain = [made(A, 0, 1000), made(A, 1, 9000), made(A, 2, 9000)]
    for transaction in chain:
        pool.add(transaction, 0)
    pool.add(made(B, 0, 8000), 0)
    assert refusal(pool, made(A, 3, 10_000)) is Code.POOL_FULL          # it could be in no block before nonce 0
    gone = pool.add(made(C, 0, 2000), 0)
    assert [one.id for one in gone] == [chain[2].id]
    gone = pool.add(made(C, 1, 2000), 0)
    assert [one.id for one in gone] == [chain[1].id]
    assert [t.id for t in pool.ready(nonce_zero, 9, 1 << 20)].count(chain[0].id) == 1


def test_a_heavy_transaction_takes_the_place_of_as_many_as_it_needs_or_of_none() -> None:
    size = memory_of(made(A, 0))
    heavy = made(b"c" * 32, 0, 5000, length=900)
    pool = Pool(max_bytes=16 * memory_of(heavy))
    count = pool.max_bytes // size
    senders = [bytes([number, number]) * 16 for number in range(count)]
    for number, sender in enumerate(senders):
        pool.add(made(sender, 0, 1000 if number < 2 else 6000), 0)
    before = {t.id for sender in senders for t in pool.of_account(sender)}
    need = -(-(pool.statistics().size_bytes + memory_of(heavy) - pool.max_bytes) // size)
    assert need > 2
    assert refusal(pool, heavy) is Code.POOL_FULL
    assert {t.id for sender in senders for t in pool.of_account(sender)} == before
    dearer = made(b"c" * 32, 0, 7000, length=900)
    assert len(pool.add(dearer, 0)) == need
    assert pool.statistics().size_bytes <= pool.max_bytes


def test_a_pool_that_counts_as_full_earlier_swaps_one_for_one() -> None:
    pool = Pool()
    for sender in (A, B, C):
        pool.add(made(sender, 0), 0)
    late = made(bytes(32), 0)
    with pytest.raises(PoolRefused):
        pool.add(late, 0, 2)
    assert len(pool.add(made(bytes(32), 0, 9000), 0, 2)) == 1
    assert len(pool) == 3
    pool.add(made(b"d" * 32, 0), 0)
    assert len(pool) == 4


# ---------------------------------------------------------------- replacement


def test_a_tenth_more_replaces() -> None:
    pool = Pool()
    old = made(A, 0, 1000)
    pool.add(old, 0)
    assert refusal(pool, made(A, 0, 1099)) is Code.REPLACEMENT_FEE
    assert refusal(pool, made(A, 0, 1500, operations=2)) is Code.REPLACEMENT_FEE    # less for each
    new = made(A, 0, 1100)
    [gone] = pool.add(new, 0)
    assert gone == Left(old.id, Code.REPLACED, f"replaced by {new.id.hex()}")
    assert pool.get(old.id) is None
    assert pool.ready(nonce_zero, 9, 1 << 20) == [new]
    assert pool.fees_uthb(A, besides=7) == 1100
    assert pool.fees_uthb(A, besides=0) == 0


def test_a_free_transaction_is_not_replaced_by_a_free_one() -> None:
    pool = Pool()
    pool.add(made(A, 0, 0), 0)
    assert refusal(pool, made(A, 0, 0, length=5)) is Code.REPLACEMENT_FEE
    assert pool.add(made(A, 0, MAX_INT64), 0)


# ---------------------------------------------------------------- gaps


def test_what_waits_behind_a_gap_is_the_first_to_go() -> None:
    pool = Pool(max_transactions=4)
    waiting = made(A, 1, 10**9)
    pool.add(waiting, 0)
    assert pool.first_ready(nonce_zero) is None
    for sender in (B, C):
        pool.add(made(sender, 0), 0)
    assert refusal(pool, made(B, 7, 10**9)) is Code.NONCE_GAP           # half full
    pool.add(made(B, 1), 0)
    [gone] = pool.add(made(C, 1), 0)
    assert gone.id == waiting.id


def test_a_gap_that_closes_makes_ready() -> None:
    pool = Pool(max_transactions=4)
    later = [made(A, nonce, 2000) for nonce in (2, 1)]
    for transaction in later:
        pool.add(transaction, 0)
    assert not pool.ready(nonce_zero, 9, 1 << 20)
    pool.add(made(A, 0, 2000), 0)
    assert [t.nonce for t in pool.ready(nonce_zero, 9, 1 << 20)] == [0, 1, 2]
    pool.add(made(B, 0, 1000), 0)
    [gone] = pool.add(made(C, 0, 1500), 0)
    assert gone.id == made(B, 0, 1000).id


def test_a_missing_nonce_that_became_final_elsewhere_closes_the_gap() -> None:
    pool = Pool()
    pool.add(made(A, 1), 0)
    assert not pool.forget_stale([A], lambda _: 1, 5)
    assert pool.first_ready(lambda _: 1) is not None


def test_given_up_for_good_leaves_a_gap_behind_it() -> None:
    pool = Pool()
    chain = [made(A, nonce) for nonce in range(3)]
    for transaction in chain:
        pool.add(transaction, 0)
    left = Left(chain[1].id, Code.TOO_HEAVY, "it does not fit into a block")
    assert pool.drop([left, left], nonce_zero) == [left]
    assert [t.nonce for t in pool.ready(nonce_zero, 9, 1 << 20)] == [0]
    pool.remove([chain[0].id])
    assert pool.first_ready(lambda _: 1) is None
    assert not pool.sweep(lambda _: 1, 64)
    assert not pool.sweep(lambda _: 1, 128)
    [gone] = pool.sweep(lambda _: 1, 192)
    assert (gone.id, gone.code) == (chain[2].id, Code.NONCE_GAP)
    assert pool.statistics().size_bytes == 0


def test_expired_and_overtaken_transactions_say_so() -> None:
    pool = Pool()
    pool.add(made(A, 0, until=10), 0)
    pool.add(made(A, 1), 0)
    pool.add(made(B, 0), 0)
    [gone] = pool.sweep(nonce_zero, 10)
    assert (gone.code, gone.reason) == (Code.EXPIRED, "valid until height 10; the chain is at 10")
    [gone] = pool.forget_stale([B, C], lambda sender: int(sender == B), 11)
    assert gone.code is Code.WRONG_NONCE


# ---------------------------------------------------------------- turns


def test_accounts_that_had_their_turn_come_last() -> None:
    pool = Pool()
    for sender in (A, B, C):
        for nonce in range(2):
            pool.add(made(sender, nonce), 0)
    first = pool.ready(nonce_zero, 2, 1 << 20)
    second = pool.ready(nonce_zero, 2, 1 << 20)
    assert {t.sender for t in first} == {A}
    assert {t.sender for t in second} == {B}


def test_a_block_is_shared_by_busy_accounts() -> None:
    pool = Pool()
    for sender in (A, B):
        for nonce in range(100):
            pool.add(made(sender, nonce), 0)
    chosen = pool.ready(nonce_zero, 80, 1 << 20)
    assert sorted(sum(t.sender == sender for t in chosen) for sender in (A, B)) == [32, 48]
    assert len(pool.ready(nonce_zero, 500, 1 << 20)) == 200
    assert len(pool.ready(nonce_zero, 500, 10 * len(made(A, 0).raw))) == 10


# ---------------------------------------------------------------- anything at all


Step = Callable[[Pool, dict[bytes, int]], list[Left]]
senders = st.sampled_from((A, B, C))
steps = st.one_of(
    st.tuples(st.just("add"), senders, st.integers(0, 6), st.sampled_from([0, 1000, 1100, 2000, 5000]),
              st.sampled_from([10, 300])),
    st.tuples(st.just("final"), senders),
    st.tuples(st.just("drop"), senders, st.integers(0, 6)),
    st.tuples(st.just("stale"), senders),
    st.tuples(st.just("sweep")),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, max_size=40))
def test_sums_gaps_and_bounds_hold_after_anything(script: list[tuple]) -> None:  # type: ignore[type-arg]
    pool = Pool(max_transactions=6, max_bytes=16 * 6000, max_per_account=4)
    nonces = {A: 0, B: 0, C: 0}
    held: dict[bytes, Transaction] = {}
    for step in script:
        left: list[Left] = []
        match step:
            case ("add", sender, nonce, fee, length):
                transaction = made(sender, nonce, fee, length=length)
                try:
                    left = pool.add(transaction, nonces[sender])
                except PoolRefused:
                    continue
                held[transaction.id] = transaction
            case ("final", sender):
                chosen = [t for t in pool.ready(nonces.__getitem__, 9, 1 << 20) if t.sender == sender]
                nonces[sender] += len(chosen)
                pool.remove(t.id for t in chosen)
                for transaction in chosen:
                    del held[transaction.id]
                left = pool.forget_stale([sender], nonces.__getitem__, 1)
            case ("drop", sender, nonce):
                left = pool.drop([Left(t.id, Code.INTERNAL, "") for t in held.values()
                                  if (t.sender, t.nonce) == (sender, nonce)], nonces.__getitem__)
            case ("stale", sender):
                nonces[sender] += 1                                     # another node's transaction took it
                left = pool.forget_stale([sender], nonces.__getitem__, 1)
            case _:
                left = pool.sweep(nonces.__getitem__, 1)
        for one in left:
            del held[one.id]
        check(pool, nonces, held)


def check(pool: Pool, nonces: dict[bytes, int], held: dict[bytes, Transaction]) -> None:
    statistics = pool.statistics()
    assert statistics.transactions == len(held) == len(pool) <= pool.max_transactions
    assert statistics.size_bytes == sum(map(memory_of, held.values())) <= pool.max_bytes
    assert all(transaction_id in pool for transaction_id in held)
    ready = {t.id for t in pool.ready(nonces.__getitem__, 99, 1 << 20)}
    for sender in (A, B, C):
        own = {t.nonce: t for t in held.values() if t.sender == sender}
        assert [t.id for t in pool.of_account(sender)] == [own[nonce].id for nonce in sorted(own)]
        assert pool.fees_uthb(sender, 99) == sum(t.fee_uthb for t in own.values())
        nonce = nonces[sender]
        while nonce in own:
            assert own[nonce].id in ready
            nonce += 1
        assert all(t.id not in ready for at, t in own.items() if at > nonce)
    for transaction in held.values():
        entry = pool._by_id[transaction.id]
        assert entry.rank == (rank_of(transaction) if transaction.id in ready else GAPPED)
    cheapest = pool._cheapest_entry()
    assert (cheapest is None) == (not held)
    if cheapest is not None:
        assert cheapest.place == min(entry.place for entry in pool._by_id.values())


# ---------------------------------------------------------------- reasons


def test_reasons_are_kept_up_to_a_number() -> None:
    fates = Fates(most=2)
    for number, code in enumerate((Code.EXPIRED, Code.POOL_FULL, Code.REPLACED)):
        fates.add(Left(bytes([number]) * 32, code, f"reason {number}"))
    assert len(fates) == 2
    assert fates.get(bytes(32)) is None
    found = fates.get(bytes([2]) * 32)
    assert found is not None
    assert (found.state, found.code, found.reason) == ("evicted", Code.REPLACED, "reason 2")
    fates.forget(bytes([2]) * 32)
    assert fates.get(bytes([2]) * 32) is None


def test_bulk_is_refused_when_it_is_too_much_and_one_always_fits() -> None:
    inbox: Inbox[int] = Inbox()
    assert inbox.offer_bulk(0, BULK_MOST_BYTES + 5)
    assert not inbox.offer_bulk(1, 1)
    inbox.drop_bulk()
    assert all(inbox.offer_bulk(number, 1) for number in range(BULK_MOST))
    assert not inbox.offer_bulk(1, 1)
    assert inbox.first_bulk() == 0


# ---------------------------------------------------------------- on a chain


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(small_genesis(authorities=1), tmp_path)
    yield cluster
    cluster.close()


def test_gossiped_transactions_that_no_block_could_hold_do_not_enter(cluster: Cluster) -> None:
    genesis, replica = cluster.genesis, cluster.members[0].replica
    stranger = key(999)
    pays = [1, OTHER.public, 1, b""]
    replica.gossiped([
        transfer(genesis, stranger, 0, OTHER.public, 1), signed(genesis, TRADER, 0, [pays], fee=0),
        signed(genesis, TRADER, 0, [pays], until=0), signed(genesis, TRADER, 0, [pays], fee=2_000_000 * BAHT),
        transfer(genesis, TRADER, 2000, OTHER.public, 1), transfer(genesis, TRADER, 0, OTHER.public, 1)])
    replica.verify_some(64)
    assert len(replica.pool) == 1
    assert len([note for note in replica.take_turn().notes if note.event == "transaction_dropped"]) == 5


def test_an_account_cannot_have_more_pending_than_it_can_pay_the_fees_of(cluster: Cluster) -> None:
    genesis = cluster.genesis
    raws = [signed(genesis, TRADER, nonce, [[1, OTHER.public, 1, b""]], fee=400_000 * BAHT) for nonce in range(3)]
    assert [code for _, code, _ in cluster.submit(0, raws)] == [0, 0, Code.UNFUNDED_FEE]


def test_a_full_pool_refuses_before_it_checks_signatures(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    genesis, replica = cluster.genesis, cluster.members[0].replica
    replica.pool.max_transactions = 1
    replica.pool.add(decode_transaction(transfer(genesis, TRADER, 0, OTHER.public, 1)), 0)
    checked: list[int] = []
    honest = pending.Intake.check

    def count(*arguments: object) -> object:
        answer = honest(*arguments)     # type: ignore[arg-type]
        checked.append(sum(isinstance(item, Transaction) for item in answer))
        return answer

    monkeypatch.setattr(pending.Intake, "check", count)
    [(_, code, message)] = cluster.submit(0, [transfer(genesis, OTHER, 0, TRADER.public, 1)])
    assert (code, checked) == (Code.POOL_FULL, [])
    assert "none of which pays less" in message


@given(st.integers(0, MAX_INT64), st.integers(0, MAX_INT64), st.integers(0, MAX_INT64), st.integers(1, 64), st.data())
@settings(max_examples=60)
def test_the_head_of_a_transaction_says_what_decoding_gives(nonce: int, until: int, fee: int, operations: int,
                                                            data: st.DataObject) -> None:
    payload = encode_payload(TRADER.public, nonce, until, fee, [[1, OTHER.public, 1, b""]] * operations)
    raw = sign_transaction(bytes(32), [TRADER], payload)
    assert transaction_head(raw) == (TRADER.public, nonce, fee, operations)
    cut = raw[:data.draw(st.integers(0, 48))]
    assert transaction_head(cut) is None
    at, byte = data.draw(st.integers(0, 60)), data.draw(st.integers(0, 255))
    changed = raw[:at] + bytes((byte,)) + raw[at + 1:]
    head = transaction_head(changed)
    try:
        decoded = decode_transaction(changed)
    except GridTokenXError:
        return
    assert head == (decoded.sender, decoded.nonce, decoded.fee_uthb, len(decoded.operations))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 6), st.integers(1, 2)), max_size=30),
       st.integers(1, 6))
@settings(max_examples=60)
def test_the_quick_look_never_refuses_what_the_pool_would_take(script: list[tuple[int, int, int, int]],
                                                               most: int) -> None:
    pool = Pool(max_transactions=6)
    for sender, nonce, fee, operations in script:
        transaction = made(bytes([sender]) * 32, nonce, 1000 * fee, operations=operations)
        reason = pool.full_for(transaction.sender, nonce, rank_of(transaction), most)
        try:
            pool.add(transaction, 0, most)
        except PoolRefused as error:
            assert not reason or error.code in (Code.POOL_FULL, Code.NONCE_GAP)
        else:
            assert not reason


def test_only_what_pays_enough_is_looked_at_and_answers_keep_their_order(cluster: Cluster) -> None:
    genesis, replica = cluster.genesis, cluster.members[0].replica
    replica.pool.max_transactions = 1
    cheap, same, dear = (signed(genesis, who, 0, [[1, OTHER.public, 1, b""]], fee=fee)
                         for who, fee in ((TRADER, 10_000), (OTHER, 10_000), (ISSUER, 20_000)))
    assert replica.refuse_at_once([cheap]) is None
    replica.pool.add(decode_transaction(cheap), 0)
    found = replica.refuse_at_once([same, same])
    assert found is not None
    assert [(identity, code) for identity, code, _ in found] == [(decode_transaction(same).id, Code.POOL_FULL)] * 2
    assert replica.refuse_at_once([same, dear]) is None
    assert replica.refuse_at_once([cheap]) is None              # pending already: another answer
    answers = cluster.submit(0, [same, b"nothing", dear, same])
    assert [code for _, code, _ in answers] == [Code.POOL_FULL, Code.MALFORMED, 0, Code.POOL_FULL]
    assert [identity for identity, _, _ in answers] == [
        digest(Domain.TRANSACTION, raw) for raw in (same, b"nothing", dear, same)]


def test_submissions_are_judged_on_the_newest_final_state(cluster: Cluster) -> None:
    chain = cluster.members[0].replica.chain
    before = chain.admission()
    assert chain.admission() is before
    with pytest.raises(Refused, match="nonce"):
        before.check_place(decode_transaction(transfer(cluster.genesis, TRADER, 1025, OTHER.public, 1)))
    cluster.submit(0, [transfer(cluster.genesis, TRADER, 0, OTHER.public, 1)])
    cluster.run(20_000)
    assert chain.head.header.height > 0
    after = chain.admission()
    assert after is not before
    after.check_place(decode_transaction(transfer(cluster.genesis, TRADER, 1025, OTHER.public, 1)))


def test_refusals_leave_no_circle_that_only_the_collector_can_undo(cluster: Cluster) -> None:
    genesis = cluster.genesis
    used = [transfer(genesis, TRADER, 5000 + number, OTHER.public, 1) for number in range(8)]
    gc.collect()
    gc.disable()
    try:
        assert {code for _, code, _ in cluster.submit(0, used)} == {Code.WRONG_NONCE}
        assert not [kept for kept in gc.get_objects() if isinstance(kept, PoolRefused)]
    finally:
        gc.enable()


def test_replaced_and_evicted_senders_can_ask_why(cluster: Cluster) -> None:
    genesis, replica = cluster.genesis, cluster.members[0].replica
    cheap, dear = (signed(genesis, TRADER, 0, [[1, OTHER.public, 1, b""]], fee=fee) for fee in (10_000, 20_000))
    [(first, _, _), (second, code, _)] = cluster.submit(0, [cheap, dear])
    fate = replica.fate_of(first)
    assert code == 0
    assert fate is not None
    assert (fate.state, fate.code) == ("evicted", Code.REPLACED)
    assert second.hex() in fate.reason
    cluster.run(3_000)
    assert not len(replica.pool)
    assert any(second in block.ids for block in cluster.members[0].chain.finals())


def test_who_spent_its_money_elsewhere_gives_up_its_place(cluster: Cluster) -> None:
    """The account's own transfer leaves nothing for the fees of what it has pending behind it."""
    genesis = cluster.genesis
    cluster.run(1_500)
    everything = 1_000_000 * BAHT
    raws = [transfer(genesis, TRADER, 0, OTHER.public, everything - 10_000)]
    raws += [transfer(genesis, TRADER, nonce, OTHER.public, 1) for nonce in (1, 2)]
    answers = cluster.submit(0, raws)
    assert [code for _, code, _ in answers] == [0, 0, 0]
    cluster.submit(0, [transfer(genesis, OTHER, 0, NOBODY, 1)])
    for nonce in range(1, 4):
        cluster.run(600)
        cluster.submit(0, [transfer(genesis, OTHER, nonce, NOBODY, 1)])
    cluster.run(1_000)
    assert not cluster.members[0].replica.pool.of_account(TRADER.public)
    fate = cluster.members[0].replica.fate_of(answers[1][0])
    assert fate is not None
    assert fate.code is Code.UNFUNDED_FEE


NOBODY = key(4242).public


# ---------------------------------------------------------------- pace


def test_transactions_get_little_time_while_plenty_is_pending() -> None:
    pace = Pace()
    pace.begin(100.0)
    assert pace.wait_s(PLENTY_LEAST - 1, 100.0) == 0.0
    assert pace.wait_s(PLENTY_LEAST, 100.0) == pytest.approx(SLICE_S / PLENTY_SHARE)
    assert pace.wait_s(PLENTY_LEAST, 101.0) == 0.0
    for tenth in range(300):
        pace.final(500, 100.0 + tenth / 10)                 # 5000 a second
    assert pace.plenty == pytest.approx(5000 * PLENTY_S, rel=0.05)
    assert pace.full == pytest.approx(5000 * FULL_S, rel=0.05)
    pace.final(0, 1000.0)
    assert (pace.plenty, pace.full) == (PLENTY_LEAST, FULL_LEAST)
