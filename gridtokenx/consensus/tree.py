"""The unfinalized blocks above the last finalized one."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define

from gridtokenx.consensus.config import Root
from gridtokenx.ledger.block import Header


@define
class Block:
    """One block: what it says, and how far this node is with it."""

    digest: bytes
    view: int
    height: int
    parent: bytes
    timestamp_ms: int
    header: Header | None = None          # None only for the root
    transaction_ids: tuple[bytes, ...] = ()
    held: bool = False                    # header and body are in the log
    body_bytes: int | None = None
    executed: bool | None = None          # True: valid, False: invalid, None: not executed yet
    weight: int = 0
    unfinished: bool = False
    handed_out: bool = False              # the driver knows of it and must be told when it is dropped
    started_ms: int = 0                   # when its execution could start
    notarized_ms: int | None = None       # when its notarization was learnt, monotonic


class BlockTree:
    """Blocks by digest; `root` is the last finalized one and the ancestor of all that can still be final."""

    def __init__(self, root: Root, notarized_ms: int) -> None:
        self._blocks: dict[bytes, Block] = {}
        self.root = self._rooted(root, notarized_ms)

    def _rooted(self, root: Root, notarized_ms: int) -> Block:
        block = Block(root.digest, root.view, root.height, b"", root.timestamp_ms, held=True, body_bytes=0,
                      executed=True, unfinished=root.unfinished, notarized_ms=notarized_ms)
        self._blocks[root.digest] = block
        return block

    def get(self, digest: bytes) -> Block | None:
        return self._blocks.get(digest)

    def add(self, digest: bytes, header: Header, transaction_ids: tuple[bytes, ...]) -> Block:
        """The block of this header, made when it is new."""
        block = self._blocks.get(digest)
        if block is None:
            block = self._blocks[digest] = Block(
                digest, header.view, header.height, header.parent, header.timestamp_ms, header, transaction_ids)
        return block

    def path(self, block: Block) -> Iterator[Block]:
        """`block` and its ancestors down to, and without, the root; stops where an ancestor is unknown."""
        step: Block | None = block
        while step is not None and step is not self.root:
            yield step
            step = self._blocks.get(step.parent)

    def children(self, block: Block) -> list[Block]:
        return [child for child in self._blocks.values() if child.parent == block.digest]

    def linked(self, block: Block) -> bool:
        """True iff all ancestors of `block` down to the root are held, itself included."""
        last = block
        for step in self.path(block):
            if not step.held:
                return False
            last = step
        return block is self.root or last.parent == self.root.digest

    def unlinked_parent(self, block: Block) -> bytes | None:
        """The nearest ancestor's digest that is not held, None if all are."""
        for step in self.path(block):
            parent = self._blocks.get(step.parent)
            if parent is None or not parent.held:
                return step.parent
        return None

    def advance(self, block: Block) -> list[Block]:
        """Makes `block`, a linked descendant, the root. Returns the path, oldest first; `prune` does the rest."""
        path = list(self.path(block))[::-1]
        for settled in (self.root, *path[:-1]):
            del self._blocks[settled.digest]
        self.root = block
        return path

    def jump(self, root: Root, notarized_ms: int) -> None:
        """Makes a finalized block that sync brought the root."""
        known = self._blocks.get(root.digest)
        del self._blocks[self.root.digest]
        if known is None:
            self.root = self._rooted(root, notarized_ms)
        else:
            for ancestor in list(self.path(known))[1:]:
                del self._blocks[ancestor.digest]
            known.held, known.executed, known.unfinished = True, True, root.unfinished
            self.root = known
        if self.root.notarized_ms is None:
            self.root.notarized_ms = notarized_ms

    def prune(self) -> list[Block]:
        """Forgets what is not the root and cannot descend from it; returns what was forgotten."""
        gone: dict[bytes, Block] = {}
        for block in sorted(self._blocks.values(), key=lambda item: item.height):
            if block is self.root:
                continue
            settled = block.height <= self.root.height or block.view <= self.root.view
            sibling = block.height == self.root.height + 1 and block.parent != self.root.digest
            if settled or sibling or block.parent in gone:
                gone[block.digest] = block
                del self._blocks[block.digest]
        return list(gone.values())
