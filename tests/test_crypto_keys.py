"""Ed25519 by one rule on every peer: published edge cases and cases made by arithmetic on the curve."""

from __future__ import annotations

from hashlib import sha512

import nacl.exceptions
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings

from gridtokenx.crypto import keys
from gridtokenx.crypto.hashing import Domain
from gridtokenx.crypto.keys import InvalidKeyError, PrivateKey, is_point, verify
from gridtokenx.errors import InvariantError

CHAIN = bytes(range(32))
KEY = PrivateKey(bytes(32))
P = (1 << 255) - 19
L = (1 << 252) + 27742317777372353535851937790883648493


def raw_verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """The same call as `verify` makes, on a message without domain."""
    try:
        bindings.crypto_sign_open(signature + message, public)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


# Chalkias, Garillot, Nikolaenko, "Taming the many EdDSAs" (eprint 2020/1244), table 6c: message, public key,
# signature, and what our rule says.
SPECCHECK = [
    # 0: S = 0, small A and R
    ("8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6",
     "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
     "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
     "0000000000000000000000000000000000000000000000000000000000000000", False),
    # 1: small A, mixed R
    ("9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
     "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
     "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43"
     "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04", False),
    # 2: mixed A, small R
    ("aebf3f2601a0c8c5d39cc7d8911642f740b78168218da8471772b35f9d35b9ab",
     "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
     "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"
     "8c4bd45aecaca5b24fb97bc10ac27ac8751a7dfe1baff8b953ec9f5833ca260e", False),
    # 3: mixed A and R, good with and without cofactor
    ("9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79",
     "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
     "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f"
     "87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009", True),
    # 4: mixed A and R, good with cofactor only
    ("e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
     "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
     "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512"
     "5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09", False),
    # 5: good with cofactor if the scalar is not reduced before
    ("e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c",
     "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d",
     "21122a84e0b5fca4052f5b1235c80a537878b38f3142356b2c2384ebad4668b7"
     "e40bc836dac0f71076f9abe3a53f9c03c1ceeeddb658d0030494ace586687405", False),
    # 6: S > L
    ("85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
     "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
     "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e"
     "547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514", False),
    # 7: S much above L
    ("85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40",
     "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623",
     "8ce5b96c8f26d0ab6c47958c9e68b937104cd36e13c33566acd2fe8d38aa1942"
     "7e71f98a4734e74f2f13f06f97c20d58cc3f54b8bd0d272f42b695dd7e89a8c2", False),
    # 8 and 9: non-canonical R
    ("9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
     "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
     "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
     "03be9678ac102edcd92b0210bb34d7428d12ffc5df5f37e359941266a4e35f0f", False),
    ("9bedc267423725d473888631ebf45988bad3db83851ee85c85e241a07d148b41",
     "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43",
     "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"
     "ca8c5b64cd208982aa38d4936621a4775aa233aa0505711d8fdcfdaa943d4908", False),
    # 10 and 11: non-canonical A of small order
    ("e96b7021eb39c1a163b6da4e3093dcd3f21387da4cc4572be588fafae23c155b",
     "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
     "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
     "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04", False),
    ("39a591f5321bbe07fd5a23dc2f39d025d74526615746727ceefd6e82ae65c06f",
     "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
     "a9d55260f765261eb9b84e106f665e00b867287a761990d7135963ee0a7d59dc"
     "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04", False),
]


@pytest.mark.parametrize("number", range(len(SPECCHECK)))
def test_published_edge_cases(number: int) -> None:
    message, public, signature, good = SPECCHECK[number]
    assert raw_verify(bytes.fromhex(public), bytes.fromhex(signature), bytes.fromhex(message)) is good


def test_a_library_with_another_equation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys.bindings, "crypto_sign_open", lambda signed, public: b"")
    with pytest.raises(InvariantError, match="cofactor"):
        keys._check_equation()


def test_rfc_8032_vector() -> None:
    """Section 7.1, test 1."""
    key = PrivateKey(bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"))
    assert key.public.hex() == "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert raw_verify(key.public, bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b"), b"")


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=64), st.data())
def test_round_trip_and_every_changed_bit(seed: bytes, payload: bytes, data: st.DataObject) -> None:
    key = PrivateKey(seed)
    signature = key.sign(Domain.TRANSACTION_SIGNATURE, CHAIN, payload)
    assert verify(key.public, signature, Domain.TRANSACTION_SIGNATURE, CHAIN, payload)
    assert is_point(key.public)
    assert not verify(key.public, signature, Domain.CONSENSUS_VOTE, CHAIN, payload)
    assert not verify(key.public, signature, Domain.TRANSACTION_SIGNATURE, bytes(32), payload)
    assert not verify(key.public, signature, Domain.TRANSACTION_SIGNATURE, CHAIN, payload + b"\x00")
    bit = data.draw(st.integers(0, 511))
    changed = (int.from_bytes(signature, "little") ^ 1 << bit).to_bytes(64, "little")
    assert not verify(key.public, changed, Domain.TRANSACTION_SIGNATURE, CHAIN, payload)


def test_the_same_signature_with_s_plus_multiples_of_the_order() -> None:
    signature = KEY.sign(Domain.STATUS, CHAIN, b"x")
    s = int.from_bytes(signature[32:], "little")
    for factor in range(1, ((1 << 256) - 1 - s) // L + 1):
        other = signature[:32] + (s + factor * L).to_bytes(32, "little")
        assert not verify(KEY.public, other, Domain.STATUS, CHAIN, b"x")


# ---------------------------------------------------------------- the curve, for making cases

D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]
BASE = (15112221349535400772501151409588531511454012693041857206046113283949847762202,
        46316835694926478169428394003475163141307993866256225615783033603165251855960)


