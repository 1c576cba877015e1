"""State keys: one space byte, then big-endian parts of fixed width, so that byte order is numeric order.

`docs/ledger.md` lists every space with its key and its record.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from enum import IntEnum

import cbor2


class Space(IntEnum):
    """First byte of every state key. Values are frozen: they are under the state root."""

    CHAIN = 1            # single records, by a byte of `ChainRecord`
    PARAMETER = 2        # number of the parameter (2)
    AUTHORITIES = 3      # the list of the present epoch
    ACCOUNT = 4          # address (32)
    ACCOUNT_KEYS = 5     # address (32)
    PARTICIPANT = 6      # participant id (4)
    LICENCE = 7          # SHA-256 of the licence number (32)
    METER = 8            # meter id (4)
    METER_KEY = 9        # the meter's public key (32)
    METERS_OF = 10       # owner (32), meter id (4)
    ZONE = 11            # zone id (1)
    CORRIDOR = 12        # corridor id (1)
    TARIFF = 13          # tariff class (1)
    ORDER = 14           # order id (8) = window (3), counter (5)
    ORDERS_OF = 15       # owner (32), due in market ms (8), order id (8)
    WINDOW = 16          # window (4)
    MARKET = 17          # window (4), zone (1)
    POSITION = 18        # window (4), meter id (4)
    TRADE = 19           # window (4), number in the window (4)
    TIMED = 20           # due in market ms (8), kind (1), id (8)
    CORRIDOR_WINDOW = 21  # window (4), corridor id (1)
    TRADING = 22         # window (4)
    AGREEMENT = 23       # window (4), hash of a bilateral trade's terms (32)
    PROFILE = 24         # number of the filter profile (1)
    WORK_LEFT = 25       # window (4)

    # Meters' readings and settlement.
    READING = 30         # window (4), meter id (4)
    SETTLEMENT = 31      # window (4), meter id (4)
    LOT = 32             # window (4), meter id (4)
    BALANCE = 33         # window (4), zone (1)
    ENERGY = 34          # address (32)
    FLAG = 35            # window (4), zone (1)
    CORRECTION = 36      # window (4), meter id (4), revision (2)
    DUE = 37             # debtor (32), utility (32)
    COLLECTOR = 38       # address (32)
    BOUNDARY = 39        # zone (1), meter id (4)
    TRADED = 40          # window (4), meter id (4)
    LATE_READING = 41    # window (4), meter id (4)

    RATE = 45            # series (1)
    CALENDAR = 46        # year (2)
    USAGE = 47           # month (2), meter id (4)
    MONTHLY_BILL = 48    # month (2), meter id (4)
    INDICATIVE = 49      # window (4), zone (1)

    # Certificates (MARKET 8).
    ASKED = 50           # window (4), selling meter (4), number of the trade (4)
    CLAIMING = 51        # window (4)
    CLAIM = 52           # window (4), meter id (4)
    HOLDING = 53         # owner (32), meter id (4)
    BUNDLES = 54         # owner (32), meter id (4), number (8)
    METER_CLAIMS = 55    # meter id (4)
    CERTIFICATE = 56     # serial number (8)
    CERTIFICATES_OF = 57     # owner (32), serial number (8)
    CERTIFICATE_OFFER = 58   # source (1), price uTHB (8), serial number (8)
    RANKED = 59          # window (4), selling meter (4), stage of the claims (1), rank (8), number of the trade (4)


OF_WINDOWS = frozenset({
    Space.ORDER, Space.MARKET, Space.POSITION, Space.TRADE, Space.READING, Space.SETTLEMENT, Space.LOT,
    Space.CORRECTION, Space.TRADED, Space.LATE_READING, Space.ASKED, Space.CLAIM, Space.RANKED})
"""Those whose keys go on with a window and with what is in it: many to a window."""


class ChainRecord(IntEnum):
    """Second byte of keys in `Space.CHAIN`."""

    IDENTITY = 1
    CLOCK = 2
    COUNTERS = 3
    TOTALS = 4
    ROLES = 5
    PEAKS = 6
    EPOCH = 8
    SETTLING = 13
    FORMER_WHEELING = 14     # in forks
    SCHEDULE = 16
    BILLING = 17
    REGISTRY = 18            # of certificates
    CARBON = 19
    AUTHORITY_CHANGES = 20


def _chain(record: ChainRecord) -> bytes:
    return bytes((Space.CHAIN, record))


IDENTITY = _chain(ChainRecord.IDENTITY)
CLOCK = _chain(ChainRecord.CLOCK)
COUNTERS = _chain(ChainRecord.COUNTERS)
TOTALS = _chain(ChainRecord.TOTALS)
ROLES = _chain(ChainRecord.ROLES)
PEAKS = _chain(ChainRecord.PEAKS)
EPOCH = _chain(ChainRecord.EPOCH)
SETTLING = _chain(ChainRecord.SETTLING)
FORMER_WHEELING = _chain(ChainRecord.FORMER_WHEELING)
SCHEDULE = _chain(ChainRecord.SCHEDULE)
BILLING = _chain(ChainRecord.BILLING)
REGISTRY = _chain(ChainRecord.REGISTRY)
CARBON = _chain(ChainRecord.CARBON)
AUTHORITIES = bytes((Space.AUTHORITIES,))
AUTHORITY_CHANGES = _chain(ChainRecord.AUTHORITY_CHANGES)

_ACCOUNT = bytes((Space.ACCOUNT,))
_ACCOUNT_KEYS = bytes((Space.ACCOUNT_KEYS,))
_PARTICIPANT = bytes((Space.PARTICIPANT,))
_LICENCE = bytes((Space.LICENCE,))
_METER_SPACE = int(Space.METER)
_METER_KEY = bytes((Space.METER_KEY,))
_METERS_OF = bytes((Space.METERS_OF,))
_ORDER = bytes((Space.ORDER,))
_ORDERS_OF = bytes((Space.ORDERS_OF,))
_WINDOW = bytes((Space.WINDOW,))
_MARKET = bytes((Space.MARKET,))
_TIMED = bytes((Space.TIMED,))
_PARAMETER = bytes((Space.PARAMETER,))
_CALENDAR = bytes((Space.CALENDAR,))
_USAGE = bytes((Space.USAGE,))
_MONTHLY_BILL = bytes((Space.MONTHLY_BILL,))
_INDICATIVE = bytes((Space.INDICATIVE,))
_CORRIDOR_WINDOW = bytes((Space.CORRIDOR_WINDOW,))
_TRADING = bytes((Space.TRADING,))
_AGREEMENT = bytes((Space.AGREEMENT,))
_WORK_LEFT = bytes((Space.WORK_LEFT,))
_ENERGY = bytes((Space.ENERGY,))
_CORRECTION = bytes((Space.CORRECTION,))
_DUE = bytes((Space.DUE,))
_COLLECTOR = bytes((Space.COLLECTOR,))
_ASKED = bytes((Space.ASKED,))
_RANKED = bytes((Space.RANKED,))
_CLAIMING = bytes((Space.CLAIMING,))
_CLAIM = bytes((Space.CLAIM,))
_HOLDING = bytes((Space.HOLDING,))
_BUNDLES = bytes((Space.BUNDLES,))
_METER_CLAIMS = bytes((Space.METER_CLAIMS,))
_CERTIFICATE = bytes((Space.CERTIFICATE,))
_CERTIFICATES_OF = bytes((Space.CERTIFICATES_OF,))
_CERTIFICATE_OFFER = bytes((Space.CERTIFICATE_OFFER,))
_ZONE = bytes((Space.ZONE,))
_CORRIDOR = bytes((Space.CORRIDOR,))
_PROFILE = bytes((Space.PROFILE,))
_TARIFF = bytes((Space.TARIFF,))
_RATE = bytes((Space.RATE,))
_BOUNDARY = bytes((Space.BOUNDARY,))


_NUMBER = struct.Struct(">BI").pack         # space, then numbers: twice as fast as joining the parts
_NUMBERS = struct.Struct(">BII").pack


def _of_window(space: int) -> Callable[..., bytes]:
    """Keys by window and meter, or what else is numbered in it; without that, the prefix of the window."""
    def key(window_id: int, number: int | None = None) -> bytes:
        return _NUMBER(space, window_id) if number is None else _NUMBERS(space, window_id, number)
    return key


PRESENT = b"\xf6"
"""The value of keys that say all by being there (indexes, timed work): canonical CBOR null."""


def parameter(number: int) -> bytes:
    return _PARAMETER + number.to_bytes(2, "big")


def account(address: bytes) -> bytes:
    return _ACCOUNT + address


def account_keys(address: bytes) -> bytes:
    return _ACCOUNT_KEYS + address


def participant(participant_id: int) -> bytes:
    return _PARTICIPANT + participant_id.to_bytes(4, "big")


def licence(licence_hash: bytes) -> bytes:
    return _LICENCE + licence_hash


def meter(meter_id: int) -> bytes:
    return _NUMBER(_METER_SPACE, meter_id)


def meter_key(public: bytes) -> bytes:
    return _METER_KEY + public


def meters_of(owner: bytes, meter_id: int | None = None) -> bytes:
    """The key of one entry, or with None the prefix of an owner's meters."""
    return _METERS_OF + owner + (b"" if meter_id is None else meter_id.to_bytes(4, "big"))


