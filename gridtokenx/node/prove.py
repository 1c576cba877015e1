"""Making light proofs from a node's chain (docs/proofs.md); `gridtokenx.light` checks them.

Records are proven under the newest final block that has a certificate of its own and is executed here. A transaction is
proven in its block; one without a certificate of its own is shown to be an ancestor of the next that has one, by the
mountain range of headers.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridtokenx.crypto import merkle, mountain_range
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.block import decode_header
from gridtokenx.ledger.genesis import Genesis
from gridtokenx.ledger.records import Peaks
from gridtokenx.ledger.state import StateView
from gridtokenx.light.format import MAX_CLAIMS, Ancestor, Boundary, Finality, Proof, StateClaim, TransactionClaim
from gridtokenx.node.chain import Chain, ChainBlock, epoch_end
from gridtokenx.node.sync import encode_stored_certificate
from gridtokenx.store.chain import StoredBoundary
from gridtokenx.store.database import MAX_BOUNDARIES, Database
from gridtokenx.store.errors import StoreError
from gridtokenx.store.finality import changes_of_list, first_list

MAX_DISTANCE = 65_536
"""Headers between a block and the next certificate that are read to show the one an ancestor of the other."""


class CannotProve(GridTokenXError):
    """What is asked for is not on this node, or not final yet; the message says which."""

    code = "cannot_prove"


class Prover:
    """Makes proofs on one chain. It remembers the epochs that changed the list of authorities: call it from one
    thread at a time."""

    def __init__(self, genesis: Genesis, database: Database, chain: Chain) -> None:
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
            header, raws = held.header.encode(), [transaction.raw for transaction in held.transactions]
            receipts = [] if held.result is None else list(held.result.receipts_raw)
        else:
            place = self._database.transaction(transaction_id)
            block = None if place is None else self._database.block(place.height)
            if place is None or block is None:
                raise CannotProve(f"transaction {transaction_id.hex()} is in no final block that this node holds")
            height, index = place.height, place.position
            header, raws, receipts = block.header, block.transactions, block.receipts
        ids = [digest(Domain.TRANSACTION, raw) for raw in raws]
        claim = TransactionClaim(index, len(raws), raws[index], merkle.prove(ids, index), receipts[index],
                                 merkle.prove(receipts, index))
        certified, certificate, ancestor = self._certified(height, header)
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

    # ------------------------------------------------------------ ancestors

    def _certified(self, height: int, header: bytes) -> tuple[bytes, bytes, Ancestor | None]:
        """Header and certificate of the first block from `height` on that has one, and how the first leads to it."""
        hashes: list[bytes] = []
        at, raw = height, header
        while len(hashes) <= MAX_DISTANCE:
            certificate = self._certificate(at)
            if certificate is not None:
                if at == height:
                    return raw, certificate, None
                path = mountain_range.prove_after(self._peaks(height), hashes)
                return raw, certificate, Ancestor(header, path.encode())
            hashes.append(digest(Domain.HEADER, raw))
            at += 1
            following = self._header(at)
            if following is None:
                raise CannotProve(f"block {height} is final by a certificate that this node does not have yet; ask "
                                  "again in a moment")
            raw = following
        raise CannotProve(f"no block among the {MAX_DISTANCE} after height {height} has a certificate of its own")

    def _held(self, height: int) -> ChainBlock | None:
        finals = self._chain.finals()
        place = height - self._chain.base.header.height - 1
        return finals[place] if 0 <= place < len(finals) else None

    def _certificate(self, height: int) -> bytes | None:
        held = self._held(height)
        if held is not None and held.certificate is not None:
            return encode_stored_certificate(held.certificate)
        return self._database.certificate(height)

    def _header(self, height: int) -> bytes | None:
        held = self._held(height)
        return self._database.header(height) if held is None else held.header.encode()

    def _peaks(self, height: int) -> bytes:
        """The range of the headers below `height`: from the state there, or made anew from the headers."""
        held = self._held(height)
        raw: bytes | None
        if held is not None and held.state is not None:
            raw = held.state.get(spaces.PEAKS)
        else:
            try:
                with self._database.state_at(height) as past:
                    raw = past.get(spaces.PEAKS)
            except StoreError:
                raw = None
        if raw is not None:
            return Peaks.decode(raw).peaks
        peaks = mountain_range.EMPTY
        for at in range(height):
            header = self._database.header(at)
            if header is None:
                raise CannotProve(f"this node does not hold the headers below height {height}; ask one that has the "
                                  "whole chain")
            peaks = mountain_range.append(peaks, digest(Domain.HEADER, header))
        return peaks


def _boundary(block: ChainBlock) -> StoredBoundary | None:
    end = epoch_end(block)
    if end is None or block.certificate is None:
        return None
    return StoredBoundary(end.epoch, block.header.encode(), encode_stored_certificate(block.certificate),
                          end.authorities)
