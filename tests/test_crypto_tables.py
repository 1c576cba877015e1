"""Signatures by keys that have a table of multiples: good or bad exactly as libsodium says."""

from hashlib import sha256, sha512

import pytest
from nacl import bindings
from nacl.exceptions import BadSignatureError

from gridtokenx._native.signatures import Verifier
from gridtokenx.crypto.keys import LIBSODIUM, verify_all

ORDER = 2**252 + 27742317777372353535851937790883648493
EIGHTH = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")      # a point of order 8
NEUTRAL = (1).to_bytes(32, "little")

Signed = tuple[bytes, bytes, bytes]


def libsodium(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        bindings.crypto_sign_open(signature + message, public)
    except BadSignatureError:
        return False
    return True


def signed(number: int, message: bytes) -> Signed:
    public, secret = bindings.crypto_sign_seed_keypair(sha256(b"%d" % number).digest())
    return public, bindings.crypto_sign(message, secret)[:64], message


def learned(number: int, most: int = 10) -> Verifier:
    """A verifier that knows the key, and has its table."""
    verifier = Verifier(*LIBSODIUM, most)
    assert verifier.verify([signed(number, b"one"), signed(number, b"two")]) == [True, True]
    assert verifier.tables == 1
    return verifier


def test_a_key_gets_its_table_with_the_second_good_signature() -> None:
    verifier = Verifier(*LIBSODIUM, 10)
    public, signature, message = signed(1, b"one")
    for entry, answer, tables in (((public, signature, b"other"), False, 0), ((public, signature, message), True, 0),
                                  ((public, signature, b"other"), False, 0), ((public, signature, message), True, 1),
                                  ((public, signature, message), True, 1), ((public, signature, b"other"), False, 1)):
        assert verifier.verify([entry]) == [answer]
        assert verifier.tables == tables


def test_no_more_keys_are_known_than_allowed() -> None:
    verifier = Verifier(*LIBSODIUM, 2)
    for number in range(5):
        assert verifier.verify([signed(number, b"one"), signed(number, b"two")]) == [True, True]
        assert verifier.tables <= 2
    assert verifier.tables == 1


@pytest.mark.parametrize("length", [0, 1, 63, 64, 200])
def test_good_signatures_are_found_by_the_table_itself(length: int) -> None:
    verifier = learned(2)
    batch = [signed(2, bytes((at,)) * length) for at in range(1, 9)]
    assert verifier.verify(batch) == [True] * 8
    assert verifier.quick == 8
    assert verifier.verify(batch[:1]) == [True]
    assert verifier.quick == 9
    assert verifier.verify([(public, signature, message + b"!") for public, signature, message in batch]) == [False] * 8
    assert verifier.quick == 9


def test_every_changed_bit_is_refused() -> None:
    verifier, (public, signature, message) = learned(3), signed(3, b"a reading")
    changed = [signature[:at] + bytes((signature[at] ^ 1 << bit,)) + signature[at + 1:]
               for at in range(64) for bit in (0, 7)]
    assert not any(verifier.verify([(public, one, message) for one in changed]))


def test_a_batch_of_all_kinds_keeps_its_order() -> None:
    verifier = learned(4)
    good, new, other = signed(4, b"a"), signed(5, b"b"), signed(4, b"c")
    entries = [good, (good[0], other[1], good[2]), new, (new[0], good[1], new[2]), (b"short", good[1], b""),
               (good[0], b"short", b""), other]
    assert verifier.verify(entries) == [True, False, True, False, False, False, True]
    assert verifier.verify([]) == []


def test_a_second_form_of_the_same_signature_is_refused() -> None:
    verifier, (public, signature, message) = learned(6), signed(6, b"a reading")
    more = int.from_bytes(signature[32:], "little") + ORDER
    forged = signature[:32] + more.to_bytes(32, "little")
    assert not libsodium(public, forged, message)
    assert verifier.verify([(public, forged, message)]) == [False]


def scalar(number: int) -> bytes:
    return (number % ORDER).to_bytes(32, "little")


def of_base(number: int) -> bytes:
    return bytes(bindings.crypto_scalarmult_ed25519_base_noclamp(scalar(number))) if number % ORDER else NEUTRAL


def challenge(r: bytes, public: bytes, message: bytes) -> int:
    return int.from_bytes(sha512(r + public + message).digest(), "little") % ORDER


def eighths(count: int) -> bytes:
    point = NEUTRAL
    for _ in range(count % 8):
        point = bytes(bindings.crypto_core_ed25519_add(point, EIGHTH))
    return point


SECRET = int.from_bytes(sha256(b"mixed").digest(), "little") % ORDER
MIXED = bytes(bindings.crypto_core_ed25519_add(of_base(SECRET), EIGHTH))


def by_mixed(number: int, most: int) -> Signed:
    """A signature by a key with a part of order 8, with a nonce such that h % 8 is `most` or less."""
    for nonce in range(1, 1000):
        message = b"%d %d" % (number, nonce)
        r = of_base(nonce)
        h = challenge(r, MIXED, message)
        if h % 8 <= most:
            return MIXED, r + scalar(nonce + h * SECRET), message
    raise AssertionError


def test_keys_with_a_part_of_small_order_verify_without_the_cofactor() -> None:
    verifier = Verifier(*LIBSODIUM, 10)
    good = [by_mixed(number, 0) for number in range(4)]
    assert verifier.verify(good) == [libsodium(*one) for one in good] == [True] * 4
    assert verifier.tables == 1
    mixed = [by_mixed(number, 7) for number in range(40)]
    answers = verifier.verify(mixed)
    assert answers == [libsodium(*one) for one in mixed]
    assert verifier.quick == sum(answers) in range(1, 40)


def test_an_r_of_small_order_is_refused_where_the_equation_holds() -> None:
    verifier = Verifier(*LIBSODIUM, 10)
    assert all(verifier.verify([by_mixed(number, 0) for number in range(2)])) and verifier.tables == 1
    tried = set()
    for number in range(200):
        message = b"%d" % number
        for part in range(8):
            r = eighths(part)
            h = challenge(r, MIXED, message)
            if (part + h) % 8 == 0:         # s B - h A = -h * EIGHTH = R
                signature = r + scalar(h * SECRET)
                assert not libsodium(MIXED, signature, message)
                assert verifier.verify([(MIXED, signature, message)]) == [False]
                tried.add(part)
    assert tried == set(range(8))


def test_random_batches_are_judged_as_by_libsodium() -> None:
    entries = [signed(at % 7, b"%d" % (at % 50)) for at in range(120)]
    entries = [(public, signature, message + b"?" * (at % 5 == 0)) for at, (public, signature, message)
               in enumerate(entries)]
    verifier = Verifier(*LIBSODIUM, 5)      # tables come and go
    assert verifier.verify(entries) == [libsodium(*one) for one in entries] == verify_all(entries)
