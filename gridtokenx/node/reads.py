"""Answers about blocks, transactions and trades, for rpc, HTTP and the read-only gateway alike.

What is asked of a state alone is in `ledger.queries` and its neighbours; what needs stored blocks and indexes beside
it is here. Maps have text keys and the unit in the name, ids and addresses are raw bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import trio

from gridtokenx import codec
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger import queries
from gridtokenx.ledger.block import decode_header
from gridtokenx.ledger.receipts import SUCCESS, Outcome, decode_receipt
from gridtokenx.ledger.records import Trade
from gridtokenx.ledger.spaces import Space
from gridtokenx.node.chain import ChainBlock
from gridtokenx.node.feed import first_codes
from gridtokenx.node.index import TRADES, TRADES_OF, trade_row
from gridtokenx.node.view import View

MAX_BLOCK_TRADES = 10_000
PAGE_ROWS = 500

Map = dict[str, Any]
Place = tuple[int, int]
"""Height and number in the block."""
_Answer = TypeVar("_Answer")


class Reads:
    """Over one view. `names` are those of all who ever were authorities, as far as known."""

    def __init__(self, view: View, names: dict[bytes, str]) -> None:
        self.view = view
        self.names = names
        self._long = trio.CapacityLimiter(1)

    async def at_length(self, look: Callable[..., _Answer], *arguments: Any) -> _Answer:
        """What reads much of the state: on a thread and a snapshot of its own, one at a time."""
        async with self._long:
            async with self.view.lock:
                private = self.view.private_state()
                state = private.__enter__()
            try:
                return await trio.to_thread.run_sync(look, state, *arguments)
            finally:
                private.__exit__(None, None, None)

    # ------------------------------------------------------------ blocks

    def block(self, height: int) -> Map | None:
        """The final block at a height; None above the head."""
        unstored = self._unstored(height)
        if unstored is not None:
            header, ids, certified = unstored.header, list(unstored.ids), unstored.certificate is not None
            codes = first_codes(unstored)
            trades = 0 if unstored.result is None else len(unstored.result.trades)
        else:
            database = self.view.database
            stored = database.block(height)
            if stored is None:
                return None
            header, certified = decode_header(stored.header), stored.certificate is not None
            ids = [digest(Domain.TRANSACTION, raw) for raw in stored.transactions]
            codes = [_first_code(decode_receipt(raw).outcomes) for raw in stored.receipts]
            trades = len(database.index_scan(TRADES + height.to_bytes(8, "big"), MAX_BLOCK_TRADES))
        return {
            "height": height, "hash": header.hash, "parent": header.parent, "view": header.view,
            "timestamp_ms": header.timestamp_ms, "proposer": self.names.get(header.proposer, ""),
            "state_root": header.state_root, "transactions_root": header.transactions_root,
            "receipts_root": header.receipts_root, "certified": certified, "transaction_ids": ids, "codes": codes,
            "trades": trades, "traded_wh": sum(wh for wh, _ in header.market),
            "value_uthb": sum(value for _, value in header.market), "zones": [list(zone) for zone in header.market],
        }

    def height_of(self, block_hash: bytes) -> int | None:
        """The height of the final block with this hash."""
        for block in self.view.unstored():
            if block.digest == block_hash:
                return block.header.height
        return self.view.database.height_of(block_hash)

    def _unstored(self, height: int) -> ChainBlock | None:
        for block in self.view.unstored():
            if block.header.height == height:
                return block
        return None

    # ------------------------------------------------------------ what a block changed

    def changed_keys(self, height: int) -> list[bytes] | None:
        """The state keys that a final block changed; None where history was pruned, and above the head."""
        block = self._unstored(height)
        if block is not None and block.state is not None:
            return list(block.state.changes)
        return self.view.database.changed(height)

    def changes(self, height: int, of: frozenset[Space]) -> list[tuple[bytes, bytes | None, bytes | None]]:
        """(key, value before, value after) of the keys of these spaces that a block changed, as far as history is
        kept."""
        block = self._unstored(height)
        if block is not None and block.state is not None:
            state = block.state
            return [(key, state.parent.get(key), value) for key, value in sorted(state.changes.items()) if key[0] in of]
        keys = [key for key in self.view.database.changed(height) or () if key[0] in of]
        if not keys or height < 1:
            return []
        with self.view.database.state_at(height - 1) as before, self.view.database.state_at(height) as after:
            return [(key, before.get(key), after.get(key)) for key in keys]

    # ------------------------------------------------------------ transactions

    def fate(self, transaction_id: bytes) -> Map:
        """What became of a transaction; `docs/rpc.md` has the fields."""
        view = self.view
        stored = view.database.transaction(transaction_id)
        if stored is not None:
            return _final(stored.height, stored.position, decode_receipt(stored.receipt).outcomes)
        recent = view.final(transaction_id)
        if recent is not None:
            block = self._unstored(recent.height)
            if block is not None and block.result is not None:
                return _final(recent.height, recent.position, block.result.receipts[recent.position].outcomes)
        if view.is_pending(transaction_id):
            return {"state": "pending"}
        fate = view.fate(transaction_id)
        if fate is None:
            return {"state": "unknown"}
        return {"state": fate.state, "code": int(fate.code), "reason": fate.reason}

    def transaction_bytes(self, transaction_id: bytes) -> bytes | None:
        """A final transaction as it was submitted."""
        stored = self.view.database.transaction(transaction_id)
        if stored is not None:
            return stored.raw
        recent = self.view.final(transaction_id)
        block = None if recent is None else self._unstored(recent.height)
        return None if recent is None or block is None else block.transactions[recent.position].raw

    def block_transactions(self, height: int) -> list[bytes]:
        """All transactions of a final block as they were submitted; none above the head."""
        block = self._unstored(height)
        if block is not None:
            return [transaction.raw for transaction in block.transactions]
        stored = self.view.database.block(height)
        return [] if stored is None else stored.transactions

    # ------------------------------------------------------------ trades

    def trades(self, most: int, *, account: bytes | None = None, window: int | None = None,
               zone: int | None = None, below: Place | None = None) -> list[tuple[Place, Map]]:
        """Newest first, each with its place in the chain; `below`: only those made before the trade at that place.

        Looks through at most 10 000 trades for those of a window or zone.
        """
        def matches(trade: Map) -> bool:
            return (window in (None, trade["window"])
                    and (zone is None or zone in (trade["buy_zone"], trade["sell_zone"])))

        found: list[tuple[Place, Map]] = []
        for place, trade in self._made(account, below):
            if matches(trade):
                found.append((place, trade))
                if len(found) == most:
                    break
        return found

    def trades_of_window(self, window: int, most: int, zone: int | None) -> list[Map]:
        """The newest `most`, oldest of them first, as long as the window is not settled."""
        return [trade for trade in queries.trades(self.view.state, window)
                if zone is None or zone in (trade["buy_zone"], trade["sell_zone"])][-most:]

    def trades_of_block(self, height: int, account: bytes | None = None) -> list[Map]:
        """In the order they were made: all, or an account's."""
        block = self._unstored(height)
        if block is not None:
            return [] if block.result is None else [
                queries.trade_map(made.window, made.number, made.trade) for made in block.result.trades
                if account in (None, made.buyer, made.seller)]
        prefix = trade_row(height, 0, account)[:-4]
        rows = self.view.database.index_scan(prefix, MAX_BLOCK_TRADES)
        return [_stored_trade(value) for _, value in rows]

    def timestamp_ms(self, height: int) -> int:
        """Of the final block at a height that is held; 0 of one that is not."""
        block = self._unstored(height)
        raw = None if block is not None else self.view.database.header(height)
        header = block.header if block is not None else None if raw is None else decode_header(raw)
        return 0 if header is None else header.timestamp_ms

    def price_history(self, trades: Iterable[Map], most: int) -> list[Map]:
        """The newest `most` blocks among `trades`, which are in order of making: prices and energy of each."""
        blocks: dict[int, list[Map]] = {}
        for trade in trades:
            blocks.setdefault(trade["height"], []).append(trade)
        rows = []
        for height in sorted(blocks)[-most:]:
            prices = [trade["price_mthb_kwh"] for trade in blocks[height]]
            rows.append({
                "height": height, "timestamp_ms": self.timestamp_ms(height), "first_price_mthb_kwh": prices[0],
                "high_price_mthb_kwh": max(prices), "low_price_mthb_kwh": min(prices),
                "last_price_mthb_kwh": prices[-1], "trades": len(prices),
                "traded_wh": sum(trade["delivered_wh"] for trade in blocks[height]),
                "value_uthb": sum(trade["value_uthb"] for trade in blocks[height])})
        return rows

    def _made(self, account: bytes | None, below: Place | None) -> Iterator[tuple[Place, Map]]:
        """Trades newest first: those that no checkpoint holds, then stored ones, none of them twice though a
        checkpoint may have stored blocks that the chain still counts among the others."""
        looked = 0
        for block in reversed(self.view.unstored()):
            made = () if block.result is None else block.result.trades
            for number in range(len(made) - 1, -1, -1):
                place, one = (block.header.height, number), made[number]
                if (below is None or place < below) and account in (None, one.buyer, one.seller):
                    yield place, queries.trade_map(one.window, one.number, one.trade)
        top = (self.view.stored_height + 1, 0)
        after: bytes | None = trade_row(*(top if below is None else min(top, below)), account)
        prefix = TRADES if account is None else TRADES_OF + account
        while looked < MAX_BLOCK_TRADES:
            rows = self.view.database.index_scan(prefix, PAGE_ROWS, reverse=True, after=after)
            for key, value in rows:
                yield (int.from_bytes(key[-12:-4], "big"), int.from_bytes(key[-4:], "big")), _stored_trade(value)
            looked += len(rows)
            if len(rows) < PAGE_ROWS:
                return
            after = rows[-1][0]


def _first_code(outcomes: tuple[Outcome, ...]) -> int:
    return next((int(outcome.code) for outcome in outcomes if outcome.code not in SUCCESS), 0)


def _final(height: int, index: int, outcomes: tuple[Outcome, ...]) -> Map:
    return {"state": "final", "height": height, "index": index, "code": _first_code(outcomes),
            "receipts": [[int(outcome.code), list(outcome.data)] for outcome in outcomes]}


def _stored_trade(value: bytes) -> Map:
    window, number, raw = codec.decode(value)
    return queries.trade_map(window, number, Trade.decode(raw))
