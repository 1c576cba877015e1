"""`gridtokenx audit`: a sound chain agrees; whatever is altered in the store is found, with its place and name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cbor2
import pytest
from attrs import evolve
from click.testing import CliRunner
from ledger_support import Chain, key, trading_chain
from node_support import BAHT, ISSUER, OTHER, TRADER, Cluster, signed, small_genesis, transfer

from gridtokenx.cli import cli
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.ledger import spaces
from gridtokenx.ledger.block import decode_header
from gridtokenx.ledger.metering_records import Energy
from gridtokenx.ledger.operations import Deposit, PlaceOrder, ReportReadings, Withdraw
from gridtokenx.ledger.records import Account
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.orders import BUY, SELL
from gridtokenx.node.audit import Report, audit
from gridtokenx.node.audit_sums import Tally
from gridtokenx.store.database import Database
from gridtokenx.store.schema import BODIES, CERTIFICATES, HEADERS, PAGES, RECEIPTS, STATE, height_key, pack, unpack

STRANGER = bytes([7]) * 32


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data directory of a node that saw transfers, deposits and withdrawals; it does not run any more."""
    folder = tmp_path_factory.mktemp("audit")
    cluster = Cluster(small_genesis(4), folder / "cluster")
    cluster.run(1_500)
    genesis = cluster.genesis
    for nonce in range(4):
        for _, code, message in cluster.submit(1, [
            transfer(genesis, TRADER, nonce, OTHER.public, BAHT),
            signed(genesis, ISSUER, nonce, [Deposit(OTHER.public, 3 * BAHT).fields(),
                                            Withdraw(BAHT, b"out").fields()], fee=20_000)]):
            assert code == 0, message
        cluster.run(300)
    cluster.run(1_000)
    cluster.checkpoint(0)
    path = cluster.members[0].path
    cluster.close()
    return path


@pytest.fixture
def store(sound: Path, tmp_path: Path) -> Iterator[Database]:
    """A copy to tamper with."""
    with Database.open_read_only(sound) as original:
        original.backup(tmp_path / "copy")
    with Database.open(tmp_path / "copy", map_bytes=64 << 20) as database:
        yield database


def put(store: Database, table: bytes, key: bytes, value: bytes) -> None:
    with store._write() as transaction:
        assert transaction.put(key, value, db=store._tables[table])


def get(store: Database, table: bytes, key: bytes) -> bytes:
    with store._read() as transaction:
        found = transaction.get(key, db=store._tables[table])
    assert found is not None
    return found


def findings(report: Report) -> str:
    return "\n".join(f"{finding.height} {finding.where}: {finding.what}" for finding in report.findings)


def busy_height(store: Database) -> int:
    """A block with transactions, not the last."""
    for height in range(1, store.executed_height):
        block = store.block(height)
        if block is not None and len(block.transactions) > 1:
            return height
    raise AssertionError("no block with two transactions")


def test_a_sound_chain_agrees_while_it_is_open_for_writing(store: Database) -> None:
    told: list[tuple[int, int]] = []
    report = audit(store.path, store.chain_id, lambda done, total: told.append((done, total)))
    assert report.agrees, findings(report)
    header = store.header(store.executed_height)
    assert header is not None
    assert (report.height, report.state_root) == (store.executed_height, decode_header(header).state_root)
    assert report.sums is not None
    assert (report.sums.minted_uthb, report.sums.burned_uthb) == (12 * BAHT, 4 * BAHT)
    assert report.sums.held_uthb == report.sums.genesis_uthb + 8 * BAHT
    assert report.transactions == report.signatures == 8
    assert report.certificates > 0 and report.keys > 30
    assert told[-1][0] == report.height


def test_a_changed_balance_is_found_and_named(store: Database) -> None:
    name = spaces.account(TRADER.public)
    account = Account.decode(get(store, STATE, name))
    put(store, STATE, name, evolve(account, balance=account.balance + 1).encode())
    report = audit(store.path)
    assert f"account {encode_address(TRADER.public)}: balance is {account.balance + 1}, the blocks give " \
           f"{account.balance}" in findings(report)
    assert report.findings[0].height is not None and report.findings[0].height > 0     # the block that set it last
    assert len(report.findings) == 1


def test_records_that_are_missing_added_or_garbled_are_found(store: Database) -> None:
    with store._write() as transaction:
        assert transaction.delete(spaces.zone(1), db=store._tables[STATE])
    put(store, STATE, spaces.account(STRANGER), Account(balance=5).encode())
    put(store, STATE, spaces.parameter(1), b"\xff\xff")
    path = next(iter(store.snapshot().pages()))[0]
    put(store, PAGES, path, b"other")
    text = findings(audit(store.path))
    for words in ("0 zone 1: missing", f"account {encode_address(STRANGER)}: stored, but the blocks leave no",
                  "parameter 1", "trie page"):
        assert words in text


@pytest.mark.parametrize("what", ["dropped", "another", "garbled"])
def test_a_changed_body_is_found(store: Database, what: str) -> None:
    height = busy_height(store)
    raws = unpack(get(store, BODIES, height_key(height)))
    if what == "dropped":
        del raws[-1]
    elif what == "another":
        raws[0] = transfer(small_genesis(4), TRADER, 0, OTHER.public, 2 * BAHT)
    else:
        raws[0] = raws[0][:-1]
    put(store, BODIES, height_key(height), pack(raws))
    report = audit(store.path)
    assert f"{height} b" in findings(report)
    assert ("never indexed" in findings(report)) == (what == "another")
    assert report.height == height - 1


