"""Evidence of equivocation (CONSENSUS 5):
`[64, key, epoch, view, kind, digest, signature, kind, digest, signature]`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx.crypto.hashing import HASH_BYTES, Domain
from gridtokenx.crypto.keys import signed_bytes, verify_all
from gridtokenx.ledger import votes, weights
from gridtokenx.ledger.epochs import changes_of
from gridtokenx.ledger.operations.activate_authority import signature_field
from gridtokenx.ledger.operations.base import Block, address, check_count, integer
from gridtokenx.ledger.operations.remove_authority import suspend
from gridtokenx.ledger.receipts import Code, Failed


def _digest(kind: int, value: Any) -> bytes:
    wanted = 0 if kind == votes.NULLIFY else HASH_BYTES
    if type(value) is not bytes or len(value) != wanted:
        raise Failed(Code.BAD_FIELDS, f"the digest of a vote of kind {kind} has {wanted} bytes")
    return value


@frozen
class Evidence:
    """Two votes of one authority in one view that no honest one casts. It is suspended at the next boundary with
    room. Anyone may send it."""

    key: bytes
    epoch: int
    view: int
    first: tuple[int, bytes, bytes]             # kind, digest, signature
    second: tuple[int, bytes, bytes]

    KIND: ClassVar[int] = 64
    NAME: ClassVar[str] = "evidence"
    WEIGHT: ClassVar[int] = 40 + 2 * weights.SIGNATURE
    IS_ORDER: ClassVar[bool] = False

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> Evidence:
        check_count(fields, "key", "epoch", "view", *("kind", "digest", "signature") * 2)
        cast = []
        for start in (3, 6):
            kind = integer("kind", fields[start], votes.NOTARIZE, votes.FINALIZE)
            cast.append((kind, _digest(kind, fields[start + 1]), signature_field("signature", fields[start + 2])))
        return cls(address("key", fields[0]), integer("epoch", fields[1]), integer("view", fields[2]), *cast)

    def fields(self) -> list[Any]:
        return [self.KIND, self.key, self.epoch, self.view, *self.first, *self.second]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        del sender                      # anyone may send it
        context = block.context
        changes = changes_of(context.session)
        if not votes.exclude_each_other(self.first[:2], self.second[:2]):
            raise Failed(Code.NO_EVIDENCE, "an honest authority may cast both votes")
        known = changes.of(self.key)
        if known is not None and self.epoch < known[3]:
            raise Failed(Code.EVIDENCE_TOO_OLD, f"of epoch {self.epoch}; {known[0]} was agreed upon anew in epoch "
                                                f"{known[3]}")
        good = verify_all([(self.key, signature, signed_bytes(
            Domain.CONSENSUS_VOTE, context.identity.chain_id, votes.vote_content(kind, self.epoch, self.view, digest)))
            for kind, digest, signature in (self.first, self.second)])
        if not all(good):
            raise Failed(Code.NO_EVIDENCE, "a signature does not verify")
        suspend(context.session, changes, self.key)
        return ()
