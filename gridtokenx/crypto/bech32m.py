"""Bech32m (BIP-350): the text form of an account's public key, `gtx1…`. Used at the edges only.

Its checksum finds any four wrong characters, and there is one text per key: lower case, without variants
(upper case alone is read too, since QR codes prefer it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache, reduce
from operator import xor

from gridtokenx.crypto.keys import PUBLIC_KEY_BYTES
from gridtokenx.errors import GridTokenXError

PREFIX = "gtx"
MAX_TEXT = 90
KEPT_TEXTS = 4096
"""Addresses whose texts are at hand: the same few stand in most answers."""
ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_VALUES = {character: value for value, character in enumerate(ALPHABET)}
_BECH32M = 0x2BC830A3
_BECH32 = 1
_CHECKSUM = 6
_GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
_REDUCED = tuple(reduce(xor, (generator for index, generator in enumerate(_GENERATORS) if top >> index & 1), 0)
                 for top in range(32))
ADDRESS_CHARACTERS = len(PREFIX) + 1 + (8 * PUBLIC_KEY_BYTES + 4) // 5 + _CHECKSUM


class AddressError(GridTokenXError, ValueError):
    """Text that is not an address, or bytes that have none; the message says what is wrong with it."""


def _polymod(values: Iterable[int]) -> int:
    checksum = 1
    for value in values:
        checksum = (checksum & 0x1FFFFFF) << 5 ^ value ^ _REDUCED[checksum >> 25]
    return checksum


def _expand(prefix: str) -> list[int]:
    return [ord(character) >> 5 for character in prefix] + [0] + [ord(character) & 31 for character in prefix]


def bech32m_encode(prefix: str, groups: Sequence[int]) -> str:
    """The text of 5-bit groups under a lower-case prefix. Raises AddressError for what has no such text."""
    if not prefix or prefix != prefix.lower() or any(not 33 <= ord(character) <= 126 for character in prefix):
        raise AddressError(f"prefix {prefix!r}: one or more printable ASCII characters without capitals are allowed")
    if any(not 0 <= group < 32 for group in groups):
        raise AddressError("groups are integers from 0 to 31")
    if len(prefix) + 1 + len(groups) + _CHECKSUM > MAX_TEXT:
        raise AddressError(f"the text would be longer than {MAX_TEXT} characters")
    rest = _polymod([*_expand(prefix), *groups, *[0] * _CHECKSUM]) ^ _BECH32M
    checksum = [rest >> 5 * (_CHECKSUM - 1 - index) & 31 for index in range(_CHECKSUM)]
    return prefix + "1" + "".join(ALPHABET[group] for group in [*groups, *checksum])


def bech32m_decode(text: str) -> tuple[str, list[int]]:
    """(prefix, 5-bit groups) of a bech32m text. Raises AddressError naming what is wrong."""
    if len(text) > MAX_TEXT:
        raise AddressError(f"{len(text)} characters; at most {MAX_TEXT} are allowed")
    for index, character in enumerate(text):
        if not 33 <= ord(character) <= 126:
            raise AddressError(f"character {index + 1} is not printable ASCII")
    if text != text.lower() and text != text.upper():
        raise AddressError("capitals and small letters are mixed")
    text = text.lower()
    prefix, separator, data = text.rpartition("1")
    if not separator:
        raise AddressError("the separator, 1, is missing")
    if not prefix:
        raise AddressError("the prefix before the separator, 1, is missing")
    if len(data) < _CHECKSUM:
        raise AddressError(f"{len(data)} characters after the separator; the checksum alone has {_CHECKSUM}")
    groups = []
    for index, character in enumerate(data):
        if character not in _VALUES:
            raise AddressError(f"character {len(prefix) + index + 2}, {character!r}, is never used in an address")
        groups.append(_VALUES[character])
    rest = _polymod([*_expand(prefix), *groups])
    if rest == _BECH32:
        raise AddressError("the checksum is that of bech32; bech32m is needed")
    if rest != _BECH32M:
        raise AddressError("the checksum is wrong: a character was mistyped or is missing")
    return prefix, groups[:-_CHECKSUM]


@lru_cache(KEPT_TEXTS)
def encode_address(public: bytes) -> str:
    """The address `gtx1…` (62 characters) of a 32-byte public key. Raises AddressError for another length."""
    if len(public) != PUBLIC_KEY_BYTES:
        raise AddressError(f"a public key has {PUBLIC_KEY_BYTES} bytes, not {len(public)}")
    padded = int.from_bytes(public, "big") << 4  # 256 bits, filled up to 52 groups of 5
    return bech32m_encode(PREFIX, [padded >> shift & 31 for shift in range(255, -1, -5)])


def decode_address(text: str) -> bytes:
    """The 32-byte public key of an address. Raises AddressError naming what is wrong."""
    try:
        prefix, groups = bech32m_decode(text)
    except AddressError as error:
        raise AddressError(f"address {_shown(text)}: {error}") from error
    if prefix != PREFIX:
        raise AddressError(f"address {_shown(text)}: the prefix is {prefix!r}; addresses begin with {PREFIX}1")
    if len(groups) != ADDRESS_CHARACTERS - len(PREFIX) - 1 - _CHECKSUM:
        raise AddressError(f"address {_shown(text)}: {len(text)} characters; an address has {ADDRESS_CHARACTERS}")
    padded = 0
    for group in groups:
        padded = padded << 5 | group
    if padded & 15:
        raise AddressError(f"address {_shown(text)}: the last four bits must be zero")
    return (padded >> 4).to_bytes(PUBLIC_KEY_BYTES, "big")


def _shown(text: str) -> str:
    return repr(text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…")
