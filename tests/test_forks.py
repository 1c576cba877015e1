"""Forks: a parent that stays as it is, blocks like the live network's, snapshots, edits that keep conservation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

import pytest
from attrs import evolve
from click.testing import CliRunner
from ledger_support import EGAT, ISSUER, REGISTRAR, START_MS, THB, genesis, key
from node_support import BAHT, OTHER, TRADER, Cluster, small_genesis, transfer

import gridtokenx
from gridtokenx.cli import cli
from gridtokenx.errors import InvariantError
from gridtokenx.forks import Chain, ForkError, OperationFailed, Refusal
from gridtokenx.forks.layers import flatten
from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger import spaces, trie
from gridtokenx.ledger.conservation import audit_totals
from gridtokenx.ledger.metering_records import Settling
from gridtokenx.ledger.operations import Deposit, RegisterMeter, RegisterParticipant, Transfer
from gridtokenx.ledger.records import Totals
from gridtokenx.ledger.session import Session
from gridtokenx.store.database import Database

ALICE, BOB = key("alice").public, key("bob").public


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory whose node still runs; TRADER has sent OTHER one baht in each of four blocks."""
    cluster = Cluster(small_genesis(4), tmp_path_factory.mktemp("forks") / "cluster")
    cluster.run(1_500)
    for nonce in range(4):
        (_, code, message), = cluster.submit(1, [transfer(cluster.genesis, TRADER, nonce, OTHER.public, BAHT)])
        assert code == 0, message
        cluster.run(400)
    cluster.run(1_000)
    cluster.checkpoint(0)
    yield cluster.members[0].path
    cluster.close()


def contents(path: Path) -> dict[str, str]:
    """What a fork must leave alone: all but LMDB's table of readers and the leases."""
    return {str(file.relative_to(path)): sha256(file.read_bytes()).hexdigest() for file in sorted(path.rglob("*"))
            if file.is_file() and file.name != "lock.mdb" and file.parent.name != "leases"}


def root_of(chain: Chain) -> bytes:
    """The state root, computed from all values by itself."""
    below, changes, _ = flatten(chain.head)
    values = dict(below.scan(b"")) | {key_: value for key_, value in changes.items() if value is not None}
    for key_, value in changes.items():
        if value is None:
            values.pop(key_, None)
    return trie.update(lambda path: None, trie.EMPTY_ROOT, sorted(values.items()))[0]


def test_a_fork_begins_where_its_parent_stands_and_leaves_it_alone(parent: Path) -> None:
    before = contents(parent)
    with Database.open_read_only(parent) as database:
        height = database.executed_height
    with gridtokenx.fork(parent) as chain:
        assert chain.provenance is not None
        assert (chain.provenance.height, chain.height) == (height, height + 1)
        assert chain.head.header.parent == chain.provenance.block_hash
        assert chain.chain_id == chain.provenance.chain_id != chain.provenance.parent
        had = chain.account(OTHER).balance
        chain.send(TRADER, Transfer(OTHER.public, 5 * BAHT))
        assert chain.account(OTHER).balance == had + 5 * BAHT
        assert chain.head.header.state_root == root_of(chain)
        audit_totals(chain.head)
    assert contents(parent) == before
    assert not list((parent / "leases").iterdir())


def test_a_fork_of_an_earlier_height_has_the_state_of_then(parent: Path) -> None:
    with gridtokenx.fork(parent) as newest:
        now, height = newest.account(OTHER).balance, newest.height - 1
    seen = set()
    for earlier in range(height + 1):
        with gridtokenx.fork(parent, earlier) as chain:
            seen.add(chain.account(OTHER).balance)
            assert chain.head.header.state_root == root_of(chain)
            chain.advance(2)
            audit_totals(chain.head)
    assert seen == {now - sent * BAHT for sent in range(5)}


