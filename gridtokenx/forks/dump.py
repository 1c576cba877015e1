"""Forks in files: what a chain in this process has changed, to go on with it another day.

    <directory>/fork.cbor   canonical array [format, base directory, base height, provenance, salt, header,
                            [[key, value], ...], [[path, page], ...]] and the SHA-256 of it; None is removed

The base is not copied: a lease keeps its history for `KEEP_DAYS` from the last dump or load on.
"""

from __future__ import annotations

import os
import time
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridtokenx import codec
from gridtokenx.errors import GridTokenXError
from gridtokenx.forks.base import Base
from gridtokenx.forks.errors import ForkError
from gridtokenx.forks.layers import flatten
from gridtokenx.forks.provenance import Provenance, decode_provenance
from gridtokenx.ledger.block import decode_header
from gridtokenx.ledger.state import EmptyState, StateReader, StateView
from gridtokenx.store.disk import make_durable_directory, sync_directory

if TYPE_CHECKING:
    from gridtokenx.forks.chain import Chain

DUMP_FILE = "fork.cbor"
FORMAT = "gridtokenx fork 1"
MAX_DUMP_BYTES = 4 << 30
KEEP_DAYS = 30
DAY_MS = 86_400_000


def dump(chain: Chain, directory: Path, base: Base | None) -> Path:
    """Writes `chain` durably into `directory`, in place of what it had, and returns the file."""
    if chain.waiting:
        raise ForkError(f"{chain.waiting} transactions wait: flush before a dump")
    below, changes, pages = flatten(chain.head)
    if base is None and not isinstance(below, EmptyState):
        raise ForkError("the base of this fork was closed")
    provenance = chain.provenance
    content = codec.encode([
        FORMAT, "" if base is None else str(base.path.resolve()), 0 if base is None else base.height,
        b"" if provenance is None else provenance.canonical(), chain.salt, chain.head.header.encode(),
        [list(entry) for entry in sorted(changes.items())], [list(entry) for entry in sorted(pages.items())]])
    make_durable_directory(directory)
    path = directory / DUMP_FILE
    unfinished = path.with_suffix(".new")
    with unfinished.open("wb") as file:
        file.write(content)
        file.write(sha256(content).digest())
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    sync_directory(directory)
    if base is not None:
        base.keep(_keep_until_ms(), _owner(directory))
    return path


def read_dump(directory: Path) -> tuple[StateView, Provenance | None, str, Base | None]:
    """(head, provenance, salt, base) of what `dump` wrote. Raises ForkError naming what is wrong with it."""
    path = directory / DUMP_FILE
    try:
        if path.stat().st_size > MAX_DUMP_BYTES:
            raise ForkError(f"{path} has more than {MAX_DUMP_BYTES} bytes")
        raw = path.read_bytes()
    except OSError as error:
        raise ForkError(f"{directory} holds no fork: {error.strerror} ({DUMP_FILE})") from error
    content, checksum = raw[:-32], raw[-32:]
    if sha256(content).digest() != checksum:
        raise ForkError(f"{path} is damaged: its checksum does not agree")
    fields = codec.decode(content, max_bytes=MAX_DUMP_BYTES)
    if type(fields) is not list or len(fields) != 8 or fields[0] != FORMAT:
        raise ForkError(f"{path} is of another format; this program reads {FORMAT!r}")
    _, place, height, record, salt, header, changes, pages = fields
    provenance = decode_provenance(record) if record else None
    base = None if provenance is None else _base(Path(place), height, provenance, directory)
    below: StateReader = EmptyState() if base is None else base
    return StateView(below, decode_header(header), _pairs(changes), _pairs(pages)), provenance, salt, base


def _base(path: Path, height: int, provenance: Provenance, directory: Path) -> Base:
    try:
        base = Base(path, height)
    except GridTokenXError as error:
        raise ForkError(f"the chain that was forked is not there any more: {error}") from error
    if base.header.hash != provenance.block_hash:
        base.close()
        raise ForkError(f"{path} holds another chain: its block {height} is {base.header.hash.hex()}, and the one that "
                        f"was forked {provenance.block_hash.hex()}")
    base.keep(_keep_until_ms(), _owner(directory))
    return base


def _pairs(entries: list[Any]) -> dict[bytes, bytes | None]:
    return {key: value for key, value in entries}  # noqa: C416 - pairs are lists here


def _owner(directory: Path) -> str:
    return f"fork in {directory.resolve()}"


def _keep_until_ms() -> int:
    return time.time_ns() // 1_000_000 + KEEP_DAYS * DAY_MS
