"""Making light proofs from a node's chain (docs/proofs.md); `gridtokenx.light` checks them.

Records are proven under the newest final block that has a certificate of its own and is executed here. A transaction is
proven in its block; one without a certificate of its own is shown to be an ancestor of the next that has one, by the
mountain range of headers.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridtokenx.crypto import merkle
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.ledger.block import decode_header
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.state import StateView
from gridtokenx.light.format import MAX_CLAIMS, Boundary, Finality, Proof, StateClaim, TransactionClaim
from gridtokenx.node.ancestors import CannotProve, Finals, certified_from
from gridtokenx.node.chain import ChainBlock, epoch_end
from gridtokenx.node.sync import encode_stored_certificate
from gridtokenx.store.chain import StoredBoundary
from gridtokenx.store.database import MAX_BOUNDARIES, Database
from gridtokenx.store.finality import changes_of_list, first_list


class Prover:
    """Makes proofs on one chain. It remembers the epochs that changed the list of authorities: call it from one
    thread at a time."""

    def __init__(self, genesis: Genesis, database: Database, chain: Finals) -> None:
        self._database = database
        self._chain = chain
        self._genesis = genesis.header().encode()
        self._authorities = first_list(genesis)
        self._changes: list[Boundary] = []
        self._next_epoch = 0

    def records(self, keys: Sequence[bytes]) -> Proof:
        """Proof that each key has its value, or has none, in the state after the newest block that can prove it.

        Raises CannotProve for too many keys, or while no block but genesis is final.
        """
        if not 1 <= len(keys) <= MAX_CLAIMS or len(set(keys)) != len(keys):
            raise CannotProve(f"a proof is about 1 to {MAX_CLAIMS} different keys, not {len(keys)}")
        finality, state = self._newest()
        return Proof(finality, None, tuple(
            StateClaim(key, state.get(key), state.prove(key).encode()) for key in keys))

    def transaction(self, transaction_id: bytes) -> Proof:
        """Proof that a transaction is in a final block, with its receipt. Raises CannotProve."""
        held = next((b for b in self._chain.finals() if transaction_id in b.ids), None)
        if held is not None:
            height, index = held.header.height, held.ids.index(transaction_id)
            raws = [transaction.raw for transaction in held.transactions]
            receipts = [] if held.result is None else list(held.result.receipts_raw)
        else:
            place = self._database.transaction(transaction_id)
            block = None if place is None else self._database.block(place.height)
            if place is None or block is None:
                raise CannotProve(f"transaction {transaction_id.hex()} is in no final block that this node holds")
            height, index = place.height, place.position
            raws, receipts = block.transactions, block.receipts
        ids = [digest(Domain.TRANSACTION, raw) for raw in raws]
        claim = TransactionClaim(index, len(raws), raws[index], merkle.prove(ids, index), receipts[index],
                                 merkle.prove(receipts, index))
        certified, certificate, ancestor = certified_from(self._database, self._chain, height)
        return Proof(self._finality(certified, certificate), ancestor, (claim,))

    # ------------------------------------------------------------ finality

    def _newest(self) -> tuple[Finality, StateView]:
        for block in reversed(self._chain.finals()):
            if block.certificate is not None and block.state is not None:
                return self._finality(block.header.encode(), encode_stored_certificate(block.certificate)), block.state
        base = self._chain.base
        certificate = self._database.certificate(base.header.height)
        if certificate is None or base.state is None:
            raise CannotProve("no block after genesis is final on this node yet; ask again in a moment")
        return self._finality(base.header.encode(), certificate), base.state

    def _finality(self, header: bytes, certificate: bytes) -> Finality:
        epoch = decode_header(header).epoch
        boundaries = tuple(entry for entry in self._boundaries() if decode_header(entry.header).epoch < epoch)
        return Finality(self._genesis, self._authorities, boundaries, header, certificate)

    def _boundaries(self) -> list[Boundary]:
        """The ends of epochs after which the list was another one."""
        held = [entry for entry in map(_boundary, self._chain.finals()) if entry is not None]
        while True:
            rows = self._database.boundaries(self._next_epoch)
            self._changes += changes_of_list(rows)
            if rows:
                self._next_epoch = rows[-1].epoch + 1
            if len(rows) < MAX_BOUNDARIES:
                break
        return self._changes + changes_of_list([entry for entry in held if entry.epoch >= self._next_epoch])


def _boundary(block: ChainBlock) -> StoredBoundary | None:
    end = epoch_end(block)
    if end is None or block.certificate is None:
        return None
    return StoredBoundary(end.epoch, block.header.encode(), encode_stored_certificate(block.certificate),
                          end.authorities)
