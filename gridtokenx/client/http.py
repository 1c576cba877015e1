"""A node's HTTP interface for programs that trade: `HttpClient` for plain ones, `TrioHttpClient` for those on trio.

    with HttpClient("http://127.0.0.1:9480") as client:
        account = client.sign_in(key)
        signed = account.sign([PlaceOrder(...)], valid_until_height=client.height() + 300, fee_uthb=64_000)
        state = client.submit(signed, wait_ms=10_000)        # state["state"] is final: state["receipts"]
        for trade in client.pages(f"/accounts/{address}/trades"):
            ...

Both have the same methods. The key stays here: what leaves is signed. `docs/api.md` has the paths and fields.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Self

import httpx
from attrs import frozen

from gridtokenx.client.account import Account, SignedTransaction
from gridtokenx.client.errors import BadAnswer, Disconnected, RequestFailed
from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keys import PrivateKey

ROOT = "/api/v1"
TIMEOUT_S = 10.0
MAX_WAIT_MS = 60_000
PAGE = 100
CBOR = {"content-type": "application/cbor"}

Answer = dict[str, Any]


class HttpRefused(RequestFailed):
    """The interface's own answer to what cannot be done (`docs/api.md`, errors)."""

    def __init__(self, problem: Answer, retry_after_s: float | None) -> None:
        super().__init__(f"{problem['detail']}. {problem['what_to_do']}", problem["code"])
        self.status: int = problem["status"]
        self.what_to_do: str = problem["what_to_do"]
        self.ledger_code: int | None = problem.get("ledger_code")
        """Of a refused transaction: `docs/ledger.md`."""
        self.retry_after_s = retry_after_s
        """How long to wait before asking again, where that helps."""


@frozen
class _Request:
    method: str
    path: str
    query: dict[str, Any]
    body: bytes | None = None
    wait_s: float = 0.0

    def build(self, client: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        query = {name: value for name, value in self.query.items() if value is not None}
        return client.build_request(self.method, ROOT + self.path, params=query, content=self.body,
                                    headers=CBOR if self.body is not None else None, timeout=TIMEOUT_S + self.wait_s)


def _read(response: httpx.Response) -> Any:
    """Raises HttpRefused, BadAnswer."""
    try:
        found = response.json()
    except ValueError as error:
        raise BadAnswer(f"{response.url} answered {response.status_code} without JSON: is it a node's?") from error
    if response.is_success:
        return found
    try:
        wait = response.headers.get("retry-after")
        raise HttpRefused(found, None if wait is None else float(wait))
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswer(f"{response.url} answered {response.status_code} without a reason") from error


def _submission(signed: SignedTransaction, wait_ms: int) -> _Request:
    if not 0 <= wait_ms <= MAX_WAIT_MS:
        raise ValueError(f"wait_ms is from 0 to {MAX_WAIT_MS}, not {wait_ms}")
    return _Request("POST", "/transactions", {"wait_ms": wait_ms}, signed.raw, wait_ms / 1000)


def _account(key: PrivateKey, status: Answer, balance: Answer | None) -> Account:
    return Account(key, bytes.fromhex(status["chain_id"]), 0 if balance is None else balance["nonce"])


def _missing(error: HttpRefused) -> None:
    if error.status != 404:
        raise error


class HttpClient:
    """One interface, asked by one thread. Every method may raise Disconnected, HttpRefused or BadAnswer."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._http.close()

    def _ask(self, request: _Request) -> Any:
        try:
            response = self._http.send(request.build(self._http))
        except httpx.TransportError as error:
            raise Disconnected(f"{self._http.base_url}: {error or type(error).__name__}") from error
        return _read(response)

    def get(self, path: str, **query: Any) -> Any:
        """What `GET /api/v1{path}` answers."""
        return self._ask(_Request("GET", path, query))

    def look_up(self, path: str, **query: Any) -> Any:
        """The same; None for what does not exist."""
        try:
            return self.get(path, **query)
        except HttpRefused as error:
            return _missing(error)

    def pages(self, path: str, **query: Any) -> Iterator[Any]:
        """Every item of a list, page after page."""
        cursor: str | None = None
        while True:
            page = self.get(path, **{"limit": PAGE, **query}, cursor=cursor)
            yield from page["items"]
            cursor = page["next"]
            if cursor is None:
                return

    def height(self) -> int:
        """Of the newest final block."""
        return int(self.get("/status")["height"])

    def sign_in(self, key: PrivateKey) -> Account:
        """The account of a key, ready to sign; once more after anything went wrong: it asks for the next nonce."""
        return _account(key, self.get("/status"), self.look_up(f"/accounts/{encode_address(key.public)}/balance"))

    def submit(self, signed: SignedTransaction, wait_ms: int = 0) -> Answer:
        """Hands it in, and waits so long for it to become final. Sending the same once more is harmless."""
        answer: Answer = self._ask(_submission(signed, wait_ms))
        return answer


class TrioHttpClient:
    """The same for trio: any number of tasks may use it."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        trace: TracebackType | None) -> None:
        await self._http.aclose()

    async def _ask(self, request: _Request) -> Any:
        try:
            response = await self._http.send(request.build(self._http))
        except httpx.TransportError as error:
            raise Disconnected(f"{self._http.base_url}: {error or type(error).__name__}") from error
        return _read(response)

    async def get(self, path: str, **query: Any) -> Any:
        """What `GET /api/v1{path}` answers."""
        return await self._ask(_Request("GET", path, query))

    async def look_up(self, path: str, **query: Any) -> Any:
        """The same; None for what does not exist."""
        try:
            return await self.get(path, **query)
        except HttpRefused as error:
            return _missing(error)

    async def pages(self, path: str, **query: Any) -> AsyncIterator[Any]:
        """Every item of a list, page after page."""
        cursor: str | None = None
        while True:
            page = await self.get(path, **{"limit": PAGE, **query}, cursor=cursor)
            for item in page["items"]:
                yield item
            cursor = page["next"]
            if cursor is None:
                return

    async def height(self) -> int:
        """Of the newest final block."""
        return int((await self.get("/status"))["height"])

    async def sign_in(self, key: PrivateKey) -> Account:
        """The account of a key, ready to sign; once more after anything went wrong: it asks for the next nonce."""
        status = await self.get("/status")
        return _account(key, status, await self.look_up(f"/accounts/{encode_address(key.public)}/balance"))

    async def submit(self, signed: SignedTransaction, wait_ms: int = 0) -> Answer:
        """Hands it in, and waits so long for it to become final. Sending the same once more is harmless."""
        answer: Answer = await self._ask(_submission(signed, wait_ms))
        return answer
