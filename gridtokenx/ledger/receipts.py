"""Receipts: what became of each operation of a transaction, with codes that never change their number.

The same codes refuse a transaction at submission (`ledger.admission`), so a client learns one list.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from attrs import frozen

from gridtokenx import codec
from gridtokenx._native.records import encode as encode_fields
from gridtokenx.crypto.hashing import HASH_BYTES, Domain, digest
from gridtokenx.errors import GridTokenXError

MAX_RECEIPT_BYTES = 64 * 1024


class Code(IntEnum):
    """Numbers are part of the receipts root: frozen, never reused. Docs: `docs/ledger.md`."""

    OK = 0
    REMAINDER_CANCELLED = 1      # the order met its limit of fills or visits; what was left was cancelled
    SELF_TRADE = 2               # the search reached an order of the same participant; what was left was cancelled

    # The transaction itself: never in a block.
    MALFORMED = 10
    BAD_SIGNATURE = 11
    WRONG_SIGNERS = 12
    WRONG_NONCE = 13
    EXPIRED = 14
    UNFUNDED_FEE = 15
    FEE_TOO_LOW = 16
    OVERSIZED = 17
    DUPLICATE_TRANSACTION = 18
    POOL_FULL = 19
    INTERNAL = 20
    NOT_READY = 21               # this node cannot take submissions now
    TOO_HEAVY = 22               # cannot fit in any block

    # Any operation.
    UNKNOWN_OPERATION = 30
    BAD_FIELDS = 31
    NOT_ALLOWED = 32
    NOT_APPLIED = 33             # all or nothing, and another operation failed
    ORDER_IN_ALL_OR_NOTHING = 34
    OUT_OF_RANGE = 35
    UNFUNDED = 36
    SUPPLY_LIMIT = 37

    # Registration.
    UNKNOWN_PARTICIPANT = 50
    LICENCE_TAKEN = 51
    ACCOUNT_TAKEN = 52
    LICENCE_EXPIRED = 53
    METER_KEY_TAKEN = 54
    UNKNOWN_ZONE = 55
    UNKNOWN_TARIFF = 56
    UNKNOWN_NETWORK = 57
    BAD_KEY = 58
    BAD_ROLE = 59

    # Orders.
    UNKNOWN_METER = 70
    NOT_METER_OWNER = 71
    WINDOW_NOT_OPEN = 72
    WINDOW_CLOSED = 73
    OUT_OF_TICK = 74
    OUT_OF_LOT = 75
    OUT_OF_BAND = 76
    BAD_TIME_IN_FORCE = 77
    NO_CAPACITY = 78
    UNKNOWN_ORDER = 79           # not open, or another account's
    BOOK_FULL = 81
    PRICE_LIMIT = 82
    QUANTITY_LIMIT = 83
    KILLED = 84                  # fill or kill, or an immediate order's minimum fill, was not to be had: nothing traded
    WOULD_TRADE = 85             # post-only, and it would have traded
    BAD_CONDITIONS = 86
    UNKNOWN_PROFILE = 87
    HALTED = 88
    WORK_LEFT = 89               # resting orders of the window are still being traded with each other
    SET_ALREADY = 90             # one capacity of a corridor and window per block
    BAD_AGREEMENT = 91           # a bilateral trade's terms are not signed as they must be, or too old
    AGREED_ALREADY = 92
    NO_PATH = 93
    NO_RESIDUAL = 94             # the path does not carry so much
    ORDER_CHANGED = 95           # an order that a group cancels was filled or amended in the block

    # Readings and settlement.
    NOT_COLLECTOR = 100          # neither the meter's owner nor a collector of its zone
    METER_NOT_THEN = 101         # registered after the window began
    WINDOW_NOT_DELIVERED = 102   # the window has not ended
    READING_TOO_LATE = 103       # corrections of the window have ended
    ABOVE_CAPACITY = 104
    BAD_QUALITY = 105
    READING_KNOWN = 106          # the same reading again: a replay, without effect
    READING_CONFLICT = 107       # another value for a revision that is there
    READING_SUPERSEDED = 108     # a later revision is there
    BAD_READING_SIGNATURE = 109
    DUES = 110                   # it owes more than its credit limit: it may only cancel and report readings
    UNKNOWN_CORRIDOR = 111
    NOT_GRID_OPERATOR = 112
    TOO_MANY_BOUNDARY_METERS = 113

    # Tariffs.
    VERSION_TOO_LATE = 120       # a table may change only for windows that do not deliver yet
    TOO_MANY_VERSIONS = 121
    BAD_BLOCKS = 122             # edges of a block tariff
    OTHER_CLASS = 123            # a class keeps its name and voltage
    DAY_BEGUN = 124              # a calendar may change only days that have not begun

    # Certificates.
    UNKNOWN_CERTIFICATE = 130
    NOT_CERTIFICATE_OWNER = 131
    CERTIFICATE_RETIRED = 132
    NOT_OFFERED = 133            # not for sale, or to another account
    PRICE_CHANGED = 134
    TOO_FEW_CLAIMS = 135         # less than was asked to be bundled, or bundled already
    OWN_CERTIFICATE = 136

    # Authorities.
    WRONG_EPOCH = 150            # approved for another epoch than the present one
    BAD_APPROVAL = 151           # of no present authority, or its signature does not verify
    TOO_FEW_APPROVALS = 152
    AUTHORITY_EXISTS = 153
    UNKNOWN_AUTHORITY = 154
    ALREADY_LEAVING = 155
    TOO_MANY_CHANGES = 156
    BAD_STATUS = 157             # the signature under a joiner's STATUS does not verify
    STATUS_BEHIND = 158
    NO_EVIDENCE = 159            # the two votes do not exclude each other, or were not cast by this authority
    EVIDENCE_TOO_OLD = 160

    # The pool of one node: never in a block.
    REPLACED = 180               # one with the same nonce and a higher fee took its place
    REPLACEMENT_FEE = 181        # too little more to take the place of the one with this nonce
    NONCE_GAP = 182              # the account's transactions before it did not come
    OVERLOADED = 183             # more is waiting to be looked at than the node can look at


_CODES = frozenset(int(code) for code in Code)
SUCCESS = frozenset({Code.OK, Code.REMAINDER_CANCELLED, Code.SELF_TRADE})


class Failed(GridTokenXError):
    """A declared error of an operation: it changes nothing; the code goes into the receipt."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code


