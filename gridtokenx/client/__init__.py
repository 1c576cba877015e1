"""The client library: what a trader's program needs, and all that the command line uses.

Keys stay with their owner: transactions are built and signed here (`Account`), and any node carries them
(`connect`). Importing this package is quick; the network code is loaded by the first `connect`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gridtokenx.client.account import Account, SignedTransaction
from gridtokenx.client.errors import BadAnswer, ClientError, Disconnected, NoNode, RequestFailed, code_name

if TYPE_CHECKING:
    from gridtokenx.client.connection import BlockPush, Client, Submission, connect

__all__ = [
    "Account", "BadAnswer", "BlockPush", "Client", "ClientError", "Disconnected", "NoNode",
    "RequestFailed", "SignedTransaction", "Submission", "code_name", "connect",
]
_LATER = frozenset({"BlockPush", "Client", "Submission", "connect"})


def __getattr__(name: str) -> Any:
    if name in _LATER:
        from gridtokenx.client import connection

        return getattr(connection, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
