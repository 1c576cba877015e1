"""`gridtokenx signer`: signs for accounts of its operator, for programs that have a token. A process of its own.

A node never holds a trader's key, and does not need this. It is for an operator whose programs shall not hold keys
either: they send a payload (docs/ledger.md), and get back the signed transaction, which they submit anywhere. It signs
for one chain, for the accounts and kinds of operations that the file allows, and never above the fee that it allows.
"""

from __future__ import annotations

import hmac
import json
import secrets
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, cast

import structlog
import trio
from fastapi import FastAPI, Request
from starlette.responses import Response

from gridtokenx import codec
from gridtokenx.api.app import problem_answers
from gridtokenx.api.listener import HttpServer
from gridtokenx.api.problems import Problem
from gridtokenx.api.protection import REQUEST, App, Protection
from gridtokenx.api.settings import HttpSettings
from gridtokenx.api.signer_config import HeldAccount, SignerConfig, Token
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.transaction import MAX_TRANSACTION_BYTES, decode_transaction, sign_transaction
from gridtokenx.network.limits import TokenBucket
from gridtokenx.network.settings import Rate

TOKEN_BYTES = 32
UNKNOWN_PER_S = 20
"""Requests of one address in all, right token or wrong: guessing is slow."""


def new_token() -> tuple[str, str]:
    """A token and the digest that the signer's file has of it."""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    return token, sha256(token.encode()).hexdigest()


class Signer:
    """Decides and signs. Raises Problem for what it does not sign."""

    def __init__(self, config: SignerConfig) -> None:
        self._config = config
        self._accounts = {account.name: account for account in config.accounts}
        self._rates: dict[str, TokenBucket] = {}
        self._log = structlog.get_logger("signer")

    def who(self, header: str) -> Token:
        """The token of an Authorization header."""
        kind, _, text = header.partition(" ")
        given, found = sha256(text.strip().encode()).digest(), None
        for token in self._config.tokens:               # all of them, so that the time says nothing
            if hmac.compare_digest(given, token.digest) and kind.lower() == "bearer":
                found = token
        if found is None:
            raise Problem(401, "unauthorized", "a bearer token that this signer knows is needed",
                          headers={"www-authenticate": "Bearer"})
        bucket = self._rates.setdefault(found.name, TokenBucket(
            Rate(per_s=found.per_s, burst=2 * found.per_s), trio.current_time()))
        if not bucket.take(1, trio.current_time()):
            raise Problem(429, "rate_limited", f"token {found.name} may sign {found.per_s} times a second",
                          headers={"retry-after": "1"})
        return found

    def accounts(self, token: Token) -> list[dict[str, str]]:
        """Those that a token may sign for."""
        return [{"name": account.name, "address": encode_address(account.key.public)}
                for account in self._config.accounts if account.name in token.accounts]

    def sign(self, token: Token, payload: bytes, request_id: str) -> tuple[bytes, bytes]:
        """(id, all bytes) of the payload's transaction."""
        try:
            unsigned = decode_transaction(codec.encode([payload, [[bytes(32), bytes(64)]]]))
        except GridTokenXError as error:
            raise Problem(422, "refused", str(error)) from error
        account = next((entry for entry in self._config.accounts
                        if entry.key.public == unsigned.sender and entry.name in token.accounts), None)
        if account is None:
            raise Problem(403, "forbidden", f"token {token.name} may not sign for {encode_address(unsigned.sender)}")
        self._check(account, unsigned.fee_uthb, {operation[0] for operation in unsigned.operations})
        raw = sign_transaction(self._config.chain_id, [account.key], payload)
        identity = digest(Domain.TRANSACTION, raw)
        self._log.info("signed", request=request_id, token=token.name, account=account.name, id=identity.hex(),
                       kinds=sorted({operation[0] for operation in unsigned.operations}), fee_uthb=unsigned.fee_uthb)
        return identity, raw

    def _check(self, account: HeldAccount, fee_uthb: int, kinds: set[int]) -> None:
        if kinds - account.kinds:
            raise Problem(403, "forbidden", f"account {account.name} does not sign operations of kind "
                                            f"{', '.join(map(str, sorted(kinds - account.kinds)))}")
        if fee_uthb > account.max_fee_uthb:
            raise Problem(403, "forbidden", f"a fee of {fee_uthb} uTHB; account {account.name} pays at most "
                                            f"{account.max_fee_uthb}")


def make_signer_app(signer: Signer) -> FastAPI:
    app = problem_answers(FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False))

    @app.get("/accounts")
    async def accounts(request: Request) -> Response:
        return _answer({"items": signer.accounts(signer.who(request.headers.get("authorization", "")))})

    @app.post("/sign")
    async def sign(request: Request) -> Response:
        token = signer.who(request.headers.get("authorization", ""))
        identity, raw = signer.sign(token, _payload(await request.body()), request.scope[REQUEST])
        return _answer({"id": identity.hex(), "transaction": raw.hex()})

    @app.get("/livez")
    async def livez() -> Response:
        return Response(b"ok\n", media_type="text/plain")

    return app


def _payload(body: bytes) -> bytes:
    try:
        found = json.loads(body)
        return bytes.fromhex(found["payload"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Problem(400, "bad_request", 'a body {"payload": "<hex>"} is wanted') from error


def _answer(found: dict[str, Any]) -> Response:
    return Response(json.dumps(found).encode(), media_type="application/json", headers={"cache-control": "no-store"})


@asynccontextmanager
async def signing(config: SignerConfig) -> AsyncIterator[HttpServer]:
    """Serves until left. Raises CannotListen."""
    settings = HttpSettings(host=config.host, port=config.port, max_requests_per_s=max(
        UNKNOWN_PER_S, *(token.per_s for token in config.tokens)), max_body_bytes=2 * MAX_TRANSACTION_BYTES + 1024,
        max_connections=128)
    app = cast(App, make_signer_app(Signer(config)))
    server = HttpServer(Protection(app, settings, lambda *_: None), settings)
    async with server.running():
        yield server


async def run_signer(config: SignerConfig) -> None:
    """Until SIGTERM or Ctrl-C."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with signing(config) as server:
            structlog.get_logger("signer").info("started", port=server.port, accounts=len(config.accounts))
            async for _ in signals:
                return
