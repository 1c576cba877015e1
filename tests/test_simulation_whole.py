"""Seeds of whole nodes that run by default, their determinism, the models of disk and LMDB, each adversary."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import lmdb
import pytest
from attrs import evolve

from gridtokenx.consensus import rules
from gridtokenx.sim.__main__ import every_bug, main
from gridtokenx.sim.network import Conditions
from gridtokenx.sim.setting import Clock
from gridtokenx.sim.whole.adversaries import ADVERSARIES
from gridtokenx.sim.whole.bugs import BUGS
from gridtokenx.sim.whole.chain import first_version, genesis_of
from gridtokenx.sim.whole.faults import Plan, draw_plan
from gridtokenx.sim.whole.lmdb_model import ModelledDatabase, ModelledFile
from gridtokenx.sim.whole.machine import Pace
from gridtokenx.sim.whole.run import run_seed
from gridtokenx.store.errors import DiskFailed
from gridtokenx.store.simulated_disk import SimulatedDisk


@pytest.mark.parametrize("seed", range(5))
def test_seed(seed: int) -> None:
    run_seed(seed)


@pytest.mark.parametrize("seed", [122, 166])
def test_seed_that_found_something(seed: int) -> None:
    """An observer that waited ten seconds for each of two peers without an answer; a block that became final though it
    never left the only authority, which the checker had not heard of."""
    run_seed(seed)


def quiet_plan(authorities: int = 4, adversaries: dict[int, str] | None = None, **changes: object) -> Plan:
    machines = authorities + 3
    plan = Plan(
        authorities=authorities, spares=0, adversaries=adversaries or {}, conditions=Conditions(),
        clocks=[Clock() for _ in range(machines)], paces=[Pace() for _ in range(machines)],
        faults_until_us=3_000_000, mean_gap_us=1_000_000, client_gap_s=0.5, epoch_length=1_000, segment_bytes=1 << 15,
        checkpoint_blocks=4, checkpoint_ms=1_000, history_blocks=0, idle=False, inline_transactions=128)
    return evolve(plan, **changes)


@pytest.mark.parametrize("kind", sorted(ADVERSARIES))
def test_each_adversary_among_four(kind: str) -> None:
    outcome = run_seed(f"among four {kind}", quiet_plan(adversaries={2: kind}))
    assert outcome.transactions > 3


def test_who_joins_and_leaves() -> None:
    plan = quiet_plan(spares=1, epoch_length=10, changes=[("join", 4), ("leave", 1)], faults_until_us=9_000_000,
                      client_gap_s=0.2)
    lines: list[str] = []
    outcome = run_seed("join and leave", plan, log=lines.append)
    assert outcome.epochs >= 2
    assert any("4 info epoch" in line and "member=True" in line for line in lines)


def test_one_seed_one_trace_whatever_the_hash_seed() -> None:
    program = "from gridtokenx.sim.whole.run import run_seed; print(run_seed(26).trace_hash)"
    traces = {subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONHASHSEED": hash_seed},
                             capture_output=True, text=True, check=True, timeout=100).stdout.strip()
              for hash_seed in ("1", "2")}
    assert len(traces) == 1


def test_plans_know_all_adversaries() -> None:
    random, kinds = Random(1), sorted(ADVERSARIES)
    drawn = {kind for _ in range(300) for kind in draw_plan(random, kinds).adversaries.values()}
    assert drawn == set(kinds)


def test_a_failure_prints_the_command_that_replays_it(capsys: pytest.CaptureFixture[str],
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gridtokenx.sim.whole.run.SETTLES_WITHIN_S", 0)
    assert main(["--seeds", "1", "--start", "5"]) == 1
    out = capsys.readouterr().out
    assert "not settled" in out and "replay: scripts/simulate.sh --seeds 1 --start 5 --verbose" in out


FAST = {"node: sends do not wait for the sync": 2, "two logs: bodies synced later than votes": 2, "fsync left out": 2,
        "log pruned up to its end": 2}


@pytest.mark.parametrize("name", sorted(FAST))
def test_a_bug_is_caught(name: str) -> None:
    (bug,) = (bug for bug in BUGS if bug.name == name)
    assert bug.caught_after(FAST[name]) is not None


def test_switches_of_bugs_leave_nothing_behind() -> None:
    assert len({bug.name for bug in every_bug()}) == len(every_bug()) >= 50
    for bug in every_bug():
        owner, name = bug.target if isinstance(bug.target, tuple) else (rules, "cast")
        before = getattr(owner, name)
        with bug.switched_on():
            assert not isinstance(bug.target, tuple) or getattr(owner, name) is not before
        assert getattr(owner, name) is before


# ---------------------------------------------------------------- models


def database(file: ModelledFile) -> ModelledDatabase:
    return ModelledDatabase.over(file, Path("/data"), genesis_of(4, 1_000).chain_id)


def test_model_of_lmdb_is_atomic_and_its_readers_see_one_version() -> None:
    file = ModelledFile(first_version(4, 1_000))
    opened = database(file)
    with opened.snapshot() as before:
        key = next(key for key, _ in before.scan(b""))
        with opened._write() as transaction:
            transaction.put(key, b"new", db=b"state")
        assert before.get(key) != b"new"
        with opened.snapshot() as after:
            assert after.get(key) == b"new"
        with pytest.raises(ZeroDivisionError), opened._write() as transaction:
            transaction.put(key, b"never", db=b"state")
            raise ZeroDivisionError
    with opened.snapshot() as after:
        assert after.get(key) == b"new"


def test_model_of_lmdb_loses_only_what_was_not_synced() -> None:
    for synced in (True, False):
        file = ModelledFile(first_version(4, 1_000), synced=synced)
        with database(file)._write() as transaction:
            transaction.put(b"k", b"v", db=b"index")
        assert file.committed[b"index"].rows[b"k"] == b"v"
        file.lose_power()
        assert (b"k" in file.committed[b"index"].rows) is synced


def test_model_of_lmdb_on_a_full_disk() -> None:
    file = ModelledFile(first_version(4, 1_000), full=True)
    with pytest.raises(DiskFailed), database(file)._write() as transaction:
        transaction.put(b"k", b"v", db=b"index")
    assert b"k" not in file.committed[b"index"].rows


def test_model_and_lmdb_agree(tmp_path: Path) -> None:
    """The same calls, by chance, on both."""
    random = Random(7)
    keys = [bytes((a, b)) for a in b"ab" for b in range(6)]
    file = ModelledFile({b"t": type(first_version(4, 1_000)[b"state"])()})
    with lmdb.open(str(tmp_path), max_dbs=1, lib_version=0) as environment:
        handle = environment.open_db(b"t")
        for _ in range(60):
            rows = [(random.choice(keys), random.randbytes(2)) for _ in range(3)]
            gone, at, overwrite = random.choice(keys), random.choice(keys), random.random() < 0.5
            seen: list[object] = []
            from gridtokenx.sim.whole.lmdb_model import _Environment
            for real, table in ((environment, handle), (_Environment(file), b"t")):
                with real.begin(write=True) as transaction:  # type: ignore[attr-defined]
                    with transaction.cursor(db=table) as cursor:
                        added = cursor.putmulti(rows, overwrite=overwrite)
                    deleted = transaction.delete(gone, db=table)
                with real.begin() as transaction, transaction.cursor(db=table) as cursor:  # type: ignore[attr-defined]
                    found = cursor.set_range(at)
                    here = (cursor.key(), cursor.value()) if found else None
                    forward = list(cursor.iternext()) if found else []
                    last = cursor.last() and cursor.item()
                    prev = cursor.prev() and cursor.item()
                    many = sorted(cursor.getmulti(keys))
                    seen.append((added, deleted, here, forward, last, prev, many,
                                 transaction.stat(db=table)["entries"]))
            assert seen[0] == seen[1]


def test_a_killed_process_leaves_what_power_takes() -> None:
    """Written and not synced: still there for the next process, gone when power fails after that."""
    heard: list[bytes] = []
    disk = SimulatedDisk(1, on_durable=heard.append)
    path = Path("/d/file")
    file = disk.create(path)
    disk.sync_directory(path.parent)
    file.pwrite(0, b"first")
    file.sync()
    file.pwrite(5, b"second")
    disk.kill_process()
    with pytest.raises(OSError, match="was open"):
        file.size()
    assert disk.open(path, write=False).pread(0, 20) == b"firstsecond"
    assert heard == [b"first"]
    survived = set()
    for seed in range(20):
        again = SimulatedDisk(1)
        file = again.create(path)
        again.sync_directory(path.parent)
        file.pwrite(0, b"first")
        file.sync()
        file.pwrite(5, b"second")
        again.kill_process()
        again.lose_power(Random(seed))
        survived.add(again.open(path, write=False).pread(0, 20))
    assert b"first" in survived and b"firstsecond" in survived


def test_a_full_disk_takes_no_more_but_what_is_there() -> None:
    disk = SimulatedDisk(1)
    file = disk.create(Path("/d/a"))
    file.pwrite(0, bytes(10))
    disk.full = True
    file.pwrite(2, b"in place")
    with pytest.raises(OSError, match="No space left"):
        file.pwrite(8, b"beyond")
    with pytest.raises(OSError, match="No space left"):
        disk.create(Path("/d/b"))
