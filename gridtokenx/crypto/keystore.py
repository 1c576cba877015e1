"""Key files: one Ed25519 seed per JSON file, encrypted under a passphrase, or marked as not encrypted.

Encryption: Argon2id (parameters in the file, bounded when read) gives the key of XChaCha20-Poly1305, which also
authenticates version, public key and parameters. A checksum over the whole content tells a damaged file from a
wrong passphrase. Files have mode 0600 and are written whole or not at all; a file that others may read, or a
directory that others may write, is refused.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import unicodedata
from hashlib import sha256
from pathlib import Path
from typing import Any

import nacl.exceptions
from nacl import bindings, pwhash

from gridtokenx.crypto.bech32m import encode_address
from gridtokenx.crypto.keys import PUBLIC_KEY_BYTES, SEED_BYTES, PrivateKey
from gridtokenx.errors import GridTokenXError

VERSION = 1
KDF = "argon2id"
CIPHER = "xchacha20-poly1305"
NO_CIPHER = "none"
KDF_OPERATIONS = pwhash.argon2id.OPSLIMIT_MODERATE
KDF_MEMORY_BYTES = pwhash.argon2id.MEMLIMIT_MODERATE  # 256 MiB
MAX_KDF_OPERATIONS = 12
MAX_KDF_MEMORY_BYTES = 512 << 20
MAX_FILE_BYTES = 8192
_SALT_BYTES = pwhash.argon2id.SALTBYTES
_NONCE_BYTES = bindings.crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
_TAG_BYTES = bindings.crypto_aead_xchacha20poly1305_ietf_ABYTES


class KeystoreError(GridTokenXError):
    """A key file that cannot be written or read."""


class WrongPassphraseError(KeystoreError):
    """The passphrase does not open this file, is missing, or is given for a file that has none."""


class DamagedKeyFileError(KeystoreError):
    """The file is not a key file of this version, or its content was changed."""


class KeyFileModeError(KeystoreError):
    """Others than its owner may read or replace the file."""


class KeyFileExistsError(KeystoreError):
    """A key file is already there; it is never overwritten unasked."""


def save_key(
    path: str | os.PathLike[str], key: PrivateKey, passphrase: str | None, *, overwrite: bool = False,
    kdf_operations: int = KDF_OPERATIONS, kdf_memory_bytes: int = KDF_MEMORY_BYTES,
) -> None:
    """Writes `key` to a new file of mode 0600, whole or not at all; missing directories are made with mode 0700.

    `passphrase` None writes an unencrypted file, for testnets. Raises KeyFileExistsError, KeyFileModeError (others
    may write to the directory) or KeystoreError (the file system refused; empty passphrase; cost out of bounds).
    """
    target = Path(path)
    content: dict[str, Any] = {"version": VERSION, "address": encode_address(key.public),
                               "public_key": key.public.hex()}
    if passphrase is None:
        content |= {"encryption": NO_CIPHER, "seed": key.seed.hex()}
    else:
        if not passphrase:
            raise KeystoreError("the passphrase is empty; give one, or None for an unencrypted file")
        _check_cost(target, kdf_operations, kdf_memory_bytes, KeystoreError)
        salt, nonce = secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_NONCE_BYTES)
        content |= {"encryption": CIPHER, "nonce": nonce.hex(), "kdf": {
            "name": KDF, "salt": salt.hex(), "operations": kdf_operations, "memory_bytes": kdf_memory_bytes}}
        secret = _derive(passphrase, salt, kdf_operations, kdf_memory_bytes)
        content["ciphertext"] = bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
            key.seed, _associated(content), nonce, secret).hex()
    content["checksum"] = _checksum(content)
    try:
        _write(target, (json.dumps(content, indent=2) + "\n").encode(), overwrite)
    except FileExistsError as error:
        raise KeyFileExistsError(f"{target} exists already; it is not overwritten") from error
    except OSError as error:
        raise KeystoreError(f"cannot write {target}: {error.strerror}") from error


def load_key(path: str | os.PathLike[str], passphrase: str | None) -> PrivateKey:
    """Reads a key file; `passphrase` is None exactly for unencrypted ones.

    Raises WrongPassphraseError, DamagedKeyFileError, KeyFileModeError (with the command that mends it), or
    KeystoreError if there is no such file or it cannot be read.
    """
    target = Path(path)
    content = _read(target)
    public = bytes.fromhex(content["public_key"])
    if content["encryption"] == NO_CIPHER:
        if passphrase is not None:
            raise WrongPassphraseError(f"{target} is not encrypted; load it without a passphrase, or encrypt it")
        seed = _hex(target, content, "seed", SEED_BYTES)
    else:
        kdf = content["kdf"]
        if passphrase is None:
            raise WrongPassphraseError(f"{target} is encrypted; its passphrase is needed")
        secret = _derive(passphrase, _hex(target, kdf, "salt", _SALT_BYTES), kdf["operations"], kdf["memory_bytes"])
        try:
            seed = bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(
                _hex(target, content, "ciphertext", SEED_BYTES + _TAG_BYTES), _associated(content),
                _hex(target, content, "nonce", _NONCE_BYTES), secret)
        except nacl.exceptions.CryptoError as error:
            raise WrongPassphraseError(f"the passphrase does not open {target}") from error
    key = PrivateKey(seed)
    if key.public != public:
        raise DamagedKeyFileError(f"{target}: the seed does not belong to public key {content['public_key']}")
    return key


def read_public(path: str | os.PathLike[str]) -> tuple[bytes, bool]:
    """(public key, whether a passphrase is needed) of a key file, without opening it. Raises as `load_key`."""
    content = _read(Path(path))
    return bytes.fromhex(content["public_key"]), content["encryption"] != NO_CIPHER


def _check_cost(path: Path, operations: Any, memory: Any, error: type[KeystoreError]) -> None:
    if type(operations) is not int or not 1 <= operations <= MAX_KDF_OPERATIONS:
        raise error(f"{path}: Argon2id takes 1 to {MAX_KDF_OPERATIONS} operations here, not {operations!r:.40}")
    if type(memory) is not int or not pwhash.argon2id.MEMLIMIT_MIN <= memory <= MAX_KDF_MEMORY_BYTES:
        raise error(f"{path}: Argon2id takes {pwhash.argon2id.MEMLIMIT_MIN} to {MAX_KDF_MEMORY_BYTES} bytes of "
                    f"memory here, not {memory!r:.40}")


def _derive(passphrase: str, salt: bytes, operations: int, memory: int) -> bytes:
    """Normalized (NFKC) first: keyboards and systems spell the same accents and Thai vowels differently."""
    text = unicodedata.normalize("NFKC", passphrase).encode("utf-8", "surrogatepass")
    try:
        return pwhash.argon2id.kdf(32, text, salt, opslimit=operations, memlimit=memory)
    except (nacl.exceptions.CryptoError, MemoryError) as error:
        raise KeystoreError(f"Argon2id could not run with {memory >> 20} MiB of memory") from error


def _associated(content: dict[str, Any]) -> bytes:
    """What the cipher authenticates beside the seed."""
    kdf = content["kdf"]
    return json.dumps([content["version"], content["public_key"], content["encryption"], kdf["name"], kdf["salt"],
                       kdf["operations"], kdf["memory_bytes"]]).encode()


def _checksum(content: dict[str, Any]) -> str:
    rest = {name: value for name, value in content.items() if name != "checksum"}
    return sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _hex(path: Path, content: dict[str, Any], name: str, size: int) -> bytes:
    value = content.get(name)
    try:
        raw = bytes.fromhex(value) if isinstance(value, str) else b""
    except ValueError:
        raw = b""
    if len(raw) != size:
        raise DamagedKeyFileError(f"{path}: {name} must be {size} bytes in hexadecimal")
    return raw


def _check_directory(directory: Path) -> None:
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & 0o022:
        raise KeyFileModeError(f"others may write to {directory} (mode {mode:04o}); run: chmod 700 {directory}")


def _write(path: Path, content: bytes, overwrite: bool) -> None:
    directory = path.parent
    for missing in reversed([place for place in (directory, *directory.parents) if not place.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)
    _check_directory(directory)
    temporary = directory / f".{path.name}.{secrets.token_hex(8)}"
    handle = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # unlike rename, refuses an existing file in the same step
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    entry = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


def _read(path: Path) -> dict[str, Any]:
    """The checked content: mode, checksum, version, public key, known encryption, bounded cost."""
    try:
        _check_directory(path.parent)
        # non-blocking, so that a FIFO in the file's place cannot hold us
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise DamagedKeyFileError(f"{path} is not a file")
            mode = stat.S_IMODE(status.st_mode)
            if mode & 0o077:
                raise KeyFileModeError(f"others may read or write {path} (mode {mode:04o}); run: chmod 600 {path}")
            raw = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeystoreError(f"cannot read key file {path}: {error.strerror}") from error
    if len(raw) > MAX_FILE_BYTES:
        raise DamagedKeyFileError(f"{path} has more than {MAX_FILE_BYTES} bytes; it is not a key file")
    try:
        content = json.loads(raw)
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        intact = content.get("checksum") == _checksum(content)
    except (ValueError, RecursionError) as error:
        raise DamagedKeyFileError(f"{path} is not a key file: {str(error)[:200]}") from error
    if not intact:
        raise DamagedKeyFileError(f"{path} was changed or damaged: its checksum does not fit; restore a backup")
    if type(content.get("version")) is not int or content["version"] != VERSION:
        raise DamagedKeyFileError(f"{path}: version {content.get('version')!r:.40}; this program reads {VERSION}")
    public = _hex(path, content, "public_key", PUBLIC_KEY_BYTES)
    if content.get("address") != encode_address(public):
        raise DamagedKeyFileError(f"{path}: the address is not that of the public key")
    encryption = content.get("encryption")
    if encryption not in (NO_CIPHER, CIPHER):
        raise DamagedKeyFileError(f"{path}: encryption {encryption!r:.40}; {CIPHER} and {NO_CIPHER} are known")
    if encryption == CIPHER:
        kdf = content.get("kdf")
        if not isinstance(kdf, dict) or kdf.get("name") != KDF:
            raise DamagedKeyFileError(f"{path}: the key derivation must be {KDF}")
        _check_cost(path, kdf.get("operations"), kdf.get("memory_bytes"), DamagedKeyFileError)
    return content
