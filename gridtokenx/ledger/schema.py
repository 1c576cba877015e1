"""Which record lives in which space: the one table that reads a state value by its key."""

from __future__ import annotations

from gridtokenx._native.state import Values
from gridtokenx.ledger import (
    authority_records,
    certificate_records,
    market_records,
    metering_records,
    records,
    tariff_records,
)
from gridtokenx.ledger.records import Record, form_of
from gridtokenx.ledger.spaces import ChainRecord, Space

Value = Record | bytes

_CHAIN: dict[int, type[Record]] = {
    ChainRecord.IDENTITY: records.Identity,
    ChainRecord.CLOCK: records.Clock,
    ChainRecord.COUNTERS: records.Counters,
    ChainRecord.TOTALS: records.Totals,
    ChainRecord.ROLES: records.Roles,
    ChainRecord.PEAKS: records.Peaks,
    ChainRecord.EPOCH: records.Epoch,
    ChainRecord.SCHEDULE: tariff_records.Schedule,
    ChainRecord.BILLING: tariff_records.Billing,
    ChainRecord.SETTLING: metering_records.Settling,
    ChainRecord.FORMER_WHEELING: market_records.FormerWheeling,
    ChainRecord.AUTHORITY_CHANGES: authority_records.AuthorityChanges,
    ChainRecord.REGISTRY: certificate_records.Registry,
    ChainRecord.CARBON: certificate_records.Carbon,
}
_SPACES: dict[int, type[Record]] = {
    Space.AUTHORITIES: records.Authorities,
    Space.ACCOUNT: records.Account,
    Space.ACCOUNT_KEYS: records.AccountKeys,
    Space.PARTICIPANT: records.Participant,
    Space.METER: records.Meter,
    Space.ZONE: records.Zone,
    Space.CORRIDOR: records.Corridor,
    Space.TARIFF: tariff_records.Tariff,
    Space.ORDER: records.Order,
    Space.WINDOW: records.WindowBook,
    Space.MARKET: records.Market,
    Space.POSITION: records.Position,
    Space.TRADE: records.Trade,
    Space.CORRIDOR_WINDOW: records.CorridorWindow,
    Space.PROFILE: records.Profile,
    Space.TRADING: market_records.Trading,
    Space.WORK_LEFT: market_records.WorkLeft,
    Space.RATE: tariff_records.Rate,
    Space.CALENDAR: tariff_records.Calendar,
    Space.USAGE: tariff_records.Usage,
    Space.MONTHLY_BILL: tariff_records.MonthlyBill,
    Space.INDICATIVE: tariff_records.Indicative,
    Space.READING: metering_records.Reading,
    Space.SETTLEMENT: metering_records.Settlement,
    Space.LOT: metering_records.Lot,
    Space.BALANCE: metering_records.Balance,
    Space.ENERGY: metering_records.Energy,
    Space.FLAG: metering_records.Flag,
    Space.CORRECTION: metering_records.Correction,
    Space.DUE: metering_records.Due,
    Space.COLLECTOR: metering_records.Collector,
    Space.BOUNDARY: metering_records.BoundaryMeter,
    Space.TRADED: metering_records.Traded,
    Space.LATE_READING: metering_records.Reading,
    Space.CLAIMING: certificate_records.Claiming,
    Space.CLAIM: certificate_records.Claim,
    Space.HOLDING: certificate_records.Holding,
    Space.BUNDLES: certificate_records.Bundles,
    Space.METER_CLAIMS: certificate_records.MeterClaims,
    Space.CERTIFICATE: certificate_records.Certificate,
}
_RAW = frozenset({Space.PARAMETER, Space.LICENCE, Space.METER_KEY, Space.METERS_OF, Space.ORDERS_OF, Space.TIMED,
                  Space.AGREEMENT, Space.ASKED, Space.CERTIFICATES_OF, Space.CERTIFICATE_OFFER,
                  Space.RANKED})


KNOWN_MOST = 32_768        # values read or written lately that need not be read again

VALUES = Values(
    {**{space: form_of(record).read for space, record in _SPACES.items()}, **dict.fromkeys(_RAW)}, Space.CHAIN,
    {kind: form_of(record).read for kind, record in _CHAIN.items()},
    {record: form_of(record).write for record in (*_SPACES.values(), *_CHAIN.values())}, KNOWN_MOST,
    frozenset({Space.READING, Space.SETTLEMENT, Space.LOT, Space.BALANCE}))
decode_value = VALUES.decode
"""The record (or, for numbers and indexes, the canonical bytes) that a key holds."""
encode_value = VALUES.encode
"""The canonical bytes of what a key is to hold."""
