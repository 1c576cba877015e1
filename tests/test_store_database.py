"""The database over real LMDB files: what is stored comes back, and strangers' directories are refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from random import Random

import lmdb
import pytest

from gridtokenx.store.checkpoint import FinalizedBlock
from gridtokenx.store.database import Database
from gridtokenx.store.environment import ENVIRONMENT_DIRECTORY, LMDB_ENGINE, check_size, extend_file, walk_pages
from gridtokenx.store.errors import (
    AlreadyInitialised,
    CheckpointRefused,
    DatabaseDamaged,
    DatabaseFull,
    DirectoryInUse,
    HeightUnknown,
    KeyRefused,
    NotInitialised,
    ProofUnavailable,
    StoreClosed,
    StoreError,
    WrongChain,
    WrongVersion,
)

CHAIN = bytes(range(32))
MAP = 1 << 28


def name(kind: bytes, number: int) -> bytes:
    return kind * 24 + number.to_bytes(8, "big")


def make(path: Path, state: dict[bytes, bytes] | None = None, pages: Mapping[bytes, bytes | None] | None = None, *,
         map_bytes: int = MAP) -> Database:
    return Database.create(path, CHAIN, b"genesis record", state=state or {b"\x01a": b"0"},
                           pages={b"\x00": b"root 0"} if pages is None else pages, header=b"header 0",
                           header_hash=name(b"h", 0), map_bytes=map_bytes)


def block(height: int, *, transactions: int = 2, certificate: bool = True,
          changes: dict[bytes, bytes | None] | None = None) -> FinalizedBlock:
    return FinalizedBlock(
        height, name(b"h", height), b"header %d" % height,
        [(name(b"t", height * 1000 + index), b"raw %d/%d" % (height, index)) for index in range(transactions)],
        b"certificate %d" % height if certificate else None,
        changes if changes is not None else {b"\x01a": b"%d" % height, b"\x02" + height.to_bytes(4, "big"): b"new"},
        {b"\x00": b"root %d" % height},
        [b"receipt %d/%d" % (height, index) for index in range(transactions)],
        [(b"order" + height.to_bytes(4, "big") + bytes([index]), b"%d" % index) for index in range(transactions)])


def test_round_trip_and_reopen(tmp_path: Path) -> None:
    database = make(tmp_path / "new" / "node")
    assert (database.executed_height, database.history_floor, database.rules_version) == (0, 0, 1)
    database.checkpoint([])
    database.checkpoint([block(1), block(2, transactions=0)])
    database.checkpoint([block(3)], rules_version=2)
    for _ in range(2):
        assert (database.chain_id, database.genesis) == (CHAIN, b"genesis record")
        assert (database.executed_height, database.rules_version) == (3, 2)
        assert database.header(0) == b"header 0" and database.header(4) is None and database.header(-1) is None
        assert database.block(0) == (b"header 0", [], None, [])
        assert database.block(1) == (b"header 1", [b"raw 1/0", b"raw 1/1"], b"certificate 1",
                                     [b"receipt 1/0", b"receipt 1/1"])
        assert database.block(2) == (b"header 2", [], b"certificate 2", [])
        assert database.block(4) is None
        assert database.height_of(name(b"h", 3)) == 3 and database.height_of(name(b"h", 4)) is None
        assert database.transaction(name(b"t", 3001)) == (3, 1, b"raw 3/1", b"receipt 3/1")
        assert database.transaction(name(b"t", 4001)) is None and database.transaction(b"") is None
        with database.snapshot() as state:
            assert state.height == 3
            assert state.get(b"\x01a") == b"3" and state.get(b"\x01b") is None
            assert state.page(b"\x00") == b"root 3"
            assert [key[-1] for key, _ in state.scan(b"\x02")] == [1, 2, 3]
            assert len(list(state.scan(b""))) == 4 and list(state.scan(b"\x03")) == []
        database.close()
        database = Database.open(tmp_path / "new" / "node", CHAIN, map_bytes=MAP)
    database.close()
    with pytest.raises(StoreClosed):
        database.header(0)
    database.close()


def test_strangers_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotInitialised, match="holds no chain yet"):
        Database.open(tmp_path)
    (tmp_path / ENVIRONMENT_DIRECTORY).mkdir()
    (tmp_path / ENVIRONMENT_DIRECTORY / "data.mdb").touch()
    with pytest.raises(NotInitialised):
        Database.open_read_only(tmp_path)
    make(tmp_path).close()
    with pytest.raises(AlreadyInitialised, match=CHAIN.hex()):
        make(tmp_path)
    other = b"\xee" * 32
    with pytest.raises(WrongChain, match=CHAIN.hex()) as refused:
        Database.open(tmp_path, other)
    assert other.hex() in str(refused.value)
    with pytest.raises(WrongVersion, match="rules version 1; this program knows 7, 8"):
        Database.open(tmp_path, CHAIN, known_rules=(8, 7))
    with lmdb.open(str(tmp_path / ENVIRONMENT_DIRECTORY), max_dbs=20) as environment, \
            environment.begin(environment.open_db(b"meta"), write=True) as transaction:
        transaction.put(b"format", b"\x09")
    with pytest.raises(WrongVersion, match=r"database format 9; this program reads formats 1, 2, 3, 4. Use a newer"):
        Database.open(tmp_path, CHAIN)


def test_an_environment_without_a_chain_is_not_initialised(tmp_path: Path) -> None:
    (tmp_path / ENVIRONMENT_DIRECTORY).mkdir()
    lmdb.open(str(tmp_path / ENVIRONMENT_DIRECTORY), lib_version=LMDB_ENGINE).close()
    for opened in (Database.open, Database.open_read_only):
        with pytest.raises(NotInitialised):
            opened(tmp_path)
    make(tmp_path).close()


def test_one_writer_many_readers(tmp_path: Path) -> None:
    database = make(tmp_path)
    with pytest.raises(DirectoryInUse, match=f"process {os.getpid()}"):
        Database.open(tmp_path)
    with Database.open_read_only(tmp_path) as reader, Database.open_read_only(tmp_path) as second:
        database.checkpoint([block(1)])
        assert reader.executed_height == second.executed_height == 1
        assert reader.read_only and not database.read_only
        with pytest.raises(StoreError, match="read-only"):
            reader.checkpoint([block(2)])
        database.close()
        assert reader.header(1) == b"header 1"
    with Database.open_read_only(tmp_path), pytest.raises(DirectoryInUse, match="read-only in this process"):
        Database.open(tmp_path)
    Database.open(tmp_path).close()


READER = """
import sys
from pathlib import Path
from gridtokenx.store.database import Database
from gridtokenx.store.errors import DirectoryInUse
try:
    Database.open(Path(sys.argv[1]))
