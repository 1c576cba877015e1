"""Start-up order of CONSENSUS 6: the store at checkpoint C, then the log to the last final block."""

from __future__ import annotations

from collections.abc import Iterable

from gridtokenx.consensus.config import HeldBlock, Recovered
from gridtokenx.consensus.epochs import EpochStart
from gridtokenx.consensus.messages import Certificate, Kind, Propose, Vote, decode_message
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import InvariantError
from gridtokenx.node.chain import Chain, ChainBlock
from gridtokenx.node.epochs import epoch_start
from gridtokenx.node.records import LogKind, decode_block
from gridtokenx.node.sync import decode_stored_certificate
from gridtokenx.store.database import Database


def replay(chain: Chain, records: Iterable[tuple[int, bytes]],
           database: Database) -> tuple[EpochStart, Recovered, list[ChainBlock]]:
    """Brings `chain` to the last block that the log proves final.

    Returns where consensus starts from, what the log holds beyond it in that epoch, and the blocks made final on the
    way. Raises InvariantError if a final block does not execute.
    """
    votes: list[Vote | Propose] = []
    certificates: dict[tuple[Kind, int, int], Certificate] = {}
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
        if kind == LogKind.EVIDENCE:
            continue
        message = decode_message(payload)
        if isinstance(message, Vote | Propose):
            votes.append(message)
        elif isinstance(message, Certificate):
            certificates[message.kind, message.epoch, message.view] = message
    finals = {c.digest: c for c in certificates.values() if c.kind is Kind.FINALIZE}
    made_final = _advance(chain, blocks, finals)
    head = chain.head
    certificate = head.certificate
    if head is chain.base and (stored := database.certificate(head.header.height)) is not None:
        certificate = decode_stored_certificate(stored)
    start = epoch_start(chain, database, certificate)
    epoch, view = start.config.epoch, start.root.view
    chain.drop([block.digest for block in blocks.values()
                if block.header.height <= head.header.height or block.header.epoch != epoch])
    beyond = [block for block in blocks.values() if chain.block(block.digest) is block and block is not head
              and block.header.height > head.header.height]
    recovered = Recovered(
        votes=tuple(vote for vote in votes if vote.epoch == epoch and vote.view > view),
        blocks=tuple(HeldBlock(block.digest, block.header, block.ids, block.body_bytes) for block in beyond),
        certificates=tuple(c for c in certificates.values() if c.epoch == epoch and c.view >= view),
    )
    return start, recovered, made_final


def _advance(chain: Chain, blocks: dict[bytes, ChainBlock], finals: dict[bytes, Certificate]) -> list[ChainBlock]:
    for block_digest in sorted(finals, key=lambda d: (finals[d].epoch, finals[d].view), reverse=True):
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
