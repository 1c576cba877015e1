"""How transactions come into the pool and leave it: judged on the newest final state, given up with a reason.

Cheap looks come first, so that a flood costs little: whether what the first bytes claim to pay is enough for a full
pool, the pool's own rules on the decoded transaction, then its signature, then the ledger's admission. A client's
submission is tried whole; what another node has admitted is only checked for its place in a block and the money for
its fee.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from attrs import define, field

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.admission import Admission
from gridtokenx.ledger.receipts import Code, Refused
from gridtokenx.ledger.transaction import Transaction, transaction_head
from gridtokenx.node.chain import Chain, ChainBlock
from gridtokenx.node.fates import Fates
from gridtokenx.node.intake import Intake
from gridtokenx.node.pool import Pool
from gridtokenx.node.pool_entries import Left, rank_for

SWEEP_BLOCKS = 64
LOOKED_AT_PER_BLOCK = 64
"""Accounts that were left out of an own block, and are asked whether they can still pay."""

Verdict = tuple[bytes, int, str]
"""Id, code and message."""


def _full(raw: bytes, reason: str) -> Verdict:
    return digest(Domain.TRANSACTION, raw), int(Code.POOL_FULL), reason


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

    def judge(self, raws: Sequence[bytes]) -> tuple[list[Verdict], list[bytes]]:
        """A client's transactions: (id, code, message) for each, and those that are in the pool now."""
        first = [self._full_for(raw) for raw in raws]
        answers = [_full(raw, reason) for raw, reason in zip(raws, first, strict=True) if reason]
        self.pool.refused_full(len(answers))
        if len(answers) == len(raws):
            return answers, []
        verdicts, accepted = self._judge([raw for raw, reason in zip(raws, first, strict=True) if not reason])
        if answers:                     # in the order of what was submitted
            full, others = iter(answers), iter(verdicts)
            verdicts = [next(full if reason else others) for reason in first]
        return verdicts, accepted

    def all_full(self, raws: Sequence[bytes]) -> list[Verdict] | None:
        """The answers if every one of a client's transactions finds the pool full, else None."""
        answers = []
        for raw in raws:
            reason = self._full_for(raw)
            if not reason:
                return None
            answers.append(_full(raw, reason))
        self.pool.refused_full(len(answers))
        return answers

    def _full_for(self, raw: bytes) -> str:
        """Why it finds the pool full, by what its first bytes claim; nothing if it has to be looked at."""
        if len(self.pool) < self.most_for_clients and len(self.pool) < self.pool.max_transactions:
            return ""
        head = transaction_head(raw)
        if head is None:
            return ""
        sender, nonce, fee_uthb, operations = head
        return self.pool.full_for(sender, nonce, rank_for(fee_uthb, operations), self.most_for_clients)

    def _judge(self, raws: Sequence[bytes]) -> tuple[list[Verdict], list[bytes]]:
        answers: list[Verdict] = []
        accepted: list[bytes] = []
        admission = self.chain.admission()
        for raw, checked in zip(raws, self.intake.check(raws, self._look_at_client), strict=True):
            transaction_id = digest(Domain.TRANSACTION, raw)
            if isinstance(checked, GridTokenXError):
                answers.append((transaction_id, *self.chain.refusal(checked)))
                continue
            try:
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
            if isinstance(checked, GridTokenXError):
                reasons.append(str(checked))
                continue
            try:
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
