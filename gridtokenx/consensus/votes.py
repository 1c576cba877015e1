"""Counting votes, forming and checking certificates, noticing double votes (CONSENSUS 3 to 5).

Only the first vote per sender, kind and view counts. Every signature is verified at most once: votes known
already are not verified again inside a certificate, nor a certificate known already.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field

from gridtokenx.consensus.authorities import Authorities
from gridtokenx.consensus.config import Verifier
from gridtokenx.consensus.interface import Misbehaviour
from gridtokenx.consensus.messages import VOTE_KINDS, Certificate, Kind, Vote, vote_content
from gridtokenx.errors import GridTokenXError, InvariantError
from gridtokenx.ledger.block import Header

# FINALIZE says "I have not given up on this view", NULLIFY the opposite. NOTARIZE with NULLIFY is legal.
_CONTRADICTS = {Kind.FINALIZE: Kind.NULLIFY, Kind.NULLIFY: Kind.FINALIZE}


class VoteError(GridTokenXError):
    """A vote or certificate that does not verify."""


@define
class Proposal:
    """The first proposal seen in a view. `header` is None when the signed bytes are not a header."""

    digest: bytes
    header: Header | None
    transaction_ids: tuple[bytes, ...]
    received_clock_ms: int
    refused: str = ""                 # why the body handed out for it cannot be the block's
    requested: bool = False           # Execute was emitted


@define
class ViewRecord:
    """All that is known of one view."""

    view: int
    proposal: Proposal | None = None
    votes: dict[Kind, dict[int, Vote]] = field(factory=lambda: {kind: {} for kind in VOTE_KINDS})
    certificates: dict[Kind, Certificate] = field(factory=dict)
    accused: set[int] = field(factory=set)

    @property
    def notarization(self) -> Certificate | None:
        return self.certificates.get(Kind.NOTARIZE)

    @property
    def nullification(self) -> Certificate | None:
        return self.certificates.get(Kind.NULLIFY)

    @property
    def finalization(self) -> Certificate | None:
        return self.certificates.get(Kind.FINALIZE)

    def voted(self, kind: Kind, signer: int) -> bool:
        return signer in self.votes[kind]

    def contradicted_by(self, vote: Vote) -> Vote | None:
        """A known vote of the same authority that no honest authority sends beside `vote`."""
        known = self.votes[vote.kind].get(vote.signer)
        if known is not None and known.digest != vote.digest:
            return known
        other = _CONTRADICTS.get(vote.kind)
        return None if other is None else self.votes[other].get(vote.signer)


def check_signers(certificate: Certificate, authorities: Authorities, epoch: int) -> None:
    """Raises VoteError unless the signers are at least q distinct authorities of `epoch`, one signature each."""
    signers = certificate.signers
    if (certificate.epoch != epoch or list(signers) != sorted(set(signers))
            or not all(0 <= signer < authorities.n for signer in signers)):
        raise VoteError(f"the signers {signers} are not distinct authorities of epoch {epoch}")
    if len(signers) < authorities.quorum or len(signers) != len(certificate.signatures):
        raise VoteError(f"{len(signers)} signers; a certificate has at least {authorities.quorum}")


class Votes:
    """The records of all views above the root."""

    def __init__(self, authorities: Authorities, epoch: int, verifier: Verifier) -> None:
        self._authorities = authorities
        self._epoch = epoch
        self._verifier = verifier
        self._views: dict[int, ViewRecord] = {}
        self._own: set[tuple[Kind, int]] = set()
        self._newest: dict[tuple[int, Kind], Vote] = {}      # also of views that are forgotten

    def at(self, view: int) -> ViewRecord:
        """The record of `view`, made when there is none."""
        record = self._views.get(view)
        if record is None:
            record = self._views[view] = ViewRecord(view)
        return record

    def seen(self, view: int) -> ViewRecord | None:
        return self._views.get(view)

    def ascending(self) -> Iterator[ViewRecord]:
        for view in sorted(self._views):
            yield self._views[view]

    def forget_up_to(self, view: int) -> None:
        """Drops everything of views `<= view`: they are settled."""
        for old in [known for known in self._views if known <= view]:
            del self._views[old]
        self._own = {(kind, cast) for kind, cast in self._own if cast > view}

    def add(self, vote: Vote) -> Misbehaviour | None:
        """Counts a vote, verifying it if that can matter. Raises VoteError if it is forged.

        Returns evidence when this vote contradicts an earlier one of its signer (once per signer and view).
        """
        record = self.at(vote.view)
        known = record.votes[vote.kind].get(vote.signer)
        if known is not None and known.digest == vote.digest:
            return None
        rival = record.contradicted_by(vote)
        if rival is None and vote.kind in record.certificates:
            return None                                     # the count is complete
        if rival is not None and vote.signer in record.accused and known is not None:
            return None
        content = vote_content(vote.kind, vote.epoch, vote.view, vote.digest)
        if not self._verifier.verify(vote.signer, content, vote.signature):
            raise VoteError(f"the signature of authority {vote.signer} under {vote.kind.name} in view "
                            f"{vote.view} does not verify")
        return self._store(record, vote)

    def add_own(self, vote: Vote) -> None:
        """Counts a vote made or recovered by this authority; it is not verified."""
        self.at(vote.view).votes[vote.kind].setdefault(vote.signer, vote)
        self._own.add((vote.kind, vote.view))

    def _store(self, record: ViewRecord, vote: Vote) -> Misbehaviour | None:
        rival = record.contradicted_by(vote)
        record.votes[vote.kind].setdefault(vote.signer, vote)
        newest = self._newest.get((vote.signer, vote.kind))
        if newest is None or newest.view < vote.view:
            self._newest[vote.signer, vote.kind] = vote
        if rival is None or vote.signer in record.accused:
            return None
        record.accused.add(vote.signer)
        return Misbehaviour(vote.signer, rival, vote)

    def forgot(self, certificate: Certificate, me: int) -> bool:
        """True iff `me` signed this, verified before, and does not know: its log is not the newest."""
        return me in certificate.signers and (certificate.kind, certificate.view) not in self._own

    def newest_of(self, signer: int) -> list[Vote]:
        """The newest vote of each kind that was counted for this authority."""
        return [vote for kind in VOTE_KINDS if (vote := self._newest.get((signer, kind))) is not None]

    def quorum(self, kind: Kind, view: int, digest: bytes) -> Certificate | None:
        """The certificate that the counted votes now allow, if there is none yet for this kind and view."""
        record = self.at(view)
        if kind in record.certificates or len(record.votes[kind]) < self._authorities.quorum:
            return None
        agreed = sorted(signer for signer, vote in record.votes[kind].items() if vote.digest == digest)
        if len(agreed) < self._authorities.quorum:
            return None
        signers = tuple(agreed[:self._authorities.quorum])
        return Certificate(kind, self._epoch, view, digest, signers,
                           tuple(record.votes[kind][signer].signature for signer in signers))

    def check(self, certificate: Certificate) -> list[Misbehaviour]:
        """Verifies a certificate from elsewhere and counts its votes.

        Raises VoteError if it is not q good votes of distinct authorities, InvariantError if it is, but
        contradicts a certificate held already: then more than f authorities are faulty and nothing is safe.
        """
        check_signers(certificate, self._authorities, self._epoch)
        record = self.seen(certificate.view) or ViewRecord(certificate.view)
        content = vote_content(certificate.kind, certificate.epoch, certificate.view, certificate.digest)
        fresh: list[Vote] = []
        for signer, signature in zip(certificate.signers, certificate.signatures, strict=True):
            known = record.votes[certificate.kind].get(signer)
            if known is not None and known.digest == certificate.digest and known.signature == signature:
                continue
            if not self._verifier.verify(signer, content, signature):
                raise VoteError(f"the signature of authority {signer} in a {certificate.kind.name} certificate "
                                f"of view {certificate.view} does not verify")
            fresh.append(Vote(certificate.kind, certificate.epoch, certificate.view, certificate.digest, signer,
                              signature))
        held = record.certificates.get(certificate.kind)
        if held is not None and held.digest != certificate.digest:
            raise InvariantError(f"two {certificate.kind.name} certificates in view {certificate.view}: "
                                 f"{held.digest.hex()} and {certificate.digest.hex()}; more than "
                                 f"{self._authorities.f} authorities are faulty")
        record = self.at(certificate.view)
        return [found for vote in fresh if (found := self._store(record, vote)) is not None]
