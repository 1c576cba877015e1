"""How transactions come into the pool and leave it: judged on the newest final state, given up with a reason.

Cheap looks come first, so that a flood costs little: the pool's own rules on the decoded transaction, then its
signature, then the ledger's admission. A client's submission is tried whole; what another node has admitted is only
checked for its place in a block and the money for its fee.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from attrs import define, field

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.admission import Admission
from gridtokenx.ledger.receipts import Refused
from gridtokenx.ledger.transaction import Transaction
from gridtokenx.node.chain import Chain, ChainBlock
from gridtokenx.node.fates import Fates
from gridtokenx.node.intake import Intake
from gridtokenx.node.pool import Pool
from gridtokenx.node.pool_entries import Left

SWEEP_BLOCKS = 64
LOOKED_AT_PER_BLOCK = 64
"""Accounts that were left out of an own block, and are asked whether they can still pay."""


@define
class Pending:
    """`gave_up(id)` is called for each transaction that leaves the pool without a block."""

    chain: Chain
    pool: Pool
    intake: Intake
    gave_up: Callable[[bytes], None]
    fates: Fates = field(factory=Fates)
    most_for_clients: int = 1 << 62
    """A client's transaction finds the pool full from so many on; what others have admitted is taken beyond, so that
    their blocks find it here."""

    def judge(self, raws: Sequence[bytes]) -> tuple[list[tuple[bytes, int, str]], list[bytes]]:
        """A client's transactions: (id, code, message) for each, and those that are in the pool now."""
        answers: list[tuple[bytes, int, str]] = []
        accepted: list[bytes] = []
        admission = self.chain.admission()
        for raw, checked in zip(raws, self.intake.check(raws, self._look_at_client), strict=True):
            transaction_id = digest(Domain.TRANSACTION, raw)
            try:
                if isinstance(checked, GridTokenXError):
                    raise checked
                admission.admit(checked)
                self._add(checked, admission, self.most_for_clients)
            except GridTokenXError as error:
                answers.append((transaction_id, *self.chain.refusal(error)))
            else:
                accepted.append(raw)
                answers.append((transaction_id, 0, "accepted"))
        return answers, accepted

    def take_some(self, most: int) -> list[str]:
        """Takes in the oldest of those that other nodes sent; returns why some were not."""
        reasons = []
        admission = self.chain.admission()
        for checked in self.intake.oldest(most, self._look):
            try:
                if isinstance(checked, GridTokenXError):
                    raise checked
                admission.check_place(checked)
                self._add(checked, admission, 1 << 62)
            except GridTokenXError as error:
                reasons.append(str(error))
        return reasons

    def _look(self, transaction: Transaction) -> None:
        self.pool.check(transaction, self.chain.nonce_at_head(transaction.sender))

    def _look_at_client(self, transaction: Transaction) -> None:
        self.pool.check(transaction, self.chain.nonce_at_head(transaction.sender), self.most_for_clients)

    def _add(self, transaction: Transaction, admission: Admission, most: int) -> None:
        """Into the pool. Raises GridTokenXError saying why not."""
        sender = transaction.sender
        admission.check_fees(sender, self.pool.fees_uthb(sender, transaction.nonce) + transaction.fee_uthb)
        self._leave(self.pool.add(transaction, self.chain.nonce_at_head(sender), most))
        self.fates.forget(transaction.id)

    def _leave(self, left: Iterable[Left]) -> None:
        for one in left:
            self.fates.add(one)
            self.gave_up(one.id)

    def final(self, block: ChainBlock) -> None:
        """The newest final block: what it holds is not pending, and what it made impossible neither."""
        height = block.header.height
        self.pool.remove(transaction.id for transaction in block.transactions)
        senders = {transaction.sender for transaction in block.transactions}
        self._leave(self.pool.forget_stale(senders, self.chain.nonce_at_head, height))
        if height % SWEEP_BLOCKS == 0:
            self._leave(self.pool.sweep(self.chain.nonce_at_head, height))

    def built(self, candidates: Sequence[Transaction], block: ChainBlock | None) -> None:
        """What building the own block found: transactions that no block takes, and accounts that cannot pay.

        Whoever spends its money elsewhere would otherwise keep its place among the candidates for nothing.
        """
        self._leave(self.pool.drop(self.chain.take_refused(), self.chain.nonce_at_head))
        if block is None:
            return
        inside = set(block.ids)
        left_out: dict[bytes, Transaction] = {}
        for transaction in candidates:
            if transaction.id not in inside and transaction.id in self.pool:
                left_out.setdefault(transaction.sender, transaction)
        admission = self.chain.admission()
        broke: list[Left] = []
        for sender, transaction in islice(left_out.items(), LOOKED_AT_PER_BLOCK):
            try:
                admission.check_fees(sender, transaction.fee_uthb)
            except Refused as error:
                broke += [Left(pending.id, error.code, str(error)) for pending in self.pool.of_account(sender)]
        self._leave(self.pool.drop(broke, self.chain.nonce_at_head))
