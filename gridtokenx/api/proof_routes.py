"""Endpoints that prove: light proofs of records and transactions, which `gridtokenx.light` checks (docs/proofs.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from gridtokenx.api.answers import to_address, to_json
from gridtokenx.api.backend import Backend
from gridtokenx.api.chain_routes import HexHash
from gridtokenx.api.errors_of import errors_of
from gridtokenx.api.market_routes import ADDRESS, Window
from gridtokenx.api.models.proofs import LightProof
from gridtokenx.api.problems import Problem, unknown
from gridtokenx.ledger import spaces
from gridtokenx.light import format as light
from gridtokenx.node.ancestors import CannotProve
from gridtokenx.node.prove import Prover
from gridtokenx.store.schema import MAX_STATE_KEY_BYTES

RETRY_S = 2
KEY = Annotated[str, Query(pattern=f"^([0-9a-f]{{2}}){{1,{MAX_STATE_KEY_BYTES}}}$")]
Keys = Annotated[list[KEY], Query(min_length=1, max_length=light.MAX_CLAIMS,
                                  json_schema_extra={"uniqueItems": True},
                                  description="state keys (docs/ledger.md), in hexadecimal, each once")]
Meter = Annotated[int, Path(ge=1, le=(1 << 32) - 1)]
Serial = Annotated[int, Path(ge=1, le=(1 << 53) - 1)]


def proof_routes(backend: Backend) -> APIRouter:
    router, reads = APIRouter(prefix="/proofs", tags=["proofs"]), backend.reads

    async def proven(make: Callable[[Prover], light.Proof]) -> Response:
        try:
            async with reads.view.lock:
                made = make(backend.prover)
        except CannotProve as error:
            raise Problem(503, "busy", str(error), headers={"retry-after": str(RETRY_S)}) from error
        return Response(to_json(light.to_json(made)), media_type="application/json",
                        headers={"cache-control": "no-store"})

    @router.get("/records", response_model=LightProof, responses=errors_of(503))
    async def records(key: Keys) -> Response:
        """That each key has its value, or none, in the state of the newest final block with a certificate."""
        keys = [bytes.fromhex(text) for text in key]
        if len(set(keys)) != len(keys):
            raise Problem(400, "bad_request", "a key is named twice")
        return await proven(lambda prover: prover.records(keys))

    @router.get("/accounts/{address}", response_model=LightProof, responses=errors_of(404, 503))
    async def account(address: Annotated[str, Path(pattern=ADDRESS)]) -> Response:
        """Money and energy of an account."""
        who = to_address(address)
        return await proven(lambda prover: prover.records([spaces.account(who), spaces.energy(who)]))

    @router.get("/settlements/{window}/{meter}", response_model=LightProof, responses=errors_of(503))
    async def settlement(window: Window, meter: Meter) -> Response:
        """What a meter's bill says for a window, and the reading that it follows from."""
        return await proven(lambda prover: prover.records([
            spaces.settlement(window, meter), spaces.reading(window, meter)]))

    @router.get("/certificates/{serial}", response_model=LightProof, responses=errors_of(503))
    async def certificate(serial: Serial) -> Response:
        """Whose a certificate is, and for whom it was retired."""
        return await proven(lambda prover: prover.records([spaces.certificate(serial)]))

    @router.get("/transactions/{transaction_id}", response_model=LightProof, responses=errors_of(404, 503))
    async def transaction(transaction_id: HexHash) -> Response:
        """That a transaction is in a final block, with its receipt."""
        identity = bytes.fromhex(transaction_id)
        async with reads.view.lock:
            state = reads.fate(identity)["state"]
        if state != "final":
            raise unknown(f"transaction {transaction_id} is {state} here: only what is in a final block is proven")
        return await proven(lambda prover: prover.transaction(identity))

    return router
