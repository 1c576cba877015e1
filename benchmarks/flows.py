"""Order flows as files of operations: a 64-byte header, then 16-byte records (`gridtokenx.flow`).

mix: 20 000 resting, then 63 % limit (about 29 % of them match), 32 % cancels of live orders, 5 % IOC. cross: 85 %
limit, about 0.75 trades per operation. deep: 1 000 000 resting over 40 000 levels, 60 / 35 / 5. Each is made by playing
it, so that cancels name orders that live.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gridtokenx._native.orderbook import RECORD, RESTING, Code, Engine, RecordKind, Side
from gridtokenx.flow import Flow

MIDDLE = 40_000         # ticks
MOST_LOTS = 40
# name: (prefill, levels a side, share limit, share cancel, share of limit orders priced to match, and their size
# relative to the others)
FLOWS = {
    "mix": (20_000, 400, 0.63, 0.32, 0.29, 1),
    "cross": (20_000, 400, 0.85, 0.10, 0.48, 2),
    "deep": (1_000_000, 20_000, 0.60, 0.35, 0.05, 1),
}


def _limits(rng: np.random.Generator, count: int, first_id: int, levels: int) -> NDArray[np.void]:
    """Limit orders that rest: either side of the middle, owners drawn from all that a record can name."""
    records = np.zeros(count, RECORD)
    records["id"] = np.arange(first_id, first_id + count)
    records["owner"] = rng.integers(0, 65_536, count)
    records["side"] = rng.integers(0, 2, count)
    distance = rng.integers(1, levels + 1, count)
    records["price"] = np.where(records["side"] == Side.BUY, MIDDLE - distance, MIDDLE + distance)
    records["quantity"] = rng.integers(1, MOST_LOTS + 1, count)
    return records


def make_flow(name: str, count: int, seed: int = 1) -> Flow:
    """A flow of `count` timed operations."""
    prefill_count, levels, limit, cancel, matching, size = FLOWS[name]
    rng = np.random.default_rng(seed)
    total = prefill_count + count
    engine = Engine([(0, 0)], sources=1, max_orders=total + 1, max_windows=1, dense_ids=total + 1)
    engine.load(0, np.empty(0, RESTING))
    prefill = _limits(rng, prefill_count, 1, levels)
    sequence = engine.replay(prefill).next_sequence
    live = prefill["id"].copy()
    parts, next_id, left = [prefill], prefill_count + 1, count
    step = 512 if prefill_count < 100_000 else 4096
    while left > 0:
        n = min(step, left)
        left -= n
        records = _limits(rng, n, next_id, levels)
        next_id += n
        draw = rng.random(n)
        aggressive = (draw < limit * matching) | (draw >= limit + cancel)
        reach = rng.integers(1, levels if size > 1 else levels // 20, n)
        records["price"][aggressive] = np.where(
            records["side"] == Side.BUY, MIDDLE + reach, MIDDLE - reach)[aggressive]
        records["quantity"][aggressive] *= size
        records["kind"][draw >= limit + cancel] = RecordKind.IOC
        cancels = np.flatnonzero((draw >= limit) & (draw < limit + cancel))[: len(live)]
        records["kind"][cancels] = RecordKind.CANCEL
        records["id"][cancels] = live[rng.choice(len(live), len(cancels), replace=False)]
        done = engine.replay(records, next_sequence=sequence)
        sequence = done.next_sequence
        rested = (done.codes == Code.RESTING) & (records["kind"] == RecordKind.LIMIT)
        maybe = np.concatenate([live, records["id"][rested]])
        gone = np.zeros(next_id, bool)
        gone[records["id"][cancels]] = True
        traded = np.unique(done.trades["maker_id"])
        gone[traded[~engine.resting(traded)]] = True
        live = maybe[~gone[maybe]]
        parts.append(records)
    return Flow(np.concatenate(parts), prefill_count, seed)
