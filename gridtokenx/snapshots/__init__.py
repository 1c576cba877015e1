"""Snapshots of the state: one final block's whole state in chunks, each checked against the block's state root.

`format` has manifest and chunks with their checks; `make` and `restore` turn a data directory into a file and back.
"""