def add(a: Point, b: Point) -> Point:
    product = D * a[0] * b[0] * a[1] * b[1]
    return ((a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P) % P,
            (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P)


def times(scalar: int, point: Point) -> Point:
    out = (0, 1)
    while scalar:
        if scalar & 1:
            out = add(out, point)
        point = add(point, point)
        scalar >>= 1
    return out


def compress(point: Point) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def decompress(raw: bytes) -> Point:
    y = int.from_bytes(raw, "little") & (1 << 255) - 1
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * pow(2, (P - 1) // 4, P) % P
    return (P - x if x & 1 != raw[31] >> 7 else x, y)


TORSION = decompress(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"))
SMALL = [times(index, TORSION) for index in range(8)]


def scalar_and_prefix(seed: bytes) -> tuple[int, bytes]:
    raw = sha512(seed).digest()
    return int.from_bytes(raw[:32], "little") & (1 << 254) - 8 | 1 << 254, raw[32:]


def challenge(r: bytes, public: bytes, message: bytes) -> int:
    return int.from_bytes(sha512(r + public + message).digest(), "little") % L


def test_the_arithmetic_is_that_of_the_library() -> None:
    assert compress(times(scalar_and_prefix(KEY.seed)[0], BASE)) == KEY.public
    assert decompress(KEY.public) == times(scalar_and_prefix(KEY.seed)[0], BASE)
    assert SMALL[0] == (0, 1) == times(8, TORSION)
    assert len(set(SMALL)) == 8


def test_small_order_keys_are_refused() -> None:
    """With A of small order, S B = R holds for every message whose challenge kills A: anyone could sign."""
    for point in SMALL:
        public = compress(point)
        assert not is_point(public)
        for nonce in range(1, 12):
            r = compress(times(nonce, BASE))
            signature = r + nonce.to_bytes(32, "little")
            for message in (b"a", b"b", b"c"):
                if challenge(r, public, message) % 8 == 0:  # the equation itself holds
                    assert not raw_verify(public, signature, message)


def test_non_canonical_keys_are_refused() -> None:
    """Encodings of y with p added, and zero x with the sign bit set: all that fit 255 bits."""
    for y in range(19):
        for sign in (0, 1):
            raw = (y + P | sign << 255).to_bytes(32, "little")
            assert not is_point(raw)
            assert not raw_verify(raw, compress(BASE) + (1).to_bytes(32, "little"), b"")
    for y in (1, P - 1):
        assert not is_point((y | 1 << 255).to_bytes(32, "little"))


def test_small_order_r_is_refused() -> None:
    """R = identity, S = k a fulfils the equation, and gives the secret key away; in each of its encodings."""
    secret = scalar_and_prefix(KEY.seed)[0]
    for r in (compress(SMALL[0]), (1 + P).to_bytes(32, "little"), (1 | 1 << 255).to_bytes(32, "little")):
        s = challenge(r, KEY.public, b"m") * secret % L
        assert not raw_verify(KEY.public, r + s.to_bytes(32, "little"), b"m")


def test_mixed_order_keys_and_r() -> None:
    """A good key plus a small-order point: only the exact equation counts, and `is_point` refuses the key."""
    secret = scalar_and_prefix(KEY.seed)[0]
    for point in SMALL[1:]:
        public = compress(add(decompress(KEY.public), point))
        assert not is_point(public)
        seen = set()
        for nonce in range(1, 40):
            r = compress(times(nonce, BASE))
            k = challenge(r, public, b"m")
            signature = r + ((nonce + k * secret) % L).to_bytes(32, "little")
            exact = times(k % 8, point) == (0, 1)
            assert raw_verify(public, signature, b"m") is exact
            seen.add(exact)
        assert seen == {True, False}
    for point in SMALL[1:]:
        r = compress(add(times(5, BASE), point))  # good with the cofactor, not without
        s = (5 + challenge(r, KEY.public, b"m") * secret) % L
        assert not raw_verify(KEY.public, r + s.to_bytes(32, "little"), b"m")


# ---------------------------------------------------------------- wrong lengths, any bytes


def test_wrong_lengths() -> None:
    for seed in (b"", bytes(31), bytes(33), bytes(64)):
        with pytest.raises(InvalidKeyError, match="32 bytes"):
            PrivateKey(seed)
    signature = KEY.sign(Domain.STATUS, CHAIN, b"")
    for public in (b"", KEY.public[:-1], KEY.public + b"\x00"):
        assert not verify(public, signature, Domain.STATUS, CHAIN, b"")
        assert not is_point(public)
    for wrong in (b"", signature[:-1], signature + b"\x00"):
        assert not verify(KEY.public, wrong, Domain.STATUS, CHAIN, b"")


@settings(deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=80), st.binary(max_size=20))
def test_any_bytes(public: bytes, signature: bytes, payload: bytes) -> None:
    assert not verify(public, signature, Domain.STATUS, CHAIN, payload)
    assert not verify(public.ljust(32, b"\x00")[:32], signature.ljust(64, b"\x00")[:64], Domain.STATUS, CHAIN, payload)


def test_a_key_does_not_print_its_secret() -> None:
    assert KEY.seed.hex() not in repr(KEY)
    assert KEY.public.hex()[:16] in repr(KEY)