def zone(zone_id: int) -> bytes:
    return _ZONE + bytes((zone_id,))


def corridor(corridor_id: int) -> bytes:
    return _CORRIDOR + bytes((corridor_id,))


def profile(number: int) -> bytes:
    return _PROFILE + bytes((number,))


def tariff(tariff_class: int) -> bytes:
    return _TARIFF + bytes((tariff_class,))


def rate(series: int) -> bytes:
    return _RATE + bytes((series,))


def calendar(year: int) -> bytes:
    return _CALENDAR + year.to_bytes(2, "big")


def usage(month: int, meter_id: int) -> bytes:
    return _USAGE + month.to_bytes(2, "big") + meter_id.to_bytes(4, "big")


def monthly_bill(month: int, meter_id: int | None = None) -> bytes:
    """The key of a meter's bill of a month, or with None the prefix of the month's bills."""
    return _MONTHLY_BILL + month.to_bytes(2, "big") + (
        b"" if meter_id is None else meter_id.to_bytes(4, "big"))


def indicative(window_id: int, zone_id: int | None = None) -> bytes:
    """The key of a zone's indicative price in a window, or with None the prefix of all zones."""
    return _INDICATIVE + window_id.to_bytes(4, "big") + (
        b"" if zone_id is None else bytes((zone_id,)))


