"""The chain's own interface: submit, query, subscribe (DESIGN 9). One method of `RpcServer` per rpc method.

Answers are canonical CBOR with text keys; ids and addresses are raw bytes; amounts are integers in base units
with the unit in the key's name. `docs/rpc.md` lists them for writers of clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gridtokenx.ledger import certificate_queries, queries, settlement_queries, spaces, tariff_queries
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.network.rpc import RpcSession
from gridtokenx.network.settings import RemoteError
from gridtokenx.node.config import RpcSection
from gridtokenx.node.depths import Depths
from gridtokenx.node.facts import NodeFacts
from gridtokenx.node.market_rpc import READ_DEPTH, MarketRpc
from gridtokenx.node.reads import Reads
from gridtokenx.node.request import MAX_LISTED, RequestError
from gridtokenx.node.request import hash_of as _hash
from gridtokenx.node.request import integer as _integer
from gridtokenx.node.request import meter_of as _meter_of
from gridtokenx.node.request import window_of as _window_of
from gridtokenx.node.service import Service
from gridtokenx.store.schema import MAX_STATE_KEY_BYTES

MAX_SUBMITTED = 512
MAX_WAITED = 512


class RpcServer:
    """Answers for one node. Reads see the newest final block."""

    def __init__(self, service: Service, genesis: Genesis, reads: Reads, depths: Depths, facts: NodeFacts,
                 config: RpcSection) -> None:
        self._service = service
        self._chain = service.replica.chain
        self._genesis = genesis
        self._reads = reads
        self._facts = facts
        self._config = config
        self._methods: dict[str, tuple[int, Callable[..., Awaitable[Any]]]] = {
            "status": (0, self._status), "submit": (1, self._submit), "transaction": (1, self._transaction),
            "wait": (2, self._wait), "account": (1, self._account), "participant": (1, self._participant),
            "meter": (1, self._meter), "trades": (2, self._trades), "rates": (1, self._rates),
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
        self._methods |= MarketRpc(reads, depths, genesis).methods

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
        if method in ("submit", "wait", "totals", "certificate_totals", "blocks", "settled", "suspects", "bill",
                      *READ_DEPTH):
            return await handler(*arguments)        # they wait for other things, and take the lock in between
        async with self._service.chain_lock:
            return await handler(*arguments)

    # ------------------------------------------------------------ the node

    async def _status(self) -> dict[str, Any]:
        return self._facts.status()

    async def _peers(self) -> list[dict[str, Any]]:
        return self._facts.peers()

    async def _authorities(self) -> list[dict[str, Any]]:
        return self._facts.authorities()

    async def _evidence(self) -> list[list[Any]]:
        """Operations that anyone may submit."""
        return [evidence.fields() for evidence in self._service.replica.evidence.kept()]

    async def _genesis_bytes(self) -> bytes:
        return self._genesis.canonical()

    async def _prove(self, keys: Any) -> bytes:
        if type(keys) is not list or any(type(key) is not bytes or not 0 < len(key) <= MAX_STATE_KEY_BYTES
                                         for key in keys):
            raise RequestError(f"prove takes an array of state keys of 1 to {MAX_STATE_KEY_BYTES} bytes")
        return self._facts.prover.records(keys).encode()

    async def _prove_transaction(self, transaction_id: Any) -> bytes:
        return self._facts.prover.transaction(_hash(transaction_id, "a transaction's id")).encode()

    def _subscribe(self, session: RpcSession, arguments: list[Any]) -> int:
        if arguments != ["blocks"]:
            raise RequestError("subscribe takes one topic; there is 'blocks'")
        feed = self._service.feed
        most = self._config.max_subscriptions_per_session
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
        return [list(answer) for answer in await self._facts.submit(raws)]

    async def _transaction(self, transaction_id: Any) -> dict[str, Any]:
        return self._reads.fate(_hash(transaction_id, "a transaction's id"))

    async def _wait(self, ids: Any, timeout_ms: Any) -> list[dict[str, Any]]:
        if type(ids) is not list or not 1 <= len(ids) <= MAX_WAITED:
            raise RequestError(f"wait takes 1 to {MAX_WAITED} ids")
        most = self._config.wait_timeout_ms_max
        timeout_s = _integer(timeout_ms, "the timeout in ms", 0, most) / 1000
        wanted = [_hash(item, "a transaction's id") for item in ids]
        return await self._facts.wait(wanted, timeout_s)

    # ------------------------------------------------------------ state

    async def _account(self, address: Any) -> dict[str, Any] | None:
        return queries.account(self._chain.state, _hash(address, "an address"))

    async def _participant(self, address: Any) -> dict[str, Any] | None:
        return queries.participant(self._chain.state, _hash(address, "an address"))

    async def _meter(self, meter_id: Any) -> dict[str, Any] | None:
        return queries.meter(self._chain.state, _meter_of(meter_id))

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
        return await self._reads.at_length(queries.totals)

    # ------------------------------------------------------------ settlement

    async def _bill(self, address: Any, day: Any) -> dict[str, Any]:
        return await self._reads.at_length(settlement_queries.bill, _hash(address, "an address"),
                                     _integer(day, "a day since 1970-01-01", 1, spaces.MAX_WINDOW // 96))

    async def _settlement(self, window: Any, meter_id: Any) -> dict[str, Any] | None:
        return settlement_queries.settlement(self._chain.state, _window_of(window), _meter_of(meter_id))

    async def _window(self, window: Any) -> dict[str, Any]:
        return settlement_queries.window(self._chain.state, _window_of(window))

    async def _settled(self) -> dict[str, Any]:
        return await self._reads.at_length(settlement_queries.settled_windows)

    async def _dues(self, address: Any) -> list[dict[str, Any]]:
        return settlement_queries.dues(self._chain.state, _hash(address, "an address"))

    async def _energy(self, address: Any) -> dict[str, Any]:
        return settlement_queries.energy(self._chain.state, _hash(address, "an address"))

    async def _flags(self, zone: Any, limit: Any) -> list[dict[str, Any]]:
        return settlement_queries.flags(self._chain.state, None if zone is None else _integer(zone, "a zone", 0, 63),
                                        _integer(limit, "the limit", 1, MAX_LISTED))

    async def _suspects(self, zone: Any, windows: Any, limit: Any) -> dict[str, Any]:
        return await self._reads.at_length(
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
        return await self._reads.at_length(certificate_queries.certificate_totals)

    # ------------------------------------------------------------ trades

    async def _trades(self, where: Any, limit: Any) -> list[dict[str, Any]]:
        """Newest first: all, or of one account; or of one window (and zone), oldest first."""
        most = _integer(limit, "the limit", 1, MAX_LISTED)
        if type(where) is not dict or not set(where) <= {"account", "window", "zone"}:
            raise RequestError("trades takes a map with any of account, window, zone")
        account = None if "account" not in where else _hash(where["account"], "account")
        window = None if "window" not in where else _integer(where["window"], "window", 0, spaces.MAX_WINDOW)
        zone = None if "zone" not in where else _integer(where["zone"], "zone", 0, 63)

        if window is not None and account is None:
            return self._reads.trades_of_window(window, most, zone)
        found = [trade for _, trade in self._reads.trades(most, account=account, window=window, zone=zone)]
        return found if window is None else found[::-1]

    # ------------------------------------------------------------ blocks

    async def _block(self, height: Any) -> dict[str, Any] | None:
        return self._reads.block(_integer(height, "a height", 0, 1 << 53))

    async def _blocks(self, first: Any, limit: Any) -> list[dict[str, Any]]:
        start = _integer(first, "a height", 0, 1 << 53)
        found: list[dict[str, Any]] = []
        for height in range(start, start + _integer(limit, "the limit", 1, 100)):
            async with self._service.chain_lock:
                block = self._reads.block(height)
            if block is None:
                break
            found.append(block)         # the event loop had a turn between two full blocks: votes come first
        return found
