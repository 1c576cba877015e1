"""Genesis: what a chain begins with, from a TOML file, and the state after block 0.

The parts are in `genesis_state` (content, chain id, initial state) and `genesis_file` (reading and writing).
"""

from __future__ import annotations

from pathlib import Path

from gridtokenx.ledger.genesis_file import dump_genesis, parse_genesis, read_text
from gridtokenx.ledger.genesis_state import Authority, Genesis, GenesisError, decode_genesis

__all__ = ["Authority", "Genesis", "GenesisError", "decode_genesis", "dump_genesis", "load_genesis", "parse_genesis"]


def load_genesis(path: str | Path) -> Genesis:
    """Reads a genesis file. Raises GenesisError naming the key that is wrong and the allowed values."""
    return parse_genesis(read_text(path))
