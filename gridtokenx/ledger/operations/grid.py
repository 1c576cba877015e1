"""What operators do to windows (MARKET 3 and 4).

`[24, corridor, first_window, last_window, forward_w, backward_w]` sets a corridor's capacity,
`[25, first_window, last_window, halted]` halts or resumes trading.
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from gridtokenx._native.orderbook import Kind
from gridtokenx.grid.kinds import Role
from gridtokenx.ledger import spaces
from gridtokenx.ledger.context import Context
from gridtokenx.ledger.operations.base import Block, check_count, integer
from gridtokenx.ledger.receipts import Code, Failed
from gridtokenx.ledger.records import Account, CorridorWindow, Participant
from gridtokenx.market import halts
from gridtokenx.market.clock import gate_ms, opens_ms
from gridtokenx.market.corridors import BACKWARD, FORWARD, corridor_window

MOST_WINDOWS = 96           # of one operation: a day
MOST_W = 10**12
AHEAD_MS = 28 * 86_400_000


def _windows(first: int, last: int) -> range:
    if not first <= last < first + MOST_WINDOWS:
        raise Failed(Code.OUT_OF_RANGE, f"windows {first} to {last}; at most {MOST_WINDOWS} in order are allowed")
    return range(first, last + 1)


def _is_grid_operator(context: Context, sender: bytes) -> bool:
    account: Account | None = context.session.get(spaces.account(sender))
    if account is None or not account.participant:
        return False
    participant: Participant = context.session.get(spaces.participant(account.participant))
    return participant.role == Role.GRID_OPERATOR and participant.expires_ms > context.now_ms


@frozen
class SetCapacity:
    """By a grid operator. Existing trades stand, so that the residual may become negative.

    The receipt's data is the number of windows. A corridor of a window can be set once in a block.
    """

    corridor: int
    first_window: int
    last_window: int
    forward_w: int
    backward_w: int

    KIND: ClassVar[int] = 24
    NAME: ClassVar[str] = "set capacity"
    WEIGHT: ClassVar[int] = 60
    IS_ORDER: ClassVar[bool] = True

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> SetCapacity:
        check_count(fields, "corridor", "first_window", "last_window", "forward_w", "backward_w")
        return cls(integer("corridor", fields[0], 0, 255), integer("first_window", fields[1], 0, spaces.MAX_WINDOW),
                   integer("last_window", fields[2], 0, spaces.MAX_WINDOW), integer("forward_w", fields[3], 0, MOST_W),
                   integer("backward_w", fields[4], 0, MOST_W))

    def fields(self) -> list[Any]:
        return [self.KIND, self.corridor, self.first_window, self.last_window, self.forward_w, self.backward_w]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        context, desk = block.context, block.desk
        session = context.session
        if not _is_grid_operator(context, sender):
            raise Failed(Code.NOT_GRID_OPERATOR, "only a grid operator sets capacities")
        if session.get(spaces.corridor(self.corridor)) is None:
            raise Failed(Code.UNKNOWN_CORRIDOR, f"no corridor {self.corridor}")
        windows = _windows(self.first_window, self.last_window)
        if gate_ms(self.first_window) <= context.now_ms:
            raise Failed(Code.WINDOW_CLOSED, f"window {self.first_window} closed at {gate_ms(self.first_window)}; "
                                             f"it is {context.now_ms}")
        if opens_ms(self.last_window) > context.now_ms + AHEAD_MS:
            raise Failed(Code.WINDOW_NOT_OPEN, f"window {self.last_window} opens at {opens_ms(self.last_window)}; "
                                               f"capacities can be set {AHEAD_MS} ms before that")
        forward, backward = self.forward_w // 4, self.backward_w // 4
        for window in windows:
            desk.touch(window)
            r = corridor_window(session, window, self.corridor)
            if r.height == context.height:
                raise Failed(Code.SET_ALREADY, f"corridor {self.corridor} in window {window} was set in this block")
            told = desk.load_before_change(window)
            session.put(spaces.corridor_window(window, self.corridor), CorridorWindow(
                forward, backward, r.forward_left_wh + forward - r.forward_wh,
                r.backward_left_wh + backward - r.backward_wh, context.height))
            if told:
                desk.queue(window, Kind.CAPACITY, forward, self.corridor, FORWARD)
                desk.queue(window, Kind.CAPACITY, backward, self.corridor, BACKWARD)
            desk.weigh_window()
        return (len(windows),)


@frozen
class HaltWindows:
    """By the market operator or a grid operator: a halt lasts until it is resumed. Cancels stay possible.

    The receipt's data is the number of windows.
    """

    first_window: int
    last_window: int
    halted: bool

    KIND: ClassVar[int] = 25
    NAME: ClassVar[str] = "halt windows"
    WEIGHT: ClassVar[int] = 60
    IS_ORDER: ClassVar[bool] = True

    @classmethod
    def parse(cls, fields: tuple[Any, ...]) -> HaltWindows:
        check_count(fields, "first_window", "last_window", "halted")
        return cls(integer("first_window", fields[0], 0, spaces.MAX_WINDOW),
                   integer("last_window", fields[1], 0, spaces.MAX_WINDOW), bool(integer("halted", fields[2], 0, 1)))

    def fields(self) -> list[Any]:
        return [self.KIND, self.first_window, self.last_window, int(self.halted)]

    def apply(self, block: Block, sender: bytes) -> tuple[Any, ...]:
        context, desk = block.context, block.desk
        if sender != context.roles.market_operator and not _is_grid_operator(context, sender):
            raise Failed(Code.NOT_GRID_OPERATOR, "only the market operator and grid operators halt windows")
        windows = _windows(self.first_window, self.last_window)
        for window in windows:
            desk.open_rules(window)
            desk.touch(window)
            if self.halted:
                halts.halt(desk, window)
            else:
                halts.resume(desk, window)
            desk.weigh_window()
        return (len(windows),)