except DirectoryInUse as error:
    print("refused" if sys.argv[2] in str(error) else error)
with Database.open_read_only(Path(sys.argv[1])) as database:
    print(database.executed_height, database.header(1).decode(), flush=True)
    sys.stdin.readline()
    print(database.executed_height, flush=True)
"""


WHILE_WRITING = """
import sys, threading
from pathlib import Path
from gridtokenx.store.database import Database
writing, done = threading.Event(), threading.Event()
def write():
    with database._write():
        writing.set()
        done.wait()
with Database.open(Path(sys.argv[1])) as database:
    thread = threading.Thread(target=write)
    thread.start()
    writing.wait()
    with Database.open_read_only(Path(sys.argv[1])) as reader:
        print(reader.executed_height)
    done.set()
    thread.join()
"""


@pytest.mark.processes
def test_a_reader_opens_while_another_thread_of_its_process_writes(tmp_path: Path) -> None:
    """In a process of its own: one in which LMDB stands still cannot even report it."""
    make(tmp_path).close()
    done = subprocess.run([sys.executable, "-c", WHILE_WRITING, str(tmp_path)], capture_output=True, timeout=60,
                          check=True)
    assert done.stdout == b"0\n"


@pytest.mark.processes
def test_a_reader_in_another_process(tmp_path: Path) -> None:
    database = make(tmp_path)
    database.checkpoint([block(1)])
    with subprocess.Popen([sys.executable, "-c", READER, str(tmp_path), str(os.getpid())], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "refused\n"
        assert process.stdout.readline() == "1 header 1\n"
        database.checkpoint([block(2)])
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "2\n"
        assert process.wait(timeout=20) == 0
    assert database.reader_check() == 0
    database.close()


def test_damage_is_seen(tmp_path: Path) -> None:
    database = make(tmp_path / "a")
    database.checkpoint([block(1, changes={bytes([1, at]): bytes(3000) for at in range(200)})])
    database.close()
    data = tmp_path / "a" / ENVIRONMENT_DIRECTORY / "data.mdb"
    assert walk_pages(data.parent) is None
    size = data.stat().st_size
    os.truncate(data, size // 2)
    with pytest.raises(DatabaseDamaged, match=f"{size // 2} of"):
        Database.open(tmp_path / "a")
    data.write_bytes(b"not a database at all" * 1000)
    for opened in (Database.open, Database.open_read_only):
        with pytest.raises(DatabaseDamaged):
            opened(tmp_path / "a")
    make(tmp_path / "b").close()
    place = tmp_path / "b" / ENVIRONMENT_DIRECTORY
    with lmdb.open(str(place), max_dbs=20) as environment, \
            environment.begin(environment.open_db(b"meta"), write=True) as transaction:
        transaction.put(b"executed_height", b"\x05")
    with pytest.raises(DatabaseDamaged, match="block 5 was executed"):
        Database.open(tmp_path / "b")


def test_a_short_file_that_lacks_only_free_pages_is_whole(tmp_path: Path) -> None:
    """LMDB leaves trailing free pages unwritten; a file like that is not damaged, and the store fills it up."""
    short = 0
    for seed in range(60):
        random = Random(seed)
        place = tmp_path / str(seed)
        place.mkdir()
        with lmdb.open(str(place), lib_version=LMDB_ENGINE, map_size=MAP, sync=False) as environment:
            for _ in range(6):
                with environment.begin(write=True) as transaction:
                    for _ in range(random.randrange(1, 150)):
                        key = b"%d" % random.randrange(200)
                        if random.randrange(2):
                            transaction.put(key, bytes(random.choice((10, 500, 3000, 9000, 40_000))))
                        else:
                            transaction.delete(key)
            size = (place / "data.mdb").stat().st_size
            if not short:
                check_size(environment, place)
            extend_file(environment, place)
            assert (place / "data.mdb").stat().st_size == (environment.info()["last_pgno"] + 1) * 4096
            short += (place / "data.mdb").stat().st_size > size
    assert short, "the case that this is about did not occur"


def test_a_checkpoint_is_refused_whole(tmp_path: Path) -> None:
    database = make(tmp_path)
    database.checkpoint([block(1)])
    short = FinalizedBlock(2, name(b"h", 2), b"", [(name(b"t", 2000), b"raw")])
    for blocks, reason in (
        ([block(3)], "block 3 where block 2 follows"),
        ([block(2), block(4)], "block 4 where block 3"),
        ([short], "only 0 receipts"),
        ([block(2), FinalizedBlock(3, b"short", b"")], "32 bytes"),
        ([block(2), FinalizedBlock(3, name(b"h", 3), b"", [(name(b"t", 1000), b"raw 1/0")], receipts=[b""])], "before"),
    ):
        with pytest.raises(CheckpointRefused, match=reason):
            database.checkpoint(blocks)
    with pytest.raises(KeyRefused, match="at most 511 bytes"):
        database.checkpoint([block(2), block(3, changes={bytes(504): b""})])
    with pytest.raises(KeyRefused):
        database.checkpoint([block(2, changes={b"": b""})])
    assert database.executed_height == 1 and database.header(2) is None
    database.checkpoint([block(2, changes={b"k" * 503: b"v"})])
    with database.snapshot() as state:
        assert state.get(b"k" * 503) == b"v"
        with pytest.raises(KeyRefused, match="511"):
            state.get(bytes(512))
    with database.state_at(1) as state:
        assert state.get(b"k" * 503) is None
    database.close()


def test_a_full_map_loses_nothing(tmp_path: Path) -> None:
    database = make(tmp_path, map_bytes=1 << 20)
    assert not database.usage().alarm
    with pytest.raises(DatabaseFull, match="larger"):
        for height in range(1, 100):
            database.checkpoint([block(height, changes={bytes([5, height]): bytes(20_000)})])
    assert database.usage().alarm
    reached = database.executed_height
    database.close()
    with Database.open(tmp_path, map_bytes=MAP) as larger:
        assert larger.executed_height == reached > 3
        larger.checkpoint([block(reached + 1)])
        usage = larger.usage()
        assert usage.map_bytes == MAP and 0 < usage.used_bytes <= usage.file_bytes and not usage.alarm


def test_a_large_map_is_sparse(tmp_path: Path) -> None:
    with make(tmp_path, map_bytes=64 << 30) as database:
        assert database.usage().file_bytes < 1 << 20
        assert database._living().lib_version()[:2] == (0, 9)
        flags = database._living().flags()
        assert flags["sync"] and flags["metasync"] and not flags["writemap"] and not flags["map_async"]
    with Database.open_read_only(tmp_path) as reader:
        assert reader.usage().map_bytes == 64 << 30, "the map's size is read from the file"


def test_proofs_of_finality(tmp_path: Path) -> None:
    with make(tmp_path) as database:
        database.checkpoint([block(height, certificate=height % 4 == 0) for height in range(1, 7)])
        assert database.proof_of_finality(4) == ([b"header 4"], b"certificate 4")
        assert database.proof_of_finality(1) == ([b"header %d" % at for at in range(1, 5)], b"certificate 4")
        with pytest.raises(ProofUnavailable, match="at most 3 headers"):
            database.proof_of_finality(1, max_headers=3)
        with pytest.raises(ProofUnavailable, match="at height 5 or above"):
            database.proof_of_finality(5)
        with pytest.raises(HeightUnknown):
            database.proof_of_finality(7)


def test_index_scans(tmp_path: Path) -> None:
    with make(tmp_path) as database:
        keys = [b"a\x01", b"a\x02", b"a\xff", b"a\xff\xff", b"b", b"\xff\xff", b"\xff\xff\x01"]
        database.checkpoint([FinalizedBlock(1, name(b"h", 1), b"", events=[(key, key[::-1]) for key in keys])])
        for prefix in (b"", b"a", b"a\xff", b"b", b"\xff\xff", b"c"):
            wanted = [(key, key[::-1]) for key in sorted(keys) if key.startswith(prefix)]
            assert database.index_scan(prefix, 100) == wanted
            assert database.index_scan(prefix, 100, reverse=True) == wanted[::-1]
            for reverse, order in ((False, wanted), (True, wanted[::-1])):
                paged: list[tuple[bytes, bytes]] = []
                while page := database.index_scan(prefix, 2, reverse=reverse, after=paged[-1][0] if paged else None):
                    assert len(page) <= 2
                    paged.extend(page)
                assert paged == order
        with pytest.raises(StoreError, match="1 to 10000"):
            database.index_scan(b"", 0)
        with pytest.raises(StoreError, match="`after`"):
            database.index_scan(b"a", 1, after=b"b")


def test_readers_see_one_height_while_another_thread_writes(tmp_path: Path) -> None:
    database = make(tmp_path, {bytes([1, at]): b"0" for at in range(50)})
    stop = threading.Event()
    problems: list[str] = []

    def read() -> None:
        while not stop.is_set():
            with database.snapshot() as state:
                values = {value for _, value in state.scan(b"\x01")}
                if values != {b"%d" % state.height} and state.height:
                    problems.append(f"{values} at {state.height}")

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for height in range(1, 40):
        database.checkpoint([block(height, changes={bytes([1, at]): b"%d" % height for at in range(50)})])
    stop.set()
    for thread in threads:
        thread.join(timeout=20)
    assert problems == []
    old = database.snapshot()
    database.checkpoint([block(40, changes={bytes([1, 0]): b"changed"})])
    assert old.get(bytes([1, 0])) == b"39" and old.height == 39
    old.close()
    with pytest.raises(StoreClosed):
        old.get(bytes([1, 0]))
    open_one = database.snapshot()
    database.close()
    with pytest.raises(StoreClosed):
        open_one.get(bytes([1, 0]))


def test_backup_while_running(tmp_path: Path) -> None:
    with make(tmp_path / "node") as database:
        database.checkpoint([block(1), block(2)])
        database.backup(tmp_path / "copy")
        database.checkpoint([block(3)])
        with pytest.raises(AlreadyInitialised):
            database.backup(tmp_path / "copy")
        with Database.open(tmp_path / "copy", CHAIN) as copy:
            assert copy.executed_height == 2 and copy.block(2) == database.block(2)
            with copy.state_at(1) as state:
                assert state.get(b"\x01a") == b"1"
            copy.checkpoint([block(3)])


WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from gridtokenx.store.database import Database
from test_store_database import killed_block
database = Database.open(Path(sys.argv[1]))
height = database.executed_height
while True:
    database.checkpoint([killed_block(height + step) for step in (1, 2, 3)])
    height += 3
    print(height, flush=True)
"""


