from gridtokenx.forks import Chain as Chain, fork as fork, new_chain as new_chain

__version__: str
__all__ = ["Chain", "__version__", "fork", "new_chain"]
