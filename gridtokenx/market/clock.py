"""Market time and the life of a delivery window (MARKET 2). All in Unix ms; windows are Unix seconds // 900."""

from __future__ import annotations

from attrs import frozen

WINDOW_S = 900
WINDOW_MS = WINDOW_S * 1000
OPENS_BEFORE_MS = 604_800_000
GATE_BEFORE_MS = 900_000
READINGS_AFTER_MS = 3_600_000
CORRECTIONS_AFTER_MS = 604_800_000


@frozen
class MarketClock:
    """`start + rate x (block timestamp - genesis timestamp)`; rate 1 on live chains, more on a testnet."""

    genesis_ms: int
    start_ms: int
    rate: int

    def at(self, timestamp_ms: int) -> int:
        """Market time, ms, of a block's timestamp."""
        return self.start_ms + self.rate * (timestamp_ms - self.genesis_ms)


def window_at(market_ms: int) -> int:
    """The window that delivers at a market time."""
    return market_ms // WINDOW_MS


def opens_ms(window: int) -> int:
    return window * WINDOW_MS - OPENS_BEFORE_MS


def gate_ms(window: int) -> int:
    """From this market time on no order for the window is accepted, and open ones count as closed."""
    return window * WINDOW_MS - GATE_BEFORE_MS


def settles_ms(window: int) -> int:
    """The deadline of readings, at which settlement begins."""
    return (window + 1) * WINDOW_MS + READINGS_AFTER_MS


def final_ms(window: int, corrections_ms: int = CORRECTIONS_AFTER_MS) -> int:
    """The end of corrections: from here on the window is final."""
    return (window + 1) * WINDOW_MS + corrections_ms


def tradable(market_ms: int) -> range:
    """The windows open for trading at a market time, earliest first."""
    return range((market_ms + GATE_BEFORE_MS) // WINDOW_MS + 1, (market_ms + OPENS_BEFORE_MS) // WINDOW_MS + 1)
