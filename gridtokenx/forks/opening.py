"""Ways to a chain in this process: a fork of one that exists, or a new one."""

from __future__ import annotations

from pathlib import Path

from gridtokenx import codec
from gridtokenx.crypto.hashing import Domain, digest
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.forks.base import Base
from gridtokenx.forks.chain import Chain
from gridtokenx.forks.dump import read_dump
from gridtokenx.forks.errors import ForkError
from gridtokenx.forks.provenance import first_block, provenance_of
from gridtokenx.ledger.genesis import Genesis, load_genesis


def fork(directory: str | Path, height: int | None = None, *, salt: str = "fork", max_orders: int = 1 << 17) -> Chain:
    """The chain in a node's data directory as of `height` (its last checkpoint unless given), to do with as you like.

    The node may run meanwhile; nothing of its chain is written or copied, and the time this takes depends neither on
    its length nor on its accounts. Two forks of the same block with different salts have different chain ids and keys.
    Raises ForkError when the directory holds no chain or no longer the state as of `height`.
    """
    base = Base(Path(directory), height)
    try:
        provenance = provenance_of(base.header, salt, (("fork", _authority(salt).public),))
        first = first_block(base, base.header, provenance)
        return Chain(first, provenance, salt, max_orders, base=base, rootless=True)
    except BaseException:
        base.close()
        raise


def new_chain(genesis: Genesis | str | Path, *, salt: str = "", max_orders: int = 1 << 17) -> Chain:
    """A new chain from a genesis, or the path of a genesis file. Raises GenesisError naming the key that is wrong."""
    content = genesis if isinstance(genesis, Genesis) else load_genesis(genesis)
    return Chain(content.view(), None, salt or content.salt, max_orders)


def load(directory: str | Path, *, max_orders: int = 1 << 17) -> Chain:
    """A chain that `Chain.dump` wrote, as it stood then. Raises ForkError when its parent is gone or another one."""
    head, provenance, salt, base = read_dump(Path(directory))
    try:
        return Chain(head, provenance, salt, max_orders, base=base)
    except BaseException:
        if base is not None:
            base.close()
        raise


def parent_of(chain: Chain) -> Chain:
    """A fork's parent as it was when it was forked, to compare with. Raises ForkError when there is none."""
    origin, place = chain.provenance, chain.place
    if origin is None or place is None:
        raise ForkError("this chain is no fork: it has no parent")
    return fork(place, origin.height, salt=chain.salt)


def _authority(salt: str) -> PrivateKey:
    return PrivateKey(digest(Domain.FORK, codec.encode(["authority", salt])))
