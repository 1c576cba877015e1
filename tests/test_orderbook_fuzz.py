"""A few rounds of `fuzz_orderbook.py`: arbitrary bytes give results or clear errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz_orderbook import run


@pytest.mark.parametrize("first", range(1, 121, 30))
def test_arbitrary_bytes_give_results_or_clear_errors(first: int, tmp_path: Path) -> None:
    for seed in range(first, first + 30):
        run(seed, tmp_path)
