"""Authorities that do not follow the protocol. They sign with their own key only."""

from __future__ import annotations

from gridtokenx.consensus.config import HeldBlock
from gridtokenx.consensus.interface import Event
from gridtokenx.consensus.messages import Certificate, Kind, Message, Propose, Vote, vote_content
from gridtokenx.ledger.block import decode_header
from gridtokenx.sim import toy
from gridtokenx.sim.node import SimulatedNode
from gridtokenx.sim.setting import GetBlock


class _Adversary(SimulatedNode):
    honest = False

    def _signed(self, kind: Kind, view: int, name: bytes = b"") -> Vote:
        epoch = self.consensus.epoch
        content = vote_content(kind, epoch, view, name)
        return Vote(kind, epoch, view, name, self._place, self.setting.registry.sign(self.index, content))

    @property
    def _place(self) -> int:
        """In the list of the epoch; adversaries stay in it."""
        return self.setting.schedule.members(self.consensus.epoch).index(self.index)

    def _others(self) -> list[int]:
        return [other for other in self.setting.schedule.members(self.consensus.epoch) if other != self.index]


class Silent(_Adversary):
    """Never says anything."""

    def start(self) -> None:
        self.running = False


class LoneNullifier(_Adversary):
    """Gives up on every view as soon as it is entered, and again and again, besides taking part."""

    _nullified = (0, 0)

    def _turn(self, event: Event | None, received: tuple[int, Message] | None = None) -> None:
        super()._turn(event, received)
        if self.core is not None and (self.consensus.epoch, self.core.view) > self._nullified:
            self._nullified = self.consensus.epoch, self.core.view
            vote = self._signed(Kind.NULLIFY, self.core.view)
            for other in self._others():
                self.setting.network.send(self.index, other, vote)


class Equivocator(_Adversary):
    """As leader, shows two valid blocks, each to half of the others; votes for whatever suits the receiver."""

    def _post(self, message: Message, to: int | None) -> None:
        if not isinstance(message, Propose) or to is not None or message.epoch != self.consensus.epoch:
            super()._post(message, to)
            return
        header = decode_header(message.header)
        other_header = toy.header_of(self.headers[header.parent], header.parent, header.view, header.timestamp_ms + 1,
                                     header.proposer, message.transaction_ids,
                                     self.setting.schedule)
        twin = HeldBlock(other_header.hash, other_header, message.transaction_ids, 0)
        self.blocks[twin.digest], self.headers[twin.digest] = twin, other_header
        self.setting.checker.block_made(twin)
        vote = self._signed(Kind.NOTARIZE, message.view, twin.digest)
        other_propose = Propose(message.epoch, message.view, other_header.encode(), message.transaction_ids,
                                self._place, vote.signature)
        others = self._others()
        for position, other in enumerate(others):
            first = position < len(others) // 2
            self.setting.network.send(self.index, other, message if first else other_propose)
            for name in (header.hash, twin.digest) if first else (twin.digest, header.hash):
                self.setting.network.send(self.index, other, self._signed(Kind.FINALIZE, message.view, name))


class YesMan(_Adversary):
    """Votes for every kind and every proposal at once, without looking; contradicts itself."""

    def receive(self, sender: int, payload: object) -> None:
        if self.running and isinstance(payload, Propose) and payload.epoch == self.consensus.epoch:
            name = decode_header(payload.header).hash
            for kind in (Kind.NOTARIZE, Kind.FINALIZE, Kind.NULLIFY):
                vote = self._signed(kind, payload.view, b"" if kind is Kind.NULLIFY else name)
                for other in self._others():
                    self.setting.network.send(self.index, other, vote)
        super().receive(sender, payload)


class Forger(_Adversary):
    """Takes part, and sends certificates of votes that were never given."""

    def _post(self, message: Message, to: int | None) -> None:
        super()._post(message, to)
        if isinstance(message, Propose) and self.core is not None:
            name, epoch = decode_header(message.header).hash, self.consensus.epoch
            signers = tuple(range(self.core.authorities.quorum))
            own = self._signed(Kind.FINALIZE, message.view, name).signature
            forged = Certificate(Kind.FINALIZE, epoch, message.view, name, signers, (own,) * len(signers))
            repeated = Certificate(Kind.NULLIFY, epoch, message.view, b"", (self._place,) * len(signers),
                                   (self._signed(Kind.NULLIFY, message.view).signature,) * len(signers))
            for other in self._others():
                self.setting.network.send(self.index, other, forged)
                self.setting.network.send(self.index, other, repeated)


