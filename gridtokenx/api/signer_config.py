"""The file of a hosted signer: which accounts it holds keys of, and which tokens may have what signed for them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from attrs import frozen

from gridtokenx.api.settings import split_listen
from gridtokenx.crypto.keys import PrivateKey
from gridtokenx.crypto.keystore import load_key
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import operations

KINDS = {kind.NAME: kind.KIND for kind in operations.KINDS}
MAX_PER_S = 10_000


class SignerConfigError(GridTokenXError):
    """A signer's file that cannot be used; the message names the key and what is allowed."""


@frozen
class HeldAccount:
    """One account, and the most that a signature may bind it to."""

    name: str
    key: PrivateKey
    kinds: frozenset[int]
    max_fee_uthb: int


@frozen
class Token:
    """Who may ask: `digest` is the SHA-256 of the token, which is kept nowhere."""

    name: str
    digest: bytes
    accounts: frozenset[str]
    per_s: int


@frozen
class SignerConfig:
    host: str
    port: int
    chain_id: bytes
    accounts: tuple[HeldAccount, ...]
    tokens: tuple[Token, ...]


class _Table:
    """Takes keys out of a table, each once; what is left over is a mistake."""

    def __init__(self, where: str, values: Any) -> None:
        if not isinstance(values, dict):
            raise SignerConfigError(f"{where}: a table is wanted")
        self._where, self._values = where, dict(values)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._values.pop(key, default)
        if not isinstance(value, str):
            raise SignerConfigError(f"{self._where} {key}: text is wanted, not {value!r}")
        return value

    def digits(self, key: str) -> bytes:
        value = self.text(key)
        try:
            found = bytes.fromhex(value)
        except ValueError:
            found = b""
        if len(found) != 32:
            raise SignerConfigError(f"{self._where} {key}: 64 hexadecimal digits are wanted")
        return found

    def number(self, key: str, most: int) -> int:
        value = self._values.pop(key, None)
        if type(value) is not int or not 1 <= value <= most:
            raise SignerConfigError(f"{self._where} {key} = {value!r}: a whole number from 1 to {most} is wanted")
        return value

    def names(self, key: str, allowed: Any) -> list[str]:
        value = self._values.pop(key, None)
        if not isinstance(value, list) or not value or any(name not in allowed for name in value):
            raise SignerConfigError(f"{self._where} {key} = {value!r}: a list of one or more of "
                                    f"{', '.join(sorted(allowed))} is wanted")
        return value

    def tables(self, key: str) -> list[Any]:
        value = self._values.pop(key, [])
        if not isinstance(value, list) or not value:
            raise SignerConfigError(f"{self._where} [[{key}]]: at least one is wanted")
        return value

    def end(self) -> None:
        if self._values:
            raise SignerConfigError(f"{self._where}: unknown keys {', '.join(sorted(self._values))}")


def load_signer(path: Path) -> SignerConfig:
    """Reads the file and the key files that it names. Raises SignerConfigError or KeystoreError."""
    try:
        top = _Table(str(path), tomllib.loads(path.read_text("utf-8")))
    except (OSError, ValueError) as error:
        raise SignerConfigError(f"{path}: {error}") from error
    try:
        host, port = split_listen(top.text("listen"))
    except ValueError as error:
        raise SignerConfigError(f"{path} listen: {error}") from error
    chain_id, accounts, tokens = top.digits("chain_id"), [], []
    for number, values in enumerate(top.tables("accounts")):
        table = _Table(f"{path} accounts[{number}]", values)
        name, key_file, secret = table.text("name"), table.text("key_file"), table.text("passphrase_file", "")
        passphrase = (path.parent / secret).read_text("utf-8").splitlines()[0] if secret else None
        accounts.append(HeldAccount(name, load_key(path.parent / key_file, passphrase),
                                    frozenset(KINDS[entry] for entry in table.names("operations", KINDS)),
                                    table.number("max_fee_uthb", 10**12)))
        table.end()
    known = {account.name for account in accounts}
    for number, values in enumerate(top.tables("tokens")):
        table = _Table(f"{path} tokens[{number}]", values)
        tokens.append(Token(table.text("name"), table.digits("sha256"), frozenset(table.names("accounts", known)),
                            table.number("per_s", MAX_PER_S)))
        table.end()
    top.end()
    if len(known) != len(accounts) or len({token.digest for token in tokens}) != len(tokens):
        raise SignerConfigError(f"{path}: every account and every token is named once")
    return SignerConfig(host, port, chain_id, tuple(accounts), tuple(tokens))
