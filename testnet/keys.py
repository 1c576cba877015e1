"""The testnet's published keys. Anyone can derive them: never use them where money or energy is real."""

from __future__ import annotations

from hashlib import sha256

from gridtokenx.crypto.keys import PrivateKey


def testnet_key(name: str) -> PrivateKey:
    """The key of `name`: egat, mea, ..., issuer, registrar, regulator, operator, tax, household 0 ..., meter 0 ..."""
    return PrivateKey(sha256(f"gridtokenx testnet, not secret: {name}".encode()).digest())


testnet_key.__test__ = False  # type: ignore[attr-defined]  # pytest would take the name for a test's
