"""What a client program can expect to go wrong, and the names of the ledger's codes."""

from __future__ import annotations

from gridtokenx.errors import GridTokenXError
from gridtokenx.ledger.receipts import Code


class ClientError(GridTokenXError):
    """The root of the client's errors."""


class NoNode(ClientError):
    """None of the addresses given has a node that answers."""


class Disconnected(ClientError):
    """The connection ended, or the node did not answer in time; what was submitted may still become final."""


class RequestFailed(ClientError):
    """The node refused the request; `code` is its short word for the reason."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class BadAnswer(ClientError):
    """The node answered something else than the method's answer; it runs another version, or is broken."""


def code_name(code: int) -> str:
    """The name of a receipt's or refusal's code: WRONG_NONCE for 13; of one this version does not know, its number."""
    return Code(code).name if code in set(Code) else f"code {code}"
