"""Leases: files by which a fork or an export asks that the state as of a height be kept until a time.

A reader in another process cannot write to the database, so it leaves `leases/<height>-<random>.json`:
{"height": H, "expires_ms": T, "owner": "..."}. T is Unix time in ms.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path

from attrs import frozen

from gridtokenx.store.disk import make_durable_directory, sync_directory
from gridtokenx.store.errors import LeaseError

MAX_LEASE_BYTES = 4096
FORGET_AFTER_MS = 24 * 3600 * 1000


@frozen
class Lease:
    """The state as of `height` and later stays until `expires_ms` (Unix ms)."""

    height: int
    expires_ms: int
    owner: str


def write_lease(directory: Path, lease: Lease) -> Path:
    """Writes the lease durably and returns its file; removing that gives it up."""
    make_durable_directory(directory)
    path = directory / f"{lease.height}-{secrets.token_hex(8)}.json"
    text = json.dumps({"height": lease.height, "expires_ms": lease.expires_ms, "owner": lease.owner})
    if len(text) > MAX_LEASE_BYTES:
        raise LeaseError(f"a lease of {len(text)} bytes; at most {MAX_LEASE_BYTES} are allowed")
    unfinished = path.with_suffix(".new")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
    sync_directory(directory)
    return path


def _read(path: Path) -> Lease | None:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_LEASE_BYTES + 1)
    except FileNotFoundError:
        return None  # given up just now
    try:
        if len(raw) > MAX_LEASE_BYTES:
            raise ValueError(f"more than {MAX_LEASE_BYTES} bytes")
        fields = json.loads(raw)
        if type(fields) is not dict:
            raise ValueError("not an object")
        height, expires_ms, owner = fields.get("height"), fields.get("expires_ms"), fields.get("owner", "")
        if type(height) is not int or type(expires_ms) is not int or type(owner) is not str or height < 0:
            raise ValueError('wanted {"height": H, "expires_ms": T, "owner": "..."}')
    except (ValueError, RecursionError) as error:
        raise LeaseError(f"{path} is not a lease ({error}); nothing is pruned until it is mended or removed") from error
    return Lease(height, expires_ms, owner)


def read_leases(directory: Path, now_ms: int) -> list[Lease]:
    """The leases that have not expired at `now_ms`, lowest first.

    Files that expired over a day ago are removed. Raises LeaseError for a file that is not a lease: it may be
    someone's, so pruning waits for an operator.
    """
    leases = []
    for path in sorted(directory.glob("*.json")):
        lease = _read(path)
        if lease is None:
            continue
        if lease.expires_ms > now_ms:
            leases.append(lease)
        elif lease.expires_ms + FORGET_AFTER_MS < now_ms:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
    return sorted(leases, key=lambda lease: lease.height)


def files_of(directory: Path, owner: str) -> list[Path]:
    """The files of an owner's leases, expired ones too. Raises LeaseError for a file that is not a lease."""
    return [path for path in sorted(directory.glob("*.json")) if (lease := _read(path)) and lease.owner == owner]
