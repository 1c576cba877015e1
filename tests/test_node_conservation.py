"""A block that breaks conservation (issue 4, show 6): no vote while it is proposed, a stop once it is final.

The fault is put into the program that all nodes run: a reading of a certain size passes the check of its meter's
capacity. What finds it is the conservation check over the block's changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve
from node_support import (
    BAHT,
    OTHER,
    REGISTRAR,
    START_MS,
    TRADER,
    Cluster,
    key,
    leader_of,
    let_lead,
    signed,
    small_genesis,
    transfer,
)

from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.errors import InvariantError
from gridtokenx.ledger import run, spaces
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.metering_records import Settling
from gridtokenx.ledger.operations import ReportReadings, sign_reading
from gridtokenx.ledger.records import Meter
from gridtokenx.ledger.transaction import decode_transaction
from gridtokenx.market import readings
from gridtokenx.market.clock import WINDOW_MS
from gridtokenx.market.readings import Reported
from gridtokenx.node.chain import nonce_of

TOO_MUCH = 77_777
METER: PrivateKey = key(300)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """TRADER has a meter of 40 kW, one window of which has ended; market time runs 1000 times as fast."""
    real = readings._check

    def faulty(context: Context, settling: Settling, sender: bytes, zones: int, reading: Reported) -> Meter:
        if reading.injected_wh == TOO_MUCH:
            meter: Meter = context.session.get(spaces.meter(reading.meter))
            return meter
        return real(context, settling, sender, zones, reading)

    monkeypatch.setattr(readings, "_check", faulty)
    genesis = evolve(small_genesis(), market_rate=1_000)
    cluster = Cluster(genesis, tmp_path)
    cluster.run(1_500)
    cluster.submit(0, [signed(genesis, REGISTRAR, 0, [
        [10, TRADER.public, "L-1", 2, 0, 2 * START_MS, 1000 * BAHT],
        [11, 1, METER.public, 0, 2, 1, 0, 40_000, 40_000]])])
    cluster.run(2_500)
    yield cluster
    cluster.close()


def report(cluster: Cluster, nonce: int, injected: int) -> bytes:
    state = cluster.members[0].chain.state
    meter = Meter.decode(state.get(spaces.meter(1)) or b"")
    window = -(-meter.since_ms // WINDOW_MS)
    reading = sign_reading(METER, cluster.genesis.chain_id, 1, window, injected, 100)
    return signed(cluster.genesis, TRADER, nonce, [ReportReadings((reading,)).fields()])


def test_a_proposed_block_gets_no_vote_and_costs_one_view(cluster: Cluster) -> None:
    bad = report(cluster, 0, TOO_MUCH)
    before = {member.chain.head.header.height for member in cluster.members}
    faulty = let_lead(cluster, bad)
    assert faulty.index == leader_of(cluster)
    cluster.notes.clear()
    cluster.submit((faulty.index + 1) % 5, [transfer(cluster.genesis, OTHER, 0, TRADER.public, 1)])
    cluster.run(2_000)
    honest = [member for member in cluster.members if member is not faulty]
    reasons = [note.detail for index, note in cluster.notes if index != faulty.index]
    named = [reason for reason in reasons if "InvariantError: READING" in reason and "is impossible" in reason]
    assert len(named) >= 3, reasons
    assert str(TOO_MUCH) in named[0]
    nullified = {note.view for _, note in cluster.notes if note.event == "nullify certificate"}
    assert len(nullified) == 1
    for member in honest:
        assert member.chain.head.header.height > max(before)
        assert nonce_of(member.chain.state, OTHER.public) == 1          # the node goes on
        assert not any(decode_transaction(bad).id in block.ids for block in member.chain.finals())


def test_an_own_block_leaves_the_transaction_out(cluster: Cluster) -> None:
    bad = report(cluster, 0, TOO_MUCH)
    [(_, code, message)] = cluster.submit(0, [bad])
    assert code == 0, message           # at submission only the operation's own rules are tried
    cluster.submit(0, [transfer(cluster.genesis, OTHER, 0, TRADER.public, 1)])
    cluster.run(3_000)
    for member in cluster.members:
        assert nonce_of(member.chain.state, OTHER.public) == 1
        assert nonce_of(member.chain.state, TRADER.public) == 0
    assert not any(note.event == "nullify certificate" for _, note in cluster.notes)


def make_final(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that are up run without the check for a while."""
    checked = run.check_changes
    monkeypatch.setattr(run, "check_changes", lambda session, changes: None)
    cluster.submit(0, [report(cluster, 0, TOO_MUCH)])
    cluster.run(2_000)
    cluster.submit(0, [transfer(cluster.genesis, OTHER, 0, TRADER.public, 1)])
    cluster.run(2_000)              # a later vote: what the logs hold of the block is synced
    assert nonce_of(cluster.members[0].chain.state, TRADER.public) == 1
    monkeypatch.setattr(run, "check_changes", checked)


def test_a_final_block_stops_the_node_in_catch_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.crash(4)
    make_final(cluster, monkeypatch)
    for index in range(4):          # the others' stores have it; they take no part in what follows
        cluster.checkpoint(index)
    cluster.restart(4)
    with pytest.raises(InvariantError, match=r"block \d+ \([0-9a-f]+\) is final but does not execute here: "
                                             r"InvariantError: READING .* is impossible"):
        cluster._sync(4, (0, 1, 2, 3))


def test_a_final_block_stops_the_node_on_restart(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    make_final(cluster, monkeypatch)
    cluster.crash(0)
    member = cluster.members[0]
    with pytest.raises(InvariantError, match=r"block \d+ \([0-9a-f]+\) is final in the log but does not execute: "
                                             r"InvariantError: READING .* is impossible"):
        member.start(cluster.now_ms)
    member.log.close()
    member.database.close()
