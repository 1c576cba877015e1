"""A trading program's line to the network: submits, follows finality, and moves to another node when one dies.

Nothing is taken for granted: what was submitted over a connection that broke is asked for by id on the next one,
and submitted again, byte for byte, if that node does not know it. A nonce is used up once, so this is harmless.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import trio
from attrs import define, field

from gridtokenx.client import BlockPush, Client, ClientError, Disconnected, SignedTransaction, code_name, connect
from gridtokenx.client.connection import EVICTED, FINAL, REFUSED, UNKNOWN
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.receipts import Code
from testnet.latency import Latencies

BATCH = 64
OUTBOX = 4096
WATCH_S = 2.0
ASK_AFTER_S = 5.0
ASK_EACH = 256
RETRY_S = 0.3
CLOSED_WAIT_S = 0.2
EXPIRED = int(Code.EXPIRED)


class Overloaded(GridTokenXError):
    """More is sent than any node takes."""


@define(eq=False)
class Sent:
    """One submitted transaction. `done` is set once it is final, refused or expired; `code` 0 is success."""

    signed: SignedTransaction
    started_s: float
    done: trio.Event = field(factory=trio.Event)
    final: bool = False
    code: int = 0
    reason: str = ""
    asked_s: float = 0.0
    submitted_again: bool = False
    overtaken: Client | None = None
    """Who said that its nonce is used, and did not know it before: if it does not know it after that either, another
    transaction took the nonce for good."""

    @property
    def ok(self) -> bool:
        return self.final and self.code == 0


@define(eq=False)
class Link:
    """Run `run` in a nursery; any task may then `send` and wait for `Sent.done`."""

    addresses: list[str]
    latencies: Latencies = field(factory=Latencies)
    height: int = 0
    reconnects: int = -1
    finals: int = 0
    failed: Counter[str] = field(factory=Counter)
    refused: Counter[str] = field(factory=Counter)
    _client: Client | None = None
    _up: trio.Event = field(factory=trio.Event)
    _pending: dict[bytes, Sent] = field(factory=dict)
    _outbox: tuple[trio.MemorySendChannel[Sent], trio.MemoryReceiveChannel[Sent]] = field(
        factory=lambda: trio.open_memory_channel[Sent](OUTBOX))

    # ------------------------------------------------------------ for tasks

    @property
    def pending(self) -> int:
        return len(self._pending)

    @property
    def connected_to(self) -> str:
        return self._client.address if self._client is not None else ""

    async def client(self) -> Client:
        """The live connection, waiting for one if need be."""
        while self._client is None:
            await self._up.wait()
        return self._client

    async def call(self, method: str, *parameters: object) -> object:
        """A query, repeated on the next node when a connection breaks. Raises RequestFailed alone."""
        while True:
            client = await self.client()
            try:
                return await client.call(method, *parameters)
            except Disconnected:
                self._lost(client)
                await trio.sleep(CLOSED_WAIT_S)

    def send(self, signed: SignedTransaction) -> Sent:
        """Queues `signed` for submission; its latency counts from now. Raises Overloaded when the queue is full."""
        sent = Sent(signed, trio.current_time())
        try:
            self._outbox[0].send_nowait(sent)
        except trio.WouldBlock:
            raise Overloaded(f"{OUTBOX} transactions wait to be submitted: no node takes them") from None
        self._pending[signed.id] = sent
        return sent

    # ------------------------------------------------------------ the line

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._submit_loop)
            nursery.start_soon(self._ask_loop)
            turn = 0
            while True:
                order = self.addresses[turn % len(self.addresses):] + self.addresses[:turn % len(self.addresses)]
                try:
                    await self._connected(order)
                except* ClientError:
                    turn += 1
                    await trio.sleep(RETRY_S)

    async def _connected(self, order: Sequence[str]) -> None:
        async with connect(order, timeout_s=3) as client, trio.open_nursery() as nursery:
            try:
                self.height = max(self.height, (await client.status())["height"])
                self.reconnects += 1
                self._client = client
                self._up.set()
                nursery.start_soon(self._watch, client)
                if self._pending:
                    nursery.start_soon(self._ask, client, list(self._pending.values()))
                async for block in client.blocks():
                    self._block(block)
            finally:
                self._lost(client)

    def _lost(self, client: Client) -> None:
        if self._client is client:
            self._client = None
            self._up = trio.Event()

    async def _watch(self, client: Client) -> None:
        """Notices a node that is silent without closing: the question raises Disconnected after its timeout."""
        while True:
            await trio.sleep(WATCH_S)
            await client.call("status", timeout_s=WATCH_S)

    def _block(self, block: BlockPush) -> None:
        now_s = trio.current_time()
        self.height = max(self.height, block.height)
        for identity, code in zip(block.ids, block.codes, strict=True):
            sent = self._pending.get(identity)
            if sent is not None:
                self.latencies.add(now_s - sent.started_s)
                self._final(sent, code)

    def _final(self, sent: Sent, code: int) -> None:
        self.finals += 1
        if code:
            self.failed[code_name(code)] += 1
        sent.final, sent.code = True, code
        self._done(sent)

    def _refuse(self, sent: Sent, code: int, reason: str) -> None:
        self.refused[code_name(code)] += 1
        sent.code, sent.reason = code, reason
        self._done(sent)

    def _done(self, sent: Sent) -> None:
        self._pending.pop(sent.signed.id, None)
        sent.done.set()

    async def _submit_loop(self) -> None:
        receive = self._outbox[1]
        while True:
            batch = [await receive.receive()]
            while len(batch) < BATCH:
                try:
                    batch.append(receive.receive_nowait())
                except trio.WouldBlock:
                    break
            client = await self.client()
            try:
                await self._submit(client, batch)
            except ClientError:
                self._lost(client)              # `_ask` finds them on the next connection
                await trio.sleep(CLOSED_WAIT_S)

    async def _submit(self, client: Client, batch: Sequence[Sent]) -> None:
        waiting = [sent for sent in batch if not sent.done.is_set()]
        if not waiting:
            return
        answers = await client.submit([sent.signed.raw for sent in waiting])
        for sent, answer in zip(waiting, answers, strict=True):
            if not answer.accepted and not sent.done.is_set() and not sent.submitted_again:
                self._refuse(sent, answer.code, answer.message)
            elif answer.code == Code.WRONG_NONCE:
                sent.overtaken = client

    async def _ask_loop(self) -> None:
        """Asks about what takes long: a push may have been missed, or a node may have dropped it."""
        while True:
            await trio.sleep(1.0)
            now_s = trio.current_time()
            late = [sent for sent in self._pending.values()
                    if now_s - max(sent.started_s, sent.asked_s) > ASK_AFTER_S]
            if late and self._client is not None:
                try:
                    await self._ask(self._client, late)
                except ClientError:
                    await trio.sleep(CLOSED_WAIT_S)

    async def _ask(self, client: Client, asked: Sequence[Sent]) -> None:
        for start in range(0, len(asked), ASK_EACH):
            part = [sent for sent in asked[start:start + ASK_EACH] if not sent.done.is_set()]
            states = await client.wait([sent.signed.id for sent in part], 0) if part else []
            again = []
            for sent, state in zip(part, states, strict=True):
                sent.asked_s = trio.current_time()
                if sent.done.is_set():
                    continue
                if state["state"] == FINAL:
                    self.latencies.add(trio.current_time() - sent.started_s)
                    self._final(sent, state["code"])
                elif state["state"] in (REFUSED, EVICTED):
                    self._refuse(sent, state["code"], state["reason"])
                elif state["state"] == UNKNOWN and sent.signed.valid_until_height < self.height:
                    self._refuse(sent, EXPIRED, "not in any block before its last height")
                elif state["state"] == UNKNOWN and sent.overtaken is client:
                    self._refuse(sent, int(Code.WRONG_NONCE), "another transaction took its nonce")
                elif state["state"] == UNKNOWN:
                    again.append(sent)
            for sent in again:
                sent.submitted_again = True
            await self._submit(client, again)

