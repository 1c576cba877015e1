"""The invariants of CONSENSUS 8, checked at every step from outside, with arithmetic of its own.

It sees what leaves a node and what a node calls final, and the register of all signatures; it asks no core.
"""

from __future__ import annotations

from attrs import define, field

from gridtokenx.consensus.config import HeldBlock
from gridtokenx.consensus.messages import Certificate, Kind, Propose, Vote, vote_content
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger.block import Header
from gridtokenx.sim.disk import Disk, block_key, certificate_key, vote_key
from gridtokenx.sim.registry import Registry
from gridtokenx.sim.world import Violation


def smallest_safe_quorum(n: int) -> int:
    """By search, not by the formula under test: any two quorums share more than the faulty, f the most with
    3f < n."""
    f = max(faulty for faulty in range(n) if 3 * faulty < n)
    return next(q for q in range(1, n + 1) if 2 * q - n > f)


@define
class Final:
    """One height of the one chain."""

    digest: bytes
    header: Header
    transaction_ids: tuple[bytes, ...]


@define
class Checker:
    """`honest` are the indexes that follow the protocol. Raises Violation."""

    n: int
    honest: frozenset[int]
    registry: Registry
    genesis: Header
    disks: dict[int, Disk]
    quorum: int = field(init=False)
    chain: list[Final] = field(factory=list)             # index = height - 1
    final_transactions: dict[bytes, int] = field(factory=dict)
    blocks: dict[bytes, HeldBlock] = field(factory=dict)
    _sent: dict[tuple[int, Kind, int], bytes] = field(factory=dict)
    _finalizations: dict[int, bytes] = field(factory=dict)
    _heights: dict[int, int] = field(factory=dict)
    _good: set[tuple[int, int, bytes, tuple[int, ...]]] = field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.quorum = smallest_safe_quorum(self.n)

    # -------------------------------------------------------- what leaves a node

    def block_made(self, block: HeldBlock) -> None:
        self.blocks.setdefault(block.digest, block)

    def leaves(self, node: int, message: object) -> None:
        """Called when an honest node's message reaches the wire."""
        if isinstance(message, Propose):
            self._vote_leaves(node, Kind.NOTARIZE, message.view, digest(Domain.HEADER, message.header))
        elif isinstance(message, Vote):
            self._vote_leaves(node, message.kind, message.view, message.digest)
        elif isinstance(message, Certificate):
            self.certificate(message)

    def _vote_leaves(self, node: int, kind: Kind, view: int, name: bytes) -> None:
        earlier = self._sent.setdefault((node, kind, view), name)
        if earlier != name:
            raise Violation(f"node {node} sent two {kind.name} votes in view {view}")
        if kind is not Kind.NOTARIZE:
            other = Kind.NULLIFY if kind is Kind.FINALIZE else Kind.FINALIZE
            if (node, other, view) in self._sent:
                raise Violation(f"node {node} sent FINALIZE and NULLIFY in view {view}")
        durable = self.disks[node].keys
        if vote_key(kind, view, name) not in durable:
            raise Violation(f"node {node} sent {kind.name} of view {view} before it was durable")
        if kind is Kind.NULLIFY:
            return
        if block_key(name) not in durable:
            raise Violation(f"node {node} sent {kind.name} of view {view} without the body being durable")
        if kind is Kind.NOTARIZE:
            self._extends(node, view, self.blocks[name].header)
        elif certificate_key(Kind.NOTARIZE, view, name) not in durable:
            raise Violation(f"node {node} sent FINALIZE of view {view} before the notarization was durable")

    def _extends(self, node: int, view: int, header: Header) -> None:
        """A voted block has a notarized parent and only nullified views between, and the voter's log proves it."""
        durable = self.disks[node].keys
        if header.parent == digest(Domain.HEADER, self.genesis.encode()):
            parent_view = 0
        else:
            parent = self.blocks.get(header.parent)
            if parent is None:
                raise Violation(f"node {node} voted in view {view} for a block with an unknown parent")
            parent_view = parent.header.view
            if len(self.registry.signers(Kind.NOTARIZE, parent_view, header.parent)) < self.quorum:
                raise Violation(f"node {node} voted in view {view} for a child of a block that is not notarized")
            if not any(certificate_key(kind, parent_view, header.parent) in durable
                       for kind in (Kind.NOTARIZE, Kind.FINALIZE)):
                raise Violation(f"node {node} voted in view {view} without the notarization of the parent")
        for skipped in range(parent_view + 1, view):
            if len(self.registry.signers(Kind.NULLIFY, skipped)) < self.quorum:
                raise Violation(f"node {node} voted in view {view} though view {skipped} is not nullified")
            if certificate_key(Kind.NULLIFY, skipped, b"") not in durable:
                raise Violation(f"node {node} voted in view {view} without the nullification of view {skipped}")

    def certificate(self, certificate: Certificate) -> None:
        """q distinct members, each signature real."""
        key = (int(certificate.kind), certificate.view, certificate.digest, certificate.signers)
        if key in self._good:
            return
        members = set(certificate.signers)
        if (len(members) != len(certificate.signers) or len(members) < self.quorum
                or not members <= set(range(self.n)) or len(certificate.signatures) != len(members)):
            raise Violation(f"a {certificate.kind.name} certificate of view {certificate.view} with signers "
                            f"{certificate.signers}; {self.quorum} of {self.n} are needed")
        content = vote_content(certificate.kind, certificate.epoch, certificate.view, certificate.digest)
        for signer, signature in zip(certificate.signers, certificate.signatures, strict=True):
            if not self.registry.verify(signer, content, signature):
                raise Violation(f"a forged signature of {signer} in a certificate of view {certificate.view}")
        self._good.add(key)

    # -------------------------------------------------------- what a node calls final

    def restarted(self, node: int, blocks: tuple[HeldBlock, ...]) -> None:
        """A node starts again from its log, which must hold all that it ever called final, and the same."""
        told = self._heights.get(node, 0)
        if len(blocks) < told:
            raise Violation(f"node {node} called height {told} final and restarts at {len(blocks)}")
        self._heights[node] = 0
        for block in blocks:
            self.finalizes(node, block, None)

    def finalizes(self, node: int, block: HeldBlock, certificate: Certificate | None) -> None:
        """A node calls a block final; `certificate` when it finalizes this very block."""
        header = block.header
        height = self._heights.get(node, 0) + 1
        if header.height != height:
            raise Violation(f"node {node} finalizes height {header.height} after {height - 1}")
        self._heights[node] = height
        if certificate is not None:
            self._finalization(block, certificate)
        if height <= len(self.chain):
            if self.chain[height - 1].digest != block.digest:
                raise Violation(f"two blocks are final at height {height}: the chain has forked")
            return
        self._new_final(block)

    def _finalization(self, block: HeldBlock, certificate: Certificate) -> None:
        self.certificate(certificate)
        if certificate.kind is not Kind.FINALIZE or certificate.digest != block.digest:
            raise Violation(f"height {block.header.height} is finalized by a certificate of something else")
        if self._finalizations.setdefault(certificate.view, certificate.digest) != certificate.digest:
            raise Violation(f"two blocks are finalized in view {certificate.view}")
        if len(self.registry.signers(Kind.NULLIFY, certificate.view)) >= self.quorum:
            raise Violation(f"view {certificate.view} is both finalized and nullified")

    def _new_final(self, block: HeldBlock) -> None:
        header, name = block.header, block.digest
        last = self.chain[-1] if self.chain else None
        parent = last.header if last is not None else self.genesis
        parent_digest = last.digest if last is not None else digest(Domain.HEADER, self.genesis.encode())
        if header.parent != parent_digest or header.height != parent.height + 1 or header.view <= parent.view:
            raise Violation(f"the final block at height {header.height} does not follow its parent")
        if header.timestamp_ms <= parent.timestamp_ms:
            raise Violation(f"time goes back at height {header.height}")
        for skipped in range(parent.view + 1, header.view):
            if len(self.registry.signers(Kind.NULLIFY, skipped)) < self.quorum:
                raise Violation(f"view {skipped} was skipped without a nullification below height {header.height}")
        faulty = self.n - len(self.honest)
        holders = sum(block_key(name) in self.disks[node].keys for node in sorted(self.honest))
        if holders < self.quorum - faulty:
            raise Violation(f"height {header.height} is final, but only {holders} honest logs hold it")
        for transaction_id in block.transaction_ids:
            if transaction_id in self.final_transactions:
                raise Violation(f"a transaction is final twice, at heights "
                                f"{self.final_transactions[transaction_id]} and {header.height}")
            self.final_transactions[transaction_id] = header.height
        self.chain.append(Final(name, header, block.transaction_ids))
