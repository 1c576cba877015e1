"""The durable log: what was synced comes back, in order, and nothing else does."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx.store.errors import LogError, LogFailed, LogLost, StoreClosed, WrongChain, WrongVersion
from gridtokenx.store.log import Log, read_log, set_aside
from gridtokenx.store.segment import BLOCK_BYTES, MAX_RECORD_BYTES, MIN_SEGMENT_BYTES
from gridtokenx.store.simulated_disk import PowerLost, SimulatedDisk

CHAIN = bytes(range(32))
SMALL = MIN_SEGMENT_BYTES
PLACE = Path("/node/log")


def _open(disk: SimulatedDisk, *, segment_bytes: int = SMALL) -> Log:
    return Log.open(PLACE, CHAIN, disk=disk, segment_bytes=segment_bytes)


def _segment(index: int) -> Path:
    return PLACE / f"{index:012d}.segment"


def _fill(log: Log, count: int, size: int = 3000) -> list[tuple[int, bytes]]:
    records = []
    for number in range(count):
        record = (number % 256, bytes([number % 256]) * size)
        records.append(record)
        log.append(*record)
        log.sync()
    return records


def test_round_trip_on_real_files(tmp_path: Path) -> None:
    log = Log.open(tmp_path / "data" / "log", CHAIN, segment_bytes=1 << 20)
    assert log.fresh and log.recovered == []
    records = [(1, b""), (255, b"x"), (2, bytes(5000)), (0, b"y" * 200_000)]
    assert [log.append(*record) for record in records] == [0, 1, 2, 3]
    assert log.durable_position == 0
    assert log.sync() == 4
    log.append(9, b"never synced")
    log.close()
    again = Log.open(tmp_path / "data" / "log", CHAIN, segment_bytes=1 << 20)
    assert again.recovered == records
    assert not again.fresh and again.durable_position == again.end_position == 4
    assert read_log(tmp_path / "data" / "log", CHAIN) == records
    again.forget_recovered()
    assert again.recovered == []
    again.close()


def test_one_sync_per_call_and_segments_roll() -> None:
    disk = SimulatedDisk()
    log = _open(disk)
    before = disk.syncs
    for _ in range(3):
        log.append(1, b"vote")
    log.sync()
    assert disk.syncs == before + 1
    log.sync()
    assert disk.syncs == before + 1, "an empty batch is not written"
    _fill(log, 30)
    assert len(disk.names(PLACE)) > 3
    assert len(_open(disk).recovered) == 33


def test_a_large_sync_becomes_several_batches() -> None:
    disk = SimulatedDisk()
    log = _open(disk)
    records = [(number, bytes([number]) * 9000) for number in range(20)]
    for record in records:
        log.append(*record)
    assert log.sync() == 20
    assert _open(disk).recovered == records


def test_limits() -> None:
    log = _open(SimulatedDisk(), segment_bytes=4 << 20)
    log.append(1, bytes(MAX_RECORD_BYTES))
    with pytest.raises(LogError, match="at most 2097152"):
        log.append(1, bytes(MAX_RECORD_BYTES + 1))
    with pytest.raises(LogError, match="0 to 255"):
        log.append(256, b"")
    with pytest.raises(LogError, match="call sync first"):
        for _ in range(40):
            log.append(1, bytes(MAX_RECORD_BYTES))
    log.close()
    with pytest.raises(StoreClosed):
        log.append(1, b"")
    with pytest.raises(LogError, match="32 bytes"):
        Log.open(PLACE, b"short", disk=SimulatedDisk())
    with pytest.raises(LogError, match="multiple of 4096"):
        Log.open(PLACE, CHAIN, disk=SimulatedDisk(), segment_bytes=5000)


def test_prune_drops_whole_segments_below_the_mark() -> None:
    disk = SimulatedDisk()
    log = _open(disk)
    records = _fill(log, 40)
    segments = len(disk.names(PLACE))
    assert log.prune(0) == 0
    assert log.prune(10) > 0
    assert 0 < log.first_position <= 10
    kept = _open(disk)
    assert kept.recovered == records[kept.first_position:]
    assert kept.durable_position == 40
    kept.prune(1 << 40)
    assert len(disk.names(PLACE)) == 1 < segments
    last = _open(disk)
    assert last.recovered == records[last.first_position:]
    assert last.append(1, b"next") == 40
    last.sync()
    assert _open(disk).recovered[-1] == (1, b"next")


def test_other_chain_and_other_format_are_named() -> None:
    disk = SimulatedDisk()
    _fill(_open(disk), 2)
    with pytest.raises(WrongChain, match=CHAIN.hex()) as refused:
        Log.open(PLACE, b"o" * 32, disk=disk)
    assert (b"o" * 32).hex() in str(refused.value)
    disk.damage(_segment(0), 11)
    with pytest.raises(WrongVersion, match="reads format 1"):
        _open(disk)


@pytest.mark.parametrize("offset", [0, 30, BLOCK_BYTES, BLOCK_BYTES + 50, 2 * BLOCK_BYTES + 100])
def test_damage_before_a_good_batch_is_a_lost_log(offset: int) -> None:
    disk = SimulatedDisk()
    _fill(_open(disk), 4)
    disk.damage(_segment(0), offset)
    with pytest.raises(LogLost):
        _open(disk)


def test_damage_at_the_end_of_a_full_segment_is_a_lost_log() -> None:
    disk = SimulatedDisk()
    _fill(_open(disk), 12)
    assert len(disk.names(PLACE)) == 2
    disk.damage(_segment(0), 7 * BLOCK_BYTES + 60)
    with pytest.raises(LogLost, match="only batches below 6 are good"):
        _open(disk)


def test_missing_and_shortened_segments_are_a_lost_log() -> None:
    disk = SimulatedDisk()
    _fill(_open(disk), 30)
    disk.remove(_segment(1))
    with pytest.raises(LogLost, match=r"000000000001\.segment is missing"):
        _open(disk)
    disk = SimulatedDisk()
    _fill(_open(disk), 3)
    del disk._names[_segment(0)].content[SMALL // 2:]
    with pytest.raises(LogLost, match="instead of 32768"):
        _open(disk)


def test_a_bad_last_batch_is_dropped_whole_and_erased() -> None:
    disk = SimulatedDisk()
    records = _fill(_open(disk), 3, size=6000)
    disk.damage(_segment(0), BLOCK_BYTES + 2 * 2 * BLOCK_BYTES + 5000)
    log = _open(disk)
    assert log.recovered == records[:2]
    disk.lose_power(Random(1))
    assert set(disk._names[_segment(0)].content[BLOCK_BYTES * 5:]) == {0}
    log = _open(disk)
    log.append(7, b"after")
    log.sync()
    assert _open(disk).recovered == [*records[:2], (7, b"after")]


def test_a_batch_from_elsewhere_is_not_taken() -> None:
    """A batch of another segment, with the number that is expected, has another salt; one that was written to
    the wrong place is seen as a lost log."""
    disk = SimulatedDisk()
    _fill(_open(disk), 3)
    other = SimulatedDisk(seed=9)
    _fill(_open(other), 4)
    mine, theirs = disk._names[_segment(0)].content, other._names[_segment(0)].content
    mine[4 * BLOCK_BYTES:5 * BLOCK_BYTES] = theirs[4 * BLOCK_BYTES:5 * BLOCK_BYTES]
    assert len(_open(disk).recovered) == 3
    mine[6 * BLOCK_BYTES:7 * BLOCK_BYTES] = mine[3 * BLOCK_BYTES:4 * BLOCK_BYTES]
    with pytest.raises(LogLost):
        _open(disk)


def test_a_refused_write_ends_the_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = Log.open(tmp_path / "log", CHAIN, segment_bytes=SMALL)
    log.append(1, b"x")

    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fdatasync", refuse)
    with pytest.raises(LogFailed, match="Input/output error"):
        log.sync()
    monkeypatch.undo()
    for call in (log.sync, lambda: log.append(1, b"y"), lambda: log.prune(0)):
        with pytest.raises(LogFailed):
            call()
    log.close()


def test_set_aside_keeps_the_old_log(tmp_path: Path) -> None:
    for number in (1, 2):
        log = Log.open(tmp_path / "log", CHAIN, segment_bytes=SMALL)
        assert log.fresh
        log.append(1, b"x")
        log.sync()
        log.close()
        assert set_aside(tmp_path / "log") == tmp_path / f"log.lost-{number}"
    assert read_log(tmp_path / "log.lost-2", CHAIN) == [(1, b"x")]
    with pytest.raises(LogError, match="no log"):
        read_log(tmp_path / "log", CHAIN)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 255), st.integers(0, 20_000)),
        st.tuples(st.just("sync"), st.just(0), st.just(0)),
        st.tuples(st.just("prune"), st.integers(0, 100), st.just(0)),
    ), max_size=25)


@settings(max_examples=150, deadline=None)
@given(lives=st.lists(st.tuples(OPERATIONS, st.integers(1, 40)), min_size=1, max_size=5), seed=st.integers(0, 1 << 32))
def test_power_failures_lose_only_what_was_not_synced(lives: list[tuple[list[tuple[str, int, int]], int]],
                                                      seed: int) -> None:
    """Whatever was acknowledged is recovered, in order; beyond it only a beginning of what was appended."""
    disk = SimulatedDisk(seed=seed)
    random = Random(seed)
    written: dict[int, tuple[int, bytes]] = {}
    acknowledged = pruned = 0
    for operations, power_after in lives:
        disk.power_after = power_after
        try:
            log = _open(disk)
            assert log.durable_position >= acknowledged
            assert log.first_position <= max(pruned, 0)
            for index, record in enumerate(log.recovered):
                assert record == written[log.first_position + index]
            assert len(log.recovered) == log.durable_position - log.first_position
            acknowledged = log.durable_position
            for position in [position for position in written if position >= acknowledged]:
                del written[position]
            for name, number, size in operations:
                if name == "append":
                    written[log.append(number, random.randbytes(size))] = (0, b"")
                    written[log.end_position - 1] = log._pending[-1]
                elif name == "sync":
                    acknowledged = log.sync()
                else:
                    pruned = max(pruned, min(number, acknowledged))
                    log.prune(min(number, acknowledged))
        except PowerLost:
            pass
        disk.lose_power(random)
    final = _open(disk)
    assert final.durable_position >= acknowledged
    for index, record in enumerate(final.recovered):
        assert record == written[final.first_position + index]


WRITER = """
import sys
from pathlib import Path
from gridtokenx.store.log import Log
log = Log.open(Path(sys.argv[1]), bytes(32), segment_bytes=1 << 18)
at = log.end_position
while True:
    for _ in range(3):
        log.append(at % 251, at.to_bytes(8, "big") * (at % 700))
        at += 1
    print(log.sync(), flush=True)
"""


@pytest.mark.processes
def test_kill_9_in_the_middle_of_syncs(tmp_path: Path) -> None:
    acknowledged = 0
    for lines in (20, 1, 45):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "log")], stdout=subprocess.PIPE,
                              text=True) as process:
            assert process.stdout is not None
            for _ in range(lines):
                acknowledged = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=20)
        log = Log.open(tmp_path / "log", bytes(32), segment_bytes=1 << 18)
        assert log.durable_position >= acknowledged
        assert log.recovered == [(at % 251, at.to_bytes(8, "big") * (at % 700)) for at in range(log.durable_position)]
        log.close()


@pytest.mark.parametrize("power_after", range(1, 10))
def test_power_failure_while_pruning(power_after: int) -> None:
    for seed in range(30):
        disk = SimulatedDisk()
        log = _open(disk)
        records = _fill(log, 40)
        disk.power_after = power_after
        with pytest.raises(PowerLost):
            log.prune(35)
        disk.lose_power(Random(seed))
        again = _open(disk)
        assert again.recovered == records[again.first_position:]
        assert again.durable_position == 40 and again.first_position <= 35
