"""Endpoints about one account: money, orders, trades, bills, certificates."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from gridtokenx.api.answers import at_head, at_length, decode_cursor, encode_cursor, to_address
from gridtokenx.api.backend import Backend, Map
from gridtokenx.api.errors_of import errors_of
from gridtokenx.api.market_routes import ADDRESS, Cursor, Limit, WhichWindow, orders_page, trades_page
from gridtokenx.api.models.accounts import Account, Balance, Bill, Certificates
from gridtokenx.api.models.market import Orders, Trades
from gridtokenx.api.problems import unknown
from gridtokenx.ledger import certificate_queries, queries, settlement_queries
from gridtokenx.ledger.spaces import MAX_WINDOW
from gridtokenx.ledger.state import StateReader
from gridtokenx.market.rules import BillRule
from gridtokenx.units import bangkok_day

Whose = Annotated[str, Path(pattern=ADDRESS, description="gtx1…, or the public key in hexadecimal")]


def named_lines(bill: Map) -> Map:
    """A bill whose lines say the names of their rules."""
    for lines in (bill["rules"], *(entry["lines"] for entry in bill["windows"])):
        for line in lines:
            line["rule_name"] = BillRule(line["rule"]).name
    return bill


def account_routes(backend: Backend) -> APIRouter:
    router, reads = APIRouter(prefix="/accounts/{address}", tags=["accounts"]), backend.reads

    def existing(address: bytes) -> Map:
        found = queries.account(reads.view.state, address)
        if found is None:
            raise unknown("nothing was ever paid into this account")
        return found

    @router.get("", response_model=Account, responses=errors_of(404))
    async def account(request: Request, address: Whose) -> Response:
        """Money, licence with meters, energy and dues of an account."""
        who = to_address(address)

        def look() -> Map:
            state = reads.view.state
            return {"account": existing(who), "participant": queries.participant(state, who),
                    "energy": settlement_queries.energy(state, who), "dues": settlement_queries.dues(state, who)}

        return await at_head(request, reads, look)

    @router.get("/balance", response_model=Balance, responses=errors_of(404))
    async def balance(request: Request, address: Whose) -> Response:
        """Money as it can be spent in the next block, and what is bound."""
        who = to_address(address)
        return await at_head(request, reads, lambda: existing(who))

    @router.get("/orders", response_model=Orders, responses=errors_of(404))
    async def orders(request: Request, address: Whose, limit: Limit = 100, cursor: Cursor = None) -> Response:
        """Open orders, first due first."""
        who = to_address(address)
        return await at_head(request, reads, lambda: orders_page(reads.view.state, who, limit, cursor))

    @router.get("/trades", response_model=Trades, responses=errors_of(404))
    async def trades(request: Request, address: Whose, window: WhichWindow = None, limit: Limit = 100,
                     cursor: Cursor = None) -> Response:
        """Trades, newest first."""
        who = to_address(address)
        return await at_head(request, reads, lambda: trades_page(backend, limit, cursor, account=who, window=window))

    @router.get("/bills", response_model=Bill, responses=errors_of(404))
    async def bills(request: Request, address: Whose,
                    day: Annotated[int | None, Query(ge=1, le=MAX_WINDOW // 96,
                                                     description="days since 1970-01-01, Bangkok; today")] = None,
                    ) -> Response:
        """Every settled window of the account's meters on a day, line by line."""
        who = to_address(address)

        def look(state: StateReader) -> Map:
            now = bangkok_day(queries.market_clock(state).now_ms // 1000)
            return named_lines(settlement_queries.bill(state, who, now if day is None else day))

        return await at_length(request, reads, look)

    @router.get("/certificates", response_model=Certificates, responses=errors_of(404))
    async def certificates(request: Request, address: Whose, limit: Limit = 100, cursor: Cursor = None) -> Response:
        """Certificates by serial number, retired ones included."""
        who = to_address(address)
        after = 0 if cursor is None else decode_cursor(cursor, 1)[0]

        def look() -> Map:
            items = certificate_queries.certificates(reads.view.state, who, after, limit)
            more = len(items) == limit
            return {"items": items, "next": encode_cursor(items[-1]["certificate"]) if more else None}

        return await at_head(request, reads, look)

    return router
