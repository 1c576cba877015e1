from gridtokenx.forks import Chain as Chain
from gridtokenx.forks import fork as fork
from gridtokenx.forks import load as load
from gridtokenx.forks import new_chain as new_chain

__version__: str
__all__ = ["Chain", "__version__", "fork", "load", "new_chain"]
