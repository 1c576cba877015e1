"""A peer's libp2p identity is its Ed25519 public key, so a connection proves who is on the other side."""

from __future__ import annotations

from functools import lru_cache

from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import KeyPair
from libp2p.peer.id import ID
from multiaddr import Multiaddr
from multiaddr.exceptions import Error as MultiaddrError

from gridtokenx.crypto.keys import PUBLIC_KEY_BYTES, PrivateKey, is_point
from gridtokenx.network.settings import AddressError, NetworkError

# Identity multihash (code 0, 36 bytes) of the protobuf PublicKey{type: Ed25519, data: 32 bytes}; peer-ids spec.
_PREFIX = bytes((0x00, 0x24, 0x08, 0x01, 0x12, 0x20))
_MAX_ADDRESS_CHARACTERS = 256
_HOSTS = ("ip4", "ip6", "dns", "dns4", "dns6")


class NotEd25519(NetworkError):
    """A peer id that does not hold an Ed25519 key of the main subgroup."""


@lru_cache(maxsize=4096)
def peer_id_of(public: bytes) -> ID:
    """The libp2p peer id of a 32-byte Ed25519 public key."""
    if len(public) != PUBLIC_KEY_BYTES:
        raise NotEd25519(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public)}")
    return ID(_PREFIX + public)


def public_of(peer_id: ID) -> bytes:
    """The public key inside a peer id. Raises NotEd25519 if it holds another kind of key, or none."""
    raw = peer_id.to_bytes()
    if len(raw) != len(_PREFIX) + PUBLIC_KEY_BYTES or not raw.startswith(_PREFIX):
        raise NotEd25519(f"the peer id {raw[:48].hex()} does not hold an Ed25519 key")
    public = raw[len(_PREFIX):]
    if not is_point(public):
        raise NotEd25519(f"the key {public.hex()} in the peer id is not a point of the main subgroup")
    return public


def key_pair_of(key: PrivateKey) -> KeyPair:
    """The same key in libp2p's form."""
    return create_new_key_pair(key.seed)


def parse_address(text: str, *, with_peer: bool | None = None) -> tuple[Multiaddr, bytes | None]:
    """The TCP multiaddr in `text` without its `/p2p` part, and the public key of that part.

    `with_peer` True requires the part, False forbids it. Raises AddressError.
    """
    example = "/ip4/127.0.0.1/tcp/9000" + ("/p2p/12D3KooW…" if with_peer else "")
    if len(text) > _MAX_ADDRESS_CHARACTERS:
        raise AddressError(f"an address of {len(text)} characters; at most {_MAX_ADDRESS_CHARACTERS} are allowed")
    try:
        address = Multiaddr(text)
        names = [protocol.name for protocol in address.protocols()]
        public = None
        if names and names[-1] == "p2p":
            public = public_of(ID.from_string(str(address.value_for_protocol("p2p"))))
            address = Multiaddr(text.rsplit("/p2p/", 1)[0])
            names.pop()
    except NotEd25519 as error:
        raise AddressError(f"{text}: {error}") from error
    except (MultiaddrError, ValueError, LookupError, TypeError) as error:
        raise AddressError(f"{text!r} is not a multiaddr such as {example}: {error}") from error
    if len(names) != 2 or names[0] not in _HOSTS or names[1] != "tcp":
        raise AddressError(f"{text!r} is not a TCP address such as {example}")
    if with_peer is True and public is None:
        raise AddressError(f"{text!r} lacks the peer's identity; expected such as {example}")
    if with_peer is False and public is not None:
        raise AddressError(f"{text!r} names a peer; expected such as {example}")
    return address, public


def with_peer_id(address: str, public: bytes) -> str:
    """`address` with the `/p2p` part of `public`."""
    return f"{address}/p2p/{peer_id_of(public).to_base58()}"


def host_and_port(address: Multiaddr) -> tuple[str, str, int]:
    """Kind (ip4, ip6, dns...), host and port of a TCP address."""
    kind = next(iter(address.protocols())).name
    return kind, str(address.value_for_protocol(kind)), int(str(address.value_for_protocol("tcp")))
