"""Answers to sync requests: consecutive final blocks that end in a proof of finality."""

from __future__ import annotations

from gridtokenx.errors import GridTokenXError
from gridtokenx.node.ancestors import CannotProve, certified_from
from gridtokenx.node.chain import Chain
from gridtokenx.node.sync import (
    MAX_ANSWER_BYTES,
    MAX_TAIL,
    encode_answer,
    encode_stored_certificate,
)
from gridtokenx.store.database import Database


class NotHeld(GridTokenXError):
    """Blocks from before the snapshot that this node began with; others have them."""


StoredBlock = tuple[bytes, list[bytes], bytes | None]
"""Raw header, raw transactions, stored certificate."""


def final_block(database: Database, chain: Chain, height: int) -> StoredBlock | None:
    """The final block at `height`, from the store or from what no checkpoint holds yet; None above the head."""
    base = chain.base.header.height
    if height <= base:
        stored = database.block(height)
        return None if stored is None else (stored.header, stored.transactions, stored.certificate)
    finals = chain.finals()
    position = height - base - 1
    if position >= len(finals):
        return None
    block = finals[position]
    certificate = None if block.certificate is None else encode_stored_certificate(block.certificate)
    return block.header.encode(), [transaction.raw for transaction in block.transactions], certificate


def answer_for(database: Database, chain: Chain, from_height: int, most: int) -> bytes:
    """As many blocks from `from_height` (1 or more) as fit; empty when there are none or none can be proven."""
    head = chain.head.header.height
    if max(1, from_height) < database.first_height:
        raise NotHeld(f"this node began with a snapshot and holds blocks from height {database.first_height} on")
    blocks: list[StoredBlock] = []
    size = 0
    height = max(1, from_height)
    while len(blocks) < most and size < MAX_ANSWER_BYTES - (1 << 20):
        block = final_block(database, chain, height)
        if block is None:
            break
        blocks.append(block)
        size += len(block[0]) + sum(map(len, block[1]))
        height += 1
    proven = max((index + 1 for index, block in enumerate(blocks) if block[2] is not None), default=0)
    if proven or not blocks:
        return encode_answer(head, blocks[:proven], [], None)
    tail: list[bytes] = []
    while len(tail) < MAX_TAIL:
        block = final_block(database, chain, height)
        if block is None:
            break
        tail.append(block[0])
        if block[2] is not None:
            return encode_answer(head, blocks, tail, block[2])
        height += 1
    # No certificate near: the last block's place among the ancestors of the next certified one, however far.
    last = height - len(tail) - 1
    try:
        header, certificate, ancestor = certified_from(database, chain, last)
    except CannotProve:
        return encode_answer(head, [], [], None)
    assert ancestor is not None, "a certificate was looked for"
    return encode_answer(head, blocks, [header], certificate, ancestor.path)
