"""Light proofs: what a final block says of a record or transaction, checked with the authorities' keys alone.

`format` has the bytes, `verify` the checks. Neither needs a node, a database or a network.
"""
