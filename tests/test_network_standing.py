"""Bans and anchors: kept over restarts, by key and by address; what a damaged file does."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.stream_muxer.yamux.yamux import TYPE_DATA, YAMUX_HEADER_FORMAT
from network_support import attacker, key, make, until, works

from gridtokenx import codec
from gridtokenx.network.guarded import neighbourhood
from gridtokenx.network.limits import BAN_BELOW, FIRST_BAN_S, HALF_LIFE_S, LONGEST_BAN_S, Offence
from gridtokenx.network.muxer import MAX_BUFFERED, MAX_WINDOW
from gridtokenx.network.settings import Channel, PeerGone, Rate
from gridtokenx.network.standing import Anchor, Standings, read_memory, write_memory

A, B = key(1).public, key(2).public
HOST = "203.0.113.7"


def banned(standings: Standings, public: bytes, now: float, host: str = HOST) -> None:
    while not standings.report(public, host, Offence.INVALID, now, bannable=True):
        assert standings.peers.score(public, now) > BAN_BELOW


def test_a_ban_outlives_a_restart_by_the_wall_clock() -> None:
    before = Standings()
    banned(before, A, 1000.0)
    before.report(B, HOST, Offence.INVALID, 1000.0, bannable=True)
    raw = before.encode([Anchor(B, "/ip4/1.2.3.4/tcp/9")], 1010.0, 5_000_000.0)
    after = Standings()
    assert after.restore(raw, 7.0, 5_000_020.0) == [Anchor(B, "/ip4/1.2.3.4/tcp/9")]
    assert after.banned_s(A, 7.0) == FIRST_BAN_S - 10 - 20
    assert after.banned_s(A, 7.0 + FIRST_BAN_S) == 0
    assert after.banned_s(B, 7.0) == 0
    assert after.peers.score(B, 7.0) == pytest.approx(-20 * 0.5 ** (30 / HALF_LIFE_S), rel=1e-3)
    banned(after, A, 100.0)
    assert after.banned_s(A, 100.0) == 2 * FIRST_BAN_S                  # the second time
    backwards = Standings()
    backwards.restore(raw, 7.0, 4_000_000.0)
    assert backwards.banned_s(A, 7.0) == FIRST_BAN_S - 10


def test_an_address_of_several_banned_keys_is_banned_itself() -> None:
    standings = Standings()
    for number in range(3):
        assert not standings.host_banned_s(HOST, 1.0)
        banned(standings, bytes([number]) * 32, 1.0)
    assert standings.host_banned_s(HOST, 1.0) == FIRST_BAN_S
    assert not standings.host_banned_s("203.0.113.8", 1.0)
    for number in range(9):
        banned(standings, bytes([9, number]) * 16, 1.0, "127.0.0.1")
    assert not standings.host_banned_s("127.0.0.1", 1.0)
    again = Standings()
    again.restore(standings.encode([], 1.0, 100.0), 50.0, 100.0)
    assert again.host_banned_s(HOST, 50.0) == FIRST_BAN_S


@settings(max_examples=60)
@given(st.binary(max_size=60) | st.recursive(
    st.integers(-2, 1 << 40) | st.binary(max_size=40) | st.text(max_size=9) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=6), max_leaves=20).map(codec.encode))
def test_a_damaged_memory_is_a_codec_error_or_harmless(raw: bytes) -> None:
    standings = Standings()
    try:
        standings.restore(raw, 1.0, 2.0)
    except codec.CodecError as error:
        assert str(error)
    for who in (*standings.peers.standings, *standings.hosts.standings):
        assert standings.banned_s(who, 1.0) <= LONGEST_BAN_S
        assert standings.peers.score(who, 1.0) <= 0


def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    write_memory(tmp_path / "missing" / "peers", b"x")
    assert read_memory(tmp_path / "peers") is None
    assert read_memory(tmp_path) is None
    write_memory(tmp_path / "peers", b"x")
    assert read_memory(tmp_path / "peers") == b"x"


def test_neighbourhoods() -> None:
    assert neighbourhood("203.0.113.7") == neighbourhood("203.0.113.250") != neighbourhood("203.0.114.7")
    assert neighbourhood("2001:db8:1::1") == neighbourhood("2001:db8:1:2::9") != neighbourhood("2001:db8:2::1")
    assert neighbourhood("?") == "?"


async def test_a_banned_peer_stays_out_and_anchors_are_dialled_after_a_restart(tmp_path: Path) -> None:
    memory = tmp_path / "peers"
    friend = make(2, gossip=False)
    async with friend.running():
        first = make(1, gossip=False, memory_file=memory, bootstrap=tuple(friend.addresses))
        async with first.running():
            await until(lambda: any(info.connected for info in first.peers()))
            async with attacker(first, 66) as peer:
                await peer.hello()
                for _ in range(6):
                    first.report(key(66).public, Offence.INVALID)
                await until(lambda: peer.muxed.is_closed)
            await until(memory.exists)
        again = make(1, gossip=False, memory_file=memory)
        async with again.running():
            await until(lambda: any(info.connected and info.public == friend.public for info in again.peers()))
            async with attacker(again, 66) as peer:
                with pytest.raises(PeerGone), trio.fail_after(3):
                    await peer.hello()
    memory.write_bytes(b"garbage")
    third = make(1, gossip=False, memory_file=memory)
    async with third.running():
        await works(third)


async def test_places_are_kept_for_peers_of_our_own_choice() -> None:
    friend = make(2, gossip=False)
    async with friend.running():
        network = make(1, gossip=False, max_peers=4, target_peers=2)
        async with network.running(), attacker(network, 66) as one, attacker(network, 67) as two:
            await one.hello()
            await two.hello()
            await until(lambda: sum(info.connected for info in network.peers()) == 2)
            async with attacker(network, 68) as three:
                await three.hello()
                await until(lambda: any("has its 2 peers" in info.error for info in network.peers()))
            network._finder.learn(friend.public, friend.addresses, b"")
            await until(lambda: sum(info.connected for info in network.peers()) == 3)


async def test_what_nobody_reads_is_bounded_over_all_streams_of_a_connection() -> None:
    """Each stream stays within its window; together they would take 32 MiB."""
    network = make(1, gossip=False, handshake_timeout_s=30.0)
    async with network.running():
        async with attacker(network, 66) as peer:
            streams = [await peer.open("/gridtokenx/peers/1") for _ in range(40)]     # wait for a handshake
            sent = 0
            try:
                for stream in streams * (MAX_WINDOW // 60_000):
                    number = stream._muxed.stream_id  # type: ignore[attr-defined]
                    header = struct.pack(YAMUX_HEADER_FORMAT, 0, TYPE_DATA, 0, number, 60_000)
                    await peer.muxed._write_frame(header + bytes(60_000))
                    sent += 60_000
            except Exception:  # noqa: BLE001  the connection may end while this writes
                await trio.sleep(0)
            await until(lambda: peer.muxed.is_closed)
            assert sent + 60_000 > MAX_BUFFERED
        await works(network)


async def test_an_authority_that_floods_is_read_more_slowly() -> None:
    got: list[bytes] = []
    options = {"gossip": False, "link_frames": Rate(per_s=1, burst=20)}
    first, second = make(1, **options), make(2, **options)
    second.on_frame = lambda public, channel, frame: got.append(frame)
    async with first.running(), second.running():
        for network, other in ((first, second), (second, first)):
            network.set_authorities([first.public, second.public])
            network._finder.learn(other.public, other.addresses, b"")
        await until(lambda: first.linked() and second.linked())
        for _ in range(200):
            first.send(second.public, Channel.BODIES, b"frame")
        await until(lambda: len(got) >= 15)
        await trio.sleep(0.2)
        assert len(got) < 25
