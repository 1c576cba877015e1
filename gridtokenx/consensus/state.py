"""Everything one authority knows in one epoch; the rules are functions on it.

Fields are plain: `rules`, `timers`, `events` and `missing` read and write them. Nothing here decides anything but
what "notarized", "behind" and "the tip" mean.
"""

from __future__ import annotations

from gridtokenx.consensus.authorities import Authorities
from gridtokenx.consensus.clocks import Clocks
from gridtokenx.consensus.config import ConsensusConfig, Root, Signer, Verifier
from gridtokenx.consensus.interface import Effect, Note, Send
from gridtokenx.consensus.messages import Certificate, Message, Propose, Status
from gridtokenx.consensus.pace import Delta, Speed
from gridtokenx.consensus.peers import Peers
from gridtokenx.consensus.requests import Requests
from gridtokenx.consensus.tree import Block, BlockTree
from gridtokenx.consensus.votes import ViewRecord, Votes
from gridtokenx.consensus.work import Work

VIEWS_AHEAD = 100                 # votes further ahead are dropped; also the most certificates per answer
RETRY_EVERY_MS = 500


class State:
    """The state of a core. Times are monotonic ms unless they are named clock or timestamp."""

    def __init__(self, config: ConsensusConfig, me: int, signer: Signer, verifier: Verifier, root: Root,
                 now_ms: int, clock_ms: int, may_sign: bool) -> None:
        self.config = config
        self.me = me
        self.signer = signer
        self.may_sign = may_sign
        self.signs_above = 0                             # nothing is signed in views up to this one
        self.forgot = False                              # own votes came back that the log does not hold
        self.ended = False                               # the epoch's boundary block is final
        self.now_ms = now_ms
        self.clock_ms = clock_ms
        self.authorities = Authorities.of_epoch(config.authorities, config.epoch_root)
        self.votes = Votes(self.authorities, config.epoch, verifier)
        self.tree = BlockTree(root, self.when(root.timestamp_ms))
        self.clocks = Clocks(self.authorities.quorum)
        self.delta = Delta(config.delta_ms, self.authorities.n)
        self.speed = Speed(config.max_block_weight)
        self.peers = Peers(self.authorities.n, me, self.authorities.quorum, now_ms)
        self.work = Work(self.authorities.n)
        self.requests = Requests()
        self.root_certificate = root.certificate
        self.final = root.certificate                    # of the highest view; may be ahead of the root

        self.view = root.view + 1
        self.admitted_by = root.certificate
        self.entered_ms = now_ms
        self.armed_ms: int | None = None
        self.woke = False
        self.building: tuple[int, int] | None = None     # (view, since ms)
        self.own_proposal: Propose | None = None
        self.tip_known: tuple[Block | None, int | None] | None = None
        self.finalized_ms = now_ms
        self.status_ms = now_ms
        self.retry_ms = now_ms + RETRY_EVERY_MS
        self.effects: list[Effect] = []
        self.next_ms = now_ms
        self.revive: list[Block] = []                    # recovered blocks to be executed again
        self.recovering = True

    def due(self, at_ms: int) -> None:
        self.next_ms = min(self.next_ms, at_ms)

    def emit(self, effect: Effect) -> None:
        self.effects.append(effect)

    def send(self, message: Message, to: int | None = None) -> None:
        self.effects.append(Send(message, to))

    def note(self, event: str, view: int, detail: str = "") -> None:
        self.effects.append(Note(event, view, detail))

    def when(self, timestamp_ms: int) -> int:
        """Monotonic time of a block's stamp, for blocks from before the start; at most one block time ago."""
        return self.now_ms - min(max(self.clock_ms - timestamp_ms, 0), self.config.block_time_ms)

    def boundary(self, block: Block) -> bool:
        """Whether the block ends the epoch; then it may be proposed, and notarized, in several views."""
        return block.height >= self.config.boundary

    def records_of(self, block: Block) -> list[ViewRecord]:
        """The views in which the block can be notarized: its own, and any later one for a boundary block."""
        if self.boundary(block):
            return [record for record in self.votes.ascending() if record.view >= block.view]
        record = self.votes.seen(block.view)
        return [] if record is None else [record]

    def notarized(self, block: Block) -> bool:
        """A finalization implies a notarization."""
        return block is self.tree.root or self.notarized_below(block, self.view + VIEWS_AHEAD + 1) is not None

    def notarized_below(self, block: Block, view: int) -> int | None:
        """The highest view below `view` in which the block is notarized."""
        return max((record.view for record in self.records_of(block) if record.view < view and any(
            certificate is not None and certificate.digest == block.digest
            for certificate in (record.notarization, record.finalization))), default=None)

    def signs_in(self, view: int) -> bool:
        return self.may_sign and view > self.signs_above

    def behind(self) -> bool:
        """A finalization is known that is not carried out yet."""
        return self.final is not None and self.final.view > self.tree.root.view

    def tip(self) -> tuple[Block | None, int | None]:
        """Rule 2's parent of the present view, or the view of which a certificate is missing."""
        if self.tip_known is None:
            self.tip_known = self.find_tip()
        return self.tip_known

    def find_tip(self) -> tuple[Block | None, int | None]:
        for view in range(self.view - 1, self.tree.root.view, -1):
            record = self.votes.seen(view)
            certificate = None if record is None else record.notarization or record.finalization
            if certificate is not None:
                block = self.tree.get(certificate.digest)
                return (block if block is not None and block.held else None), None
            if record is None or record.nullification is None:
                return None, view
        return self.tree.root, None

    def inherit(self, former: State) -> None:
        """What holds beyond an epoch: how fast network and executor are, who was heard, what their clocks say."""
        self.speed = former.speed
        self.delta.inherit(former.delta)
        for index, key in enumerate(self.authorities.keys):
            if key in former.authorities.keys:
                before = former.authorities.keys.index(key)
                self.peers[index].heard_ms = former.peers[before].heard_ms
                self.peers[index].behind = former.peers[before].behind
                self.clocks.inherit(index, former.clocks, before)

    def remember(self, certificate: Certificate) -> None:
        """A verified certificate with an own vote that the log does not hold: nothing more is signed."""
        if self.votes.forgot(certificate, self.me):
            self.forgot, self.may_sign = True, False

    def countable(self, view: int) -> bool:
        """Views at or below the root are settled, those more than 100 ahead are not counted."""
        return self.tree.root.view < view <= self.view + VIEWS_AHEAD

    def status(self) -> Status:
        root = self.tree.root
        tip = self.tip()[0]
        executed = tip.height if tip is not None and tip.executed else root.height
        return Status(self.config.epoch, self.view, root.height, executed, max(self.clock_ms, 0))
