"""Accounts that act: each signs in the order of its nonces and finds its place again after a refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio
from attrs import define, field

from gridtokenx.client import Account
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.ledger.operations import Transfer
from gridtokenx.ledger.operations.base import Operation
from testnet.link import Link, Sent

VALID_BLOCKS = 300
"""How many blocks a transaction stays valid: at the shortest interval, half a minute."""


@define(eq=False)
class Agent:
    """One account of this program.

    A transaction that the network refuses leaves a gap: those signed after it wait for its nonce. So after a refusal
    the chain is asked again, and the next transaction takes the lowest nonce that is free.
    """

    key: PrivateKey
    chain_id: bytes
    link: Link
    fee_uthb: int
    """Per operation."""
    recoveries: int = 0
    _account: Account | None = None
    _open: list[Sent] = field(factory=list)
    _in_step: bool = False
    _lock: trio.Lock = field(factory=trio.Lock)

    async def send(self, operations: Sequence[Operation]) -> Sent:
        """Signs and submits; returns at once, the end is told by `Sent.done`."""
        async with self._lock:
            account = await self._with_free_nonce()
            signed = account.sign(operations, valid_until_height=self.link.height + VALID_BLOCKS,
                                  fee_uthb=self.fee_uthb * len(operations))
            sent = self.link.send(signed)
            self._open.append(sent)
            return sent

    async def do(self, operations: Sequence[Operation]) -> Sent:
        """Like `send`, and waits for the end; a refusal does not leave later transactions waiting."""
        sent = await self.send(operations)
        await sent.done.wait()
        if not sent.final and any(other.signed.nonce > sent.signed.nonce for other in self._waiting()):
            await self.send([Transfer(self.key.public, 1, b"fills a gap")])
        return sent

    def _waiting(self) -> list[Sent]:
        return [sent for sent in self._open if not sent.done.is_set()]

    async def _with_free_nonce(self) -> Account:
        if any(sent.done.is_set() and not sent.final for sent in self._open):
            self._in_step = False
        self._open = self._waiting()
        if self._account is None or not self._in_step:
            self.recoveries += self._account is not None
            found: Any = await self.link.call("account", self.key.public)
            nonce = 0 if found is None else found["nonce"]
            taken = {sent.signed.nonce for sent in self._waiting()}
            while nonce in taken:
                nonce += 1
            self._account = Account(self.key, self.chain_id, nonce)
            self._in_step = max(taken, default=-1) < nonce
        return self._account
