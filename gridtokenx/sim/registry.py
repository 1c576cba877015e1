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
        self._signed: set[tuple[int, bytes]] = set()
        self._signers: defaultdict[tuple[int, int, bytes], set[int]] = defaultdict(set)

    def sign(self, signer: int, content: bytes) -> bytes:
        self._signed.add((signer, content))
        _, kind, view, name = codec.decode(content)
        self._signers[kind, view, name].add(signer)
        return self._signature(signer, content)

    def verify(self, signer: int, content: bytes, signature: bytes) -> bool:
        return (signer, content) in self._signed and signature == self._signature(signer, content)

    def signers(self, kind: Kind, view: int, name: bytes = b"") -> set[int]:
        """Who ever signed that vote."""
        return self._signers.get((int(kind), view, name), set())

    @staticmethod
    def _signature(signer: int, content: bytes) -> bytes:
        return sha256(bytes((signer,)) + content).digest() * 2


@frozen
class RegistrySigner:
    """One authority's Signer."""

    registry: Registry
    index: int

    def sign(self, content: bytes) -> bytes:
        return self.registry.sign(self.index, content)
