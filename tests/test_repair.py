"""Backups and repair: damage is named, what blocks commit to is made anew, and nobody signs on forgotten votes."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest
from attrs import evolve
from click.testing import CliRunner
from node_support import AUTHORITY_KEYS, OTHER, Cluster, small_genesis
from test_node_epochs import LENGTH, Chain
from test_snapshots import contents
from test_store_migrations import edit

from gridtokenx.cli import cli
from gridtokenx.crypto.keystore import save_key
from gridtokenx.ledger import spaces
from gridtokenx.ledger.genesis import dump_genesis
from gridtokenx.node.chain import BlockRules
from gridtokenx.node.chain import Chain as NodeChain
from gridtokenx.node.lost_log import (
    LOST_MARK,
    PERMIT,
    first_start_permitted,
    has_signed,
    open_log,
    permit_first_start,
)
from gridtokenx.node.repair import RESYNC, repair
from gridtokenx.store.database import Database
from gridtokenx.store.errors import DatabaseDamaged, DirectoryInUse, NotInitialised
from gridtokenx.store.schema import height_key

MAP = 64 << 20


@pytest.fixture(scope="module")
def chain_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data directories of five authorities after two epochs, stopped."""
    path = tmp_path_factory.mktemp("chain")
    cluster = Cluster(small_genesis(5, epoch_length=LENGTH), path)
    cluster.run(1_500)
    Chain(cluster).grow_to(2 * LENGTH + 4)
    for index in range(5):
        cluster.checkpoint(index)
    cluster.close()
    return path


GENESIS = small_genesis(5, epoch_length=LENGTH)