def killed_block(height: int) -> FinalizedBlock:
    return block(height, changes={b"\x01" + ((height * 7 + at) % 500).to_bytes(2, "big"): b"%d" % height * 20
                                  for at in range(100)})


@pytest.mark.processes
def test_kill_9_in_the_middle_of_checkpoints(tmp_path: Path) -> None:
    make(tmp_path, {b"\x01" + at.to_bytes(2, "big"): b"0" for at in range(500)}).close()
    for round_ in range(3):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)],
                              stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for _ in range(5 + 7 * round_):
                acknowledged = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=20)
        with Database.open(tmp_path) as database:
            height = database.executed_height
            assert height >= acknowledged and height % 3 == 0
            state = {b"\x01" + at.to_bytes(2, "big"): b"0" for at in range(500)}
            for at in range(1, height + 1):
                state.update({key: value for key, value in killed_block(at).changes.items() if value is not None})
                assert database.height_of(name(b"h", at)) == at
                assert database.transaction(name(b"t", at * 1000)) == (at, 0, b"raw %d/0" % at, b"receipt %d/0" % at)
                if at % 3 == 0:             # a checkpoint's: those in between follow from them, if they are a trie's
                    with database.state_at(at) as historic:
                        assert historic.page(b"\x00") == b"root %d" % at
                if at % 10 == 0:
                    with database.state_at(at) as historic:
                        assert dict(historic.scan(b"")) == state
            assert database.header(height + 1) is None
            with database.snapshot() as snapshot:
                assert dict(snapshot.scan(b"")) == state
        assert walk_pages(tmp_path / ENVIRONMENT_DIRECTORY) is None
