"""GridTokenX: a peer network for trading electricity between neighbours. 1 kWh = 1 GridToken.

Researchers begin here: `gridtokenx.fork(directory)` and `gridtokenx.new_chain(genesis)` give a chain to try things on.
Their types are in `__init__.pyi`.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["Chain", "__version__", "fork", "load", "new_chain"]


def __getattr__(name: str) -> Any:
    """Imported on first use: what runs a node needs none of it, and the pure layers must not reach it."""
    if name in __all__:
        return getattr(import_module("gridtokenx.forks"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
