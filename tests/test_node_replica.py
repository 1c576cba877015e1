"""Replicas of one chain: finality, catching up, restarts, bodies that must be asked for, bad submissions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from node_support import BAHT, ISSUER, OTHER, TRADER, Cluster, key, signed, small_genesis, transfer

from gridtokenx.ledger.receipts import Code
from gridtokenx.node.chain import nonce_of


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(small_genesis(), tmp_path)
    yield cluster
    cluster.close()


def settled(cluster: Cluster) -> int:
    """Every member has the same head; returns its height."""
    heads = set(cluster.heads())
    assert len(heads) == 1, cluster.heads()
    return heads.pop()[0]


def test_transaction_becomes_final_everywhere(cluster: Cluster) -> None:
    cluster.run(2_000)
    assert settled(cluster) == 0
    [(transaction_id, code, _)] = cluster.submit(0, [transfer(cluster.genesis, TRADER, 0, OTHER.public, BAHT)])
    assert code == 0
    cluster.run(1_000)
    assert settled(cluster) >= 1
    for member in cluster.members:
        assert nonce_of(member.chain.state, TRADER.public) == 1
        assert len(member.replica.pool) == 0
        assert any(transaction_id in block.ids for block in member.chain.finals())


def test_idle_chain_makes_heartbeats_only(cluster: Cluster) -> None:
    cluster.run(35_000)
    assert 2 <= settled(cluster) <= 4


def test_many_transactions_of_one_account_in_order(cluster: Cluster) -> None:
    raws = [transfer(cluster.genesis, TRADER, nonce, OTHER.public, 1) for nonce in range(300)]
    cluster.run(1_500)
    assert {code for _, code, _ in cluster.submit(1, raws)} == {0}
    cluster.run(2_000)
    settled(cluster)
    assert all(nonce_of(member.chain.state, TRADER.public) == 300 for member in cluster.members)


def test_one_member_down_and_back(cluster: Cluster) -> None:
    cluster.run(1_500)
    cluster.crash(2)
    for nonce in range(5):
        cluster.submit(0, [transfer(cluster.genesis, TRADER, nonce, OTHER.public, 1)])
        cluster.run(1_500)
    height = settled(cluster)
    assert height >= 5
    cluster.restart(2)
    cluster.submit(1, [transfer(cluster.genesis, TRADER, 5, OTHER.public, 1)])
    cluster.run(5_000)
    assert settled(cluster) > height


def test_all_crash_at_once_and_nothing_final_is_lost(cluster: Cluster) -> None:
    cluster.run(1_500)
    for nonce in range(4):
        cluster.submit(nonce, [transfer(cluster.genesis, TRADER, nonce, OTHER.public, 1)])
        cluster.run(700)
    cluster.checkpoint(1)
    cluster.submit(0, [transfer(cluster.genesis, TRADER, 4, OTHER.public, 1)])
    cluster.run(700)
    before = {index: list(finals) for index, finals in cluster.finals.items()}
    for index in range(5):
        cluster.crash(index)
    for index in range(5):
        cluster.restart(index)
    cluster.run(4_000)
    settled(cluster)
    longest = max(before.values(), key=len)
    for member in cluster.members:
        assert member.chain.head.header.height >= len(longest)
        assert nonce_of(member.chain.state, TRADER.public) == 5


def test_a_body_that_never_arrived_is_asked_for(cluster: Cluster) -> None:
    """The transaction reaches only one member by itself; the others get it when it is proposed."""
    cluster.run(1_500)
    raw = transfer(cluster.genesis, TRADER, 0, OTHER.public, 7)
    member = cluster.members[3]
    member.replica.at(cluster.now_ms, 0)
    member.replica.gossiped([raw])          # taken in, but not passed on
    member.replica.verify_some(1)
    cluster.run(6_000)
    settled(cluster)
    assert all(nonce_of(m.chain.state, TRADER.public) == 1 for m in cluster.members)


@pytest.mark.parametrize(("raw", "code"), [
    (b"\xff\x00", Code.MALFORMED),
    (b"", Code.MALFORMED),
])
def test_malformed_submission(cluster: Cluster, raw: bytes, code: Code) -> None:
    assert cluster.submit(0, [raw])[0][1] == code


def test_refused_submissions_have_their_codes(cluster: Cluster) -> None:
    genesis = cluster.genesis
    good = transfer(genesis, TRADER, 0, OTHER.public, 1)
    forged = good[:-1] + bytes([good[-1] ^ 1])
    expired = signed(genesis, TRADER, 0, [[1, OTHER.public, 1, b""]], until=0)
    cheap = signed(genesis, TRADER, 0, [[1, OTHER.public, 1, b""]], fee=0)
    poor = transfer(genesis, key(999), 0, OTHER.public, 1)
    too_much = transfer(genesis, TRADER, 0, OTHER.public, 10**15)
    far = transfer(genesis, TRADER, 5_000, OTHER.public, 1)
    mint = signed(genesis, TRADER, 0, [[2, TRADER.public, 5, b""]])
    codes = [answer[1] for answer in cluster.submit(0, [forged, expired, cheap, poor, too_much, far, mint, good, good])]
    assert codes[:6] == [Code.BAD_SIGNATURE, Code.EXPIRED, Code.FEE_TOO_LOW, Code.UNFUNDED_FEE, Code.UNFUNDED,
                         Code.WRONG_NONCE]
    assert codes[6] != 0
    assert codes[7:] == [0, Code.DUPLICATE_TRANSACTION]
    cluster.run(3_000)
    [(_, replayed, _)] = cluster.submit(0, [good])
    assert replayed == Code.WRONG_NONCE
    assert ISSUER.public != TRADER.public
