"""Signatures without cryptography: a register of who signed what. Nothing can be forged, all is countable."""

from __future__ import annotations

from collections import defaultdict
from hashlib import sha256

from attrs import frozen

from gridtokenx import codec
from gridtokenx.consensus.messages import Kind


class Registry:
    """All signatures of one run; also the Verifier of all its cores."""

    def __init__(self) -> None:
        self._signed: dict[tuple[int, bytes], bytes] = {}
        self._signers: defaultdict[tuple[int, int, int, bytes], set[int]] = defaultdict(set)

    def sign(self, signer: int, content: bytes) -> bytes:
        signature = self._signature(signer, content)
        self.record(signer, content, signature)
        return signature

    def record(self, signer: int, content: bytes, signature: bytes) -> None:
        """A signature made elsewhere, by a real key."""
        self._signed[signer, content] = signature
        epoch, kind, view, name = codec.decode(content)
        self._signers[kind, epoch, view, name].add(signer)

    def verify(self, signer: int, content: bytes, signature: bytes) -> bool:
        return self._signed.get((signer, content)) == signature

    def signers(self, kind: Kind, epoch: int, view: int, name: bytes = b"") -> set[int]:
        """Who ever signed that vote."""
        return self._signers.get((int(kind), epoch, view, name), set())

    def views_signed(self, kind: Kind, epoch: int, name: bytes) -> dict[int, set[int]]:
        """Per view, who signed that vote for the same block."""
        return {view: who for (k, e, view, n), who in self._signers.items() if (k, e, n) == (int(kind), epoch, name)}

    @staticmethod
    def _signature(signer: int, content: bytes) -> bytes:
        return sha256(bytes((signer,)) + content).digest() * 2


@frozen
class ListVerifier:
    """A Verifier of one epoch: places in its list instead of nodes' numbers."""

    registry: Registry
    members: tuple[int, ...]

    def verify(self, signer: int, content: bytes, signature: bytes) -> bool:
        return 0 <= signer < len(self.members) and self.registry.verify(self.members[signer], content, signature)


@frozen
class RegistrySigner:
    """One authority's Signer."""

    registry: Registry
    index: int

    def sign(self, content: bytes) -> bytes:
        return self.registry.sign(self.index, content)

    def made(self, content: bytes, signature: bytes) -> bool:
        return self.registry.verify(self.index, content, signature)
