"""Transactions on their way in: decoded, verified once per peer, set aside while there are votes to look at.

A good signature is remembered by the hash of the transaction's full bytes (CONSENSUS 2). What other nodes send is
set aside unread until there is time (`oldest`) or a block needs it (`take`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from attrs import define, field

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.receipts import Code, Refused
from gridtokenx.ledger.transaction import MAX_TRANSACTION_BYTES, Transaction, decode_transaction, signatures_verify

KNOWN_SIGNATURES = 32_768
"""What a full pool holds, and as many again in blocks that are not final yet."""
MAX_SET_ASIDE = 65_536
MAX_SET_ASIDE_BYTES = 64 << 20

Checked = Transaction | GridTokenXError
"""A transaction that is well formed and well signed, or why it is not."""


@define
class Intake:
    """Of one chain; bounded in what it remembers and sets aside."""

    chain_id: bytes
    _verified: dict[bytes, None] = field(factory=dict)
    _aside: dict[bytes, bytes] = field(factory=dict)
    _aside_bytes: int = 0

    def check(self, raws: Iterable[bytes], first: Callable[[Transaction], None] | None = None) -> list[Checked]:
        """Decodes and verifies, all signatures in one native call.

        `first` sees each before its signature is checked: what it raises is the answer for that transaction.
        """
        checked: list[Checked] = []
        fresh: list[int] = []
        for raw in raws:
            try:
                transaction = decode_transaction(raw)
                if first is not None:
                    first(transaction)
            except GridTokenXError as error:
                # Without its trace: that would hold this list in a circle, and a flood of refusals much memory.
                checked.append(error.with_traceback(None))
                continue
            if transaction.id not in self._verified:
                fresh.append(len(checked))
            checked.append(transaction)
        unknown = [item for index in fresh if isinstance(item := checked[index], Transaction)]
        for index, transaction, good in zip(fresh, unknown, signatures_verify(self.chain_id, unknown), strict=True):
            if good:
                self._remember(transaction.id)
            else:
                checked[index] = Refused(Code.BAD_SIGNATURE, "a signature does not verify for this chain")
        return checked

    def _remember(self, transaction_id: bytes) -> None:
        self._verified[transaction_id] = None
        if len(self._verified) > KNOWN_SIGNATURES:
            del self._verified[next(iter(self._verified))]

    # ------------------------------------------------------------ set aside

    @property
    def backlog(self) -> int:
        """How many transactions are set aside."""
        return len(self._aside)

    def set_aside(self, raws: Iterable[bytes], known: Callable[[bytes], bool],
                  wanted: Callable[[bytes], bool]) -> None:
        """Keeps those that are not `known` by id, as long as there is room; those `wanted` for a block in any case."""
        for raw in raws:
            if len(raw) > MAX_TRANSACTION_BYTES:
                continue
            transaction_id = digest(Domain.TRANSACTION, raw)
            if transaction_id in self._aside or known(transaction_id):
                continue
            room = len(self._aside) < MAX_SET_ASIDE and self._aside_bytes + len(raw) <= MAX_SET_ASIDE_BYTES
            if room or wanted(transaction_id):
                self._aside[transaction_id] = raw
                self._aside_bytes += len(raw)

    def _take(self, transaction_id: bytes) -> bytes:
        raw = self._aside.pop(transaction_id)
        self._aside_bytes -= len(raw)
        return raw

    def __contains__(self, transaction_id: bytes) -> bool:
        return transaction_id in self._aside

    def raw(self, transaction_id: bytes) -> bytes | None:
        return self._aside.get(transaction_id)

    def oldest(self, most: int, first: Callable[[Transaction], None]) -> list[Checked]:
        """Takes out and checks the transactions set aside first."""
        return self.check([self._take(transaction_id) for transaction_id in list(islice(self._aside, most))], first)

    def take(self, ids: Iterable[bytes]) -> dict[bytes, Checked]:
        """Takes out and checks those of `ids` that are set aside."""
        found = [transaction_id for transaction_id in ids if transaction_id in self._aside]
        return dict(zip(found, self.check([self._take(transaction_id) for transaction_id in found]), strict=True))
