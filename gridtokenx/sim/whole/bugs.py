"""Deliberate bugs in storage, recovery and the node around consensus, for the simulator of whole nodes alone.

Each is switched on by putting something else in the place of one function of production code, which carries no
switches itself.
"""

from __future__ import annotations

from gridtokenx.sim.bugs import Bug

BUGS: tuple[Bug, ...] = ()
