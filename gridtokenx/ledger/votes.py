"""What authorities sign in consensus, as far as the ledger judges it: evidence of equivocation (CONSENSUS 4, 5)."""

from __future__ import annotations

from gridtokenx import codec

NOTARIZE, NULLIFY, FINALIZE = 2, 3, 4
"""Wire numbers of the votes (`consensus.messages.Kind`); a proposal counts as its leader's NOTARIZE."""


def vote_content(kind: int, epoch: int, view: int, digest: bytes) -> bytes:
    """The signed bytes of a vote, before domain and chain id."""
    return codec.encode([epoch, int(kind), view, digest])


def exclude_each_other(first: tuple[int, bytes], second: tuple[int, bytes]) -> bool:
    """True iff no honest authority casts both (kind, digest) in one view: two digests under NOTARIZE or FINALIZE,
    or FINALIZE with NULLIFY. NOTARIZE with NULLIFY is legal."""
    kinds = {first[0], second[0]}
    if kinds == {FINALIZE, NULLIFY}:
        return True
    return kinds in ({NOTARIZE}, {FINALIZE}) and first[1] != second[1]
