"""Accounts that act: each signs in the order of its nonces and finds its place again after a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from attrs import define, field

from gridtokenx.client import Account
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.ledger.operations.base import Operation
from testnet.link import Link, Sent

VALID_BLOCKS = 300
"""How many blocks a transaction stays valid: at the shortest interval, half a minute."""
RESOLVE_S = 60.0


@define(eq=False)
class Agent:
    """One account of this program."""

    key: PrivateKey
    chain_id: bytes
    link: Link
    fee_uthb: int
    """Per operation."""
    recoveries: int = 0
    _account: Account | None = None
    _open: list[Sent] = field(factory=list)
    _lock: trio.Lock = field(factory=trio.Lock)

    async def send(self, operations: Sequence[Operation]) -> Sent:
        """Signs and submits; returns at once, the end is told by `Sent.done`."""
        async with self._lock:
            account = await self._in_step()
            signed = account.sign(operations, valid_until_height=self.link.height + VALID_BLOCKS,
                                  fee_uthb=self.fee_uthb * len(operations))
            sent = self.link.send(signed)
            self._open = [*(other for other in self._open if not other.done.is_set()), sent]
            return sent

    async def _in_step(self) -> Account:
        """The account with the right nonce: the chain is asked at first, and after any transaction that is in no block.

        Then everything behind the gap must have its end before a nonce can be given again.
        """
        if self._account is None or any(sent.done.is_set() and not sent.final for sent in self._open):
            with trio.move_on_after(RESOLVE_S):
                for sent in self._open:
                    await sent.done.wait()
            if self._account is not None:
                self.recoveries += 1
            self._open = []
            found: Any = await self.link.call("account", self.key.public)
            self._account = Account(self.key, self.chain_id, 0 if found is None else found["nonce"])
        return self._account

    async def do(self, operations: Sequence[Operation]) -> Sent:
        """Like `send`, and waits for the end."""
        sent = await self.send(operations)
        await sent.done.wait()
        return sent
