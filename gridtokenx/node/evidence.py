"""Evidence of equivocation that this node noticed: kept in the log, and submitted from its own account.

Every authority that noticed it would pay for the same transaction; so they take turns, by their place in the list, and
whoever finds the guilty one suspended already lets it be. Who has no money for the fee keeps it for whoever asks (rpc
`evidence`): anyone may send it.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from gridtokenx import codec
from gridtokenx.consensus.interface import Misbehaviour
from gridtokenx.ledger import spaces
from gridtokenx.ledger.authority_records import AuthorityChanges, Standing
from gridtokenx.ledger.operations import Evidence
from gridtokenx.ledger.receipts import Code
from gridtokenx.ledger.state import StateReader
from gridtokenx.node.epochs import members_of
from gridtokenx.node.records import LogKind

TURN_MS = 2_000
AGAIN_MS = 10_000
MOST_KEPT = 64

NO_USE = frozenset({Code.UNKNOWN_AUTHORITY, Code.ALREADY_LEAVING, Code.EVIDENCE_TOO_OLD, Code.NO_EVIDENCE})
"""Answers after which there is nothing left to do."""


def evidence_of(found: Misbehaviour, key: bytes) -> Evidence:
    first, second = found.first, found.second
    return Evidence(key, first.epoch, first.view, (int(first.kind), first.digest, first.signature),
                    (int(second.kind), second.digest, second.signature))


def leaves(state: StateReader, key: bytes) -> bool:
    """Whether this is no authority, or not for much longer."""
    if key not in {member for _, member in members_of(state)}:
        return True
    raw = state.get(spaces.AUTHORITY_CHANGES)
    entry = None if raw is None else AuthorityChanges.decode(raw).of(key)
    return entry is not None and entry[2] in (Standing.LEAVING, Standing.SUSPENDING)


def encode_evidence(evidence: Evidence) -> bytes:
    return codec.encode(evidence.fields())


def evidence_in(records: Iterable[tuple[int, bytes]]) -> list[Evidence]:
    """What a log remembers. Raises GridTokenXError for a record that cannot be read."""
    return [Evidence.parse(tuple(codec.decode(payload)[1:])) for kind, payload in records
            if kind == LogKind.EVIDENCE]


@define
class EvidenceBox:
    """At most one per authority; times are monotonic ms."""

    _kept: dict[bytes, tuple[Evidence, int]] = field(factory=dict)

    @property
    def deadline_ms(self) -> int | None:
        return min((due_ms for _, due_ms in self._kept.values()), default=None)

    def kept(self) -> list[Evidence]:
        return [evidence for evidence, _ in self._kept.values()]

    def keep(self, evidence: Evidence, now_ms: int, place: int) -> bool:
        """True iff it is news; `place` is this node's turn to submit it."""
        if evidence.key in self._kept or len(self._kept) >= MOST_KEPT:
            return False
        self._kept[evidence.key] = evidence, now_ms + place * TURN_MS
        return True

    def due(self, now_ms: int, state: StateReader) -> list[Evidence]:
        """What to submit now, on the newest final state; looked at again later."""
        for key in [key for key, (_, due_ms) in self._kept.items() if due_ms <= now_ms and leaves(state, key)]:
            del self._kept[key]
        due = [evidence for evidence, due_ms in self._kept.values() if due_ms <= now_ms]
        for evidence in due:
            self._kept[evidence.key] = evidence, now_ms + AGAIN_MS
        return due

    def answered(self, evidence: Evidence, code: int) -> None:
        if code in NO_USE:
            self._kept.pop(evidence.key, None)
