"""Execution order of a block's transactions: the producer chooses what is in, not who is first (CONSENSUS 2)."""

from __future__ import annotations

from collections.abc import Iterable

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger import spaces
from gridtokenx.ledger.records import Account, Epoch
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.transaction import Transaction

Rank = tuple[int, bytes, bytes, int]


class ExecutionOrder:
    """Ranks transactions of one height by `SHA-256(epoch seed || height || participant id)` on the parent's state.

    All accounts of a participant come together, by address, each by nonce; unregistered senders share one id that
    sorts last.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        epoch: Epoch = session.get(spaces.EPOCH)
        self._prefix = epoch.seed + session.height.to_bytes(8, "big")
        self._ranks: dict[bytes, tuple[int, bytes]] = {}

    def rank(self, transaction: Transaction) -> Rank:
        """Ascending ranks are the execution order. Ask before the first transaction is executed."""
        sender = transaction.sender
        known = self._ranks.get(sender)
        if known is None:
            account: Account | None = self._session.get(spaces.account(sender))
            participant = 0 if account is None else account.participant
            known = self._ranks[sender] = (0 if participant else 1, digest(
                Domain.EXECUTION_ORDER, self._prefix, participant.to_bytes(8, "big")))
        return (*known, sender, transaction.nonce)

    def sort(self, transactions: Iterable[Transaction]) -> list[Transaction]:
        return sorted(transactions, key=self.rank)
