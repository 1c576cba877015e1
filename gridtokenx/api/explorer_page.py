"""The explorer: a page of own modules without a build step, served from memory beside the interface that it asks.

The charting library is uPlot, as the `youplot` package ships it; nothing of it is in this tree, and no other origin is
ever asked. What a page may load and do is said by its content security policy: own scripts and styles, none inline.
"""

from __future__ import annotations

import gzip
import hashlib
from importlib.util import find_spec
from pathlib import Path

from attrs import frozen
from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from gridtokenx.api.problems import unknown

FOLDER = Path(__file__).parent / "explorer"
LIBRARY = "youplot"
LIBRARY_FILES = {"uplot.js": "vendor/uplot.iife.min.js", "uplot.css": "vendor/uplot.min.css"}
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
HEADERS = {"content-security-policy": POLICY, "referrer-policy": "no-referrer", "cache-control": "no-cache",
           "vary": "accept-encoding", "cross-origin-opener-policy": "same-origin"}
SMALL = 512


@frozen
class _File:
    body: bytes
    packed: bytes
    tag: str
    kind: str


def _file(path: Path) -> _File:
    body = path.read_bytes()
    return _File(body, gzip.compress(body, mtime=0), f'"{hashlib.sha256(body).hexdigest()[:32]}"', TYPES[path.suffix])


def library_folder() -> Path | None:
    """Where the charting library's package is installed, without running any of it."""
    found = find_spec(LIBRARY)
    return None if found is None or found.origin is None else Path(found.origin).parent


def files() -> dict[str, _File]:
    """All of the page by name. Without the charting library the page says that it is missing."""
    found = {path.name: _file(path) for path in sorted(FOLDER.iterdir()) if path.suffix in TYPES}
    folder = library_folder()
    for name, inside in LIBRARY_FILES.items():
        if folder is not None and (folder / inside).is_file():
            found[name] = _file(folder / inside)
    return found


def _answer(request: Request, file: _File) -> Response:
    headers = {**HEADERS, "etag": file.tag}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", "") and len(file.body) > SMALL:
        return Response(file.packed, headers={**headers, "content-encoding": "gzip"}, media_type=file.kind)
    return Response(file.body, headers=headers, media_type=file.kind)


def add_explorer(app: FastAPI) -> None:
    """`/` and what it loads, `/explorer/...`."""
    served, router = files(), APIRouter(include_in_schema=False)

    @router.get("/")
    async def page(request: Request) -> Response:
        return _answer(request, served["index.html"])

    @router.get("/explorer/{name}")
    async def part(request: Request, name: str) -> Response:
        file = served.get(name)
        if file is None or name == "index.html":
            raise unknown(f"the explorer has no file {name[:80]!r}")
        return _answer(request, file)

    app.include_router(router)
