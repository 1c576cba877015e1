"""Key files: round trips, modes, damage, hostile parameters."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gridtokenx.crypto import keystore
from gridtokenx.crypto.keys import PrivateKey

KEY = PrivateKey(bytes(range(32)))


def save(path: Path, passphrase: str | None = "แม่น้ำ") -> None:
    """At the lowest cost: the tests are about the files."""
    keystore.save_key(path, KEY, passphrase, kdf_operations=1, kdf_memory_bytes=8192)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_round_trip_encrypted(directory: Path) -> None:
    path = directory / "keys" / "egat" / "validator.json"
    save(path)
    assert keystore.load_key(path, "แม่น้ำ").seed == KEY.seed
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    assert keystore.read_public(path) == (KEY.public, True)
    content = json.loads(path.read_text())
    assert KEY.seed.hex() not in path.read_text()
    assert (content["version"], content["encryption"], content["kdf"]["name"]) == (1, "xchacha20-poly1305", "argon2id")
    assert [entry.name for entry in path.parent.iterdir()] == ["validator.json"]


def test_default_cost_is_moderate(directory: Path) -> None:
    keystore.save_key(directory / "key", KEY, "x")
    kdf = json.loads((directory / "key").read_text())["kdf"]
    assert (kdf["operations"], kdf["memory_bytes"]) == (3, 256 << 20)
    assert keystore.load_key(directory / "key", "x").seed == KEY.seed


def test_round_trip_unencrypted(directory: Path) -> None:
    path = directory / "key.json"
    save(path, None)
    assert json.loads(path.read_text())["encryption"] == "none"
    assert keystore.load_key(path, None).seed == KEY.seed
    assert keystore.read_public(path) == (KEY.public, False)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(keystore.WrongPassphraseError, match="not encrypted"):
        keystore.load_key(path, "x")


def test_wrong_and_missing_passphrase(directory: Path) -> None:
    save(directory / "key")
    with pytest.raises(keystore.WrongPassphraseError, match="does not open"):
        keystore.load_key(directory / "key", "wrong")
    with pytest.raises(keystore.WrongPassphraseError, match="is needed"):
        keystore.load_key(directory / "key", None)
    with pytest.raises(keystore.KeystoreError, match="empty"):
        keystore.save_key(directory / "other", KEY, "")


def test_one_passphrase_spelled_two_ways(directory: Path) -> None:
    keystore.save_key(directory / "key", KEY, "caf\u00e9", kdf_operations=1, kdf_memory_bytes=8192)
    assert keystore.load_key(directory / "key", "cafe\u0301").seed == KEY.seed
    keystore.save_key(directory / "odd", KEY, "\udcff", kdf_operations=1, kdf_memory_bytes=8192)
    assert keystore.load_key(directory / "odd", "\udcff").seed == KEY.seed


def test_never_overwritten_unasked(directory: Path) -> None:
    save(directory / "key")
    before = (directory / "key").read_bytes()
    with pytest.raises(keystore.KeyFileExistsError, match="not overwritten"):
        save(directory / "key", None)
    assert (directory / "key").read_bytes() == before
    keystore.save_key(directory / "key", KEY, None, overwrite=True)
    assert keystore.load_key(directory / "key", None).seed == KEY.seed
    assert len(list(directory.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
def test_files_open_to_others_are_refused(directory: Path, mode: int) -> None:
    save(directory / "key", None)
    (directory / "key").chmod(mode)
    with pytest.raises(keystore.KeyFileModeError, match="chmod 600"):
        keystore.load_key(directory / "key", None)


def test_directories_that_others_may_write_are_refused(directory: Path) -> None:
    save(directory / "key", None)
    for mode in (0o770, 0o702, 0o777):
        directory.chmod(mode)
        with pytest.raises(keystore.KeyFileModeError, match="chmod 700"):
            keystore.load_key(directory / "key", None)
        with pytest.raises(keystore.KeyFileModeError, match="chmod 700"):
            save(directory / "new", None)
        assert not (directory / "new").exists()
    directory.chmod(0o755)
    assert keystore.load_key(directory / "key", None).seed == KEY.seed


def test_a_lax_umask_does_not_matter(directory: Path) -> None:
    before = os.umask(0)
    try:
        save(directory / "made" / "key", None)
    finally:
        os.umask(before)
    assert keystore.load_key(directory / "made" / "key", None).seed == KEY.seed


def test_missing_and_odd_files(directory: Path) -> None:
    with pytest.raises(keystore.KeystoreError, match="No such file"):
        keystore.load_key(directory / "none", None)
    with pytest.raises(keystore.KeystoreError, match="No such file"):
        keystore.load_key(directory / "no" / "where", None)
    (directory / "folder").mkdir(mode=0o700)
    with pytest.raises(keystore.KeystoreError):
        keystore.load_key(directory / "folder", None)
    os.mkfifo(directory / "pipe", 0o600)
    with pytest.raises(keystore.DamagedKeyFileError, match="not a file"):
        keystore.load_key(directory / "pipe", None)


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes the content and mends the checksum, as an attacker would."""
    content = json.loads(path.read_text())
    change(content)
    content.pop("checksum", None)
    content["checksum"] = sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(("change", "reason"), [
    (lambda content: content["kdf"].update(memory_bytes=1 << 40), "bytes of memory"),
    (lambda content: content["kdf"].update(memory_bytes=True), "bytes of memory"),
    (lambda content: content["kdf"].update(memory_bytes="x" * 4000), "bytes of memory"),
    (lambda content: content["kdf"].update(operations=10 ** 9), "operations"),
    (lambda content: content["kdf"].update(operations=1.0), "operations"),
    (lambda content: content["kdf"].update(salt="zz"), "salt must be 16 bytes"),
    (lambda content: content["kdf"].update(name="pbkdf2"), "must be argon2id"),
    (lambda content: content.update(kdf=[]), "must be argon2id"),
    (lambda content: content.update(nonce="00"), "nonce must be 24 bytes"),
    (lambda content: content.update(ciphertext=7), "ciphertext must be 48 bytes"),
    (lambda content: content.update(version=2), "this program reads 1"),
    (lambda content: content.update(version=True), "this program reads 1"),
    (lambda content: content.update(public_key="00" * 32), "not that of the public key"),
    (lambda content: content.update(public_key=None), "public_key must be 32 bytes"),
    (lambda content: content.update(encryption="rot13"), "are known"),
    (lambda content: content.update(encryption=["none"]), "are known"),
    (lambda content: content.update(encryption="none"), "seed must be 32 bytes"),
])
def test_changed_content_with_a_good_checksum(
    directory: Path, change: Callable[[dict[str, Any]], object], reason: str,
) -> None:
    path = directory / "key"
    save(path, "x")
    rewrite(path, change)
    with pytest.raises(keystore.DamagedKeyFileError, match=reason):
        keystore.load_key(path, None if "seed" in reason else "x")


