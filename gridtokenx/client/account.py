"""An account as its owner's program holds it: the key, the next nonce, and signed transactions.

The key never leaves the program. Nonces of an account are sequential (DESIGN 4); `Account` hands them out in
order and takes the chain's word for the next one after anything went wrong.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, frozen

from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.ledger.operations.base import Operation
from gridtokenx.ledger.transaction import FLAG_ALL_OR_NOTHING, encode_payload, sign_transaction


@frozen
class SignedTransaction:
    """Wire bytes ready to be submitted, by anyone and as often as one likes: a nonce is used up once."""

    id: bytes
    raw: bytes
    sender: bytes
    nonce: int
    valid_until_height: int


@define
class Account:
    """Signs for one account of one chain; not shared between tasks without a lock."""

    key: PrivateKey
    chain_id: bytes
    nonce: int
    """The next transaction's; set it again from the chain (`Client.account`) after a refusal."""

    @property
    def address(self) -> bytes:
        return self.key.public

    def sign(self, operations: Sequence[Operation], *, valid_until_height: int, fee_uthb: int,
             all_or_nothing: bool = False) -> SignedTransaction:
        """A transaction of `operations` (`ledger.operations` has the kinds) with the next nonce, which is used up.

        `valid_until_height`: the last height of a block that may hold it.
        """
        payload = encode_payload(self.address, self.nonce, valid_until_height, fee_uthb,
                                 [operation.fields() for operation in operations],
                                 FLAG_ALL_OR_NOTHING if all_or_nothing else 0)
        raw = sign_transaction(self.chain_id, [self.key], payload)
        signed = SignedTransaction(digest(Domain.TRANSACTION, raw), raw, self.address, self.nonce, valid_until_height)
        self.nonce += 1
        return signed
