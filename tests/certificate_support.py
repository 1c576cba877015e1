"""Certificates in tests: records put into the state of a chain as if settlement had made them, and carbon factors."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from ledger_support import START_MS, Chain, key, trading_chain

from gridtokenx.ledger import spaces, trie
from gridtokenx.ledger.certificate_conservation import audit_certificates
from gridtokenx.ledger.certificate_records import Bundles, Carbon, Holding, MeterClaims
from gridtokenx.ledger.schema import encode_value
from gridtokenx.ledger.state import StateView

MWH = 1_000_000
W = START_MS // 900_000 - 700         # a window of last week
GRID = 475_000                          # ug/Wh
EMISSIONS = (475_000, 0, 0, 0, 18_000, 38_000, 475_000, 475_000)
CREDITS = (0, 500_000, 600_000, 400_000, 300_000, 700_000, 0, 0)


def carbon(*first_windows: int) -> Carbon:
    """Versions from these windows on; each later one has a grid factor 1 000 ug/Wh lower."""
    return Carbon(tuple((window, GRID - 1_000 * number, EMISSIONS, CREDITS)
                        for number, window in enumerate(first_windows)))


def plant(chain: Chain, records: dict[bytes, Any]) -> None:
    """The head of `chain` as if its block had also written `records` (None: removed)."""
    head = chain.head
    changes = {key: None if record is None else encode_value(key, record) for key, record in records.items()}
    root, pages = trie.update(head.page, head.header.state_root, sorted(changes.items()))
    header = evolve(head.header, state_root=root)
    chain.head = StateView(StateView(head.parent, head.header, head.changes, head.pages), header, changes, pages)


def claimed_chain() -> Chain:
    """House 0 holds 3.4 MWh of claims of its meter 1: bundles of windows W..W+2, W+2 and W+3 twice, the rest of W+3."""
    chain = trading_chain(3)
    owner = key("house 0").public
    held = Holding(400_000, W + 3, W + 3, 400_000 * GRID, 400_000 * 500_000, 0, 2, 3)
    plant(chain, {
        spaces.CARBON: carbon(W - 5),
        spaces.holding(owner, 1): held,
        spaces.bundles(owner, 1, 0): Bundles(1, W, W + 2, 474_999_999_999, 499_999_000_000),
        spaces.bundles(owner, 1, 1): Bundles(2, W + 3, W + 3, MWH * GRID, MWH * 500_000),
        spaces.meter_claims(1): MeterClaims(3_500_000, 3_400_000),
    })
    audit_certificates(chain.head)
    return chain
