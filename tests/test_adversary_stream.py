"""Blocks of every kind of operation, valid, nearly valid and broken, with parameters at their bounds: none fails."""

from __future__ import annotations

import pytest
from adversary_support import adversary_chain, check_drains, check_reload

from gridtokenx.ledger.receipts import Code


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_no_stream_breaks_a_block(seed: int) -> None:
    chain, adversary = adversary_chain(seed, extreme=seed % 3 > 0)
    for _ in range(30):
        adversary.block()
    check_reload(chain)
    check_drains(chain)
    assert Code.INTERNAL not in adversary.codes
    assert len(adversary.kinds) > 8 and len(adversary.codes) > 25
