"""The node: the only place where ledger, consensus, store and network meet."""
