"""Endpoints about the chain: status, blocks, transactions, authorities, peers, parameters."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from gridtokenx.api.answers import FINAL, FRESH, at_head, tagged, to_json
from gridtokenx.api.backend import Backend, Map
from gridtokenx.api.errors_of import errors_of
from gridtokenx.api.models.chain import Authorities, Block, Blocks, Found, Parameters, Peers, Status, Transaction
from gridtokenx.api.problems import unknown
from gridtokenx.api.search import MAX_FOUND, MAX_TEXT, in_chain, in_state
from gridtokenx.api.submissions import REQUEST_BODY, Submissions, described
from gridtokenx.ledger import queries
from gridtokenx.ledger.parameters import BY_NAME

Height = Annotated[int, Path(ge=0, le=(1 << 53) - 1)]
HexHash = Annotated[str, Path(pattern="^[0-9a-f]{64}$")]
MAX_BLOCKS = 100


def chain_routes(backend: Backend, submissions: Submissions) -> APIRouter:
    router, reads = APIRouter(tags=["chain"]), backend.reads

    def block_answer(request: Request, block: Map) -> Response:
        certified = block["certified"]
        return tagged(request, block["hash"].hex() + ("c" if certified else ""), FINAL if certified else FRESH,
                      lambda: to_json(block))

    @router.get("/status", response_model=Status, responses=errors_of())
    async def status() -> Response:
        """What the network is doing, as this node sees it."""
        async with reads.view.lock:
            return Response(to_json(backend.status()), media_type="application/json",
                            headers={"cache-control": "no-store"})

    @router.get("/blocks", response_model=Blocks, responses=errors_of())
    async def blocks(request: Request, first: Annotated[int | None, Query(alias="from", ge=0, le=(1 << 53) - 1)] = None,
                     limit: Annotated[int, Query(ge=1, le=MAX_BLOCKS)] = 20) -> Response:
        """Final blocks in order from height `from` on; without it the latest ones."""
        async with reads.view.lock:
            top = reads.view.head.height
        start = max(0, top - limit + 1) if first is None else first
        items: list[Map] = []
        for height in range(start, min(top, start + limit - 1) + 1):
            async with reads.view.lock:         # between two full blocks the event loop has a turn: votes come first
                block = reads.block(height)
            if block is None:
                break
            items.append(block)
        following = start + len(items) if items and start + len(items) <= top else None
        tag = "-".join([str(start), *(items[-1]["hash"].hex()[:16] if items else "none", )]) + f"-{following}"
        return tagged(request, tag, FRESH, lambda: to_json({"items": items, "next": following}))

    @router.get("/blocks/hash/{block_hash}", response_model=Block, responses=errors_of(404))
    async def block_by_hash(request: Request, block_hash: HexHash) -> Response:
        """The final block with this hash."""
        async with reads.view.lock:
            height = reads.height_of(bytes.fromhex(block_hash))
            found = None if height is None else reads.block(height)
        if found is None:
            raise unknown(f"no final block has the hash {block_hash}")
        return block_answer(request, found)

    @router.get("/blocks/{height}", response_model=Block, responses=errors_of(404))
    async def block(request: Request, height: Height) -> Response:
        """The final block at a height."""
        async with reads.view.lock:
            found, top = reads.block(height), reads.view.head.height
        if found is None:
            raise unknown(f"no final block at height {height}; the newest one is at {top}")
        return block_answer(request, found)

    @router.post("/transactions", response_model=Transaction, status_code=200,
                 responses=errors_of(403, 413, 415, 422, 503) | {202: {
                     "model": Transaction, "description": "in the pool, not final yet"}},
                 openapi_extra=REQUEST_BODY)
    async def submit(request: Request, wait_ms: Annotated[int, Query(ge=0, le=60_000)] = 0) -> Response:
        """Hands in a signed transaction; `wait_ms` above 0 waits so long for it to become final.

        Sending the same bytes again is harmless. Keys never come here: `gridtokenx.client` signs.
        """
        raw = await submissions.read(request)
        return await submissions.submit(request, raw, wait_ms)

    @router.get("/transactions/{transaction_id}", response_model=Transaction, responses=errors_of(404))
    async def transaction(request: Request, transaction_id: HexHash) -> Response:
        """What became of a transaction: pending, final with its receipts, refused or evicted with the reason."""
        identity = bytes.fromhex(transaction_id)
        async with reads.view.lock:
            fate = reads.fate(identity)
            raw = reads.transaction_bytes(identity) if fate["state"] == "final" else None
        if fate["state"] == "unknown":
            raise unknown(f"this node has not seen transaction {transaction_id}")
        answer = described(identity, fate, raw)
        final = fate["state"] == "final"
        return tagged(request, f"{transaction_id}-{fate['state']}", FINAL if final else FRESH, lambda: to_json(answer))

    @router.get("/authorities", response_model=Authorities, responses=errors_of())
    async def authorities() -> Response:
        """Who takes turns to produce blocks; on a validator also how each was last heard."""
        async with reads.view.lock:
            return _fresh({"items": backend.authorities()})

    @router.get("/network/peers", response_model=Peers, responses=errors_of())
    async def peers() -> Response:
        """The node's peers. A gateway has none."""
        return _fresh({"items": backend.peers()})

    @router.get("/search", response_model=Found, responses=errors_of())
    async def search(request: Request, q: Annotated[str, Query(min_length=1, max_length=MAX_TEXT)]) -> Response:
        """What a text may mean: a height, hash, address, number, time, or a part of a name."""
        text = q.strip()
        async with reads.view.lock:
            rows = in_chain(reads, text)
        rows += await reads.at_length(in_state, text)
        return await at_head(request, reads, lambda: {"items": rows[:MAX_FOUND]})

    @router.get("/parameters", response_model=Parameters, responses=errors_of())
    async def parameters(request: Request) -> Response:
        """The rules in force, as numbers."""
        def look() -> Map:
            return {"items": [{"name": name, "value": value, "unit": BY_NAME[name].unit, "help": BY_NAME[name].help}
                              for name, value in queries.parameters(reads.view.state).items()]}

        return await at_head(request, reads, look)

    return router


def _fresh(answer: Any) -> Response:
    return Response(to_json(answer), media_type="application/json", headers={"cache-control": "no-store"})
