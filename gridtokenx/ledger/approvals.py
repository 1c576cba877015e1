"""Changes of the list of authorities that the authorities themselves agree on.

Until there is on-chain voting, a change counts when a quorum of the present authorities signed it with their
consensus keys, for the present epoch: `SIGN(0x3c || chain_id || [kind, epoch, key, name])`. The signatures travel in
one operation that anyone may send, so nothing is counted in state and no authority needs a funded account. An
approval is good in its epoch only: it can neither be kept for later nor used twice.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from gridtokenx import codec
from gridtokenx.crypto.hashing import Domain
from gridtokenx.crypto.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, PrivateKey, signed_bytes, verify_all
from gridtokenx.ledger import spaces, weights
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.epochs import MAX_AUTHORITIES
from gridtokenx.ledger.quorum import quorum_of
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Authorities, Epoch

Approvals = tuple[tuple[bytes, bytes], ...]
APPROVALS_WEIGHT = 40 + MAX_AUTHORITIES * weights.SIGNATURE


def approval_content(kind: int, epoch: int, key: bytes, name: str = "") -> bytes:
    """What an authority signs to approve a change, before domain and chain id."""
    return codec.encode([kind, epoch, key, name])


def approve(signer: PrivateKey, chain_id: bytes, kind: int, epoch: int, key: bytes, name: str = "") -> bytes:
    return signer.sign(Domain.AUTHORITY_CHANGE, chain_id, approval_content(kind, epoch, key, name))


def parse_approvals(value: Any) -> Approvals:
    """Reads `[[authority's key, signature], ...]`, sorted by key. Raises Failed(BAD_FIELDS)."""
    if type(value) is not tuple or not 1 <= len(value) <= MAX_AUTHORITIES:
        raise Failed(Code.BAD_FIELDS, f"approvals are 1 to {MAX_AUTHORITIES} of [key, signature]")
    for entry in value:
        if (type(entry) is not tuple or len(entry) != 2 or type(entry[0]) is not bytes or type(entry[1]) is not bytes
                or len(entry[0]) != PUBLIC_KEY_BYTES or len(entry[1]) != SIGNATURE_BYTES):
            raise Failed(Code.BAD_FIELDS, "an approval is [32-byte key, 64-byte signature]")
    if any(first[0] >= second[0] for first, second in pairwise(value)):
        raise Failed(Code.BAD_FIELDS, "approvals are sorted by key, without repeats")
    return value


def check_approvals(context: Context, kind: int, epoch: int, key: bytes, name: str, approvals: Approvals) -> None:
    """Raises Failed unless a quorum of the present authorities approved this change for the present epoch."""
    present: Epoch = context.session.get(spaces.EPOCH)
    if epoch != present.number:
        raise Failed(Code.WRONG_EPOCH, f"approved for epoch {epoch}; the present one is {present.number}")
    listed: Authorities = context.session.get(spaces.AUTHORITIES)
    keys = {member[1] for member in listed.members}
    strangers = [signer.hex() for signer, _ in approvals if signer not in keys]
    if strangers:
        raise Failed(Code.BAD_APPROVAL, f"{strangers[0]} is not one of the {len(keys)} present authorities")
    needed = quorum_of(len(keys))
    if len(approvals) < needed:
        raise Failed(Code.TOO_FEW_APPROVALS, f"{len(approvals)} authorities approved; {needed} of {len(keys)} must")
    content = signed_bytes(Domain.AUTHORITY_CHANGE, context.identity.chain_id,
                           approval_content(kind, epoch, key, name))
    good = verify_all([(signer, signature, content) for signer, signature in approvals])
    if not all(good):
        raise Failed(Code.BAD_APPROVAL, f"the signature of {approvals[good.index(False)][0].hex()} does not verify "
                                        f"for this change in epoch {epoch}")
