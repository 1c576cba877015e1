"""A fork's first block has no state root until somebody needs it: opening takes the same whatever the chain, and who
needs it first, at whatever height, finds the blocks that a root from the start would have given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from rich.progress import Progress

import gridtokenx
from benchmarks import fork as chains
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.forks import Chain, ForkError
from gridtokenx.forks.base import Base
from gridtokenx.forks.network import network_genesis
from gridtokenx.forks.opening import parent_of
from gridtokenx.forks.provenance import first_block
from gridtokenx.ledger import trie
from gridtokenx.ledger.block import Header
from gridtokenx.ledger.genesis import load_genesis
from gridtokenx.ledger.operations import Transfer
from gridtokenx.store import database
from gridtokenx.store.schema import META_GENESIS
from gridtokenx.store.snapshot import HistoricSnapshot

BLOCKS = 100                                    # 64 and 100 have trie pages
HEIGHTS = (0, 1, 40, 63, 64, 65, 90, 100)
AUTHORITY = PrivateKey(bytes(32)).public
ONE, OTHER = chains.address(1), chains.address(2)


def made(path: Path, blocks: int, accounts: int) -> Path:
    base = load_genesis(Path(__file__).parent.parent / "testnet" / "genesis.toml")
    held = tuple(sorted((chains.address(number), chains.BALANCE_UTHB) for number in range(accounts)))
    chains.make(evolve(base, accounts=held), path, blocks, accounts, 2, Progress(disable=True))
    return path


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("parent") / "data", BLOCKS, 200)


def first_header(chain: Chain) -> Header:
    """That of the block which the fork begins with, its root computed from all values by itself."""
    assert chain.provenance is not None and chain.place is not None
    with Base(chain.place, chain.provenance.height) as base:
        begun = first_block(base, base.header, chain.provenance)
        values = dict(base.scan(b""))
        for key, value in begun.changes.items():
            assert value is not None
            values[key] = value
    return evolve(begun.header, state_root=trie.update({}.get, trie.EMPTY_ROOT, list(values.items()))[0])


# ---------------------------------------------------------------- opening


def test_opening_and_reading_ask_for_no_trie_page(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []
    page = HistoricSnapshot.page

    def counted(self: HistoricSnapshot, path: bytes) -> bytes | None:
        asked.append(path)
        return page(self, path)

    monkeypatch.setattr(HistoricSnapshot, "page", counted)
    for height in HEIGHTS:
        with gridtokenx.fork(parent, height) as chain, parent_of(chain) as same:
            assert (chain.height, chain.chain_id) == (height + 1, same.chain_id)
            assert chain.account(ONE).balance > 0 and chain.now == same.now
            assert chain.identity.chain_id == chain.chain_id
            assert chain.parameters == same.parameters and not chain.frames.accounts().is_empty()
            assert chain.diff(same).same
            chain.submit(ONE, Transfer(OTHER, 1))
            chain.key("somebody")
            assert not asked
            assert chain.head.header == first_header(chain)
            assert asked
            asked.clear()


def test_opening_reads_the_same_of_a_chain_ten_times_smaller(
        parent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, bytes]] = []

    def recorded(where: Any, name: str, at: int) -> None:
        method: Callable[..., Any] = getattr(where, name)

        def recording(*arguments: Any) -> Any:
            read.append((name, arguments[at]))
            return method(*arguments)

        monkeypatch.setattr(where, name, recording)

    small = made(tmp_path / "data", BLOCKS // 10, 20)
    for name in ("get", "scan", "page"):
        recorded(HistoricSnapshot, name, 1)
    recorded(database, "read_meta", 2)
    found = []
    for path, height in ((parent, 0), (parent, 70), (small, 3)):
        gridtokenx.fork(path, height).close()
        found.append(read[:])
        read.clear()
    assert found[0] == found[1] == found[2]
    assert META_GENESIS not in {key for _, key in found[0]}        # as long as the list of its accounts


# ---------------------------------------------------------------- who needs the root


def run_unrooted(chain: Chain) -> None:
    with chain.unrooted():
        for number in range(3):
            chain.send(ONE, Transfer(OTHER, 1 + number))
        chain.override.balance(OTHER, 7)


def go_back(chain: Chain) -> None:
    number = chain.snapshot()
    chain.send(ONE, Transfer(OTHER, 1))
    chain.revert(number)


USES: dict[str, Callable[[Chain], Any]] = {
    "nothing": lambda chain: None,
    "a block": lambda chain: chain.mine(),
    "a transaction": lambda chain: chain.send(ONE, Transfer(OTHER, 5)),
    "an edit": lambda chain: chain.override.balance(OTHER, 5),
    "an edit, then a transaction": lambda chain: (chain.override.balance(OTHER, 5),
                                                  chain.send(ONE, Transfer(OTHER, 5))),
    "there and back": go_back,
    "blocks without roots": run_unrooted,
    "a network": lambda chain: network_genesis(chain, [("one", AUTHORITY)], genesis_ms=1).canonical(),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("height", HEIGHTS)
def test_whoever_needs_the_root_first_finds_the_same(parent: Path, tmp_path: Path, height: int, use: str) -> None:
    found = []
    for early in (True, False):
        with gridtokenx.fork(parent, height) as chain:
            first = first_header(chain)
            if early:
                assert chain.head.header == first
            answer = USES[use](chain)
            file = chain.dump(tmp_path / str(early))
            headers = [mined.header for mined in chain.blocks]
            assert (headers[0].parent if headers else chain.head.header.hash) == first.hash
            found.append((repr(answer), chain.head.header, headers, chain.provenance, file.read_bytes()))
    assert found[0] == found[1]
    with gridtokenx.load(tmp_path / "False") as again:
        assert again.head.header == found[0][1]
        again.send(ONE, Transfer(OTHER, 1))


def test_a_fork_that_was_closed_says_why_it_has_no_head(parent: Path, tmp_path: Path) -> None:
    with gridtokenx.fork(parent, 40) as unread, gridtokenx.fork(parent, 40) as read:
        header = read.head.header
    for ask in (lambda: unread.head, unread.snapshot, lambda: unread.dump(tmp_path)):
        with pytest.raises(ForkError, match="the base of this fork was closed"):
            ask()
    assert read.head.header == header and unread.height == header.height
