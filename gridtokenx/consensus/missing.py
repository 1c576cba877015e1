"""What this authority lacks, and whom it asks: certificates, blocks, or all there is between it and the head."""

from __future__ import annotations

from gridtokenx.consensus.interface import CatchUp, Fetch
from gridtokenx.consensus.messages import GetCertificates
from gridtokenx.consensus.peers import BEHIND_HEIGHTS
from gridtokenx.consensus.requests import (
    ASK_AGAIN_MS,
    CATCH_UP_AFTER_MS,
    CATCH_UP_AGAIN_MS,
    EXECUTION_STALLED_MS,
)
from gridtokenx.consensus.state import VIEWS_AHEAD, State
from gridtokenx.consensus.tree import Block


def behind_far(state: State) -> bool:
    """Behind, and not just waiting for an execution or a body that is on its way."""
    since_ms = state.requests.behind_since_ms
    return state.behind() and since_ms is not None and state.now_ms - since_ms >= CATCH_UP_AFTER_MS


def ask_certificates(state: State, last: int, first_asked: int | None) -> None:
    """GET_CERT for the views above the root up to `last`: one peer at a time, another every 500 ms."""
    requests = state.requests
    again_ms = requests.certificates_asked_ms + ASK_AGAIN_MS
    if state.now_ms < again_ms or state.authorities.n == 1:
        state.due(again_ms)
        return
    asked = first_asked if first_asked not in (None, state.me) and requests.certificates_turn % 2 == 0 else \
        (state.me + 1 + requests.certificates_turn % (state.authorities.n - 1)) % state.authorities.n
    requests.certificates_asked_ms = state.now_ms
    requests.certificates_turn += 1
    state.due(state.now_ms + ASK_AGAIN_MS)
    first = max(state.tree.root.view + 1, last - VIEWS_AHEAD + 1)
    state.send(GetCertificates(state.config.epoch, first, last), asked)


def want(state: State, name: bytes, view: int, signers: tuple[int, ...]) -> None:
    """Fetch a block vouched for by a certificate; one that is on its way already gets 500 ms."""
    if name == state.tree.root.digest or name in state.requests.wanted:
        return
    block = state.tree.get(name)
    coming = block is not None and block.handed_out
    holders = tuple(signer for signer in signers if signer != state.me)
    state.requests.want(name, view, holders, state.now_ms if coming else state.now_ms - ASK_AGAIN_MS)


def want_parent(state: State, block: Block) -> None:
    """A certified block vouches for its ancestors."""
    missing = state.tree.unlinked_parent(block)
    record = state.votes.seen(block.view)
    certificate = None if record is None else record.finalization or record.notarization
    if missing is not None and missing != state.tree.root.digest and block.height > state.tree.root.height + 1:
        signers = certificate.signers if certificate is not None else tuple(range(state.authorities.n))
        want(state, missing, block.view, signers)


def ask_for_blocks(state: State) -> None:
    for want in state.requests.due(state.now_ms):
        state.emit(Fetch(want.digest, want.view, want.rotated()))
    next_ms = state.requests.next_ms()
    if next_ms is not None:
        state.due(next_ms)


def catch_up(state: State) -> None:
    """Leave it to sync when peers are far ahead, or what is missing does not come by Fetch."""
    requests = state.requests
    if not state.behind() or state.final is None:
        requests.behind_since_ms = None
        return
    block = state.tree.get(state.final.digest)
    if requests.behind_since_ms is None:
        requests.behind_since_ms = state.now_ms
    if block is not None and state.tree.linked(block):
        patience_ms = EXECUTION_STALLED_MS               # all is held; execution is under way
    elif state.peers.height_of_some_honest(state.authorities.f) > state.tree.root.height + BEHIND_HEIGHTS:
        patience_ms = 0
    else:
        patience_ms = CATCH_UP_AFTER_MS
    at_ms = max(requests.behind_since_ms + patience_ms,
                requests.catch_up_asked_ms + CATCH_UP_AGAIN_MS)
    if state.now_ms >= at_ms:
        requests.catch_up_asked_ms = state.now_ms
        state.emit(CatchUp(state.final, tuple(signer for signer in state.final.signers if signer != state.me)))
        at_ms = state.now_ms + CATCH_UP_AGAIN_MS
    state.due(at_ms)
