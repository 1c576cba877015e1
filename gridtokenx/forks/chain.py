"""A chain in this process: the ledger of the live network without its network, its signatures and its clock.

Transactions go into a pool and into blocks by `build_block`, the very code that an authority runs; time passes when
the caller says so. Whoever holds the chain may act as any account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from attrs import define, evolve, field, frozen

from gridtokenx import codec
from gridtokenx._native.canonical import tuples
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.keys import NO_SIGNATURE, PrivateKey
from gridtokenx.forks.base import Base
from gridtokenx.forks.dump import dump
from gridtokenx.forks.edits import Edit, edit_block
from gridtokenx.forks.errors import ForkError, OperationFailed
from gridtokenx.forks.layers import Growing, compact, rooted
from gridtokenx.forks.metering import report, report_columns
from gridtokenx.forks.mined import Mined, Refusal, mined_from
from gridtokenx.forks.override import Override
from gridtokenx.forks.parties import Party, address_of
from gridtokenx.forks.provenance import Provenance
from gridtokenx.ledger import spaces
from gridtokenx.ledger.build import build_block
from gridtokenx.ledger.operations import Operation
from gridtokenx.ledger.parameters import Parameters, read_parameters
from gridtokenx.ledger.queries import market_clock
from gridtokenx.ledger.records import Account, AccountKeys, Corridor, Epoch, Identity, Profile, Zone
from gridtokenx.ledger.run import BlockInputs
from gridtokenx.ledger.schema import decode_value
from gridtokenx.ledger.spaces import Space
from gridtokenx.ledger.state import StateReader, StateView
from gridtokenx.ledger.transaction import FLAG_ALL_OR_NOTHING, Transaction, make_transaction
from gridtokenx.market.book import Books
from gridtokenx.market.clock import WINDOW_MS, window_at
from gridtokenx.market.deadlines import HALT_MS

if TYPE_CHECKING:
    from gridtokenx.forks.compare import Difference
    from gridtokenx.forks.frames import Frames
    from gridtokenx.pictures import Plots
    from gridtokenx.scenario import Result, Scenario

BANGKOK = timezone(timedelta(hours=7), "Asia/Bangkok")
VALID_FOR = 1 << 40
MAX_CATCH_UP_BLOCKS = 100_000

@define
class _Waiting:
    ticket: int
    sender: bytes
    operations: tuple[tuple[Any, ...], ...]
    fee_uthb: int | None
    flags: int
    made: Transaction | None = None     # as it was made last


@frozen
class _Point:
    """What `revert` returns to."""

    head: StateView
    pool: tuple[_Waiting, ...]
    blocks: int


@define(eq=False)
class Chain:
    """Made by `fork` and `new_chain`; a context manager, whose end gives the parent's directory back.

    `provenance` is None on a chain of its own. `blocks` are those that were mined here. With `signs` what it reports is
    signed, for a chain that verifies. Not thread-safe.
    """

    _state: StateView
    provenance: Provenance | None = None
    salt: str = ""
    max_orders: int = 1 << 17
    blocks: list[Mined] = field(factory=list)
    signs: bool = False
    _base: Base | None = None
    _rootless: bool = False             # a fork's first block, as long as nobody has asked for `head`
    _books: Books = field(init=False)
    _pool: list[_Waiting] = field(factory=list)
    _tickets: count[int] = field(factory=lambda: count(1))
    _points: dict[int, _Point] = field(factory=dict)
    _keys: dict[str, PrivateKey] = field(factory=dict)
    meter_keys: dict[int, bytes] = field(factory=dict, init=False)      # public ones of the fork's own, once needed
    adopted: tuple[int, ...] = field(default=(), init=False)    # meters that have these; only edits change keys
    unfinished: bool = field(default=False, init=False)         # work that was due is left: the last block had no room
    _growing: Growing | None = field(default=None, init=False)          # while blocks have no state root

    def __attrs_post_init__(self) -> None:
        self._books = books_of(self._state, self.max_orders)

    # ------------------------------------------------------------ what and when

    @property
    def head(self) -> StateView:
        """The last block and the state after it.

        A fork's first block gets its state root when this is first asked for, also by a block on it or a dump: for that
        the store may have to find out trie pages (`HistoricSnapshot.page`).
        """
        if self._rootless:
            if self._base is None:
                raise ForkError("the base of this fork was closed")
            self._state, self._rootless = rooted(self._state), False
        return self._state

    @property
    def state(self) -> StateReader:
        """The state as the chain stands, to read, which takes no state root; the header is that of `head`."""
        return self._state

    @property
    def chain_id(self) -> bytes:
        return self._state.header.chain_id

    @property
    def height(self) -> int:
        return self._state.header.height

    @property
    def parameters(self) -> Parameters:
        return read_parameters(self._state)

    @property
    def now_ms(self) -> int:
        """Market time, Unix ms."""
        return market_clock(self._state).now_ms

    @property
    def now(self) -> datetime:
        """Market time in Thailand."""
        return datetime.fromtimestamp(self.now_ms / 1000, BANGKOK)

    @property
    def window(self) -> int:
        """The delivery window that is running."""
        return window_at(self.now_ms)

    def record(self, key: bytes) -> Any:
        """The record of state at `key` (`ledger.spaces`), or None."""
        raw = self._state.get(key)
        return None if raw is None else decode_value(key, raw)

    def account(self, party: Party) -> Account:
        """An account's money; one that does not exist is empty."""
        found = self.record(spaces.account(address_of(party)))
        return Account() if found is None else found

    def key(self, name: str) -> PrivateKey:
        """The key of somebody made up here: the same name gives the same key on every fork with the same salt."""
        found = self._keys.get(name)
        if found is None:
            found = self._keys[name] = _made_up(self.salt, name)
        return found

    @property
    def identity(self) -> Identity:
        """What genesis fixed: chain id, rules, and how market time runs."""
        found: Identity = self.record(spaces.IDENTITY)
        return found

    def paths(self, seller_zone: int, buyer_zone: int) -> list[tuple[int, ...]]:
        """The corridors of every path of the market from one zone to another, in their order of preference at a tie."""
        return self._books.paths(seller_zone, buyer_zone)

    @property
    def place(self) -> Path | None:
        """The data directory of the parent; None without one."""
        return None if self._base is None else self._base.path

    @property
    def frames(self) -> Frames:
        """All that is on the chain as data frames."""
        from gridtokenx.forks.frames import Frames
        return Frames(self)

    @property
    def plot(self) -> Plots:
        """Pictures of what is on the chain: merit order, prices, energy, flows, bills, savings."""
        from gridtokenx.pictures import Plots
        frames = self.frames
        return Plots(self, lambda name: getattr(frames, name)())

    @property
    def override(self) -> Override:
        """Sets what on the live chain takes an operator, a regulator or a power cut."""
        return Override(self)

    # ------------------------------------------------------------ transactions

    def submit(self, sender: Party, *operations: Operation, fee_uthb: int | None = None,
               all_or_nothing: bool = False) -> int:
        """Queues one transaction as `sender`, whose signature nobody asks for, and returns its ticket.

        The fee is the least one unless given. `mine` says what became of it.
        """
        if not operations:
            raise ForkError("a transaction carries at least one operation")
        ticket = next(self._tickets)
        fields = tuple([tuples(operation.fields()) for operation in operations])
        self._pool.append(_Waiting(ticket, address_of(sender), fields, fee_uthb,
                                   FLAG_ALL_OR_NOTHING if all_or_nothing else 0))
        return ticket

    def submit_fields(self, sender: bytes, operations: tuple[tuple[Any, ...], ...]) -> int:
        """`submit` for whoever has the fields of operations without the operations: (kind, field, ...), all tuples."""
        ticket = next(self._tickets)
        self._pool.append(_Waiting(ticket, sender, operations, None, 0))
        return ticket

    def send(self, sender: Party, *operations: Operation, fee_uthb: int | None = None) -> list[tuple[Any, ...]]:
        """Submits one transaction and mines until it is in a block; returns the data of each operation.

        Raises OperationFailed when it was refused, or one of its operations failed; ForkError when no block takes it.
        """
        ticket = self.submit(sender, *operations, fee_uthb=fee_uthb)
        while True:
            mined = self._step(self.parameters, self.parameters.min_block_interval_ms)
            receipt = mined.receipts.get(ticket)
            if receipt is not None:
                break
            if not mined.receipts and not self.unfinished:       # it would be the same in the next one
                self._pool = [entry for entry in self._pool if entry.ticket != ticket]
                raise ForkError(f"no block takes the transaction: {encode_address(address_of(sender))} can spend "
                                f"{self.account(sender).balance} uTHB and may lack the fee; `override.balance` gives "
                                "it money")
        if isinstance(receipt, Refusal):
            raise OperationFailed(int(receipt.code), f"{receipt.code.name}: {receipt.reason}")
        for operation, outcome in zip(operations, receipt.outcomes, strict=True):
            if not outcome.ok:
                raise OperationFailed(int(outcome.code), f"{operation.NAME}: {outcome.code.name}")
        return [outcome.data for outcome in receipt.outcomes]

    def report(self, window: int, readings: Mapping[int, tuple[int, int]]) -> None:
        """Readings of a window that is over: meter -> (injected Wh, withdrawn Wh), as if the meters had sent them.

        A collector of the fork's own reports them, in blocks made at once. The meters' keys become the fork's, since
        nobody here has the real ones. Raises ForkError naming the readings that were refused; the others are taken.
        """
        report(self, window, readings)

    def report_columns(self, window: int, meters: Sequence[int], energies_wh: Sequence[tuple[int, ...]]) -> int:
        """`report` of many meters, ascending, of one window or several that follow each other: of each meter what it
        injected and withdrew in `window`, in the next one, ... Returns the market time of the last block with some."""
        return report_columns(self, window, meters, energies_wh)

    @property
    def waiting(self) -> int:
        """Transactions that are not in a block yet."""
        return len(self._pool)

    # ------------------------------------------------------------ blocks and time

    def mine(self, after_ms: int | None = None) -> Mined:
        """One block, `after_ms` of the chain's clock (not the market's) after the last; the least step unless given.

        What does not fit stays for the next one.
        """
        parameters = self.parameters
        step = parameters.min_block_interval_ms if after_ms is None else max(after_ms, parameters.min_block_interval_ms)
        return self._step(parameters, step)

    def flush(self, until_ms: int | None = None) -> list[Mined]:
        """Blocks until nothing waits, neither a transaction nor timed work that was due.

        With `until_ms` such work is left (`unfinished`) once it is that market time.
        """
        made = []
        for _ in range(MAX_CATCH_UP_BLOCKS):
            before = len(self._pool)
            mined = self._step(self.parameters, self.parameters.min_block_interval_ms)
            made.append(mined)
            working = self.unfinished and (until_ms is None or self.now_ms < until_ms)
            if not working and not self._pool:
                return made
            if not self.unfinished and len(self._pool) == before and not mined.receipts:
                break
        if not self._pool:
            raise ForkError(f"work that was due is not done after {MAX_CATCH_UP_BLOCKS:,} blocks, while more falls "
                            "due; a higher max_timed_weight is needed")
        raise ForkError(f"{len(self._pool)} transactions fit into no block")

    def warp(self, to: datetime | int) -> list[Mined]:
        """Lets market time pass until `to` (Unix ms, or a datetime with a zone) and does all that falls due by then.

        One jump: use `advance` where people should be able to act in each window. Raises ForkError for the past.
        """
        target = _market_ms(to)
        made = [self._until(target)] if target > self.now_ms else []
        if target < self.now_ms and not made:
            raise ForkError(f"market time is {self.now.isoformat()} already; time does not run backwards: use revert")
        return made + self.flush()

    def advance(self, windows: int = 1, each: Callable[[Chain], None] | None = None) -> None:
        """Lets `windows` delivery windows pass, one after the other; `each` is called at the beginning of each.

        A block is made at the beginning of every window, and as many as it takes until nothing waits. On a chain
        whose clock is slow there are heartbeats between, as on the live network: no halt that would move deadlines.
        """
        for _ in range(windows):
            self.reach(self.window + 1)
            if self.unfinished or self._pool:
                self.flush()
            if each is not None:
                each(self)
                if self._pool:
                    self.flush()

    def reach(self, window: int) -> None:
        """Lets delivery windows pass until `window` begins, with no more blocks than the clock needs: for whoever does
        nothing in between. Work that was due may be left then (`unfinished`). Nothing happens if it has begun."""
        begin_ms = window * WINDOW_MS
        while begin_ms - self.now_ms > HALT_MS * self.identity.market_rate:
            self.mine(HALT_MS)
        if begin_ms > self.now_ms:
            self._until(begin_ms)

    def _until(self, market_ms: int) -> Mined:
        missing = market_ms - self.now_ms
        parameters = self.parameters
        return self._step(parameters, max(parameters.min_block_interval_ms, -(-missing // self.identity.market_rate)))

    def _step(self, parameters: Parameters, step_ms: int) -> Mined:
        mined, self.unfinished = self._mine(parameters, step_ms)
        return mined

    def _mine(self, parameters: Parameters, step_ms: int) -> tuple[Mined, bool]:
        header = self.head.header
        epoch: Epoch = self.record(spaces.EPOCH)
        inputs = BlockInputs(header.view + 1, epoch.number, header.height + 1, header.timestamp_ms + step_ms, b"",
                             header.hash, rooted=self._growing is None)
        waiting = self._transactions(parameters)
        result, included, refused = build_block(self.head, inputs, [made for made, _ in waiting], self._books)
        mined = mined_from(result, included, refused, {made.id: entry.ticket for made, entry in waiting})
        self._pool = [entry for entry in self._pool if entry.ticket not in mined.receipts]
        self._stand(result.state)
        self.blocks.append(mined)
        return mined, result.unfinished

    def _transactions(self, parameters: Parameters) -> list[tuple[Transaction, _Waiting]]:
        """What waits as transactions: numbered as the accounts stand now."""
        nonces: dict[bytes, int] = {}
        made = []
        for entry in self._pool:
            account = self.account(entry.sender)
            nonce = nonces.get(entry.sender, account.nonce)
            nonces[entry.sender] = nonce + 1
            fee = entry.fee_uthb
            if fee is None:
                fee = parameters.min_fee_uthb * len(entry.operations)
            signers = [entry.sender]
            if account.threshold:
                keys: AccountKeys = self.record(spaces.account_keys(entry.sender))
                signers = sorted(keys.keys)[:account.threshold]
            signatures = tuple([(signer, NO_SIGNATURE) for signer in signers])
            known = entry.made
            if known is None or (known.nonce, known.fee_uthb, known.signatures) != (nonce, fee, signatures):
                known = entry.made = make_transaction(entry.sender, nonce, VALID_FOR, fee, entry.operations,
                                                      entry.flags, signatures)
            made.append((known, entry))
        return made

    def _stand(self, state: StateView) -> None:
        """The chain stands at a block on its head."""
        self._state = compact(state) if self._growing is None else self._growing.add(state)

    @contextmanager
    def unrooted(self) -> Iterator[None]:
        """Meanwhile blocks have the state root of the last before them, which saves a fifth of the work of a run.

        The last one gets its own at the end, at a snapshot and at a dump. Whoever keeps `head` cannot read it any more
        when there is another block.
        """
        outermost = self._growing is None
        self._growing = self._growing or Growing(self.head)
        try:
            yield
        finally:
            if outermost:
                self._end_growing()

    def _root(self) -> None:
        """Gives the head its state root when it has none."""
        if self._growing is not None and self._growing.holds(self.head):
            self._end_growing()
            self._growing = Growing(self.head)

    def _end_growing(self) -> None:
        growing, self._growing = self._growing, None
        if growing is None or not growing.holds(self.head):
            return
        before = self.head.header
        self._state = growing.rooted(self.head)
        self._books.at(before.hash)
        self._books.commit(self.head.header.hash, before.hash, ())
        self.blocks[-1] = evolve(self.blocks[-1], header=self.head.header)

    # ------------------------------------------------------------ there and back

    def snapshot(self) -> int:
        """A point to `revert` to, any number of them, in constant time; what waits is part of it."""
        self._root()
        number = max(self._points, default=0) + 1
        self._points[number] = _Point(self.head, tuple(self._pool), len(self.blocks))
        return number

    def revert(self, number: int) -> None:
        """Back to a snapshot, which stays; later ones are forgotten. Raises ForkError when there is none."""
        point = self._points.get(number)
        if point is None:
            raise ForkError(f"no snapshot {number}; there are {sorted(self._points)}")
        self._points = {known: kept for known, kept in self._points.items() if known <= number}
        self.adopted, self.unfinished = (), False
        regrouped = _grid(self.head) != _grid(point.head)
        self._state = point.head
        self._growing = None if self._growing is None else Growing(self.head)
        self._pool = list(point.pool)
        del self.blocks[point.blocks:]
        if regrouped:
            self._books = books_of(self.head, self.max_orders)

    def diff(self, other: Chain) -> Difference:
        """What is different between this chain and another one, as both stand: trade, prices, flows, bills, money."""
        from gridtokenx.forks.compare import compare
        return compare(self, other)

    def write_report(self, path: str | Path, other: Chain | None = None) -> Path:
        """Writes what is on the chain as one stand-alone HTML file; with `other`, also how it differs from that."""
        from gridtokenx.pictures import report
        out = Path(path)
        out.write_text(report(self, other), "utf-8")
        return out

    def run(self, scenario: Scenario, *, seed: int | None = None) -> Result:
        """Runs a scenario here, from where the chain stands: its houses come, its horizon passes. ScenarioError."""
        from gridtokenx.scenario import run
        return run(scenario, seed=seed, chain=self)

    def edit(self, change: Edit) -> None:
        """A block that sets records of state as `change(session)` does: what no operation could.

        Raises InvariantError when money or energy would come from nowhere.
        """
        self.adopted = ()
        before = self.head
        after = edit_block(before, change, rooted=self._growing is None)
        if any(key[0] in _GRID_SPACES for key in after.changes):
            self._books = books_of(after, self.max_orders)
        elif any(key[0] in _BOOK_SPACES for key in after.changes):
            self._books.abandon()       # loaded anew: the block is no child that the books know
        else:
            self._books.at(before.header.hash)
            self._books.commit(after.header.hash, before.header.hash, ())
        self.blocks.append(Mined(after.header, {}, ()))
        self._stand(after)

    def dump(self, directory: str | Path) -> Path:
        """Writes what was changed here into `directory`, for `gridtokenx.load`; snapshots and `blocks` are left out.

        The parent is not copied, but keeps the history that this fork reads for another 30 days. Raises ForkError
        while transactions wait.
        """
        self._root()
        return dump(self, Path(directory), self._base)

    def close(self) -> None:
        """Gives the parent's directory back; harmless when called again."""
        self._growing = None
        if self._base is not None:
            self._base.close()
            self._base = None

    def __enter__(self) -> Chain:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()


@lru_cache(1 << 14)
def _made_up(salt: str, name: str) -> PrivateKey:
    """One run after the other has the same people; nothing is secret about their keys."""
    return PrivateKey(digest(Domain.FORK, codec.encode(["key", salt, name])))


_GRID_SPACES = frozenset({Space.ZONE, Space.CORRIDOR, Space.PROFILE})
_BOOK_SPACES = frozenset({Space.ORDER, Space.CORRIDOR_WINDOW, Space.TRADING, Space.WORK_LEFT})


def _grid(state: StateReader) -> list[tuple[bytes, bytes]]:
    return [entry for space in sorted(_GRID_SPACES) for entry in state.scan(bytes((space,)))]


def books_of(state: StateReader, max_orders: int = 1 << 17) -> Books:
    """Empty books over the grid that `state` has. Raises BookError when the engine refuses it."""
    zones: list[Zone] = _all(state, Space.ZONE)
    corridors: list[Corridor] = _all(state, Space.CORRIDOR)
    profiles: list[Profile] = _all(state, Space.PROFILE)
    return Books([(zone.loss_ppm, zone.wheel_uthb_kwh) for zone in zones], max_orders,
                 corridors=[(line.first, line.second, line.loss_ppm, line.wheel_uthb_kwh) for line in corridors],
                 profiles=[(profile.sources, profile.zones) for profile in profiles])


def _all(state: StateReader, space: Space) -> list[Any]:
    return [decode_value(key, raw) for key, raw in state.scan(bytes((space,)))]


def _market_ms(to: datetime | int) -> int:
    if isinstance(to, int):
        return to
    if to.tzinfo is None:
        raise ForkError(f"{to} has no time zone; use chain.now's, for example")
    return round(to.timestamp() * 1000)
