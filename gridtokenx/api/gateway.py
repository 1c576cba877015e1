"""`gridtokenx gateway`: the interface over a data directory that a node writes; a process of its own that only reads.

LMDB's readers never block its writer, so that what strangers ask here costs the node nothing but the machine's time,
and of that it takes a share (`budget`), and only what the node leaves: it runs at a lower priority. It sees checkpoint
after checkpoint: by default every 64 blocks, or five seconds.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import trio

from gridtokenx import __version__
from gridtokenx.api.backend import StoredFacts
from gridtokenx.api.budget import keep_within
from gridtokenx.api.listener import HttpServer
from gridtokenx.api.server import serving
from gridtokenx.api.settings import HttpSettings
from gridtokenx.errors import GridTokenXError, leaves
from gridtokenx.ledger.genesis import decode_genesis
from gridtokenx.node.epochs import members_of
from gridtokenx.node.reads import Reads
from gridtokenx.node.view import StoredView
from gridtokenx.store.database import Database

LOOK_S = 0.1
EXIT_CANNOT = 2
NICE = 10


@asynccontextmanager
async def gateway(directory: Path, settings: HttpSettings) -> AsyncIterator[HttpServer]:
    """Serves the data directory until left. Raises StoreError, CannotListen."""
    with Database.open_read_only(directory) as database:
        genesis = decode_genesis(database.genesis)
        view = StoredView(database)
        try:
            names = {authority.public: authority.name for authority in genesis.authorities}
            reads = Reads(view, names)
            async with (serving(StoredFacts(reads, genesis, __version__), settings) as server,
                        trio.open_nursery() as nursery):
                nursery.start_soon(_follow, view, names)
                yield server
                nursery.cancel_scope.cancel()
        finally:
            view.close()


async def _follow(view: StoredView, names: dict[bytes, str]) -> None:
    """Reads on from each new checkpoint."""
    while True:
        async with view.lock:
            if view.refresh():
                names.update((public, name) for name, public in members_of(view.state))
        await trio.sleep(LOOK_S)


async def _until_signalled(directory: Path, settings: HttpSettings, cpu_percent: int) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with gateway(directory, settings) as server, trio.open_nursery() as nursery:
            nursery.start_soon(keep_within, cpu_percent)
            structlog.get_logger("gateway").info("started", directory=str(directory), port=server.port,
                                                 cpu_percent=cpu_percent)
            async for _ in signals:
                nursery.cancel_scope.cancel()
                return


def run(directory: Path, settings: HttpSettings, cpu_percent: int) -> int:
    """Runs until SIGTERM or Ctrl-C, within `cpu_percent` of one processor.

    Exit codes: 0 stopped on request, 2 it cannot run.
    """
    sys.setswitchinterval(0.0005)
    if hasattr(os, "nice"):             # not on every system
        os.nice(NICE)
    code = 0
    try:
        trio.run(_until_signalled, directory, settings, cpu_percent)
    except* GridTokenXError as group:
        code = EXIT_CANNOT
        for error in leaves(group):
            structlog.get_logger("gateway").error("cannot_run", error=str(error), kind=type(error).__name__)
    return code
