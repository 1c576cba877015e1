"""Forks: a chain as it stands at any height, in this process, to ask "what if" (DESIGN 11).

The same ledger, order book and settlement as the live network; only signatures, consensus and the clock are left out.
"""

from gridtokenx.forks.chain import Chain
from gridtokenx.forks.errors import ForkError, OperationFailed
from gridtokenx.forks.mined import Mined, Refusal
from gridtokenx.forks.opening import fork, load, new_chain, parent_of
from gridtokenx.forks.provenance import Provenance

__all__ = ["Chain", "ForkError", "Mined", "OperationFailed", "Provenance", "Refusal", "fork", "load", "new_chain",
           "parent_of"]
