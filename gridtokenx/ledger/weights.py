"""What each piece of execution weighs: part of a block's validity, so the same on every peer (CONSENSUS 2).

One unit is about a microsecond of the reference machine; `benchmarks` compare. A block's weight is the sum over
its transactions, their signatures and operations, the engine's fills and visits, and the keys it changes.
"""

from __future__ import annotations

BLOCK = 600             # clock, roots, header, call of the engine
TRANSACTION = 30
SIGNATURE = 45
FILL = 25
VISIT = 1
KEY = 8                 # encode, trie path, history
RELEASE = 40            # an order closed by a sweep or lazily, keys included
WINDOW = 30             # of an operation on many windows
SETTLE_TRADE = 25
CLEAR_RECORD = 8
CLAIM_LOOK = 4          # a meter looked at for claims
CLAIM_METER = 150       # claims of a meter and window: four records
CLAIM_RANK = 25         # a buyer's trade put into the order in which trades have their shares
CLAIM_TRADE = 90        # a buyer's share of them: holding, bill, money
READING = 15            # one reported reading; its report's signature is one more
CORRECTION = 80         # settling a meter again
SETTLE_METER = 150      # a meter's bill, keys included
CLOSE_WINDOW = 400      # balances of all zones
COUNT_METER = 20        # adding a final window to a meter's month
BILL_MONTH = 150        # a meter's lines of a month, keys included
PUBLISH = 400           # indicative prices of all zones of a window

MOST_FILLS = 128        # of one order operation

# Upper bounds that a block's builder reserves for queued orders: keys that a fill, a new order and a batch change.
KEYS_PER_FILL = 7       # the maker's order, its two indexes, account and position; the trade, its claim's index
UNCROSS_FILL = FILL + KEYS_PER_FILL * KEY     # in timed work, keys included
KEYS_PER_ORDER = 5      # the order and its indexes; its window's records
KEYS_PER_BATCH = 20     # accounts of networks, operator and tax; counters


def most_fills(quantity_wh: int) -> int:
    """How many fills an order of this quantity can have at most.

    A fill consumes a resting order, of a lot (100 Wh) or more at its own meter and so of 50 Wh or more at the other
    side's (losses are at most half), or ends the search.
    """
    return min(MOST_FILLS, quantity_wh // 50 + 2)