@pytest.fixture
def data(chain_folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(chain_folder / "0", tmp_path / "data")
    return tmp_path / "data"


def table(name: bytes, change: Callable[[lmdb.Cursor], None]) -> Callable[..., None]:
    def run(opened: lmdb.Environment, transaction: lmdb.Transaction) -> None:
        with transaction.cursor(db=opened.open_db(name, txn=transaction)) as cursor:
            change(cursor)
    return run


def flipped(at: bytes) -> Callable[[lmdb.Cursor], None]:
    def change(cursor: lmdb.Cursor) -> None:
        assert cursor.set_key(at)
        value = cursor.value()
        cursor.put(at, value[:-1] + bytes([value[-1] ^ 1]))
    return change


def gone(at: bytes) -> Callable[[lmdb.Cursor], None]:
    def change(cursor: lmdb.Cursor) -> None:
        assert cursor.set_key(at)
        cursor.delete()
    return change


def test_a_good_directory_is_in_order(data: Path) -> None:
    report = repair(data)
    assert (report.in_order, report.found, report.done) == (True, [], [])
    assert report.height > 2 * LENGTH
    with Database.open(data, map_bytes=MAP), pytest.raises(DirectoryInUse):
        repair(data)
    with pytest.raises(NotInitialised, match="is no data directory"):
        repair(data / "nowhere")


@pytest.mark.parametrize(("name", "change", "said"), [
    (b"state", flipped(spaces.account(OTHER.public)), "the record 04"),
    (b"state", gone(spaces.CLOCK), "is not the one that the state root"),
    (b"state", lambda cursor: cursor.put(b"\x04" + bytes(32), b"\xf6"), "1 records are not under the state root"),
    (b"pages", flipped(b"\x00"), "the state: page 00"),
    (b"pages", gone(b"\x00"), "the state: page 00 is missing"),
])
def test_a_damaged_state_is_made_anew_from_the_blocks(data: Path, chain_folder: Path, name: bytes,
                                                      change: Callable[[lmdb.Cursor], None], said: str) -> None:
    edit(data, table(name, change))
    checked = repair(data, check_only=True)
    assert not checked.in_order and said in checked.found[0] and not checked.done and "without --check" in checked.next
    report = repair(data)
    assert report.in_order and said in report.found[0] and "made anew" in report.done[0]
    assert not (data / LOST_MARK).exists()              # nothing was lost, so it may sign
    with (Database.open(data, GENESIS.chain_id, map_bytes=MAP) as mended,
          Database.open_read_only(chain_folder / "0") as good):
        assert mended.executed_height == good.executed_height == report.height
        for height in (0, LENGTH, report.height):
            assert contents(mended, height) == contents(good, height)
            assert mended.block(height) == good.block(height)
        assert mended.boundaries() == good.boundaries()
    assert repair(data).found == []


def test_a_node_does_not_start_on_a_trie_of_another_root(data: Path) -> None:
    edit(data, table(b"pages", flipped(b"\x00")))
    with (Database.open(data, GENESIS.chain_id, map_bytes=MAP) as database,
          pytest.raises(DatabaseDamaged, match="root page is not that of the state root")):
        NodeChain(GENESIS, database, GENESIS.books(), BlockRules(b"", 1, 1, 1, 1))


@pytest.mark.parametrize(("name", "change", "said"), [
    (b"bodies", flipped(height_key(LENGTH + 3)), "its transactions are not those"),
    (b"receipts", flipped(height_key(LENGTH + 3)), "its receipts are not those"),
    (b"headers", flipped(height_key(LENGTH + 3)), f"block {LENGTH + 3}: "),
    (b"headers", gone(height_key(LENGTH + 3)), "it is missing"),
])
def test_after_a_bad_block_the_peers_have_the_rest(data: Path, name: bytes, change: Callable[[lmdb.Cursor], None],
                                                   said: str) -> None:
    edit(data, table(name, change))
    report = repair(data)
    assert said in report.found[0], report
    assert report.in_order and report.height == LENGTH + 2
    assert f"blocks from {LENGTH + 3} on" in report.next
    assert (data / LOST_MARK).exists()                  # votes above it may be of epochs it no longer knows
    with Database.open(data, GENESIS.chain_id, map_bytes=MAP) as mended:
        opened = open_log(data, GENESIS, mended)
        opened.log.close()
    assert opened.lost


def test_a_cut_or_overwritten_file_is_set_aside(data: Path, tmp_path: Path) -> None:
    file = data / "state.lmdb" / "data.mdb"
    whole = file.read_bytes()
    for number, spoil in enumerate((lambda: file.write_bytes(whole[:len(whole) // 2 // 4096 * 4096]),
                                    lambda: file.write_bytes(bytes(8192) + whole[8192:]),
                                    lambda: file.write_bytes(b"junk" * 4096)), 1):
        spoil()
        with pytest.raises(DatabaseDamaged, match="gridtokenx repair"):
            Database.open(data, GENESIS.chain_id, map_bytes=MAP)
        report = repair(data)
        assert not report.in_order and report.next == RESYNC
        assert (data / f"state.lmdb.damaged-{number}").is_dir() and (data / LOST_MARK).exists()
        assert repair(data).next == RESYNC
        (data / "state.lmdb").mkdir()


def test_a_bad_log_is_set_aside(data: Path) -> None:
    segment = min((data / "log").glob("*.segment"))
    segment.write_bytes(segment.read_bytes()[:4096])
    assert "the log" in repair(data, check_only=True).found[0]
    report = repair(data)
    assert (data / "log.lost-1").is_dir() and (data / LOST_MARK).exists() and report.in_order


def test_the_command_says_what_it_found_and_did(data: Path) -> None:
    edit(data, table(b"state", flipped(spaces.account(OTHER.public))))
    runner = CliRunner()
    assert runner.invoke(cli, ["repair", str(data), "--check"]).exit_code == 1
    done = runner.invoke(cli, ["repair", str(data)])
    assert done.exit_code == 0 and "found  " in done.output and "done   " in done.output and "next   " in done.output
    assert '"in_order": true' in runner.invoke(cli, ["repair", str(data), "--json"]).output
    assert runner.invoke(cli, ["repair", str(data / "log")]).exit_code == 2


# ---------------------------------------------------------------- backups, and who may sign


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    cluster = Cluster(small_genesis(5, epoch_length=LENGTH), tmp_path / "cluster")
    cluster.run(1_500)
    yield cluster
    cluster.close()


def test_a_restored_backup_of_an_authority_signs_in_the_next_epoch_only(cluster: Cluster, tmp_path: Path) -> None:
    chain = Chain(cluster)
    chain.grow_to(3)
    cluster.checkpoint(0)
    runner = CliRunner()
    copied = runner.invoke(cli, ["backup", str(cluster.path / "0"), "--out", str(tmp_path / "copy")])    # it is running
    assert copied.exit_code == 0, copied.output
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == ["state.lmdb"]
    assert runner.invoke(cli, ["backup", str(cluster.path / "0"), "--out", str(tmp_path / "copy")]).exit_code == 1
    chain.grow_to(5)
    cluster.crash(0)
    member = cluster.members[0]
    shutil.rmtree(member.path)
    shutil.copytree(tmp_path / "copy", member.path)
    with Database.open(member.path, cluster.genesis.chain_id, map_bytes=MAP) as database:
        opened = open_log(member.path, cluster.genesis, database, permitted=first_start_permitted(member.path))
        opened.log.close()
    member.lost, member.barred = opened.lost, opened.barred
    assert opened.lost
    before = len(cluster.votes[0])
    cluster.restart(0)
    chain.grow_to(LENGTH - 1)
    chain.level()
    assert len(cluster.votes[0]) == before and not member.lost
    chain.grow_to(LENGTH + 5)
    chain.level()
    assert {vote.epoch for vote in cluster.votes[0][before:]} == {1}


def test_a_deleted_directory_is_no_first_start(cluster: Cluster, tmp_path: Path) -> None:
    """With a permit an empty log may be signed into; it goes with the log, and with what the log then holds."""
    genesis, member = cluster.genesis, cluster.members[2]
    permit_first_start(tmp_path / "new")
    permit_first_start(tmp_path / "new")

    def opened(path: Path, new: bool = False) -> bool:
        with Database.open(member.path, genesis.chain_id, map_bytes=MAP) as database:
            found = open_log(path, genesis, database, permitted=first_start_permitted(path), new=new)
            found.log.close()
            return found.lost

    Chain(cluster).grow_to(2)
    cluster.crash(2)
    assert not opened(tmp_path / "new") and not opened(tmp_path / "new")
    assert not has_signed(tmp_path / "new", genesis.chain_id)
    assert has_signed(member.path, genesis.chain_id)
    permit_first_start(member.path)
    assert not opened(member.path) and not (member.path / "log" / PERMIT).exists()
    assert opened(member.path, new=True)                    # the database alone was deleted
    shutil.rmtree(member.path / "log")
    assert opened(member.path) and (member.path / LOST_MARK).read_text() == ""
    cluster.restart(2)


def test_the_operator_can_say_that_a_key_has_never_signed(cluster: Cluster, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    genesis = evolve(cluster.genesis, salt="s")
    (tmp_path / "genesis.toml").write_text(dump_genesis(genesis))
    save_key(tmp_path / "egat.key", AUTHORITY_KEYS[0], None)
    runner = CliRunner()
    home = tmp_path / "home"
    made = runner.invoke(cli, ["init", str(home), "--genesis", str(tmp_path / "genesis.toml"), "--key",
                               str(tmp_path / "egat.key")])
    assert made.exit_code == 0 and "from the next epoch on" in made.output, made.output
    assert not first_start_permitted(home / "data")
    config = ["--config", str(home / "gridtokenx.toml")]
    assert runner.invoke(cli, ["keys", "never-signed", *config], input="n\n").exit_code == 1
    assert not first_start_permitted(home / "data")
    assert runner.invoke(cli, ["keys", "never-signed", *config, "--yes"]).exit_code == 0
    assert first_start_permitted(home / "data")
    for extra, allowed in ((["--never-signed"], True), ([], False)):
        again = tmp_path / f"again{allowed}"
        assert runner.invoke(cli, ["init", str(again), "--genesis", str(tmp_path / "genesis.toml"), "--key",
                                   str(tmp_path / "egat.key"), *extra]).exit_code == 0
        assert first_start_permitted(again / "data") is allowed
