"""What an operation sees while its block executes."""

from __future__ import annotations

from attrs import define

from gridtokenx.ledger import spaces
from gridtokenx.ledger.parameters import Parameters
from gridtokenx.ledger.records import Clock, Identity, Roles
from gridtokenx.ledger.session import Session
from gridtokenx.market.clock import MarketClock


@define
class Context:
    """The block's time and rules. `now_ms` and `parent_ms` are market time of the block and of its parent."""

    session: Session
    parameters: Parameters
    identity: Identity
    height: int
    timestamp_ms: int
    parent_timestamp_ms: int
    now_ms: int
    parent_ms: int

    @property
    def roles(self) -> Roles:
        roles: Roles = self.session.get(spaces.ROLES)
        return roles


def open_context(session: Session, parameters: Parameters, timestamp_ms: int) -> Context:
    """The context of a block with `timestamp_ms` on the state that `session` reads."""
    identity: Identity = session.get(spaces.IDENTITY)
    before: Clock = session.get(spaces.CLOCK)
    clock = MarketClock(identity.genesis_ms, identity.market_start_ms, identity.market_rate)
    return Context(session, parameters, identity, session.height, timestamp_ms, before.timestamp_ms,
                   clock.at(timestamp_ms), clock.at(before.timestamp_ms))
