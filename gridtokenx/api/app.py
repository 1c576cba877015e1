"""The HTTP application: endpoints under /api/v1, explorer, health, metrics; every error a problem answer (RFC 9457)."""

from __future__ import annotations

import re
import threading
import time
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gridtokenx.api.account_routes import account_routes
from gridtokenx.api.backend import Backend
from gridtokenx.api.chain_routes import chain_routes
from gridtokenx.api.errors_of import add_schemas
from gridtokenx.api.explorer_page import add_explorer
from gridtokenx.api.market_routes import market_routes
from gridtokenx.api.metrics import Metrics
from gridtokenx.api.problems import Problem
from gridtokenx.api.proof_routes import proof_routes
from gridtokenx.api.protection import REQUEST, ROUTE, App, Receive, Scope, Send
from gridtokenx.api.submissions import Submissions

PREFIX = "/api/v1"
READY_AGE_S = 60
"""An idle network makes a block every ten seconds: a head older than this is behind, or the network stands still."""
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
TITLE = "GridTokenX"
DESCRIPTION = """Read and submit over HTTP. Amounts are integers in base units with the unit in the name (`_uthb`,
`_wh`, `_mthb_kwh`); `_thb`, `_kwh` and `_thb_kwh` beside them are the same as decimal text. Lists go on at `next`.
Transactions come signed: keys stay with their owner. Errors are problem details (RFC 9457) with a `code` and
`what_to_do`."""


def make_app(backend: Backend, metrics: Metrics, version: str) -> FastAPI:
    """The application without what protects it (`Protection`) and without feeds."""
    app = FastAPI(title=TITLE, description=DESCRIPTION, version=version, openapi_url=f"{PREFIX}/openapi.json",
                  docs_url=None, redoc_url=None, redirect_slashes=False)
    submissions = Submissions(backend)
    for router in (chain_routes(backend, submissions), market_routes(backend, submissions), account_routes(backend),
                   proof_routes(backend)):
        app.include_router(router, prefix=PREFIX)
    _add_health(app, backend, metrics)
    add_explorer(app)
    problem_answers(app)

    making = threading.Lock()

    def description() -> dict[str, Any]:
        with making:                    # on a thread at the start; who asks meanwhile must not see half of it
            if app.openapi_schema is None:
                made = get_openapi(title=app.title, version=app.version, description=app.description,
                                   routes=app.routes)
                add_schemas(made)
                _without_validation_errors(made)
                app.openapi_schema = made
            return app.openapi_schema

    app.openapi = description  # type: ignore[method-assign]
    return app


def problem_answers(app: FastAPI) -> FastAPI:
    """Every error of the application becomes problem details."""
    app.exception_handler(Problem)(_problem)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(HTTPException)(_http)
    return app


def _add_health(app: FastAPI, backend: Backend, metrics: Metrics) -> None:
    @app.get("/livez", include_in_schema=False)
    async def livez() -> Response:
        return Response(b"ok\n", media_type="text/plain")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        age_s = time.time() - backend.reads.view.head.timestamp_ms / 1000
        if age_s > READY_AGE_S:
            raise Problem(503, "busy", f"the newest final block is {age_s:.0f} s old; {READY_AGE_S} s is allowed",
                          headers={"retry-after": "5"})
        return Response(b"ok\n", media_type="text/plain")

    @app.get("/metrics", include_in_schema=False)
    async def show() -> Response:
        async with backend.reads.view.lock:
            return Response(metrics.text(), media_type=METRICS_TYPE)


def _without_validation_errors(description: dict[str, Any]) -> None:
    """FastAPI's own form of 422, which is never sent here: bad parameters are 400."""
    for methods in description["paths"].values():
        for operation in methods.values():
            found = operation["responses"].get("422")
            if found is not None and "application/json" in found.get("content", {}):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        description["components"]["schemas"].pop(name, None)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request.scope.get(REQUEST, ""))


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [{"where": ".".join(map(str, entry["loc"])), "what": entry["msg"]} for entry in error.errors()]
    problem = Problem(400, "bad_request", "; ".join(f"{entry['where']}: {entry['what']}" for entry in found)[:500],
                      errors=found[:20])
    return problem.response(request.scope.get(REQUEST, ""))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request)) or headers.get("Allow", "GET")
    problem = Problem(error.status_code, code, f"{request.method} {request.url.path[:200]}: {error.detail}",
                      headers=headers)
    return problem.response(request.scope.get(REQUEST, ""))


def _methods(request: Request) -> list[str]:
    """Of all described endpoints with the request's path, not only of the first route that matched."""
    found: set[str] = set()
    for pattern, methods in request.app.openapi()["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", pattern), request.url.path):
            found |= {method.upper() for method in methods}
    return sorted(found)


def with_route_names(app: App) -> App:
    """Notes the pattern of the route that answered, for metrics: a client's own paths would be endless names."""
    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        finally:
            route = scope.get("route")
            scope[ROUTE] = getattr(route, "path", "")

    return noting