class Skipper(_Adversary):
    """As leader, proposes at once on the last final block, as if the views since had brought nothing."""

    _skipped = (0, 0)

    def _turn(self, event: Event | None, received: tuple[int, Message] | None = None) -> None:
        super()._turn(event, received)
        if self.core is None:
            return
        epoch, view, parent = self.consensus.epoch, self.core.view, self.finalized
        if ((epoch, view) > self._skipped and self.core.authorities.leader(view) == self._place
                and self.core.tip != parent):
            self._skipped = epoch, view
            header = toy.header_of(self.headers[parent], parent, view, self.clock.read_ms(self.setting.world.now_us),
                                   toy.key_of(self.index), (), self.setting.schedule)
            block = HeldBlock(header.hash, header, (), 0)
            self.blocks[block.digest], self.headers[block.digest] = block, header
            self.setting.checker.block_made(block)
            vote = self._signed(Kind.NOTARIZE, view, block.digest)
            for other in self._others():
                self.setting.network.send(self.index, other, Propose(epoch, view, header.encode(), (), self._place,
                                                                     vote.signature))


class Backdater(_Adversary):
    """As leader, stamps its block with the earliest time that its parent allows."""

    def _post(self, message: Message, to: int | None) -> None:
        if isinstance(message, Propose) and message.epoch == self.consensus.epoch:
            header = decode_header(message.header)
            parent = self.headers.get(header.parent)
            if parent is not None and header.view == message.view:
                old = toy.header_of(parent, header.parent, header.view, parent.timestamp_ms + 100, header.proposer,
                                    message.transaction_ids, self.setting.schedule)
                block = HeldBlock(old.hash, old, message.transaction_ids, 0)
                self.blocks[block.digest], self.headers[block.digest] = block, old
                self.setting.checker.block_made(block)
                message = Propose(message.epoch, message.view, old.encode(), message.transaction_ids, self._place,
                                  self._signed(Kind.NOTARIZE, message.view, old.hash).signature)
        super()._post(message, to)


class Reofferer(_Adversary):
    """As leader, at the end of an epoch, offers a block as if it were one of an earlier view that is offered again."""

    def _post(self, message: Message, to: int | None) -> None:
        if isinstance(message, Propose) and message.epoch == self.consensus.epoch:
            header = decode_header(message.header)
            parent = self.headers.get(header.parent)
            boundary = header.height == self.setting.schedule.boundary(message.epoch)
            if boundary and parent is not None and parent.view + 1 < header.view == message.view:
                old = toy.header_of(parent, header.parent, header.view - 1, header.timestamp_ms, header.proposer,
                                    message.transaction_ids, self.setting.schedule)
                block = HeldBlock(old.hash, old, message.transaction_ids, 0)
                self.blocks[block.digest], self.headers[block.digest] = block, old
                self.setting.checker.block_made(block)
                message = Propose(message.epoch, message.view, old.encode(), message.transaction_ids, self._place,
                                  self._signed(Kind.NOTARIZE, message.view, old.hash).signature)
        super()._post(message, to)


class Withholder(_Adversary):
    """Proposes and votes, but hands out no body and proposes to q - 1 only."""

    def _post(self, message: Message, to: int | None) -> None:
        if isinstance(message, Propose) and to is None and self.core is not None:
            for other in self._others()[:self.core.authorities.quorum - 2]:
                self.setting.network.send(self.index, other, message)
            return
        super()._post(message, to)

    def receive(self, sender: int, payload: object) -> None:
        if not isinstance(payload, GetBlock):
            super().receive(sender, payload)


ADVERSARIES: dict[str, type[_Adversary]] = {
    "silent": Silent, "lone nullifier": LoneNullifier, "equivocator": Equivocator, "yes-man": YesMan,
    "withholder": Withholder, "forger": Forger, "skipper": Skipper, "backdater": Backdater,
    "reofferer": Reofferer,
}
