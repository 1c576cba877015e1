"""What goes wrong with a fork."""

from __future__ import annotations

from gridtokenx.errors import GridTokenXError


class ForkError(GridTokenXError):
    """Something that a fork cannot do; the message says what was asked and what is allowed."""


class OperationFailed(ForkError):
    """An operation that `Chain.send` was to carry out has failed; `code` is that of the receipt."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
