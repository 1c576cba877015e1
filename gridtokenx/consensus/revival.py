"""A core after a restart: what the log remembered goes back to its place (CONSENSUS 6)."""

from __future__ import annotations

from gridtokenx.consensus.config import Recovered
from gridtokenx.consensus.interface import Execute
from gridtokenx.consensus.messages import Kind, Propose, Vote
from gridtokenx.consensus.missing import want
from gridtokenx.consensus.state import State
from gridtokenx.consensus.tree import Block
from gridtokenx.consensus.votes import Proposal
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger.block import decode_header


def recover(state: State, recovered: Recovered) -> None:
    """Puts back what the log remembered: blocks, certificates, own votes, and the view they admit."""
    root = state.tree.root
    for held in recovered.blocks:
        if held.header.height > root.height and held.header.view > root.view:
            block = state.tree.add(held.digest, held.header, held.transaction_ids)
            block.held, block.handed_out, block.body_bytes = True, True, held.body_bytes
            state.revive.append(block)
    state.revive.sort(key=lambda block: block.height)
    for certificate in recovered.certificates:
        if certificate.view > root.view and certificate.epoch == state.config.epoch:
            state.votes.at(certificate.view).certificates[certificate.kind] = certificate
            if certificate.kind is Kind.FINALIZE and (state.final is None or certificate.view > state.final.view):
                state.final = certificate
    for record in state.votes.ascending():
        block_of = None if record.notarization is None else state.tree.get(record.notarization.digest)
        if block_of is not None:
            block_of.notarized_ms = state.when(block_of.timestamp_ms)
        admits = record.finalization or record.nullification or (
            record.notarization if block_of is not None and block_of.held else None)
        if admits is not None and record.view >= state.view:
            state.view, state.admitted_by = record.view + 1, admits
    for vote in recovered.votes:
        if vote.epoch == state.config.epoch and vote.view > root.view:
            recover_vote(state, vote)


def recover_vote(state: State, vote: Vote | Propose) -> None:
    if isinstance(vote, Vote):
        state.votes.add_own(vote)
        return
    name = digest(Domain.HEADER, vote.header)
    state.votes.add_own(Vote(Kind.NOTARIZE, vote.epoch, vote.view, name, state.me, vote.signature))
    header = decode_header(vote.header)
    state.tree.add(name, header, vote.transaction_ids)
    state.votes.at(vote.view).proposal = Proposal(name, header, vote.transaction_ids, state.clock_ms, requested=True)
    if vote.view == state.view:
        state.own_proposal = vote


def want_recovered(state: State) -> None:
    """Bodies that the log lacks for certificates that it holds."""
    for record in list(state.votes.ascending()):
        certificate = record.notarization or record.finalization
        if certificate is not None:
            certified = state.tree.get(certificate.digest)
            if certified is None or not certified.held:
                want(state, certificate.digest, record.view, certificate.signers)


def execute_recovered(state: State) -> None:
    """Blocks of the log were executed before the crash, but their results went with it. One whose ancestors
    are not all held waits for them."""
    waiting: list[Block] = []
    for block in state.revive:
        if state.tree.get(block.digest) is not block or block is state.tree.root:
            continue                                     # settled meanwhile
        if block.header is not None and state.tree.linked(block):
            state.emit(Execute(block.digest, block.header, block.transaction_ids, state.me))
        else:
            waiting.append(block)
    state.revive = waiting
