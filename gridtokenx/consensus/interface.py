"""What goes into the consensus core and what comes out: events and effects, nothing else.

`Core.step(event, now_ms, clock_ms) -> list[Effect]` is the whole interface, beside `Core.deadline_ms`, the
monotonic time at which the core wants a `Tick` (None: not before the next event). `now_ms` is monotonic time,
`clock_ms` the wall clock; the core reads neither by itself.

The driver carries effects out in order and keeps one promise: everything `Persist`ed or reported by
`BlockHeld` before a `Send` is durable before that `Send` leaves (CONSENSUS 6; one sync per turn of the loop).
"""

from __future__ import annotations

from attrs import frozen

from gridtokenx.consensus.messages import Certificate, Message, Propose, Vote
from gridtokenx.ledger.block import Header

# ---------------------------------------------------------------- events


@frozen
class MessageReceived:
    """A message of the authority with index `sender` in the present list, proven by its connection."""

    sender: int
    message: Message


@frozen
class BlockHeld:
    """Header and body of `digest` are complete and appended to the log (answers Execute, Fetch)."""

    digest: bytes
    header: Header
    transaction_ids: tuple[bytes, ...]
    body_bytes: int


@frozen
class BlockExecuted:
    """The block was executed on its parent. `valid` is false when it breaks a rule or a root differs.

    `weight` is its metered weight; `unfinished` says that timed work is left for another block. Invalid without
    an earlier BlockHeld means that what the leader handed out is not this header's body: the proposal is
    refused, but nothing is said about the block.
    """

    digest: bytes
    valid: bool
    reason: str = ""
    weight: int = 0
    unfinished: bool = False


@frozen
class BlockBuilt:
    """The own block for `view`, executed already (answers Build) and, with its body, appended to the log."""

    view: int
    header: Header
    transaction_ids: tuple[bytes, ...]
    body_bytes: int
    weight: int
    unfinished: bool = False


@frozen
class WorkPending:
    """How much of the own pool could go into a child of the block that the present view would extend.

    `weight` of at most one block; 0 means none. Sent whenever it changes between zero and more, and after
    each change of the tip.
    """

    weight: int
    transaction_ids: tuple[bytes, ...] = ()


@frozen
class CaughtUp:
    """Sync brought the node to the finalized block `header`, executed and logged, with its own finalization
    certificate; the core jumps there. `unfinished`: timed work is left after it.

    Blocks that waited for one of them to be executed go on. No Finalize follows for these blocks. The Drop that
    may follow only frees overlays: it can name blocks that the sync just made final.
    """

    header: Header
    certificate: Certificate
    unfinished: bool = False


@frozen
class Tick:
    """`deadline_ms` has come."""


Event = MessageReceived | BlockHeld | BlockExecuted | BlockBuilt | WorkPending | CaughtUp | Tick

# ---------------------------------------------------------------- effects


@frozen
class Send:
    """To one authority, or to all others when `to` is None."""

    message: Message
    to: int | None = None


@frozen
class Answer:
    """To whoever asked, of this epoch's list or not."""

    message: Message
    to: bytes


@frozen
class Barred:
    """What this authority signed may be forgotten here: nothing is signed up to the end of `epoch`.

    To be kept durably: peers may not remember at the next start.
    """

    epoch: int
    reason: str


@frozen
class Persist:
    """Append to the durable log before any later Send of this turn leaves."""

    record: Vote | Propose | Certificate


@frozen
class Execute:
    """Get the body of this proposal (from `source` or anyone), append it, execute it on its parent.

    Answer with BlockHeld, then BlockExecuted. The parent is executed or being executed already. After a
    restart `source` is this authority itself: header and body are in the log, BlockHeld may be left out.
    """

    digest: bytes
    header: Header
    transaction_ids: tuple[bytes, ...]
    source: int


@frozen
class Fetch:
    """A notarized or finalized block that is not held: get header and body by digest, from `holders` first.

    `view` is that of the certificate that vouches for it (its own or a descendant's). Answer with BlockHeld,
    then, once its parent is executed, BlockExecuted. Repeated every 500 ms with the holders rotated.
    """

    digest: bytes
    view: int
    holders: tuple[int, ...]


@frozen
class Build:
    """Make, execute and append a block on `parent` (answer BlockBuilt). `empty` forbids transactions."""

    epoch: int
    view: int
    parent: bytes
    height: int
    timestamp_ms: int
    empty: bool


@frozen
class Finalize:
    """These blocks, oldest first, are final; `certificate` finalizes the last of them.

    All of them are held and were executed as valid here. Like a Send, it may be told to others (clients, gossip)
    only when everything persisted before it is durable: an own FINALIZE vote may be among the q.
    """

    digests: tuple[bytes, ...]
    certificate: Certificate


@frozen
class Drop:
    """These blocks can never be final; their overlays and bodies may go."""

    digests: tuple[bytes, ...]


@frozen
class CatchUp:
    """A finalization is known that lies beyond what is held, or (None) a later epoch than the own; sync to it
    (answer CaughtUp)."""

    certificate: Certificate | None
    holders: tuple[int, ...]


@frozen
class Misbehaviour:
    """Two signed messages that no honest authority sends (CONSENSUS 5, evidence)."""

    signer: int
    first: Vote
    second: Vote


@frozen
class Note:
    """Something an operator may want in the log: a view entered, nullified, notarized."""

    event: str
    view: int
    detail: str = ""


Effect = Send | Answer | Barred | Persist | Execute | Fetch | Build | Finalize | Drop | CatchUp | Misbehaviour | Note
