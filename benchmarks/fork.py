"""Forks: how long opening one takes, at arbitrary heights of a long chain and of one ten times shorter and smaller.

    python -m benchmarks.fork [--accounts 100000] [--blocks 10000] [--repeat 31]

Both chains are written into data directories block by block, each block with a transfer between two accounts. Then they
are forked by turns, at random heights; printed are medians of wall and CPU time from `gridtokenx.fork` to a chain with
its first block, then a read of an account, and a mined block. In the end every file of both directories is compared
with what it was, but for LMDB's table of readers and the leases.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from attrs import evolve
from rich.progress import Progress

import gridtokenx
from gridtokenx import codec
from gridtokenx.ledger.build import build_block
from gridtokenx.ledger.genesis import Genesis, load_genesis
from gridtokenx.ledger.operations import Transfer
from gridtokenx.ledger.run import BlockInputs
from gridtokenx.ledger.transaction import decode_transaction, encode_payload
from gridtokenx.store.checkpoint import FinalizedBlock
from gridtokenx.store.database import Database

CHECKPOINT_BLOCKS = 200
BALANCE_UTHB = 1_000_000_000
FEE_UTHB = 1_000


def address(number: int) -> bytes:
    return sha256(f"account {number}".encode()).digest()


def make(genesis: Genesis, path: Path, blocks: int, accounts: int, progress: Progress) -> None:
    """Writes a chain of `blocks` blocks into the data directory `path`."""
    view = genesis.view()
    header = view.header
    database = Database.create(path, genesis.chain_id, genesis.canonical(), state=view.changes, pages=view.pages,
                               header=header.encode(), header_hash=header.hash)
    books = genesis.books(max_orders=1_000, max_windows=1)
    nonces: dict[bytes, int] = {}
    draw = random.Random(1)
    task = progress.add_task(f"{blocks:,} blocks over {accounts:,} accounts", total=blocks)
    waiting: list[FinalizedBlock] = []
    for _ in range(blocks):
        sender, receiver = address(draw.randrange(accounts)), address(draw.randrange(accounts))
        payload = encode_payload(sender, nonces.get(sender, 0), 1 << 40, FEE_UTHB, [Transfer(receiver, 1).fields()])
        nonces[sender] = nonces.get(sender, 0) + 1
        transaction = decode_transaction(codec.encode([payload, [[sender, bytes(64)]]]))
        header = view.header
        inputs = BlockInputs(header.view + 1, 0, header.height + 1, header.timestamp_ms + 1_000, b"", header.hash)
        result, included, _ = build_block(view, inputs, [transaction], books)
        assert included
        made = result.header
        waiting.append(FinalizedBlock(
            made.height, made.hash, made.encode(), [(transaction.id, transaction.raw)], changes=result.state.changes,
            pages=result.state.pages, receipts=result.receipts_raw))
        view = result.state
        if len(waiting) == CHECKPOINT_BLOCKS or made.height == blocks:
            database.checkpoint(waiting)
            waiting = []
            view = type(view)(database.snapshot(), made)
        progress.advance(task)
    database.close()


def contents(path: Path) -> dict[str, str]:
    return {str(file.relative_to(path)): sha256(file.read_bytes()).hexdigest() for file in sorted(path.rglob("*"))
            if file.is_file() and file.name != "lock.mdb" and file.parent.name != "leases"}


def take(path: Path, height: int, accounts: int) -> tuple[float, float, float, float]:
    """ms: wall and CPU until there is a chain, then wall for reading an account, and for a block."""
    wall, processor = time.perf_counter(), time.process_time()
    with gridtokenx.fork(path, height) as chain:
        opened, spent = time.perf_counter(), time.process_time()
        chain.account(address(height % accounts))
        read = time.perf_counter()
        chain.mine()
        mined = time.perf_counter()
    return ((opened - wall) * 1e3, (spent - processor) * 1e3, (read - opened) * 1e3, (mined - read) * 1e3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--blocks", type=int, default=10_000)
    parser.add_argument("--repeat", type=int, default=31)
    arguments = parser.parse_args()
    base = load_genesis(Path(__file__).parent.parent / "testnet" / "genesis.toml")
    folder = Path(tempfile.mkdtemp(prefix="fork-"))
    sizes = [(arguments.accounts, arguments.blocks), (arguments.accounts // 10, arguments.blocks // 10)]
    try:
        with Progress(transient=True) as progress:
            for number, (accounts, blocks) in enumerate(sizes):
                held = tuple(sorted((address(account), BALANCE_UTHB) for account in range(accounts)))
                make(evolve(base, accounts=held), folder / str(number), blocks, accounts, progress)
        before = [contents(folder / str(number)) for number in range(2)]
        draw = random.Random(2)
        times: list[list[tuple[float, float, float, float]]] = [[], []]
        for _ in range(arguments.repeat):
            for number, (accounts, blocks) in enumerate(sizes):
                times[number].append(take(folder / str(number), draw.randrange(blocks + 1), accounts))
        print("accounts  blocks   fork ms  of CPU   read ms  block ms")
        for (accounts, blocks), taken in zip(sizes, times, strict=True):
            wall, processor, read, mined = (statistics.median(column) for column in zip(*taken, strict=True))
            print(f"{accounts:8,} {blocks:7,} {wall:9.1f} {processor:7.1f} {read:9.2f} {mined:9.1f}")
        same = before == [contents(folder / str(number)) for number in range(2)]
        print("the directories' bytes are " + ("unchanged" if same else "CHANGED"))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
