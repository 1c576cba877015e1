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
RELEASE = 15            # an order closed by a sweep or lazily
SETTLE_TRADE = 40
CLEAR_RECORD = 8

MOST_FILLS = 128        # of one order operation
MOST_VISITS = 1024

# Upper bounds that a block's builder reserves for queued orders: keys that a fill, a new order and a batch change.
KEYS_PER_FILL = 7
KEYS_PER_ORDER = 3
KEYS_PER_BATCH = 48