def order(order_id: int) -> bytes:
    return _ORDER + order_id.to_bytes(8, "big")


def orders_of_window(window: int) -> bytes:
    """Prefix of a window's orders: an order id begins with its window."""
    return _ORDER + window.to_bytes(3, "big")


def orders_of(owner: bytes, due_ms: int | None = None, order_id: int = 0) -> bytes:
    """The key of one open order, or with None the prefix of an owner's open orders, first due first."""
    if due_ms is None:
        return _ORDERS_OF + owner
    return _ORDERS_OF + owner + due_ms.to_bytes(8, "big") + order_id.to_bytes(8, "big")


def window(window_id: int) -> bytes:
    return _WINDOW + window_id.to_bytes(4, "big")


def market(window_id: int, zone_id: int | None = None) -> bytes:
    """The key of a window's market in one zone, or with None the prefix of all its zones."""
    return _MARKET + window_id.to_bytes(4, "big") + (b"" if zone_id is None else bytes((zone_id,)))


position = _of_window(int(Space.POSITION))
trade = _of_window(int(Space.TRADE))         # by window and number, in the order they were made


def corridor_window(window_id: int, corridor_id: int | None = None) -> bytes:
    """The key of a corridor in a window, or with None the prefix of all corridors that were used or changed in it."""
    return (_CORRIDOR_WINDOW + window_id.to_bytes(4, "big")
            + (b"" if corridor_id is None else bytes((corridor_id,))))


def trading(window_id: int) -> bytes:
    return _TRADING + window_id.to_bytes(4, "big")


def agreement(window_id: int, terms_hash: bytes = b"") -> bytes:
    """The key of a bilateral trade's terms, or without a hash the prefix of the window's."""
    return _AGREEMENT + window_id.to_bytes(4, "big") + terms_hash


def work_left(window_id: int) -> bytes:
    return _WORK_LEFT + window_id.to_bytes(4, "big")


def timed(due_ms: int, kind: int, item: int) -> bytes:
    return _TIMED + due_ms.to_bytes(8, "big") + bytes((kind,)) + item.to_bytes(8, "big")


TIMED_PREFIX = _TIMED


# ------------------------------------------------------------------ meters' readings and settlement


def _of_zone(space: Space) -> Callable[..., bytes]:
    """Keys by window and zone; without the zone, the prefix of the window."""
    first = bytes((space,))

    def key(window_id: int, zone_id: int | None = None) -> bytes:
        return first + window_id.to_bytes(4, "big") + (b"" if zone_id is None else bytes((zone_id,)))
    return key


reading = _of_window(int(Space.READING))
settlement = _of_window(int(Space.SETTLEMENT))
lot = _of_window(int(Space.LOT))
traded = _of_window(int(Space.TRADED))
late_reading = _of_window(int(Space.LATE_READING))
balance = _of_zone(Space.BALANCE)
flag = _of_zone(Space.FLAG)


