"""An agreed authority shows that it follows the chain:
`[63, key, epoch, view, finalized_height, executed_height, clock_ms, signature]`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx import codec
from gridtokenx.crypto.hashing import Domain
from gridtokenx.crypto.keys import SIGNATURE_BYTES, PrivateKey, verify
from gridtokenx.ledger import spaces, weights
from gridtokenx.ledger.authority_records import Standing
from gridtokenx.ledger.epochs import changes_of
from gridtokenx.ledger.operations.base import Block, address, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed

MOST_HEIGHTS_BEHIND = 100


def signature_field(name: str, value: Any) -> bytes:
    if type(value) is not bytes or len(value) != SIGNATURE_BYTES:
        raise Failed(Code.BAD_FIELDS, f"{name} must be {SIGNATURE_BYTES} bytes")
    return value


@frozen
class ActivateAuthority:
    """The joiner's signed STATUS. It joins at the next boundary with room. Anyone may send it."""

    key: bytes
    epoch: int
    view: int
    finalized_height: int
    executed_height: int
    clock_ms: int
    signature: bytes

    KIND: ClassVar[int] = 63
    NAME: ClassVar[str] = "activate authority"
    WEIGHT: ClassVar[int] = 40 + weights.SIGNATURE
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> ActivateAuthority:
        check_count(fields, "key", "epoch", "view", "finalized_height", "executed_height", "clock_ms", "signature")
        return cls(address("key", fields[0]), integer("epoch", fields[1]), integer("view", fields[2]),
                   integer("finalized_height", fields[3]), integer("executed_height", fields[4]),
                   integer("clock_ms", fields[5]), signature_field("signature", fields[6]))

    @classmethod
    def signed(cls, signer: PrivateKey, chain_id: bytes, epoch: int, view: int, finalized_height: int,
               executed_height: int, clock_ms: int) -> ActivateAuthority:
        content = codec.encode([epoch, view, finalized_height, executed_height, clock_ms])
        return cls(signer.public, epoch, view, finalized_height, executed_height, clock_ms,
                   signer.sign(Domain.STATUS, chain_id, content))

    def fields(self) -> list[Any]:
        return [self.KIND, self.key, self.epoch, self.view, self.finalized_height, self.executed_height,
                self.clock_ms, self.signature]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        del sender                      # anyone may send it
        context = block.context
        session = context.session
        changes = changes_of(session)
        known = changes.of(self.key)
        if known is None or known[2] != Standing.APPROVED:
            raise Failed(Code.UNKNOWN_AUTHORITY, f"{self.key.hex()} does not wait to be activated")
        reached = min(self.finalized_height, self.executed_height)
        if not context.height - MOST_HEIGHTS_BEHIND <= reached <= context.height:
            raise Failed(Code.STATUS_BEHIND, f"it is at height {reached}; {context.height - MOST_HEIGHTS_BEHIND} to "
                                             f"{context.height} is allowed")
        content = codec.encode([self.epoch, self.view, self.finalized_height, self.executed_height, self.clock_ms])
        if not verify(self.key, self.signature, Domain.STATUS, context.identity.chain_id, content):
            raise Failed(Code.BAD_STATUS, "the signature under the STATUS does not verify")
        session.put(spaces.AUTHORITY_CHANGES, changes.with_(known[0], self.key, Standing.JOINING, known[3]))
        return ()
