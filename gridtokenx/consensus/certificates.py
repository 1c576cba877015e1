"""Checking a certificate on its own, as observers, sync and light clients do (CONSENSUS 3, 4)."""

from __future__ import annotations

from gridtokenx.consensus.authorities import Authorities
from gridtokenx.consensus.config import Verifier
from gridtokenx.consensus.messages import Certificate, vote_content


def certificate_verifies(certificate: Certificate, authorities: Authorities, epoch: int, verifier: Verifier) -> bool:
    """True iff it holds good votes of at least q distinct authorities of this epoch."""
    signers = certificate.signers
    if (certificate.epoch != epoch or list(signers) != sorted(set(signers))
            or not authorities.quorum <= len(signers) == len(certificate.signatures)
            or not all(0 <= signer < authorities.n for signer in signers)):
        return False
    content = vote_content(certificate.kind, epoch, certificate.view, certificate.digest)
    return all(verifier.verify(signer, content, signature)
               for signer, signature in zip(signers, certificate.signatures, strict=True))
