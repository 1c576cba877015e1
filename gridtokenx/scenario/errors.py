"""What is wrong with a scenario."""

from __future__ import annotations

from gridtokenx.errors import GridTokenXError


class ScenarioError(GridTokenXError):
    """A scenario or a file it names that cannot be used; the message names the key, what it is and what is allowed."""