class Refused(Failed):
    """A transaction that may not be submitted, with the code that a client sees."""


class InvalidBlock(GridTokenXError):
    """A block that breaks a rule of validity; nobody votes for it."""


@frozen
class Outcome:
    """Of one operation. `data` are integers and byte strings by kind: `docs/ledger.md` lists them."""

    code: Code
    data: tuple[Any, ...] = ()

    @property
    def ok(self) -> bool:
        return self.code in SUCCESS


@frozen
class Receipt:
    """Of one transaction: the fee taken (uTHB) and one outcome per operation, in order."""

    transaction: bytes
    fee_uthb: int
    outcomes: tuple[Outcome, ...]

    def encode(self) -> bytes:
        """Canonical array `[transaction id, fee, [[code, data...], ...]]`."""
        return encode_fields([self.transaction, self.fee_uthb,
                              [[int(outcome.code), *outcome.data] for outcome in self.outcomes]])

    @property
    def hash(self) -> bytes:
        return digest(Domain.RECEIPT, self.encode())

    @property
    def ok(self) -> bool:
        return all(outcome.ok for outcome in self.outcomes)


def decode_receipt(raw: bytes) -> Receipt:
    """Reads a receipt. Raises CodecError, or GridTokenXError naming what is wrong."""
    fields = codec.decode(raw, max_bytes=MAX_RECEIPT_BYTES)
    if (type(fields) is not list or len(fields) != 3 or type(fields[0]) is not bytes
            or len(fields[0]) != HASH_BYTES or type(fields[1]) is not int or type(fields[2]) is not list):
        raise GridTokenXError("a receipt is [transaction id, fee, [[code, data...], ...]]")
    outcomes = []
    for entry in fields[2]:
        if type(entry) is not list or not entry or type(entry[0]) is not int or entry[0] not in _CODES:
            raise GridTokenXError("an outcome is [code, data...] with a known code")
        outcomes.append(Outcome(Code(entry[0]), tuple(entry[1:])))
    return Receipt(fields[0], fields[1], tuple(outcomes))
