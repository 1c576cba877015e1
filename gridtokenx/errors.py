"""The root of every error that GridTokenX raises on purpose."""


class GridTokenXError(Exception):
    """Something a caller can expect and handle; the message says what was wrong and what is allowed."""


class InvariantError(GridTokenXError):
    """A rule that must always hold does not; the node stops and names the item (DESIGN 10)."""
