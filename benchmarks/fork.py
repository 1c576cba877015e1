"""Forks: how long opening one takes, at arbitrary heights of a long chain and of one ten times shorter and smaller.

    python -m benchmarks.fork [--accounts 100000] [--blocks 10000] [--transfers 1] [--repeat 31]

Both chains are written into data directories block by block, each block with so many transfers between two accounts.
Then they are forked by turns at random heights, after one fork each that is not counted. Printed are median and most in
ms: from `gridtokenx.fork` to a chain that can be read, wall and CPU time; a read of an account; the first block, for
which the one that the fork begins with needs its state root, hence trie pages as of that height; and a second block. In
the end every file of both directories is compared with what it was, but for LMDB's table of readers and the leases.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from hashlib import sha256
from itertools import pairwise
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
COLUMNS = ("fork", "its CPU", "read", "first block", "second block")


def address(number: int) -> bytes:
    return sha256(f"account {number}".encode()).digest()


def make(genesis: Genesis, path: Path, blocks: int, accounts: int, transfers: int, progress: Progress) -> None:
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
        some = []
        for _ in range(transfers):
            sender, receiver = address(draw.randrange(accounts)), address(draw.randrange(accounts))
            payload = encode_payload(sender, nonces.get(sender, 0), 1 << 40, FEE_UTHB, [Transfer(receiver, 1).fields()])
            nonces[sender] = nonces.get(sender, 0) + 1
            some.append(decode_transaction(codec.encode([payload, [[sender, bytes(64)]]])))
        header = view.header
        inputs = BlockInputs(header.view + 1, 0, header.height + 1, header.timestamp_ms + 1_000, b"", header.hash)
        result, included, _ = build_block(view, inputs, some, books)
        assert len(included) == transfers
        made = result.header
        waiting.append(FinalizedBlock(
            made.height, made.hash, made.encode(), [(each.id, each.raw) for each in some], changes=result.state.changes,
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


def take(path: Path, height: int, accounts: int) -> tuple[float, ...]:
    """ms: until there is a chain, the CPU's part of it, then reading an account, one block and another one."""
    times, spent = [time.perf_counter()], time.process_time()
    with gridtokenx.fork(path, height) as chain:
        times.append(time.perf_counter())
        spent = time.process_time() - spent
        chain.account(address(height % accounts))
        times.append(time.perf_counter())
        for _ in range(2):
            chain.mine()
            times.append(time.perf_counter())
    opened, *rest = (1e3 * (after - before) for before, after in pairwise(times))
    return opened, 1e3 * spent, *rest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--blocks", type=int, default=10_000)
    parser.add_argument("--transfers", type=int, default=1, help="in each block")
    parser.add_argument("--repeat", type=int, default=31)
    arguments = parser.parse_args()
    base = load_genesis(Path(__file__).parent.parent / "testnet" / "genesis.toml")
    folder = Path(tempfile.mkdtemp(prefix="fork-"))
    sizes = [(arguments.accounts, arguments.blocks), (arguments.accounts // 10, arguments.blocks // 10)]
    try:
        with Progress(transient=True) as progress:
            for number, (accounts, blocks) in enumerate(sizes):
                held = tuple(sorted((address(account), BALANCE_UTHB) for account in range(accounts)))
                make(evolve(base, accounts=held), folder / str(number), blocks, accounts,
                     arguments.transfers, progress)
        before = [contents(folder / str(number)) for number in range(2)]
        draw = random.Random(2)
        times: list[list[tuple[float, ...]]] = [[], []]
        for _ in range(1 + arguments.repeat):
            for number, (accounts, blocks) in enumerate(sizes):
                times[number].append(take(folder / str(number), draw.randrange(blocks + 1), accounts))
        print(f"{'accounts':>9}{'blocks':>8}" + "".join(f"{name:>16}" for name in COLUMNS))
        for (accounts, blocks), taken in zip(sizes, times, strict=True):
            columns = zip(*taken[1:], strict=True)
            print(f"{accounts:9,}{blocks:8,}" + "".join(
                f"{f'{statistics.median(column):.2f} ({max(column):.1f})':>16}" for column in columns))
        same = before == [contents(folder / str(number)) for number in range(2)]
        print("the directories' bytes are " + ("unchanged" if same else "CHANGED"))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
