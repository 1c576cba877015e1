"""Databases of older formats: brought up to date in one transaction, or refused with what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from node_support import Cluster, small_genesis
from test_node_epochs import LENGTH, Chain, let_join

from gridtokenx import codec
from gridtokenx.node.recover import replay
from gridtokenx.store.database import Database
from gridtokenx.store.environment import ENVIRONMENT_DIRECTORY, LMDB_ENGINE
from gridtokenx.store.errors import WrongVersion
from gridtokenx.store.migrations import bring_up_to_date
from gridtokenx.store.schema import FORMAT_VERSION, META_FIRST, META_FORMAT, TABLES


def edit(path: Path, change: Callable[[lmdb.Environment, lmdb.Transaction], None]) -> None:
    place = str(path / ENVIRONMENT_DIRECTORY)
    with (lmdb.open(place, max_dbs=32, map_size=64 << 20, lib_version=LMDB_ENGINE) as opened,
          opened.begin(write=True) as transaction):
        change(opened, transaction)


def to_format_1(path: Path) -> None:
    def change(opened: lmdb.Environment, transaction: lmdb.Transaction) -> None:
        meta = opened.open_db(b"meta", txn=transaction)
        transaction.drop(opened.open_db(b"epochs", txn=transaction))
        transaction.put(META_FORMAT, codec.encode(1), db=meta)
        transaction.delete(META_FIRST, db=meta)
    edit(path, change)


@pytest.mark.parametrize("past", [0, 3])
def test_format_1_is_brought_up_to_date_with_all_its_epochs(tmp_path: Path, past: int) -> None:
    """Also when the checkpoint is at a boundary block itself (`past` = 0)."""
    cluster = Cluster(small_genesis(5, epoch_length=LENGTH), tmp_path, extra=1)
    cluster.run(1_500)
    chain = Chain(cluster)
    let_join(cluster, chain)
    while True:
        chain.grow_to(chain.head + 1, follow=(5,))
        if chain.head >= 2 * LENGTH + past:
            break
    chain.level()
    cluster.checkpoint(1)
    member = cluster.members[1]
    wanted, head, genesis = member.database.boundaries(), member.chain.head.header, cluster.genesis
    assert [entry.epoch for entry in wanted] == list(range(head.height // LENGTH))
    cluster.close()
    path = tmp_path / "1"
    to_format_1(path)
    with pytest.raises(WrongVersion, match=r"has database format 1; this program reads format 4. Start the node once"):
        Database.open_read_only(path)
    with Database.open(path, genesis.chain_id, map_bytes=64 << 20) as database:
        assert (database.boundaries(), database.first_height) == (wanted, 1)
        chain_read = type(member.chain)(genesis, database, genesis.books(), member.chain.rules)
        start, _, _ = replay(chain_read, (), database)
        assert (start.root.height, start.config.epoch) == (head.height, head.height // LENGTH)
        chain_read.close()
    with Database.open_read_only(path) as database:
        assert database.boundaries() == wanted


def test_steps_run_in_order_and_a_failing_one_leaves_the_old_format(tmp_path: Path) -> None:
    """The mechanism, by made-up formats 7 to 9."""
    cluster = Cluster(small_genesis(1), tmp_path)
    cluster.close()
    path = tmp_path / "0"
    place = path / ENVIRONMENT_DIRECTORY
    edit(path, lambda opened, txn: txn.put(META_FORMAT, codec.encode(7), db=opened.open_db(b"meta", txn=txn)))
    done: list[str] = []

    def note(name: str, fails: bool = False) -> Callable[..., None]:
        def step(transaction: lmdb.Transaction, tables: dict[bytes, object]) -> None:
            assert set(tables) == set(TABLES)
            transaction.put(b"note-" + name.encode(), b"", db=tables[b"meta"])
            done.append(name)
            if fails:
                raise ValueError("the disk is full, say")
        return step

    def run(steps: dict[int, Callable[..., None]], wanted: int = 9, writable: bool = True) -> int:
        with lmdb.open(str(place), max_dbs=32, map_size=64 << 20, lib_version=LMDB_ENGINE) as opened:
            return bring_up_to_date(opened, place, writable=writable, steps=steps, wanted=wanted)

    with pytest.raises(ValueError, match=r"full"):
        run({7: note("a"), 8: note("b", fails=True)})
    with pytest.raises(WrongVersion, match=r"format 7; this program reads format 9. Start the node"):
        run({7: note("a"), 8: note("b")}, writable=False)
    assert (run({7: note("a"), 8: note("b")}), done) == (7, ["a", "b", "a", "b"])
    assert run({7: note("a"), 8: note("b")}) == 9
    assert len(done) == 4
    with pytest.raises(WrongVersion, match=r"format 9; this program reads formats 10, 12. Use a previous program"):
        run({10: note("c")}, wanted=12)
    with pytest.raises(WrongVersion, match=r"Use a newer program"):
        run({}, wanted=8)
    with pytest.raises(WrongVersion, match=r"has database format 9"):
        Database.open(path)
    assert FORMAT_VERSION < 9
