"""How a caller may name an account."""

from __future__ import annotations

from gridtokenx.crypto.bech32m import decode_address
from gridtokenx.crypto.keys import PUBLIC_KEY_BYTES, PrivateKey
from gridtokenx.forks.errors import ForkError

Party = bytes | str | PrivateKey
"""An account: its 32-byte address, `gtx1...`, or its key."""


def address_of(party: Party) -> bytes:
    """The address of an account. Raises ForkError (or GridTokenXError) for what is none."""
    if isinstance(party, PrivateKey):
        return party.public
    if isinstance(party, str):
        return decode_address(party)
    if len(party) != PUBLIC_KEY_BYTES:
        raise ForkError(f"an address has {PUBLIC_KEY_BYTES} bytes, not {len(party)}")
    return party
