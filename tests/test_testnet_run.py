"""The launcher's parts: processes that never stay behind, run directories, plans, and what is shown."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pytest
from attrs import evolve
from click.testing import CliRunner
from rich.console import Console

from gridtokenx.client import BlockPush
from gridtokenx.ledger.genesis import load_genesis
from gridtokenx.node.config import load_config
from testnet.__main__ import main
from testnet.dashboard import Picture
from testnet.layout import AUTHORITIES, FOLDER, HTTP_OFFSET, LayoutError, Run, port_is_free
from testnet.processes import Child, ProcessError, stop_all
from testnet.watch import ChainView, NodeView

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
                                  "print('up', flush=True); time.sleep(60)"]


def child(tmp_path: Path, command: list[str]) -> Child:
    return Child("child", command, tmp_path / "log", pipe_output=True)


def started(tmp_path: Path, command: list[str]) -> Child:
    """Returns when the process says that it is up."""
    made = child(tmp_path, command)
    made.start()
    assert made.output.readline() == b"up\n"
    return made


# ---------------------------------------------------------------- processes


async def test_stopping_ends_all_and_tells_what_had_to_be_killed(tmp_path: Path) -> None:
    quiet, stubborn = started(tmp_path, SLEEPER), started(tmp_path, STUBBORN)
    troubles = await stop_all([quiet, stubborn], timeout_s=0.5)
    assert not quiet.running and not stubborn.running
    assert len(troubles) == 2
    assert "SIGTERM" in troubles[0]
    assert "was killed" in troubles[1]
    assert await stop_all([quiet, stubborn]) == []


async def test_an_end_by_itself_is_an_error_with_the_log_and_a_kill_on_purpose_is_not(tmp_path: Path) -> None:
    failing = child(tmp_path, [sys.executable, "-c", "import sys; sys.exit('port 9401 is taken')"])
    failing.start()
    assert await failing.wait(10)
    with pytest.raises(ProcessError, match="exit code 1") as caught:
        failing.check()
    assert "port 9401 is taken" in str(caught.value)
    killed = started(tmp_path, SLEEPER)
    killed.kill()
    killed.check()
    assert killed.exit_code == -signal.SIGKILL
    killed.start()
    assert killed.running
    await stop_all([killed])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel's parent-death signal is Linux's")
def test_nothing_is_left_behind_when_the_launcher_itself_is_killed(tmp_path: Path) -> None:
    script = ("import sys, time; from pathlib import Path; from testnet.processes import Child\n"
              f"child = Child('c', {SLEEPER!r}, Path({str(tmp_path / 'log')!r}), pipe_output=True)\n"
              "child.start(); child.output.readline(); print(child.pid, flush=True); time.sleep(60)\n")
    launcher = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=FOLDER.parent)
    assert launcher.stdout is not None
    pid = int(launcher.stdout.readline())
    os.kill(pid, 0)
    launcher.kill()
    launcher.wait()
    launcher.stdout.close()
    deadline = time.monotonic() + 10
    while gone(pid) is False:
        assert time.monotonic() < deadline, f"process {pid} outlived its launcher"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """True when the process has ended, whether or not anyone collected its exit code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


# ---------------------------------------------------------------- run directories


