"""The invariants of CONSENSUS 8, checked at every step from outside, with arithmetic of its own.

It sees what leaves a node and what a node calls final, and the register of all signatures; it asks no core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from attrs import define, field

from gridtokenx.consensus.config import HeldBlock
from gridtokenx.consensus.messages import Certificate, Kind, Propose, Vote, vote_content
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger.block import Header
from gridtokenx.sim.disk import Key, block_key, certificate_key, final_key, vote_key
from gridtokenx.sim.registry import Registry
from gridtokenx.sim.world import Violation

ASKED_AGAIN_AFTER_MS = 500


def smallest_safe_quorum(n: int) -> int:
    """By search, not by the formula under test: any two quorums share more than the faulty, f the most with
    3f < n."""
    f = max(faulty for faulty in range(n) if 3 * faulty < n)
    return next(q for q in range(1, n + 1) if 2 * q - n > f)


class Durable(Protocol):
    """Says what is durable at a node."""

    keys: set[Key]


class Epochs(Protocol):
    """Which heights an epoch has, and which nodes are its authorities, by number and in order."""

    def epoch_at(self, height: int) -> int: ...

    def members(self, epoch: int) -> tuple[int, ...]: ...

    def root_height(self, epoch: int) -> int: ...

    def boundary(self, epoch: int) -> int: ...


@define
class Final:
    """One height of the one chain."""

    digest: bytes
    header: Header
    transaction_ids: tuple[bytes, ...]


@define
class Checker:
    """`honest` are the indexes that follow the protocol. Raises Violation."""

    schedule: Epochs
    honest: frozenset[int]
    registry: Registry
    genesis: Header
    disks: Mapping[int, Durable]
    forgetful: set[int] = field(factory=set)             # whose log was put back to an older one
    chain: list[Final] = field(factory=list)             # index = height - 1
    final_transactions: dict[bytes, int] = field(factory=dict)
    blocks: dict[bytes, HeldBlock] = field(factory=dict)
    _stamped: set[tuple[int, bytes]] = field(factory=set)
    _sent: dict[tuple[int, Kind, int, int], bytes] = field(factory=dict)
    _voted_in: dict[int, int] = field(factory=dict)      # node -> last epoch in which it sent a vote
    _lost_in: dict[int, int] = field(factory=dict)       # node -> that epoch when its log was lost
    _finalizations: dict[tuple[int, int], bytes] = field(factory=dict)
    _heights: dict[int, int] = field(factory=dict)
    oldest_stamp_ms: Callable[[], int] = field(default=lambda: 0)       # that an honest node may vote for now
    _answered: dict[int, set[int]] = field(factory=dict)     # node that did not vote since its start -> who answered it
    _barred: dict[int, int] = field(factory=dict)            # node -> epoch up to which it may sign nothing
    _asked_ms: dict[tuple[int, bytes], int] = field(factory=dict)
    _good: set[tuple[int, int, int, bytes, tuple[int, ...]]] = field(factory=set)

    def _quorum(self, epoch: int) -> int:
        return smallest_safe_quorum(len(self.schedule.members(epoch)))

    def _nullified(self, epoch: int, view: int) -> bool:
        return len(self.registry.signers(Kind.NULLIFY, epoch, view)) >= self._quorum(epoch)

    def _surely_nullified(self, epoch: int, view: int) -> bool:
        """Votes that were signed and never left count for nothing here."""
        left = sum(node not in self.honest or (node, Kind.NULLIFY, epoch, view) in self._sent
                   for node in self.registry.signers(Kind.NULLIFY, epoch, view))
        return left >= self._quorum(epoch)

    # -------------------------------------------------------- what happens to logs

    def log_lost(self, node: int) -> None:
        """From here on it may sign nothing in an epoch in which it ever voted."""
        self._lost_in[node] = self._voted_in.get(node, -1)
        self._heights.pop(node, None)

    def log_restored(self, node: int) -> None:
        """An older log: what only it and a peer that forgot know of may be signed again; a fork may not come of it."""
        self.forgetful.add(node)
        self._barred.pop(node, None)
        self._heights.pop(node, None)

    def barred(self, node: int, epoch: int) -> None:
        """It has found out, and kept, that its log is not what it was: nothing more in this epoch, restarts
        included."""
        self._barred[node] = max(epoch, self._barred.get(node, -1))

    # -------------------------------------------------------- questions

    def starts(self, node: int) -> None:
        """A process begins: it has asked nobody yet."""
        self._answered[node] = set()
        for asked in [asked for asked in self._asked_ms if asked[0] == node]:
            del self._asked_ms[asked]

    def awaits_answers(self, node: int) -> bool:
        """Whether it has not voted since its start."""
        return node in self._answered

    def answered(self, node: int, sender: int) -> None:
        """A node hears which of its votes another knows."""
        if node in self._answered and sender != node:
            self._answered[node].add(sender)

    def asks(self, node: int, name: bytes, now_ms: int) -> None:
        """Consensus asks for a block: one question outstanding per block and timeout."""
        before_ms = self._asked_ms.get((node, name))
        if before_ms is not None and now_ms - before_ms < ASKED_AGAIN_AFTER_MS:
            raise Violation(f"node {node} asks for a block again after {now_ms - before_ms} ms")
        self._asked_ms[node, name] = now_ms

    def _told(self, node: int, epoch: int) -> None:
        """The first vote after a start: q - 1 others have said what they know of the node's votes."""
        answers = self._answered.pop(node, None)
        if answers is None:
            return
        needed = min(self._quorum(since) for since in range(epoch + 1) if node in self.schedule.members(since)) - 1
        if len(answers) < needed:
            raise Violation(f"node {node} votes after a start though only {len(answers)} of {needed} others have told "
                            "it which of its votes they know")

    # -------------------------------------------------------- what leaves a node

    def arrives(self, node: int, name: bytes) -> None:
        """A node sees a proposal first while its stamp is young enough: it may vote for it later."""
        block = self.blocks.get(name)
        if block is not None and block.header.timestamp_ms >= self.oldest_stamp_ms():
            self._stamped.add((node, name))

    def block_made(self, block: HeldBlock) -> None:
        self.blocks.setdefault(block.digest, block)

    def leaves(self, node: int, message: object) -> None:
        """Called when an honest node's message reaches the wire."""
        if isinstance(message, Propose):
            self._vote_leaves(node, Kind.NOTARIZE, message.epoch, message.view, digest(Domain.HEADER, message.header))
        elif isinstance(message, Vote):
            self._vote_leaves(node, message.kind, message.epoch, message.view, message.digest)
        elif isinstance(message, Certificate):
            self.certificate(message)

    def _vote_leaves(self, node: int, kind: Kind, epoch: int, view: int, name: bytes) -> None:
        if node not in self.schedule.members(epoch):
            raise Violation(f"node {node} votes in epoch {epoch}, which it is no authority of")
        if epoch <= self._lost_in.get(node, -1):
            raise Violation(f"node {node} lost its log in epoch {self._lost_in[node]} and votes in epoch {epoch}")
        if epoch <= self._barred.get(node, -1):
            raise Violation(f"node {node} votes in epoch {epoch} and was barred up to epoch {self._barred[node]}")
        self._told(node, epoch)
        self._voted_in[node] = max(epoch, self._voted_in.get(node, -1))
        if node not in self.forgetful:
            self._votes_once(node, kind, epoch, view, name)
        durable = self.disks[node].keys
        if vote_key(kind, epoch, view, name) not in durable:
            raise Violation(f"node {node} sent {kind.name} of view {view} before it was durable")
        if kind is Kind.NULLIFY:
            return
        if block_key(name) not in durable:
            raise Violation(f"node {node} sent {kind.name} of view {view} without the body being durable")
        if kind is Kind.NOTARIZE:
            self._extends(node, epoch, view, name)
        elif certificate_key(Kind.NOTARIZE, epoch, view, name) not in durable:
            raise Violation(f"node {node} sent FINALIZE of view {view} before the notarization was durable")

    def _votes_once(self, node: int, kind: Kind, epoch: int, view: int, name: bytes) -> None:
        if self._sent.setdefault((node, kind, epoch, view), name) != name:
            raise Violation(f"node {node} sent two {kind.name} votes in view {view} of epoch {epoch}")
        if kind is not Kind.NOTARIZE:
            other = Kind.NULLIFY if kind is Kind.FINALIZE else Kind.FINALIZE
            if (node, other, epoch, view) in self._sent:
                raise Violation(f"node {node} sent FINALIZE and NULLIFY in view {view} of epoch {epoch}")

    def _extends(self, node: int, epoch: int, view: int, name: bytes) -> None:
        """A voted block has a notarized parent and only nullified views between, and the voter's log proves it."""
        durable, header = self.disks[node].keys, self.blocks[name].header
        if header.epoch != epoch or self.schedule.epoch_at(header.height) != epoch:
            raise Violation(f"node {node} voted in epoch {epoch} for height {header.height} of epoch {header.epoch}")
        if header.view != view:
            self._again(node, epoch, view, name, header)
            return
        late_ms = self.oldest_stamp_ms() - header.timestamp_ms
        if late_ms > 0 and (node, name) not in self._stamped:
            raise Violation(f"node {node} voted in view {view} for a block that is stamped {late_ms} ms too early")
        if header.height == self.schedule.root_height(epoch) + 1:
            parent_view = 0
            if epoch and final_key(header.parent) not in durable:
                raise Violation(f"node {node} voted in epoch {epoch} before the last block of epoch {epoch - 1} was "
                                "final there")
        else:
            parent = self.blocks.get(header.parent)
            if parent is None:
                raise Violation(f"node {node} voted in view {view} for a block with an unknown parent")
            parent_view = parent.header.view
            if len(self.registry.signers(Kind.NOTARIZE, epoch, parent_view, header.parent)) < self._quorum(epoch):
                raise Violation(f"node {node} voted in view {view} for a child of a block that is not notarized")
            if not any(certificate_key(kind, epoch, parent_view, header.parent) in durable
                       for kind in (Kind.NOTARIZE, Kind.FINALIZE)):
                raise Violation(f"node {node} voted in view {view} without the notarization of the parent")
        self._skipped(node, epoch, parent_view, view)

    def _again(self, node: int, epoch: int, view: int, name: bytes, header: Header) -> None:
        """A boundary block offered again: notarized in an earlier view, and nullified are those since."""
        if header.height != self.schedule.boundary(epoch) or header.view > view:
            raise Violation(f"node {node} voted in view {view} for a block of view {header.view}")
        durable, quorum = self.disks[node].keys, self._quorum(epoch)
        since = max((earlier for earlier, who in self.registry.views_signed(Kind.NOTARIZE, epoch, name).items()
                     if earlier < view and len(who) >= quorum
                     and any(certificate_key(kind, epoch, earlier, name) in durable
                             for kind in (Kind.NOTARIZE, Kind.FINALIZE))), default=None)
        if since is None:
            raise Violation(f"node {node} voted in view {view} for a boundary block that is not notarized there")
        self._skipped(node, epoch, since, view)

    def _skipped(self, node: int, epoch: int, parent_view: int, view: int) -> None:
        for skipped in range(parent_view + 1, view):
            if not self._nullified(epoch, skipped):
                raise Violation(f"node {node} voted in view {view} though view {skipped} is not nullified")
            if certificate_key(Kind.NULLIFY, epoch, skipped, b"") not in self.disks[node].keys:
                raise Violation(f"node {node} voted in view {view} without the nullification of view {skipped}")

    def certificate(self, certificate: Certificate) -> None:
        """q distinct members of its epoch, each signature real."""
        epoch, view = certificate.epoch, certificate.view
        key = (int(certificate.kind), epoch, view, certificate.digest, certificate.signers)
        if key in self._good:
            return
        places, listed, quorum = set(certificate.signers), self.schedule.members(epoch), self._quorum(epoch)
        if (len(places) != len(certificate.signers) or len(places) < quorum
                or not places <= set(range(len(listed))) or len(certificate.signatures) != len(places)):
            raise Violation(f"a {certificate.kind.name} certificate of view {view} with signers "
                            f"{certificate.signers}; {quorum} of {len(listed)} are needed in epoch {epoch}")
        content = vote_content(certificate.kind, epoch, view, certificate.digest)
        for signer, signature in zip(certificate.signers, certificate.signatures, strict=True):
            if not self.registry.verify(listed[signer], content, signature):
                raise Violation(f"a forged signature of {signer} in a certificate of view {view}")
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
        self.block_made(block)
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
        place = certificate.epoch, certificate.view
        if certificate.epoch != block.header.epoch:
            raise Violation(f"height {block.header.height} is finalized by a certificate of epoch {certificate.epoch}")
        if self._finalizations.setdefault(place, certificate.digest) != certificate.digest:
            raise Violation(f"two blocks are finalized in view {certificate.view}")
        if self._surely_nullified(*place):
            raise Violation(f"view {certificate.view} is both finalized and nullified")

    def _new_final(self, block: HeldBlock) -> None:
        header, name = block.header, block.digest
        last = self.chain[-1] if self.chain else None
        parent = last.header if last is not None else self.genesis
        parent_digest = last.digest if last is not None else digest(Domain.HEADER, self.genesis.encode())
        epoch = self.schedule.epoch_at(header.height)
        first = header.height == self.schedule.root_height(epoch) + 1
        parent_view = 0 if first else parent.view
        if (header.parent != parent_digest or header.height != parent.height + 1 or header.view <= parent_view
                or header.epoch != epoch):
            raise Violation(f"the final block at height {header.height} does not follow its parent")
        if first and epoch and not any(final_key(parent_digest) in self.disks[node].keys for node in self.honest):
            raise Violation(f"epoch {epoch} began though no honest log holds the finality of height {parent.height}")
        if header.timestamp_ms <= parent.timestamp_ms:
            raise Violation(f"time goes back at height {header.height}")
        for skipped in range(parent_view + 1, header.view):
            if not self._nullified(epoch, skipped):
                raise Violation(f"view {skipped} was skipped without a nullification below height {header.height}")
        listed = self.schedule.members(epoch)
        spoilt = self.forgetful | self._lost_in.keys()
        faulty = sum(node not in self.honest or node in spoilt for node in listed)
        holders = sum(block_key(name) in self.disks[node].keys for node in listed if node in self.honest)
        if holders < self._quorum(epoch) - faulty:
            raise Violation(f"height {header.height} is final, but only {holders} honest logs hold it")
        for transaction_id in block.transaction_ids:
            if transaction_id in self.final_transactions:
                raise Violation(f"a transaction is final twice, at heights "
                                f"{self.final_transactions[transaction_id]} and {header.height}")
            self.final_transactions[transaction_id] = header.height
        self.chain.append(Final(name, header, block.transaction_ids))
