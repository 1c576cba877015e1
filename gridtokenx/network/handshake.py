"""What two peers say of themselves when they meet: `/gridtokenx/hello/1`, as bytes and back."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from gridtokenx import codec
from gridtokenx.network.settings import HandshakeRefused, Hello

MAX_HELLO = 8192
MAX_NAME = 64
MAX_TOLD = 4


@frozen
class PeerHello:
    """A hello of the same chain."""

    name: str
    head_height: int
    gossip: bool
    addresses: tuple[str, ...]


def encode_hello(own: Hello, addresses: Sequence[str], refusal: str, *, gossip: bool) -> bytes:
    return codec.encode([own.protocol_version, own.chain_id, own.genesis_hash, own.name[:MAX_NAME], own.head_height(),
                         gossip, list(addresses)[:MAX_TOLD], refusal])


def decode_hello(raw: bytes, own: Hello) -> PeerHello:
    """Raises HandshakeRefused for another chain, genesis or version or a refusal, CodecError for garbage."""
    value = codec.decode(raw, max_bytes=MAX_HELLO)
    if not isinstance(value, list) or not value or type(value[0]) is not int:
        raise codec.CodecError("a hello is an array that starts with the protocol version")
    if value[0] != own.protocol_version:
        raise HandshakeRefused(f"protocol version {value[0]}; this node speaks {own.protocol_version}")
    if [type(item) for item in value] != [int, bytes, bytes, str, int, bool, list, str]:
        raise codec.CodecError("a hello has eight fields")
    _, chain_id, genesis_hash, name, head_height, gossip, addresses, refusal = value
    if not all(isinstance(text, str) for text in addresses) or head_height < 0:
        raise codec.CodecError("a hello holds addresses as text and a height from 0 on")
    if chain_id != own.chain_id:
        raise HandshakeRefused(f"another chain: {chain_id.hex()[:16]}, this node follows {own.chain_id.hex()[:16]}")
    if genesis_hash != own.genesis_hash:
        raise HandshakeRefused(f"another genesis block: {genesis_hash.hex()[:16]}, this node's is "
                               f"{own.genesis_hash.hex()[:16]}")
    if refusal:
        raise HandshakeRefused(f"the peer refused: {refusal[:200]}")
    return PeerHello(name[:MAX_NAME], head_height, gossip, tuple(addresses))