def test_another_key_in_the_file_is_noticed(directory: Path) -> None:
    save(directory / "key", None)
    rewrite(directory / "key", lambda content: content.update(seed="11" * 32))
    with pytest.raises(keystore.DamagedKeyFileError, match="does not belong"):
        keystore.load_key(directory / "key", None)


def test_authenticated_fields(directory: Path) -> None:
    """Cost and key are under the cipher's seal, not only under the checksum."""
    from gridtokenx.crypto.bech32m import encode_address

    save(directory / "key", "x")
    other = PrivateKey(bytes(32)).public
    rewrite(directory / "key", lambda content: content.update(public_key=other.hex(), address=encode_address(other)))
    with pytest.raises(keystore.WrongPassphraseError):
        keystore.load_key(directory / "key", "x")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_told_from_a_wrong_passphrase(directory: Path, data: st.DataObject) -> None:
    path = directory / "key"
    keystore.save_key(path, KEY, "x", overwrite=True, kdf_operations=1, kdf_memory_bytes=8192)
    raw = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        raw = bytearray(data.draw(st.binary(max_size=100) | st.just(b"[" * 8000) | st.just(b"9" * 8000)
                                  | st.just(b" " * 9000) | st.just(b"[]") | st.just(b"null")))
    path.write_bytes(bytes(raw))
    try:
        assert keystore.load_key(path, "x").seed == KEY.seed  # white space alone was changed
    except keystore.DamagedKeyFileError:
        return


@pytest.mark.parametrize("cost", [{"kdf_operations": 0}, {"kdf_operations": 13}, {"kdf_memory_bytes": 1 << 34},
                                  {"kdf_memory_bytes": 100}])
def test_cost_is_bounded_when_writing_too(directory: Path, cost: dict[str, int]) -> None:
    with pytest.raises(keystore.KeystoreError, match="Argon2id takes"):
        keystore.save_key(directory / "key", KEY, "x", **cost)  # type: ignore[arg-type]
