"""One connection to one node, with the chain's queries as methods.

    async with connect(["/ip4/127.0.0.1/tcp/9401/p2p/12D3KooW…"]) as client:
        status = await client.status()
        account = Account(key, status["chain_id"], (await client.account(key.public))["nonce"])
        signed = account.sign([Transfer(to, amount_uthb)], valid_until_height=status["height"] + 600, fee_uthb=fee)
        [submission] = await client.submit([signed.raw])
        [state] = await client.wait([signed.id], timeout_ms=5000)

A connection that breaks raises `Disconnected` from whatever waits on it; connect again, to another node, and ask
what became of the ids not yet seen. Submitting the same bytes twice is harmless.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, NamedTuple

from attrs import define, frozen

from gridtokenx.client.errors import BadAnswer, Disconnected, NoNode, RequestFailed
from gridtokenx.ledger.receipts import Code
from gridtokenx.network.client import RpcClient
from gridtokenx.network.client import connect as open_session
from gridtokenx.network.framing import shielded
from gridtokenx.network.settings import NetworkError, RemoteError

CONNECT_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 10.0
UNSUBSCRIBE_S = 1.0
_ACCEPTED = (0, int(Code.DUPLICATE_TRANSACTION))
FINAL = "final"
REFUSED = "refused"
EVICTED = "evicted"
PENDING = "pending"
UNKNOWN = "unknown"


class Submission(NamedTuple):
    """A node's answer to one submitted transaction: code 0 means that it is in the pool."""

    id: bytes
    code: int
    message: str

    @property
    def accepted(self) -> bool:
        return self.code in _ACCEPTED


@frozen
class BlockPush:
    """A final block as the node's subscription, or a query for past ones, tells it.

    `codes[i]` is the first failing code of transaction `ids[i]`, or 0. `zones` has (Wh, uTHB) traded per zone.
    """

    height: int
    hash: bytes
    proposer: str
    view: int
    timestamp_ms: int
    state_root: bytes
    ids: tuple[bytes, ...]
    codes: tuple[int, ...]
    trades: int
    traded_wh: int
    value_uthb: int
    zones: tuple[tuple[int, int], ...]


def _block(push: Any) -> BlockPush:
    try:
        return BlockPush(
            push["height"], push["hash"], push["proposer"], push["view"], push["timestamp_ms"],
            push["state_root"], tuple(push["transaction_ids"]), tuple(push["codes"]), push["trades"], push["traded_wh"],
            push["value_uthb"], tuple((wh, uthb) for wh, uthb in push["zones"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadAnswer(f"the node told of a block without {error}") from error


@define(eq=False)
class Client:
    """A live connection; made by `connect`. Every method may raise Disconnected or RequestFailed."""

    address: str
    _rpc: RpcClient

    async def call(self, method: str, *parameters: Any, timeout_s: float = REQUEST_TIMEOUT_S) -> Any:
        """The node's answer to `method`, as canonical CBOR values. The methods are listed in `docs/rpc.md`."""
        try:
            return await self._rpc.call(method, list(parameters), timeout_s)
        except RemoteError as error:
            raise RequestFailed(f"{method}: {error.message}", error.code) from error
        except NetworkError as error:
            raise Disconnected(f"{self.address}: {error}") from error

    async def status(self) -> dict[str, Any]:
        return await self._table("status")

    async def account(self, address: bytes) -> dict[str, Any] | None:
        """Nonce, money (uTHB) and participant of an address; None where nothing was ever paid in."""
        answer = await self.call("account", address)
        if answer is not None and not isinstance(answer, dict):
            raise BadAnswer(f"account was answered with {type(answer).__name__}, not a map")
        return answer

    async def parameters(self) -> dict[str, Any]:
        return await self._table("parameters")

    async def _table(self, method: str, *parameters: Any) -> dict[str, Any]:
        answer = await self.call(method, *parameters)
        if not isinstance(answer, dict):
            raise BadAnswer(f"{method} was answered with {type(answer).__name__}, not a map")
        return answer

    async def submit(self, raws: Sequence[bytes]) -> list[Submission]:
        """Hands transactions to the node, which answers for each at once; finality comes later (`wait`, `blocks`)."""
        answer = await self.call("submit", list(raws))
        try:
            submissions = list(map(Submission._make, answer))
        except (TypeError, ValueError) as error:
            raise BadAnswer(f"submit was not answered with [id, code, message] entries: {error}") from error
        if len(submissions) != len(raws):
            raise BadAnswer(f"{len(raws)} transactions submitted, {len(submissions)} answered")
        return submissions

    async def past_blocks(self, first: int, limit: int) -> list[BlockPush]:
        """Up to `limit` final blocks from height `first` on, in order."""
        answer = await self.call("blocks", first, limit)
        if not isinstance(answer, list):
            raise BadAnswer("blocks was not answered with a list")
        return [_block(block) for block in answer]

    async def wait(self, ids: Sequence[bytes], timeout_ms: int) -> list[dict[str, Any]]:
        """The state of each transaction, once all are final or given up, or after `timeout_ms`.

        `state` is unknown, pending, final, refused or evicted; final ones have height, index, code and receipts, the
        last two code and reason.
        """
        answer = await self.call("wait", list(ids), timeout_ms, timeout_s=timeout_ms / 1000 + REQUEST_TIMEOUT_S)
        if not isinstance(answer, list) or len(answer) != len(ids):
            raise BadAnswer("wait was not answered with one state per transaction")
        return answer

    async def blocks(self) -> AsyncIterator[BlockPush]:
        """Final blocks from now on, for one consumer per connection. Raises Disconnected when it ends."""
        subscription = await self.call("subscribe", "blocks")
        try:
            async for push in self._rpc.pushes():
                if push.subscription == subscription:
                    yield _block(push.data)
        except NetworkError as error:
            raise Disconnected(f"{self.address}: {error}") from error
        finally:                        # who stops to follow may follow again: a session has few subscriptions
            with shielded(UNSUBSCRIBE_S), suppress(RequestFailed, Disconnected):
                await self.call("unsubscribe", subscription, timeout_s=UNSUBSCRIBE_S)


@asynccontextmanager
async def connect(addresses: Sequence[str], *, timeout_s: float = CONNECT_TIMEOUT_S,
                  network_key: str | None = None) -> AsyncIterator[Client]:
    """A connection to the first of `addresses` that answers, each tried for `timeout_s`.

    Addresses are multiaddrs with the node's identity: `/ip4/127.0.0.1/tcp/9401/p2p/12D3KooW…`. The connection
    proves that identity. `network_key` is a private network's, in hex. Raises NoNode, with every reason, if none
    answers.
    """
    reasons = []
    for address in addresses:
        async with AsyncExitStack() as stack:
            try:
                rpc = await stack.enter_async_context(open_session(address, psk=network_key, timeout_s=timeout_s))
            except NetworkError as error:
                reasons.append(str(error))
                continue
            yield Client(address, rpc)
            return
    raise NoNode("no node answers:\n  " + "\n  ".join(reasons) if reasons else "no node's address was given")
