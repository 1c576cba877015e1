"""The root of every error that GridTokenX raises on purpose."""


class GridTokenXError(Exception):
    """Something a caller can expect and handle; the message says what was wrong and what is allowed."""


class InvariantError(GridTokenXError):
    """A rule that must always hold does not; the node stops and names the item (DESIGN 10)."""


def leaves(error: BaseException) -> list[BaseException]:
    """The errors inside an exception group, however nested; of any other error, itself."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in leaves(inner)]
    return [error]
