"""Genesis: what a chain begins with, from a TOML file, and the state after block 0.

The parts are in `genesis_state` (content, chain id, initial state), `genesis_file` (reading and writing) and
`genesis_fork` (networks that begin with the state of a fork; their file is the canonical bytes).
"""

from __future__ import annotations

from pathlib import Path

from gridtokenx import codec
from gridtokenx.ledger.genesis_file import dump_genesis, parse_genesis, read_text
from gridtokenx.ledger.genesis_fork import FORK_NETWORK, decode_fork_genesis
from gridtokenx.ledger.genesis_state import Authority, Genesis, GenesisError, decode_genesis_record

__all__ = ["Authority", "Genesis", "GenesisError", "decode_genesis", "dump_genesis", "load_genesis", "parse_genesis"]


FORK_SUFFIX = ".cbor"
_FORK_MARK = codec.encode([FORK_NETWORK])[1:]


def decode_genesis(raw: bytes) -> Genesis:
    """Reads canonical bytes, as a node hands them out. Raises GenesisError or CodecError.

    Only the form is checked: who trusts a chain compares `chain_id` with the one that it knows.
    """
    return decode_fork_genesis(raw) if raw[1:1 + len(_FORK_MARK)] == _FORK_MARK else decode_genesis_record(raw)


def load_genesis(path: str | Path) -> Genesis:
    """Reads a genesis file. Raises GenesisError naming the key that is wrong and the allowed values."""
    if Path(path).suffix == FORK_SUFFIX:
        try:
            return decode_genesis(Path(path).read_bytes())
        except OSError as error:
            raise GenesisError(f"genesis file {path} cannot be read: {error}") from error
    return parse_genesis(read_text(path))
