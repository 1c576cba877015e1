"""Ed25519 keys; one verification rule for all peers.

Signatures are made over `domain || chain_id || payload`. Verification is libsodium's strict single
verification: canonical S and R, no small-order keys (RFC 8032 with the stricter checks), by the equation without
cofactor. Newer libsodium verifies with cofactor and so accepts signatures that others refuse: peers that differ
in it could disagree about a block. Which one is installed is checked when this module is imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import nacl.exceptions
from nacl import _sodium, bindings
from nacl.utils import random as random_bytes

from gridtokenx._native.hashing import sha256
from gridtokenx._native.signatures import verify_many
from gridtokenx.crypto.hashing import Domain
from gridtokenx.errors import GridTokenXError, InvariantError

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
SEED_BYTES = 32
NO_SIGNATURE = bytes(SIGNATURE_BYTES)
_SIGN_OPEN = int(_sodium.ffi.cast("uintptr_t", _sodium.ffi.addressof(_sodium.lib, "crypto_sign_open")))


class InvalidKeyError(GridTokenXError):
    """A key or seed of the wrong length or form."""


class PrivateKey:
    """An Ed25519 signing key held in memory; `public` is the account's address bytes."""

    __slots__ = ("_secret", "public", "seed")

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise InvalidKeyError(f"an Ed25519 seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.seed = bytes(seed)
        self.public, self._secret = bindings.crypto_sign_seed_keypair(self.seed)

    @classmethod
    def generate(cls) -> PrivateKey:
        return cls(random_bytes(SEED_BYTES))

    def sign(self, domain: Domain, chain_id: bytes, payload: bytes) -> bytes:
        """The 64-byte signature over `domain || chain_id || payload`."""
        message = bytes((domain,)) + chain_id + payload
        return bytes(bindings.crypto_sign(message, self._secret)[:SIGNATURE_BYTES])

    def __repr__(self) -> str:
        return f"PrivateKey(public={self.public.hex()[:16]}…)"


def verify(public: bytes, signature: bytes, domain: Domain, chain_id: bytes, payload: bytes) -> bool:
    """True iff `signature` is `public`'s over `domain || chain_id || payload`, by the strict rule."""
    return verify_many(_SIGN_OPEN, [(public, signature, bytes((domain,)) + chain_id + payload)])[0]


def verify_all(signed: list[tuple[bytes, bytes, bytes]]) -> list[bool]:
    """The same for many `(public, signature, domain || chain_id || payload)` at once; see `signed_bytes`."""
    return verify_many(_SIGN_OPEN, signed) if signed else []


_KNOWN_MOST = 65_536
_known_good: set[bytes] = set()
_taken: set[bytes] = set()


def verify_known(signed: list[tuple[bytes, bytes, bytes]]) -> list[bool]:
    """`verify_all`, remembering good signatures: a peer sees the same one at submission, building and execution."""
    names = [sha256(public + signature + message) for public, signature, message in signed]
    fresh = [index for index, name in enumerate(names) if name not in _known_good and name not in _taken]
    answers = [True] * len(signed)
    if len(_known_good) + len(fresh) > _KNOWN_MOST:
        _known_good.clear()
    for index, good in zip(fresh, verify_all([signed[index] for index in fresh]), strict=True):
        if good:
            _known_good.add(names[index])
        else:
            answers[index] = False
    return answers


@contextmanager
def taken_as_good(signed: list[tuple[bytes, bytes, bytes]]) -> Iterator[None]:
    """Meanwhile `verify_known` finds these good, whatever they are: for forks, where one process acts for everybody.
    The message names the chain, so it holds for no other one."""
    names = {sha256(public + signature + message) for public, signature, message in signed}
    _taken.update(names)
    try:
        yield
    finally:
        _taken.difference_update(names)


_unsigned: set[bytes] = set()


@contextmanager
def unsigned_as_good(domain: Domain, chain_id: bytes) -> Iterator[None]:
    """Meanwhile `is_unsigned_good` says so of this domain and chain: for forks, as `taken_as_good`."""
    prefix = signed_bytes(domain, chain_id, b"")
    _unsigned.add(prefix)
    try:
        yield
    finally:
        _unsigned.discard(prefix)


def is_unsigned_good(prefix: bytes) -> bool:
    """Whether `NO_SIGNATURE` is good under what begins with `signed_bytes` of a domain, a chain and nothing."""
    return prefix in _unsigned


def signed_bytes(domain: Domain, chain_id: bytes, payload: bytes) -> bytes:
    """What a signature is over."""
    return bytes((domain,)) + chain_id + payload


@lru_cache(maxsize=65_536)
def is_point(public: bytes) -> bool:
    """True iff `public` is a canonical point of the main subgroup, so that signatures by it can verify."""
    return len(public) == PUBLIC_KEY_BYTES and bool(bindings.crypto_core_ed25519_is_valid_point(public))


def _check_equation() -> None:
    """Vector 4 of "Taming the many EdDSAs" (eprint 2020/1244) is good with the cofactor only."""
    message = bytes.fromhex("e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c")
    public = bytes.fromhex("cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d")
    signature = bytes.fromhex("160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512"
                              "5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09")
    try:
        bindings.crypto_sign_open(signature + message, public)
    except nacl.exceptions.BadSignatureError:
        return
    raise InvariantError("this libsodium verifies Ed25519 with the cofactor, the network without: peers would disagree "
                         "about some signatures; install a PyNaCl whose libsodium refuses them (1.6.2 does)")


_check_equation()
