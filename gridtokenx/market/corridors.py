"""Corridors of the grid and what they can still carry in a window (MARKET 4).

    residual(corridor, direction) = capacity - sum of q_in one way + sum of q the other way

A window has a record of a corridor once a fill used it or the grid operator changed it; until then it has the declared
capacity `floor(W / 4)`, unused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gridtokenx.errors import InvariantError
from gridtokenx.ledger import spaces
from gridtokenx.ledger.records import Corridor, CorridorWindow
from gridtokenx.ledger.session import Session

FORWARD = 0         # from `first` to `second`
BACKWARD = 1


def declared(corridor: Corridor) -> CorridorWindow:
    """The corridor in a window that nothing has touched."""
    forward, backward = corridor.forward_w // 4, corridor.backward_w // 4
    return CorridorWindow(forward, backward, forward, backward)


def corridor_window(session: Session, window: int, corridor_id: int) -> CorridorWindow:
    """The corridor in the window as it stands."""
    found: CorridorWindow | None = session.get(spaces.corridor_window(window, corridor_id))
    return declared(session.get(spaces.corridor(corridor_id))) if found is None else found


def directions(session: Session, start: int, path: Iterable[int]) -> Iterator[tuple[int, Corridor, int]]:
    """(corridor id, corridor, direction) along a path that starts in a zone."""
    zone = start
    for corridor_id in path:
        corridor: Corridor = session.get(spaces.corridor(corridor_id))
        if zone == corridor.first:
            zone = corridor.second
            yield corridor_id, corridor, FORWARD
        elif zone == corridor.second:
            zone = corridor.first
            yield corridor_id, corridor, BACKWARD
        else:
            raise InvariantError(f"corridor {corridor_id} does not touch zone {zone}")


def moved(record: CorridorWindow, forward: int, backward: int) -> CorridorWindow:
    """`record` with its residuals changed by these signed Wh."""
    r = record
    return CorridorWindow(r.forward_wh, r.backward_wh, r.forward_left_wh + forward, r.backward_left_wh + backward,
                          r.height)


def window_arrays(session: Session, window: int, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Capacities and residuals of corridors 0 to `count` - 1 as the engine loads them."""
    capacities, residuals = np.zeros((count, 2), np.int64), np.zeros((count, 2), np.int64)
    for number in range(count):
        r = corridor_window(session, window, number)
        capacities[number] = r.forward_wh, r.backward_wh
        residuals[number] = r.forward_left_wh, r.backward_left_wh
    return capacities, residuals
