"""Blocks that only a fork has: they set records of state directly, without any transaction.

An edit is a block like others, with a height, a state root and a place in the chain of headers; conservation is checked
over it as over every block, so that an edit cannot make money or energy out of nothing unseen.
"""

from __future__ import annotations

from collections.abc import Callable

from gridtokenx.crypto import mountain_range
from gridtokenx.crypto.merkle import merkle_root
from gridtokenx.ledger import spaces, trie
from gridtokenx.ledger.block import Header
from gridtokenx.ledger.conservation import check_changes
from gridtokenx.ledger.records import Authorities, Clock, Peaks
from gridtokenx.ledger.run import authorities_hash, zone_count
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.state import StateView

Edit = Callable[[Session], None]


def edit_block(parent: StateView, edit: Edit, *, chain_id: bytes | None = None, rooted: bool = True) -> StateView:
    """The state after a block on `parent` at the same time that does nothing but `edit`.

    With `chain_id` it begins another chain. Not `rooted`, it keeps the parent's state root (`BlockInputs`). Raises
    InvariantError when the edit breaks conservation.
    """
    above = parent.header
    height = above.height + 1
    session = Session(parent, height)
    peaks: Peaks = session.get(spaces.PEAKS)
    grown = Peaks(mountain_range.append(peaks.peaks, above.hash))
    session.put(spaces.CLOCK, Clock(height, above.timestamp_ms))
    session.put(spaces.PEAKS, grown)
    edit(session)
    changes = session.changed()
    check_changes(session, changes)
    encoded = changes.encoded()
    root, pages = trie.update(parent.page, above.state_root, encoded.items()) if rooted else (
        above.state_root, {})
    members: Authorities = session.get(spaces.AUTHORITIES)
    listed = authorities_hash(members)
    header = Header(
        chain_id=above.chain_id if chain_id is None else chain_id, rules_version=above.rules_version,
        epoch=above.epoch, view=above.view + 1, height=height, parent=above.hash, timestamp_ms=above.timestamp_ms,
        proposer=b"", transactions_root=merkle_root([]), receipts_root=merkle_root([]), state_root=root,
        headers_root=mountain_range.root(grown.peaks), authorities_hash=listed, next_authorities_hash=listed,
        market=tuple((0, 0) for _ in range(zone_count(parent))))
    return StateView(parent, header, encoded, pages)
