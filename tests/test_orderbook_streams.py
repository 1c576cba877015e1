"""The first streams of scripts/orderbook_long.sh: operations of all kinds on random grids, engine beside model."""

from __future__ import annotations

import pytest
from long_orderbook import compare


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_stream_equals_the_model(seed: int) -> None:
    done, trades = compare(seed)
    assert done >= 400 and trades