def test_a_forged_signature_is_found(store: Database) -> None:
    """The body's ids, and so the root, cover the signatures: a forger must change the header too, and all above."""
    height = busy_height(store)
    raws = unpack(get(store, BODIES, height_key(height)))
    payload, signatures = cbor2.loads(raws[0])
    signatures[0][1] = bytes([signatures[0][1][0] ^ 1]) + signatures[0][1][1:]
    raws[0] = cbor2.dumps([payload, signatures])
    put(store, BODIES, height_key(height), pack(raws))
    assert f"{height} body" in findings(audit(store.path))


@pytest.mark.parametrize("root", ["state_root", "receipts_root", "headers_root", "market"])
def test_a_changed_header_is_found(store: Database, root: str) -> None:
    height = busy_height(store)
    header = decode_header(get(store, HEADERS, height_key(height)))
    value = ((1, 2), (3, 4)) if root == "market" else b"\x01" * 32
    put(store, HEADERS, height_key(height), header.with_(**{root: value}).encode())
    report = audit(store.path)
    text = findings(report)
    assert f"{height} {root}: the header has" in text
    assert f"{height} header: the database does not know it by its hash" in text
    assert report.height == height - 1


def test_changed_receipts_and_certificates_are_found(store: Database) -> None:
    height = busy_height(store)
    receipts = unpack(get(store, RECEIPTS, height_key(height)))
    put(store, RECEIPTS, height_key(height), pack([receipts[0], receipts[0]]))
    certified = next(at for at in range(1, store.executed_height)
                     if (block := store.block(at)) is not None and block.certificate is not None)
    last = store.executed_height
    put(store, CERTIFICATES, height_key(certified), get(store, CERTIFICATES, height_key(last)))
    with store._write() as transaction:
        transaction.delete(height_key(last), db=store._tables[CERTIFICATES])
    text = findings(audit(store.path))
    assert f"{height} receipt 1: it is not what executing the block gives" in text
    assert f"{certified} certificate: it does not show" in text
    assert f"{last} certificate: the last block has none" in text


def test_the_command_says_it_and_exits_so(sound: Path, store: Database, tmp_path: Path) -> None:
    good = CliRunner().invoke(cli, ["audit", str(sound)])
    assert good.exit_code == 0, good.output
    assert "ALL AGREES" in good.output
    put(store, STATE, spaces.account(TRADER.public), Account(balance=1).encode())
    bad = CliRunner().invoke(cli, ["audit", str(store.path)])
    assert bad.exit_code == 1
    assert encode_address(TRADER.public) in bad.output and "DIFFERS in" in bad.output
    table = json.loads(CliRunner().invoke(cli, ["audit", str(store.path), "--json"]).output)
    assert table["agrees"] is False and table["findings"][0]["where"].startswith("account gtx1")
    assert CliRunner().invoke(cli, ["audit", str(tmp_path)]).exit_code == 2
    assert CliRunner().invoke(cli, ["audit", "--config", str(tmp_path / "none.toml")]).exit_code == 2


# ---------------------------------------------------------------- energy


def settled() -> tuple[Chain, Tally]:
    """A chain that settled a window, then took a correction, and what an auditor counts of it."""
    chain = trading_chain(2)
    window = chain.window
    chain.do(key("house 0"), PlaceOrder(1, window, SELL, 4500, 1000))
    chain.do(key("house 1"), PlaceOrder(2, window, BUY, 5000, 800))
    chain.settle(window, {1: (700, 300), 2: (50, 1_200)})
    [done] = chain.do(key("house 0"), ReportReadings((chain.signed(1, window, 900, 250, revision=1),)))
    assert done.ok
    tally, parent = Tally(chain.genesis), chain.genesis.view()
    for transactions, result in zip(chain.transactions, chain.results, strict=True):
        tally.block(parent, transactions, result)
        parent = result.state
    return chain, tally


class Other:
    """A state with one record changed."""

    def __init__(self, state: StateReader, changed: bytes, value: bytes) -> None:
        self.state, self.changed, self.value = state, changed, value

    def get(self, name: bytes) -> bytes | None:
        return self.value if name == self.changed else self.state.get(name)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return ((name, self.value if name == self.changed else raw) for name, raw in self.state.scan(prefix))


def test_gt_of_accounts_is_that_of_windows_corrections_included() -> None:
    chain, tally = settled()
    found: list[str] = []

    def find(height: int | None, where: str, what: str) -> None:
        found.append(f"{height} {where}: {what}")

    sums = tally.finish(chain.head, find)
    assert not found
    # docs/settlement.md 5: the trade of 825 Wh that arrived as 800, other windows estimated, meter 1 corrected.
    assert (sums.minted_wh, sums.lost_wh) == (950, 25)
    assert sums.minted_wh + sums.supplied_wh == sums.consumed_wh + sums.lost_wh + sums.taken_wh
    name = spaces.energy(key("house 0").public)
    energy = Energy.decode(chain.head.get(name) or b"")
    tally.finish(Other(chain.head, name, evolve(energy, minted=energy.minted + 1).encode()), find)
    assert found == ["None GT: accounts have minted 951 Wh; the windows add up to 950"]
    tally.gt["taken"] += 1
    found.clear()
    tally.finish(chain.head, find)
    assert "None GT: -1 Wh are left over: minted + supplied + bought less consumed, sold and taken" in found