def test_two_forks_are_two_chains(parent: Path) -> None:
    with gridtokenx.fork(parent) as one, gridtokenx.fork(parent) as same, gridtokenx.fork(parent, salt="2") as other:
        assert one.chain_id == same.chain_id != other.chain_id
        assert one.key("a").public == same.key("a").public != other.key("a").public
        for chain in (one, same):
            chain.send(TRADER, Transfer(OTHER.public, BAHT))
            chain.advance()
        assert one.head.header == same.head.header


def test_what_cannot_be_forked_is_said(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(ForkError, match=r"at height 100000: .*It can be at heights 0 to \d+"):
        gridtokenx.fork(parent, 100_000)
    with pytest.raises(ForkError, match="holds no chain"):
        gridtokenx.fork(tmp_path)


# ---------------------------------------------------------------- a chain of its own


@pytest.fixture
def chain() -> Iterator[Chain]:
    with gridtokenx.new_chain(genesis(rate=180)) as made:
        yield made


def test_blocks_are_those_of_the_live_ledger(chain: Chain) -> None:
    assert chain.send(ISSUER, Deposit(ALICE, 7 * THB)) == [()]
    tickets = [chain.submit(ALICE, Transfer(BOB, THB)) for _ in range(3)]
    mined = chain.mine()
    assert sorted(mined.receipts) == tickets and all(receipt.ok for receipt in mined.receipts.values())  # type: ignore[union-attr]
    assert chain.account(BOB).balance == 3 * THB
    assert chain.account(ALICE).nonce == 3
    assert chain.head.header.state_root == root_of(chain)


def test_failures_have_their_codes(chain: Chain) -> None:
    chain.send(ISSUER, Deposit(ALICE, THB))
    with pytest.raises(OperationFailed, match="transfer: UNFUNDED"):
        chain.send(ALICE, Transfer(BOB, 2 * THB))
    with pytest.raises(ForkError, match=r"no block takes the transaction: gtx1.* can spend 0 uTHB .* lack the fee"):
        chain.send(key("nobody"), Transfer(BOB, 1))
    assert chain.waiting == 0
    with pytest.raises(OperationFailed, match="FEE_TOO_LOW"):
        chain.send(ALICE, Transfer(BOB, 1), fee_uthb=0)
    ticket = chain.submit(ALICE, Transfer(BOB, 1), fee_uthb=1)
    follows = chain.submit(ALICE, Transfer(BOB, 1))
    refused = chain.mine().receipts
    assert isinstance(refused[ticket], Refusal)
    done = {**refused, **chain.mine().receipts}
    assert done[follows].ok         # type: ignore[union-attr]
    with pytest.raises(ForkError, match="at least one operation"):
        chain.submit(ALICE)


def test_time_passes_when_told_to(chain: Chain) -> None:
    assert chain.now.isoformat() == "2026-05-11T09:00:00+07:00"
    seen: list[int] = []
    first = chain.window
    chain.advance(3, lambda here: seen.append(here.window))
    assert seen == [first + 1, first + 2, first + 3]
    chain.warp(chain.now.replace(hour=18, minute=0, second=0))
    assert (chain.now.hour, chain.now.minute) == (18, 0)
    with pytest.raises(ForkError, match="does not run backwards"):
        chain.warp(START_MS)
    with pytest.raises(ForkError, match="no time zone"):
        chain.warp(chain.now.replace(tzinfo=None))


def _reach(chain: Chain, windows: int) -> None:
    """To where it is already, too."""
    there = chain.window + windows
    for window in (there, there, chain.window):
        chain.reach(window)
        if chain.unfinished:
            chain.flush()
    assert chain.window == there


@pytest.mark.parametrize("pass_", [Chain.advance, _reach])
def test_windows_settle_on_a_slow_clock_too(pass_: Callable[[Chain, int], None]) -> None:
    """One block a quarter hour would be a halt of the chain in each, and move the readings' deadlines on and on."""
    with gridtokenx.new_chain(genesis(rate=1)) as slow:
        slow.send(ISSUER, Deposit(ALICE, THB))
        slow.send(REGISTRAR, RegisterParticipant(ALICE, "L-1", Role.PROSUMER, 0, 2 * START_MS))
        slow.send(REGISTRAR, RegisterMeter(1, key("its meter").public, 0, Network.PEA, Source.SOLAR, 0, 10_000, 10_000))
        first = slow.window + 1
        pass_(slow, 6)
        settling: Settling = slow.record(spaces.SETTLING)
        assert settling.window == first + 1


def test_snapshots_nest_and_revert(chain: Chain) -> None:
    chain.send(ISSUER, Deposit(ALICE, 10 * THB))
    outer = chain.snapshot()
    header = chain.head.header
    chain.send(ALICE, Transfer(BOB, THB))
    inner = chain.snapshot()
    chain.submit(ALICE, Transfer(BOB, THB))
    chain.advance(2)
    assert chain.account(BOB).balance == 2 * THB
    chain.revert(inner)
    assert (chain.account(BOB).balance, chain.waiting) == (THB, 0)
    chain.revert(outer)
    assert chain.head.header == header and len(chain.blocks) == 1
    with pytest.raises(ForkError, match="no snapshot 2"):
        chain.revert(inner)
    chain.send(ALICE, Transfer(BOB, 3 * THB))
    chain.revert(outer)
    assert chain.account(BOB).balance == 0
    assert chain.head.header.state_root == root_of(chain)


def test_without_state_roots_the_last_one_is_that_of_all(chain: Chain, tmp_path: Path) -> None:
    begun = chain.head.header
    chain.send(ISSUER, Deposit(ALICE, 10 * THB))
    first = chain.head.header.state_root
    with chain.unrooted():
        for _ in range(3):
            chain.send(ALICE, Transfer(BOB, THB))
            chain.override.balance(BOB, chain.account(BOB).balance + 1)
        assert {mined.header.state_root for mined in chain.blocks} == {first}
        point = chain.snapshot()
        known = chain.head.header
        assert known.state_root == root_of(chain) == chain.blocks[-1].header.state_root != first
        chain.advance(2)
        chain.send(ALICE, Transfer(BOB, THB))
        assert chain.head.header.state_root == known.state_root
        chain.revert(point)
        assert (chain.head.header, chain.account(BOB).balance) == (known, 3 * THB + 3)
        chain.send(ALICE, Transfer(BOB, THB))
        chain.dump(tmp_path)
        with gridtokenx.load(tmp_path) as again:
            assert again.head.header.state_root == root_of(again) == chain.head.header.state_root
        chain.send(ALICE, Transfer(BOB, THB))
    assert chain.account(BOB).balance == 5 * THB + 3
    assert chain.head.header.state_root == root_of(chain) == chain.blocks[-1].header.state_root
    assert all(after.header.parent == before.header.hash for before, after in pairwise(chain.blocks))
    assert chain.blocks[0].header.parent == begun.hash
    chain.send(ALICE, Transfer(BOB, THB))
    assert chain.head.header.state_root == root_of(chain)
    audit_totals(chain.head)


def test_an_edit_cannot_make_money_from_nothing(chain: Chain) -> None:
    def give(session: Session) -> None:
        account = session.get(spaces.account(ISSUER.public))
        session.put(spaces.account(ISSUER.public), evolve(account, balance=account.balance + 1))

    def give_and_say_so(session: Session) -> None:
        give(session)
        totals: Totals = session.get(spaces.TOTALS)
        session.put(spaces.TOTALS, evolve(totals, minted_uthb=totals.minted_uthb + 1))

    before, header = chain.account(ISSUER).balance, chain.head.header
    with pytest.raises(InvariantError):
        chain.edit(give)
    assert chain.head.header == header
    chain.edit(give_and_say_so)
    assert chain.account(ISSUER).balance == before + 1
    assert chain.height == header.height + 1
    chain.send(ISSUER, Deposit(ALICE, THB))
    audit_totals(chain.head)
    assert chain.head.header.state_root == root_of(chain)


def test_many_blocks_lie_in_few_layers(chain: Chain) -> None:
    chain.send(ISSUER, Deposit(ALICE, 500 * THB))
    for number in range(200):
        chain.submit(ALICE, Transfer(key(f"somebody {number}").public, THB))
        chain.mine()
    depth, reader = 0, chain.head
    while hasattr(reader, "parent"):
        depth, reader = depth + 1, reader.parent        # type: ignore[assignment]
    assert depth < 12
    assert chain.head.header.state_root == root_of(chain)
    assert chain.head.header.proposer == b"" and EGAT.public


# ---------------------------------------------------------------- dumps


def test_a_dumped_fork_goes_on_where_it_was(parent: Path, tmp_path: Path) -> None:
    with gridtokenx.fork(parent) as chain:
        chain.send(TRADER, Transfer(OTHER.public, 5 * BAHT))
        chain.advance()
        chain.submit(TRADER, Transfer(OTHER.public, BAHT))
        with pytest.raises(ForkError, match="1 transactions wait"):
            chain.dump(tmp_path)
        chain.flush()
        for _ in range(2):
            chain.dump(tmp_path)
        header, provenance = chain.head.header, chain.provenance
        chain.send(TRADER, Transfer(OTHER.public, 2 * BAHT))
        after = chain.head.header
    assert len(list((parent / "leases").iterdir())) == 1
    for _ in range(2):
        with gridtokenx.load(tmp_path) as again:
            assert (again.head.header, again.provenance) == (header, provenance)
            again.send(TRADER, Transfer(OTHER.public, 2 * BAHT))
            assert again.head.header == after
            assert again.head.header.state_root == root_of(again)
    lease, = (parent / "leases").iterdir()
    assert str(tmp_path) in lease.read_text()
    lease.unlink()


def test_a_new_chain_can_be_dumped_too(chain: Chain, tmp_path: Path) -> None:
    chain.send(ISSUER, Deposit(ALICE, THB))
    chain.dump(tmp_path / "made" / "for it")
    with gridtokenx.load(tmp_path / "made" / "for it") as again:
        assert again.account(ALICE).balance == THB
        assert again.key("a").public == chain.key("a").public


def test_damaged_and_orphaned_dumps_are_refused(parent: Path, tmp_path: Path) -> None:
    with pytest.raises(ForkError, match="holds no fork"):
        gridtokenx.load(tmp_path)
    with gridtokenx.fork(parent) as chain:
        file = chain.dump(tmp_path)
    raw = file.read_bytes()
    for place in (0, len(raw) // 2, len(raw) - 1):
        file.write_bytes(raw[:place] + bytes((raw[place] ^ 1,)) + raw[place + 1:])
        with pytest.raises(ForkError, match="checksum"):
            gridtokenx.load(tmp_path)
    content = raw[:-32].replace(str(parent).encode(), str(parent.with_name("x" * len(parent.name))).encode())
    file.write_bytes(content + sha256(content).digest())
    with pytest.raises(ForkError, match="not there any more"):
        gridtokenx.load(tmp_path)
    for lease in (parent / "leases").iterdir():
        lease.unlink()


def test_the_command_forks_a_directory(parent: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "fork")
    done = CliRunner().invoke(cli, ["fork", "--from", str(parent), "--height", "3", "--out", out, "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    with gridtokenx.load(out) as chain, gridtokenx.fork(parent, 3) as same:
        assert facts["chain_id"] == chain.chain_id.hex() == same.chain_id.hex()
        assert (facts["parent"]["height"], facts["height"]) == (3, 4)
        assert facts["state_root"] == same.head.header.state_root.hex() == chain.head.header.state_root.hex()
    again = CliRunner().invoke(cli, ["fork", "--from", str(parent), "--out", out])
    assert again.exit_code and "holds a fork already" in again.output
    later = CliRunner().invoke(cli, ["fork", "--from", str(parent), "--height", "99999", "--out", str(tmp_path / "b")])
    assert later.exit_code and "It can be at heights 0 to" in later.output
    for lease in (parent / "leases").iterdir():
        lease.unlink()