def energy(address: bytes) -> bytes:
    return _ENERGY + address


def correction(window_id: int, meter_id: int | None = None, revision: int | None = None) -> bytes:
    """The key of one correction, or a prefix: of a meter's in a window, or of a window's."""
    key = _CORRECTION + window_id.to_bytes(4, "big")
    if meter_id is not None:
        key += meter_id.to_bytes(4, "big")
    return key if revision is None else key + revision.to_bytes(2, "big")


def due(debtor: bytes, utility: bytes | None = None) -> bytes:
    """The key of what a debtor owes one utility, or with None the prefix of all its dues."""
    return _DUE + debtor + (b"" if utility is None else utility)


def collector(address: bytes) -> bytes:
    return _COLLECTOR + address


def boundary(zone_id: int, meter_id: int | None = None) -> bytes:
    """The key of a boundary meter, or with None the prefix of a zone's."""
    return _BOUNDARY + bytes((zone_id,)) + (b"" if meter_id is None else meter_id.to_bytes(4, "big"))


MAX_WINDOW = (1 << 24) - 1           # delivers in the year 2448
_COUNTER_BITS = 40


def order_id(window_id: int, counter: int) -> int:
    """The handle of an order: its window above, the chain's counter of orders below (5 bytes)."""
    return window_id << _COUNTER_BITS | counter


def window_of(order: int) -> int:
    return order >> _COUNTER_BITS


def number(value: int) -> bytes:
    """Canonical CBOR of an id, as the value of an index."""
    return cbor2.dumps(value)


# ------------------------------------------------------------------ certificates


def asked(window_id: int, meter_id: int | None = None) -> bytes:
    """Prefix of a seller's trades that asked for its source, or with None of all the window's."""
    prefix = _ASKED + window_id.to_bytes(4, "big")
    return prefix if meter_id is None else prefix + meter_id.to_bytes(4, "big")


def asked_trade(window_id: int, meter_id: int, trade_number: int) -> bytes:
    """The key of a trade whose buyer asked for the seller's source."""
    return asked(window_id, meter_id) + trade_number.to_bytes(4, "big")


def ranked(window_id: int, meter_id: int, stage: int, rank: int | None = None, trade_number: int = 0) -> bytes:
    """The key of a trade that waits for its share of the meter's claims, or without a rank the prefix of a stage's."""
    prefix = _RANKED + window_id.to_bytes(4, "big") + meter_id.to_bytes(4, "big") + bytes((stage,))
    return prefix if rank is None else prefix + rank.to_bytes(8, "big") + trade_number.to_bytes(4, "big")


def claiming(window_id: int) -> bytes:
    return _CLAIMING + window_id.to_bytes(4, "big")


def claim(window_id: int, meter_id: int | None = None) -> bytes:
    """The key of a meter's claims in a window, or with None the prefix of the window's."""
    return _CLAIM + window_id.to_bytes(4, "big") + (
        b"" if meter_id is None else meter_id.to_bytes(4, "big"))


def holding(owner: bytes, meter_id: int | None = None) -> bytes:
    """The key of an owner's claims on a meter, or with None the prefix of the owner's."""
    return _HOLDING + owner + (b"" if meter_id is None else meter_id.to_bytes(4, "big"))


def bundles(owner: bytes, meter_id: int, run: int | None = None) -> bytes:
    """The key of a run of bundles, or with None the prefix of a holding's runs, oldest first."""
    prefix = _BUNDLES + owner + meter_id.to_bytes(4, "big")
    return prefix if run is None else prefix + run.to_bytes(8, "big")


def meter_claims(meter_id: int) -> bytes:
    return _METER_CLAIMS + meter_id.to_bytes(4, "big")


def certificate(serial: int) -> bytes:
    return _CERTIFICATE + serial.to_bytes(8, "big")


def certificates_of(owner: bytes, serial: int | None = None) -> bytes:
    """The key of one entry, or with None the prefix of an owner's certificates."""
    return _CERTIFICATES_OF + owner + (b"" if serial is None else serial.to_bytes(8, "big"))


def certificate_offer(source: int, price_uthb: int, serial: int) -> bytes:
    return _CERTIFICATE_OFFER + bytes((source,)) + price_uthb.to_bytes(8, "big") + serial.to_bytes(8, "big")


def certificate_offers(source: int | None = None) -> bytes:
    """Prefix of the offers of a source, or of all: cheapest first within a source."""
    return _CERTIFICATE_OFFER if source is None else _CERTIFICATE_OFFER + bytes((source,))
