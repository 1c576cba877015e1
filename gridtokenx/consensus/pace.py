"""How long to wait: the network's delta, grown until it fits, and the own speed of execution (CONSENSUS 5, 7)."""

from __future__ import annotations

DELTA_MAX_MS = 2_000
FINALIZED_PER_STEP_BACK = 10
EXECUTION_CAP_PERCENT_OF_DELTA = 250
BODY_BYTES_PER_MS = 2_000                # 2 MB/s
_BYTES_PER_TRANSACTION_GUESS = 1_024     # until the body is held


class Delta:
    """delta_ms: x 1.5 whenever n consecutive views bring no finalization, a step back per 10 final blocks."""

    def __init__(self, base_ms: int, n: int) -> None:
        self._steps = [base_ms]
        while self._steps[-1] < DELTA_MAX_MS:
            self._steps.append(min(DELTA_MAX_MS, self._steps[-1] * 3 // 2 + 1))
        self._n = n
        self._step = 0
        self._barren_views = 0
        self._finalized = 0

    @property
    def ms(self) -> int:
        return self._steps[self._step]

    def inherit(self, former: Delta) -> None:
        """Begins where the delta of another epoch was."""
        self._step = min(former._step, len(self._steps) - 1)

    def view_passed(self) -> None:
        self._barren_views += 1
        if self._barren_views >= self._n:
            self._barren_views = 0
            self._finalized = 0
            self._step = min(self._step + 1, len(self._steps) - 1)

    def finalized(self, blocks: int) -> None:
        self._barren_views = 0
        self._finalized += blocks
        if self._finalized >= FINALIZED_PER_STEP_BACK:
            self._finalized = 0
            self._step = max(0, self._step - 1)


class Speed:
    """E(w): how long a block of weight w takes to execute here, from own measurements."""

    def __init__(self, max_block_weight: int) -> None:
        self._max_block_weight = max_block_weight
        self._us_per_1000_weight = 0
        self._weight_per_transaction = 0

    def measured(self, weight: int, transactions: int, elapsed_ms: int) -> None:
        """One execution. Small ones say nothing about speed and are left out."""
        if transactions > 0:
            self._weight_per_transaction = (3 * self._weight_per_transaction + weight // transactions) // 4
        if weight >= self._max_block_weight // 64 and elapsed_ms > 0:
            sample = elapsed_ms * 1_000_000 // weight
            self._us_per_1000_weight = (3 * self._us_per_1000_weight + sample) // 4 if self._us_per_1000_weight \
                else sample

    def execution_ms(self, weight: int, delta_ms: int) -> int:
        """E(weight), at most 250 ms x delta / 100 ms."""
        expected_ms = min(weight, self._max_block_weight) * self._us_per_1000_weight // 1_000_000
        return min(expected_ms, EXECUTION_CAP_PERCENT_OF_DELTA * delta_ms // 100)

    def weight_guess(self, transactions: int) -> int:
        """The likely weight of a block that was not executed yet."""
        return min(transactions * self._weight_per_transaction, self._max_block_weight)


def transfer_ms(body_bytes: int | None, transactions: int, max_block_bytes: int) -> int:
    """How long a body may take on the wire at 2 MB/s; guessed from the count while it is not held."""
    if body_bytes is None:
        body_bytes = min(transactions * _BYTES_PER_TRANSACTION_GUESS, max_block_bytes)
    return body_bytes // BODY_BYTES_PER_MS