def test_a_fresh_run_starts_a_new_chain_now_and_a_kept_one_does_not(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", 19_000)
    before_ms = time.time() * 1000
    run.prepare(fresh=True)
    first = load_genesis(run.genesis)
    assert before_ms - 1000 <= first.genesis_ms <= time.time() * 1000 + 1000
    assert first.market_start_ms == load_genesis(FOLDER / "genesis.toml").market_start_ms
    del run
    again = Run(tmp_path / "run", 19_000)
    again.prepare(fresh=False)
    assert load_genesis(again.genesis).chain_id == first.chain_id


def test_the_first_authority_serves_the_explorer_where_it_is_wanted(tmp_path: Path) -> None:
    run = Run(tmp_path / "run", 19_000, http=True)
    listening = [run.node(peer).environment.get("GRIDTOKENX_HTTP__LISTEN") for peer in run.peers]
    assert listening == [f"127.0.0.1:{19_000 + HTTP_OFFSET}", None, None, None, None, None]
    assert run.http_address not in {f"127.0.0.1:{peer.port}" for peer in run.peers}
    assert "GRIDTOKENX_HTTP__LISTEN" not in Run(tmp_path / "run", 19_000).node(run.peers[0]).environment
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert not port_is_free(address)
    assert port_is_free(address)


def test_two_launchers_cannot_share_a_run_directory(tmp_path: Path) -> None:
    first = Run(tmp_path / "run")
    first.prepare(fresh=True)
    with pytest.raises(LayoutError, match="another testnet"):
        Run(tmp_path / "run").prepare(fresh=True)


def test_a_folder_with_other_things_in_it_is_not_cleared(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(LayoutError, match=r"thesis\.txt"):
        Run(tmp_path).prepare(fresh=True)
    assert (tmp_path / "thesis.txt").exists()


def test_the_committed_configurations_are_those_that_a_run_uses(tmp_path: Path) -> None:
    run = Run(tmp_path)
    genesis = load_genesis(FOLDER / "genesis.toml")
    assert [authority.name for authority in genesis.authorities] == list(AUTHORITIES.values())
    for peer in run.peers:
        config = load_config(FOLDER / f"{peer.name}.toml", {})
        assert config.node.name == peer.name
        assert config.network.listen == (peer.listen,)
        assert ",".join(config.network.bootstrap) == run.node(peer).environment["GRIDTOKENX_NETWORK__BOOTSTRAP"]


# ---------------------------------------------------------------- plans


@pytest.mark.parametrize(("arguments", "words"), [
    (["--kill", "meaa@20"], "egat, mea, pea, erc, nepo"),
    (["--kill", "mea"], "mea@20"),
    (["--kill", "mea@20", "--for", "10"], "the run ends at 10 s"),
    (["--restart", "mea@20"], "without a --kill"),
    (["--kill", "mea@20", "--kill", "mea@25"], "killed twice"),
    (["--for", "1"], "5"),
    (["--households", "1000"], "200"),
    (["--theft", "200"], "0 to 199"),
])
def test_plans_that_cannot_be_carried_out_are_refused(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert words in result.output


# ---------------------------------------------------------------- what is shown


def block(height: int, **changes: object) -> BlockPush:
    plain = BlockPush(height, bytes([height]) * 32, "PEA", height, 1000 * height, bytes(32), (b"t",), (0,), 1, 400,
                      1_200_000, ((400, 1_200_000), (0, 0)))
    return evolve(plain, **changes)


def test_the_chain_is_counted_once_whoever_tells_it() -> None:
    chain = ChainView()
    blocks = (block(1), block(2), block(2), block(1), block(3, view=6, proposer="MEA", codes=(78,)))
    for now_s, one in enumerate(blocks):
        chain.add(one, now_s)
    assert (chain.height, chain.block_count, chain.transactions, chain.failed) == (3, 3, 3, 1)
    assert chain.produced == {"PEA": 2, "MEA": 1}
    assert chain.views_skipped == 3
    assert chain.longest_gap_s == 3
    assert (chain.traded_wh, chain.zones[0].last_mthb, chain.zones[1].last_mthb) == (1200, 3000, 0)


def test_line_and_screen_show_what_is_known_and_what_is_not() -> None:
    run = Run(Path("run"))
    nodes = [NodeView(peer) for peer in run.peers]
    picture = Picture(nodes, ChainView(), {}, ["Bangkok", "Central"], [], 0.0)

    def screen() -> str:
        target = StringIO()
        Console(file=target, width=200).print(picture.screen(7.0))
        return target.getvalue()

    assert "nothing measured yet" in screen()
    nodes[0].status = {"height": 3, "view": 4, "state_root": b"\xab" * 32, "peers": 4, "pending_transactions": 2,
                       "authority": "EGAT", "chain_name": "testnet", "market_time_s": 1_745_204_400,
                       "market_rate": 180, "window": 1_939_116}
    nodes[1].answered, nodes[1].problem = True, "connection refused"
    picture.chain.add(block(3), 0.0)
    picture.trading = {"phase": "trading", "bids": 5, "bid_wh": 700, "offers": 6, "offer_wh": 900, "immediate": 1,
                       "cancels": 2, "pending": 3, "refused": {"EXPIRED": 4}, "latencies": 9, "p50_ms": 21.0,
                       "p99_ms": 80.0, "most_ms": 81.0}
    assert "no window yet" in screen()
    picture.settlement.sums = {"windows": 2, "minted_wh": 900, "consumed_wh": 700, "losses_wh": 30, "supplied_wh": 80,
                               "taken_wh": 250, "inexact": [], "flags": 1, "next_window": 1_939_117}
    assert "adds up in every zone" in screen()
    picture.settlement.flags = [{"zone": 1, "residual_wh": 1_500, "window": 1_939_116}]
    for text in (screen(), picture.line(7.0)):
        for word in ("settled 2 windows until 10:15: minted 900 = consumed 700 + losses 30 + net to grid 170 "
                     "Wh, exact", "FLAGGED 1 times, the last in Central: 1,500 Wh missing 10:00-10:15",
                     "PEA", "DOWN",
                     "p50 21 ms, p99 80 ms", "5 bids (0.7 kWh)", "4 refused", "Bangkok", "3.00", "10:00"):
            assert word in text
    picture.settlement.suspect = {"meter": 12, "licence": "TESTNET-0004", "share_ppm": 987_654}
    assert "likely meter 12 (TESTNET-0004), explains 98.8 %" in screen()
    assert screen().count("DOWN") == 1 and screen().count("starting") == 3
