"""The client library: what a trader's program needs, and all that the command line uses.

Keys stay with their owner: transactions are built and signed here (`Account`), and any node carries them
(`connect` over libp2p, `HttpClient` and `open_feed` over HTTP). Importing this package is quick; the network code is
loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gridtokenx.client.account import Account, SignedTransaction
from gridtokenx.client.errors import BadAnswer, ClientError, Disconnected, NoNode, RequestFailed, code_name

if TYPE_CHECKING:
    from gridtokenx.client.connection import BlockPush, Client, Submission, connect
    from gridtokenx.client.feed import Feed, open_feed
    from gridtokenx.client.http import HttpClient, HttpRefused, TrioHttpClient

__all__ = [
    "Account", "BadAnswer", "BlockPush", "Client", "ClientError", "Disconnected", "Feed", "HttpClient", "HttpRefused",
    "NoNode", "RequestFailed", "SignedTransaction", "Submission", "TrioHttpClient", "code_name", "connect", "open_feed",
]
_LATER = {"BlockPush": "connection", "Client": "connection", "Submission": "connection", "connect": "connection",
          "Feed": "feed", "open_feed": "feed", "HttpClient": "http", "HttpRefused": "http", "TrioHttpClient": "http"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(f"gridtokenx.client.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
