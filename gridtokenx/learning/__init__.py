"""Environments for learning agents: Gymnasium for one house, PettingZoo for many at once (docs/learning.md)."""

from gridtokenx.learning.parallel import ParallelMarket
from gridtokenx.learning.single import MarketEnv

__all__ = ["MarketEnv", "ParallelMarket"]
