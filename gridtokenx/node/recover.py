"""Start-up order of CONSENSUS 6: the store at checkpoint C, then the log to the last final block."""

from __future__ import annotations

from collections.abc import Iterable

from gridtokenx.consensus.config import HeldBlock, Recovered, Root
from gridtokenx.consensus.messages import Certificate, Kind, Propose, Vote, decode_message
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import InvariantError
from gridtokenx.node.chain import Chain, ChainBlock
from gridtokenx.node.records import LogKind, decode_block


def replay(chain: Chain, records: Iterable[tuple[int, bytes]],
           stored: Certificate | None) -> tuple[Root, Recovered, list[ChainBlock]]:
    """Brings `chain` to the last block that the log proves final.

    `stored` is the certificate of the checkpoint's block. Returns the root for the core, what the log holds
    beyond it, and the blocks made final on the way. Raises InvariantError if a final block does not execute.
    """
    votes: list[Vote | Propose] = []
    certificates: dict[tuple[Kind, int], Certificate] = {}
    blocks: dict[bytes, ChainBlock] = {}
    for kind, payload in records:
        if kind == LogKind.BLOCK:
            header_raw, raws = decode_block(payload)
            header, transactions = chain.read_block(header_raw, raws)
            if header.height > chain.base.header.height:
                block = chain.add(digest(Domain.HEADER, header_raw), header, transactions)
                block.logged = True
                blocks[block.digest] = block
            continue
        message = decode_message(payload)
        if isinstance(message, Vote | Propose):
            votes.append(message)
        elif isinstance(message, Certificate):
            certificates[message.kind, message.view] = message
    finals = {c.digest: c for c in certificates.values() if c.kind is Kind.FINALIZE}
    made_final = _advance(chain, blocks, finals)
    head = chain.head
    certificate = head.certificate if head is not chain.base else stored
    root = Root(head.digest, head.header.height, head.header.view, head.header.timestamp_ms, certificate,
                head.unfinished)
    beyond = [block for block in blocks.values() if block.header.height > head.header.height]
    chain.drop([block.digest for block in blocks.values() if block.header.height <= head.header.height])
    recovered = Recovered(
        votes=tuple(vote for vote in votes if vote.view > root.view),
        blocks=tuple(HeldBlock(block.digest, block.header, block.ids, block.body_bytes) for block in beyond),
        certificates=tuple(c for c in certificates.values() if c.view >= root.view),
    )
    return root, recovered, made_final


def _advance(chain: Chain, blocks: dict[bytes, ChainBlock], finals: dict[bytes, Certificate]) -> list[ChainBlock]:
    for block_digest in sorted(finals, key=lambda d: finals[d].view, reverse=True):
        path: list[ChainBlock] = []
        block = blocks.get(block_digest)
        while block is not None:
            path.append(block)
            if block.header.parent == chain.head.digest:
                for final in reversed(path):
                    chain.execute(final)
                    if final.failure:
                        raise InvariantError(f"block {final.header.height} ({final.digest.hex()}) is final in the log "
                                             f"but does not execute: {final.failure}")
                    chain.finalize(final.digest, finals.get(final.digest))
                return list(reversed(path))
            block = blocks.get(block.header.parent)
    return []
