"""An interface put together: application, protection, feeds and sockets over one backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import trio

from gridtokenx import __version__
from gridtokenx.api.answers import head_tag
from gridtokenx.api.app import make_app, with_route_names
from gridtokenx.api.backend import Backend
from gridtokenx.api.feeds import Feeds
from gridtokenx.api.follower import Follower
from gridtokenx.api.kept_answers import KeptAnswers
from gridtokenx.api.listener import HttpServer
from gridtokenx.api.metrics import Metrics
from gridtokenx.api.protection import App, Protection
from gridtokenx.api.settings import HttpSettings
from gridtokenx.api.websocket import WebSockets


@asynccontextmanager
async def serving(backend: Backend, settings: HttpSettings) -> AsyncIterator[HttpServer]:
    """Serves until left. Raises CannotListen."""
    metrics = Metrics(backend)
    described = make_app(backend, metrics, __version__)
    app = cast(App, described)
    follower = Follower(backend.reads)
    feeds = Feeds(backend, follower, metrics)
    kept = KeptAnswers(app, lambda: head_tag(backend.reads))
    inner = WebSockets(with_route_names(kept), feeds, settings, metrics)
    server = HttpServer(Protection(inner, settings, metrics.request), settings)
    metrics.watch(lambda: server.connections, lambda: server.refused)
    follower.listeners.append(lambda height: metrics.block(backend.reads.block(height)))
    async with server.running(), trio.open_nursery() as nursery:
        # Making the description takes a while: not when the first client asks for it, and not on the event loop.
        nursery.start_soon(trio.to_thread.run_sync, described.openapi)
        nursery.start_soon(follower.run)
        nursery.start_soon(feeds.run)
        yield server
        nursery.cancel_scope.cancel()
