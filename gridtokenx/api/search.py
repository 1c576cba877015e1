"""What a text may mean on this chain: a height, a hash, an address, a number of something, a time, a name.

One query for a search field. What is found is named by `kind` and `id`; `account` says whose it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gridtokenx.crypto.bech32m import AddressError, decode_address
from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger import certificate_queries, queries, spaces
from gridtokenx.ledger.records import Meter, Participant
from gridtokenx.ledger.spaces import MAX_WINDOW, Space
from gridtokenx.ledger.state import StateReader
from gridtokenx.node.epochs import members_of
from gridtokenx.node.reads import Map, Reads
from gridtokenx.units import bangkok_s, bangkok_time, window_at

MAX_FOUND = 20
MAX_LICENCES = 20_000
"""Participants whose licences are looked through."""
MAX_TEXT = 80
FIRST_WINDOW = 1_000_000
"""Smaller numbers are not offered as windows: they would be of before 1999."""

_DATE = re.compile(r"(?:(\d{4})-(\d\d)-(\d\d)[T ])?(\d\d?):(\d\d)")


def found(kind: str, identity: Any, text: str, account: bytes | None = None) -> Map:
    return {"kind": kind, "id": str(identity), "text": text, "account": account}


def in_chain(reads: Reads, text: str) -> list[Map]:
    """Blocks and transactions of that height or hash. Hold the view's lock."""
    rows: list[Map] = []
    if text.isascii() and text.isdigit() and len(text) < 16 and int(text) <= reads.view.head.height:
        rows.append(found("block", int(text), ""))
    if re.fullmatch("[0-9a-f]{64}", text):
        digest = bytes.fromhex(text)
        height = reads.height_of(digest)
        if height is not None:
            rows.append(found("block", height, ""))
        if reads.fate(digest)["state"] != "unknown":
            rows.append(found("transaction", text, ""))
    return rows


def in_state(state: StateReader, text: str) -> list[Map]:
    """Accounts, things with numbers, windows and names. Reads much: for a thread."""
    rows = [*_addresses(state, text), *_numbers(state, text), *_times(state, text), *_names(state, text)]
    return rows[:MAX_FOUND]


def _addresses(state: StateReader, text: str) -> Iterator[Map]:
    try:
        address = bytes.fromhex(text) if len(text) == 64 else decode_address(text)
    except (ValueError, AddressError):
        return
    if queries.account(state, address) is not None:
        holder = queries.participant(state, address)
        yield found("account", address.hex(), "" if holder is None else holder["licence"], address)


def _numbers(state: StateReader, text: str) -> Iterator[Map]:
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        return
    number = int(text)
    if number < 1 << 32:
        raw = state.get(spaces.meter(number))
        if raw is not None:
            yield found("meter", number, "", Meter.decode(raw).owner)
        raw = state.get(spaces.participant(number))
        if raw is not None:
            holder = Participant.decode(raw)
            yield found("participant", number, holder.licence, holder.account)
    certificate = certificate_queries.certificate(state, number)
    if certificate is not None:
        yield found("certificate", number, certificate["status"], certificate["owner"])
    order = queries.order(state, number)
    if order is not None:
        meter = state.get(spaces.meter(order["meter"]))
        yield found("order", number, "", None if meter is None else Meter.decode(meter).owner)
    if FIRST_WINDOW <= number <= MAX_WINDOW:
        yield found("window", number, "")


def _times(state: StateReader, text: str) -> Iterator[Map]:
    """`2025-04-21T14:30`, or `14:30` of the market's present day: the window that delivers then, Bangkok time."""
    match = _DATE.fullmatch(text)
    if match is None:
        return
    now = bangkok_time(queries.market_clock(state).now_ms // 1000)
    year, month, day = (int(part) for part in (match[1] or now.year, match[2] or now.month, match[3] or now.day))
    try:
        window = window_at(bangkok_s(year, month, day, int(match[4]), int(match[5])))
    except GridTokenXError:         # no such date
        return
    if 0 <= window <= MAX_WINDOW:
        yield found("window", window, "")


def _names(state: StateReader, text: str) -> Iterator[Map]:
    wanted = text.casefold()
    if len(wanted) < 2:
        return
    for name, public in members_of(state):
        if wanted in name.casefold():
            yield found("authority", name, name, public)
    for zone in queries.zones(state):
        if wanted in zone["name"].casefold():
            yield found("zone", zone["zone"], zone["name"])
    listed = 0
    for number, (key, raw) in enumerate(state.scan(bytes((Space.PARTICIPANT,)))):
        if number == MAX_LICENCES or listed == MAX_FOUND:
            return
        holder = Participant.decode(raw)
        if wanted in holder.licence.casefold():
            listed += 1
            yield found("participant", int.from_bytes(key[1:], "big"), holder.licence, holder.account)
