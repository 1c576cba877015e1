"""The chain's own interface: submit, query, subscribe (DESIGN 9). One method of `RpcServer` per rpc method.

Answers are canonical CBOR with text keys; ids and addresses are raw bytes; amounts are integers in base units
with the unit in the key's name. `docs/rpc.md` lists them for writers of clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from gridtokenx import codec
from gridtokenx.crypto.hashing import HASH_BYTES, Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import certificate_queries, queries, settlement_queries, spaces, tariff_queries
from gridtokenx.ledger.block import decode_header
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.receipts import SUCCESS, decode_receipt
from gridtokenx.ledger.records import Trade
from gridtokenx.network.rpc import RpcSession
from gridtokenx.network.settings import RemoteError
from gridtokenx.node.chain import ChainBlock
from gridtokenx.node.config import NodeConfig
from gridtokenx.node.epochs import members_of
from gridtokenx.node.feed import first_codes
from gridtokenx.node.index import TRADES, TRADES_OF
from gridtokenx.node.prove import Prover
from gridtokenx.node.serve import final_block
from gridtokenx.node.service import Service
from gridtokenx.store.database import Database
from gridtokenx.store.schema import MAX_STATE_KEY_BYTES

MAX_SUBMITTED = 512
MAX_LISTED = 500
MAX_WAITED = 512
MAX_LEVELS = 200
MAX_BLOCK_TRADES = 10_000


class RequestError(GridTokenXError):
    """Parameters of the wrong number or kind; the message says what the method takes."""

    code = "bad_request"


def _integer(value: Any, name: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise RequestError(f"{name} must be an integer from {low} to {high}, not {value!r}")
    return value


def _hash(value: Any, name: str) -> bytes:
    if type(value) is not bytes or len(value) != HASH_BYTES:
        raise RequestError(f"{name} must be {HASH_BYTES} bytes")
    return value


def _window_of(value: Any) -> int:
    return _integer(value, "a window", 0, spaces.MAX_WINDOW)


def _meter_of(value: Any) -> int:
    return _integer(value, "a meter's id", 1, (1 << 32) - 1)


class RpcServer:
    """Answers for one node. Reads see the newest final block."""

    def __init__(self, service: Service, genesis: Genesis, database: Database, config: NodeConfig,
                 version: str) -> None:
        self._service = service
        self._chain = service.replica.chain
        self._genesis = genesis
        self._database = database
        self._config = config
        self._version = version
        self._totalling = trio.CapacityLimiter(1)
        self._prover = Prover(genesis, database, self._chain)
        self._names = service.feed.authority_names      # of all who ever were authorities, as far as known
        self._methods: dict[str, tuple[int, Callable[..., Awaitable[Any]]]] = {
            "status": (0, self._status), "submit": (1, self._submit), "transaction": (1, self._transaction),
            "wait": (2, self._wait), "account": (1, self._account), "participant": (1, self._participant),
            "meter": (1, self._meter), "order": (1, self._order), "orders": (2, self._orders),
            "trades": (2, self._trades), "book": (3, self._book), "prices": (1, self._prices),
            "indicative": (1, self._indicative), "rates": (1, self._rates),
            "tariffs": (0, self._tariffs), "month": (2, self._month),
            "block": (1, self._block), "blocks": (2, self._blocks), "authorities": (0, self._authorities),
            "peers": (0, self._peers), "parameters": (0, self._parameters), "genesis": (0, self._genesis_bytes),
            "totals": (0, self._totals), "evidence": (0, self._evidence),
            "prove": (1, self._prove), "prove_transaction": (1, self._prove_transaction),
            "certificate": (1, self._certificate), "certificates": (3, self._certificates),
            "certificate_offers": (2, self._certificate_offers), "claims": (1, self._claims),
            "claim": (2, self._claim), "meter_claims": (1, self._meter_claims), "carbon": (0, self._carbon),
            "certificate_totals": (0, self._certificate_totals),
            "bill": (2, self._bill), "settlement": (2, self._settlement),
            "window": (1, self._window), "settled": (0, self._settled), "dues": (1, self._dues),
            "energy": (1, self._energy), "flags": (2, self._flags), "suspects": (3, self._suspects),
        }

    async def handle(self, session: RpcSession, method: str, params: Any) -> Any:
        """One request of one client. Raises RemoteError or a GridTokenXError for what it got wrong."""
        arguments = [] if params is None else params
        if type(arguments) is not list:
            raise RequestError("params are an array")
        if method == "subscribe":
            return self._subscribe(session, arguments)
        if method == "unsubscribe":
            if len(arguments) != 1:
                raise RequestError(f"unsubscribe takes 1 parameters, not {len(arguments)}")
            number = _integer(arguments[0], "subscription", 1, 1 << 53)
            if not self._service.feed.unsubscribe(number, session.number):
                raise RequestError(f"this session has no subscription {number}")
            return True
        known = self._methods.get(method)
        if known is None:
            raise RemoteError(f"no method {method!r}; there are {', '.join(sorted([*self._methods, 'subscribe']))}",
                              "unknown_method")
        count, handler = known
        if len(arguments) != count:
            raise RequestError(f"{method} takes {count} parameters, not {len(arguments)}")
        if method in ("submit", "wait", "totals", "certificate_totals", "blocks", "settled", "suspects", "bill"):
            return await handler(*arguments)        # they wait for other things, and take the lock in between
        async with self._service.chain_lock:
            return await handler(*arguments)

    # ------------------------------------------------------------ the node

    async def _status(self) -> dict[str, Any]:
        service, chain = self._service, self._chain
        header = chain.head.header
        core = service.replica.core
        statistics = None if core is None else core.statistics()
        clock = queries.market_clock(chain.state)
        return {
            "name": self._config.node.name, "version": self._version, "chain_id": chain.chain_id,
            "chain_name": self._genesis.name, "authority": self._names.get(service.me, ""), "public": service.me,
            "height": header.height, "hash": chain.head.digest, "state_root": header.state_root,
            "timestamp_ms": header.timestamp_ms, "epoch": header.epoch,
            "view": header.view if statistics is None else statistics.view,
            "leader": "" if core is None or statistics is None
            else self._names[core.authorities.keys[statistics.leader]],
            "delta_ms": 0 if statistics is None else statistics.delta_ms,
            "market_time_s": clock.now_ms // 1000, "market_rate": clock.rate, "window": clock.now_ms // 900_000,
            "peers": sum(peer.connected for peer in service.network.peers()),
            "pending_transactions": len(service.replica.pool), "produced": dict(service.feed.produced),
            "checkpoint_height": chain.base.header.height, "certificates_verified": service.certificates_verified,
            "uptime_ms": int((trio.current_time() - service.started_s) * 1000),
        }

    async def _peers(self) -> list[dict[str, Any]]:
        return [{
            "public": peer.public, "name": peer.name or self._names.get(peer.public, ""), "address": peer.address,
            "connected": peer.connected, "connected_s": int(peer.connected_s), "outbound": peer.outbound,
            "authority": peer.authority, "linked": peer.linked, "sent_bytes": peer.sent_bytes,
            "received_bytes": peer.received_bytes, "dropped": peer.dropped, "error": peer.error,
        } for peer in self._service.network.peers()]

    async def _authorities(self) -> list[dict[str, Any]]:
        core = self._service.replica.core
        known = {} if core is None else {entry.index: entry for entry in core.statistics().authorities}
        rows = []
        for index, (name, public) in enumerate(members_of(self._chain.state)):
            row: dict[str, Any] = {"name": name, "public": public,
                                   "produced": self._service.feed.produced.get(name, 0)}
            entry = known.get(index)
            if entry is not None:
                row |= {"silent": entry.silent, "heard_ms_ago": entry.heard_ms_ago, "late_views": entry.late_views,
                        "clock_offset_ms": entry.clock_offset_ms, "finalized_height": entry.finalized_height}
            rows.append(row)
        return rows

    async def _evidence(self) -> list[list[Any]]:
        """Operations that anyone may submit."""
        return [evidence.fields() for evidence in self._service.replica.evidence.kept()]

    async def _genesis_bytes(self) -> bytes:
        return self._genesis.canonical()

    async def _prove(self, keys: Any) -> bytes:
        if type(keys) is not list or any(type(key) is not bytes or not 0 < len(key) <= MAX_STATE_KEY_BYTES
                                         for key in keys):
            raise RequestError(f"prove takes an array of state keys of 1 to {MAX_STATE_KEY_BYTES} bytes")
        return self._prover.records(keys).encode()

    async def _prove_transaction(self, transaction_id: Any) -> bytes:
        return self._prover.transaction(_hash(transaction_id, "a transaction's id")).encode()

    def _subscribe(self, session: RpcSession, arguments: list[Any]) -> int:
        if arguments != ["blocks"]:
            raise RequestError("subscribe takes one topic; there is 'blocks'")
        feed = self._service.feed
        most = self._config.rpc.max_subscriptions_per_session
        if feed.subscriptions_of(session.number) >= most:
            raise RemoteError(f"a session has at most {most} subscriptions", "too_many_subscriptions")
        mine: list[int] = []

        def push(data: dict[str, Any]) -> None:
            if not session.push(mine[0], data):
                feed.unsubscribe(mine[0], session.number)

        mine.append(feed.subscribe(session.number, push))
        return mine[0]

    # ------------------------------------------------------------ transactions

    async def _submit(self, raws: Any) -> list[list[Any]]:
        if type(raws) is not list or not 1 <= len(raws) <= MAX_SUBMITTED or any(type(raw) is not bytes for raw in raws):
            raise RequestError(f"submit takes 1 to {MAX_SUBMITTED} transactions as byte strings")
        return [list(answer) for answer in await self._service.submit(raws)]

    async def _transaction(self, transaction_id: Any) -> dict[str, Any]:
        return self._fate(_hash(transaction_id, "a transaction's id"))

    async def _wait(self, ids: Any, timeout_ms: Any) -> list[dict[str, Any]]:
        if type(ids) is not list or not 1 <= len(ids) <= MAX_WAITED:
            raise RequestError(f"wait takes 1 to {MAX_WAITED} ids")
        most = self._config.rpc.wait_timeout_ms_max
        timeout_s = _integer(timeout_ms, "the timeout in ms", 0, most) / 1000
        wanted = [_hash(item, "a transaction's id") for item in ids]
        with trio.move_on_after(timeout_s):
            for transaction_id in wanted:
                if self._fate(transaction_id)["state"] in ("pending", "unknown"):
                    await self._service.feed.wait(transaction_id)
        return [self._fate(transaction_id) for transaction_id in wanted]

    def _fate(self, transaction_id: bytes) -> dict[str, Any]:
        stored = self._database.transaction(transaction_id)
        if stored is not None:
            receipt = decode_receipt(stored.receipt)
            return _final(stored.height, stored.position, [[int(o.code), list(o.data)] for o in receipt.outcomes])
        recent = self._service.feed.recent(transaction_id)
        if recent is not None:
            block = self._unstored(recent.height)
            if block is not None and block.result is not None:
                outcomes = block.result.receipts[recent.position].outcomes
                return _final(recent.height, recent.position, [[int(o.code), list(o.data)] for o in outcomes])
        replica = self._service.replica
        if transaction_id in replica.pool or self._chain.transaction(transaction_id) is not None:
            return {"state": "pending"}
        fate = replica.fate_of(transaction_id)
        if fate is None:
            return {"state": "unknown"}
        return {"state": fate.state, "code": int(fate.code), "reason": fate.reason}

    def _unstored(self, height: int) -> ChainBlock | None:
        for block in self._chain.finals():
            if block.header.height == height:
                return block
        return None

    # ------------------------------------------------------------ state

    async def _account(self, address: Any) -> dict[str, Any] | None:
        return queries.account(self._chain.state, _hash(address, "an address"))

    async def _participant(self, address: Any) -> dict[str, Any] | None:
        return queries.participant(self._chain.state, _hash(address, "an address"))

    async def _meter(self, meter_id: Any) -> dict[str, Any] | None:
        return queries.meter(self._chain.state, _meter_of(meter_id))

    async def _order(self, order_id: Any) -> dict[str, Any] | None:
        return queries.order(self._chain.state, _integer(order_id, "an order's id", 1, (1 << 63) - 1))

    async def _orders(self, address: Any, limit: Any) -> list[dict[str, Any]]:
        return queries.open_orders(self._chain.state, _hash(address, "an address"),
                                   _integer(limit, "the limit", 1, MAX_LISTED))

    async def _book(self, window: Any, zone: Any, levels: Any) -> dict[str, Any]:
        return queries.book(self._chain.state, _integer(window, "a window", 0, spaces.MAX_WINDOW),
                            _integer(zone, "a zone", 0, 63), _integer(levels, "levels", 1, MAX_LEVELS))

    async def _prices(self, window: Any) -> list[dict[str, Any]]:
        return queries.prices(self._chain.state, _integer(window, "a window", 0, spaces.MAX_WINDOW))

    async def _indicative(self, window: Any) -> list[dict[str, Any]]:
        return tariff_queries.indicative_prices(self._chain.state, _integer(window, "a window", 0, spaces.MAX_WINDOW))

    async def _tariffs(self) -> dict[str, Any]:
        return tariff_queries.tariffs(self._chain.state)

    async def _month(self, address: Any, month: Any) -> list[dict[str, Any]]:
        return tariff_queries.monthly_bills(self._chain.state, _hash(address, "an address"),
                                            _integer(month, "a month (12 x year + month - 1)", 0, (1 << 16) - 1))

    async def _rates(self, window: Any) -> dict[str, Any]:
        return tariff_queries.rates(self._chain.state, _integer(window, "a window", 0, spaces.MAX_WINDOW))

    async def _parameters(self) -> dict[str, Any]:
        return queries.parameters(self._chain.state)

    async def _totals(self) -> dict[str, Any]:
        return await self._at_length(queries.totals)

    async def _at_length(self, look: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        """What reads much of the state: on a thread and a snapshot of its own, so that blocks go on meanwhile."""
        async with self._totalling:
            async with self._service.chain_lock:
                private = self._chain.private_state()
                state = private.__enter__()
            try:
                return await trio.to_thread.run_sync(look, state, *arguments)
            finally:
                private.__exit__(None, None, None)

    # ------------------------------------------------------------ settlement

    async def _bill(self, address: Any, day: Any) -> dict[str, Any]:
        return await self._at_length(settlement_queries.bill, _hash(address, "an address"),
                                     _integer(day, "a day since 1970-01-01", 1, spaces.MAX_WINDOW // 96))

    async def _settlement(self, window: Any, meter_id: Any) -> dict[str, Any] | None:
        return settlement_queries.settlement(self._chain.state, _window_of(window), _meter_of(meter_id))

    async def _window(self, window: Any) -> dict[str, Any]:
        return settlement_queries.window(self._chain.state, _window_of(window))

    async def _settled(self) -> dict[str, Any]:
        return await self._at_length(settlement_queries.settled_windows)

    async def _dues(self, address: Any) -> list[dict[str, Any]]:
        return settlement_queries.dues(self._chain.state, _hash(address, "an address"))

    async def _energy(self, address: Any) -> dict[str, Any]:
        return settlement_queries.energy(self._chain.state, _hash(address, "an address"))

    async def _flags(self, zone: Any, limit: Any) -> list[dict[str, Any]]:
        return settlement_queries.flags(self._chain.state, None if zone is None else _integer(zone, "a zone", 0, 63),
                                        _integer(limit, "the limit", 1, MAX_LISTED))

    async def _suspects(self, zone: Any, windows: Any, limit: Any) -> dict[str, Any]:
        return await self._at_length(
            settlement_queries.suspects, _integer(zone, "a zone", 0, 63),
            _integer(windows, "windows", 1, settlement_queries.MAX_SEARCHED),
            _integer(limit, "the limit", 1, MAX_LISTED))

    # ------------------------------------------------------------ certificates

    async def _certificate(self, serial: Any) -> dict[str, Any] | None:
        return certificate_queries.certificate(self._chain.state, _integer(serial, "a serial number", 1, (1 << 63) - 1))

    async def _certificates(self, address: Any, after: Any, limit: Any) -> list[dict[str, Any]]:
        return certificate_queries.certificates(
            self._chain.state, _hash(address, "an address"), _integer(after, "a serial number", 0, (1 << 63) - 1),
            _integer(limit, "the limit", 1, MAX_LISTED))

    async def _certificate_offers(self, source: Any, limit: Any) -> list[dict[str, Any]]:
        wanted = None if source is None else _integer(source, "a source", 0, 255)
        return certificate_queries.offers(self._chain.state, wanted, _integer(limit, "the limit", 1, MAX_LISTED))

    async def _claims(self, address: Any) -> list[dict[str, Any]]:
        return certificate_queries.claims(self._chain.state, _hash(address, "an address"))

    async def _claim(self, window: Any, meter_id: Any) -> dict[str, Any] | None:
        return certificate_queries.claim(self._chain.state, _integer(window, "a window", 0, spaces.MAX_WINDOW),
                                         _integer(meter_id, "a meter's id", 1, (1 << 32) - 1))

    async def _meter_claims(self, meter_id: Any) -> dict[str, Any] | None:
        return certificate_queries.meter_claims(self._chain.state,
                                                _integer(meter_id, "a meter's id", 1, (1 << 32) - 1))

    async def _carbon(self) -> list[dict[str, Any]]:
        return certificate_queries.carbon(self._chain.state)

    async def _certificate_totals(self) -> dict[str, Any]:
        return await self._at_length(certificate_queries.certificate_totals)

    # ------------------------------------------------------------ trades

    async def _trades(self, where: Any, limit: Any) -> list[dict[str, Any]]:
        """Newest first: all, or of one account; or of one window (and zone), oldest first."""
        most = _integer(limit, "the limit", 1, MAX_LISTED)
        if type(where) is not dict or not set(where) <= {"account", "window", "zone"}:
            raise RequestError("trades takes a map with any of account, window, zone")
        account = None if "account" not in where else _hash(where["account"], "account")
        window = None if "window" not in where else _integer(where["window"], "window", 0, spaces.MAX_WINDOW)
        zone = None if "zone" not in where else _integer(where["zone"], "zone", 0, 63)

        def matches(trade: dict[str, Any]) -> bool:
            return (window in (None, trade["window"])
                    and (zone is None or zone in (trade["buy_zone"], trade["sell_zone"])))

        if window is not None and account is None:
            return [trade for trade in queries.trades(self._chain.state, window) if matches(trade)][-most:]
        found = self._unstored_trades(account, matches, most)
        prefix = TRADES if account is None else TRADES_OF + account
        # A checkpoint may have stored blocks that the chain still counts among the others: none of them twice.
        after: bytes | None = prefix + (self._chain.base.header.height + 1).to_bytes(8, "big")
        looked = 0
        while len(found) < most and looked < MAX_BLOCK_TRADES:
            rows = self._database.index_scan(prefix, MAX_LISTED, reverse=True, after=after)
            found += [trade for _, value in rows if matches(trade := _stored_trade(value))][:most - len(found)]
            looked += len(rows)
            if len(rows) < MAX_LISTED:
                break
            after = rows[-1][0]
        return found if window is None else found[::-1]

    def _unstored_trades(self, account: bytes | None, matches: Callable[[dict[str, Any]], bool],
                         most: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for block in reversed(self._chain.finals()):
            if block.result is None:
                continue
            for made in reversed(block.result.trades):
                if account not in (None, made.buyer, made.seller):
                    continue
                trade = queries.trade_map(made.window, made.number, made.trade)
                if matches(trade):
                    found.append(trade)
                    if len(found) == most:
                        return found
        return found

    # ------------------------------------------------------------ blocks

    async def _block(self, height: Any) -> dict[str, Any] | None:
        return self._block_map(_integer(height, "a height", 0, 1 << 53))

    async def _blocks(self, first: Any, limit: Any) -> list[dict[str, Any]]:
        start = _integer(first, "a height", 0, 1 << 53)
        found: list[dict[str, Any]] = []
        for height in range(start, start + _integer(limit, "the limit", 1, 100)):
            async with self._service.chain_lock:
                block = self._block_map(height)
            if block is None:
                break
            found.append(block)         # the event loop had a turn between two full blocks: votes come first
        return found

    def _block_map(self, height: int) -> dict[str, Any] | None:
        found = final_block(self._database, self._chain, height)
        if found is None:
            return None
        header = decode_header(found[0])
        unstored = self._unstored(height)
        if unstored is not None:
            codes = first_codes(unstored)
            trades = 0 if unstored.result is None else len(unstored.result.trades)
        else:
            trades = len(self._database.index_scan(TRADES + height.to_bytes(8, "big"), MAX_BLOCK_TRADES))
            stored = self._database.block(height)
            receipts = [] if stored is None else [decode_receipt(raw) for raw in stored.receipts]
            codes = [next((int(o.code) for o in receipt.outcomes if not o.ok), 0) for receipt in receipts]
        return {
            "height": height, "hash": header.hash, "parent": header.parent, "view": header.view,
            "timestamp_ms": header.timestamp_ms, "proposer": self._names.get(header.proposer, ""),
            "state_root": header.state_root, "transactions_root": header.transactions_root,
            "receipts_root": header.receipts_root, "certified": found[2] is not None,
            "transaction_ids": [digest(Domain.TRANSACTION, raw) for raw in found[1]], "codes": codes,
            "trades": trades, "traded_wh": sum(wh for wh, _ in header.market),
            "value_uthb": sum(value for _, value in header.market), "zones": [list(zone) for zone in header.market],
        }


def _final(height: int, index: int, outcomes: list[list[Any]]) -> dict[str, Any]:
    code = next((code for code, _ in outcomes if code not in SUCCESS), 0)
    return {"state": "final", "height": height, "index": index, "code": code, "receipts": outcomes}


def _stored_trade(value: bytes) -> dict[str, Any]:
    window, number, raw = codec.decode(value)
    return queries.trade_map(window, number, Trade.decode(raw))
