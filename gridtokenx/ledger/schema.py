"""Which record lives in which space: the one table that reads a state value by its key."""

from __future__ import annotations

from collections.abc import Callable

from gridtokenx._native.state import Values
from gridtokenx.ledger import (
    authority_records,
    certificate_records,
    market_records,
    metering_records,
    records,
    tariff_records,
)
from gridtokenx.ledger.records import Record
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
_SPACES: dict[int, Callable[[bytes], Value] | None] = {
    Space.AUTHORITIES: records.Authorities.decode,
    Space.ACCOUNT: records.Account.decode,
    Space.ACCOUNT_KEYS: records.AccountKeys.decode,
    Space.PARTICIPANT: records.Participant.decode,
    Space.METER: records.Meter.decode,
    Space.ZONE: records.Zone.decode,
    Space.CORRIDOR: records.Corridor.decode,
    Space.TARIFF: tariff_records.Tariff.decode,
    Space.ORDER: records.Order.decode,
    Space.WINDOW: records.WindowBook.decode,
    Space.MARKET: records.Market.decode,
    Space.POSITION: records.Position.decode,
    Space.TRADE: records.Trade.decode,
    Space.CORRIDOR_WINDOW: records.CorridorWindow.decode,
    Space.PROFILE: records.Profile.decode,
    Space.TRADING: market_records.Trading.decode,
    Space.WORK_LEFT: market_records.WorkLeft.decode,
    Space.RATE: tariff_records.Rate.decode,
    Space.CALENDAR: tariff_records.Calendar.decode,
    Space.USAGE: tariff_records.Usage.decode,
    Space.MONTHLY_BILL: tariff_records.MonthlyBill.decode,
    Space.INDICATIVE: tariff_records.Indicative.decode,
    Space.READING: metering_records.Reading.decode,
    Space.SETTLEMENT: metering_records.Settlement.decode,
    Space.LOT: metering_records.Lot.decode,
    Space.BALANCE: metering_records.Balance.decode,
    Space.ENERGY: metering_records.Energy.decode,
    Space.FLAG: metering_records.Flag.decode,
    Space.CORRECTION: metering_records.Correction.decode,
    Space.DUE: metering_records.Due.decode,
    Space.COLLECTOR: metering_records.Collector.decode,
    Space.BOUNDARY: metering_records.BoundaryMeter.decode,
    Space.TRADED: metering_records.Traded.decode,
    Space.LATE_READING: metering_records.Reading.decode,
    Space.CLAIMING: certificate_records.Claiming.decode,
    Space.CLAIM: certificate_records.Claim.decode,
    Space.HOLDING: certificate_records.Holding.decode,
    Space.BUNDLES: certificate_records.Bundles.decode,
    Space.METER_CLAIMS: certificate_records.MeterClaims.decode,
    Space.CERTIFICATE: certificate_records.Certificate.decode,
}
_RAW = frozenset({Space.PARAMETER, Space.LICENCE, Space.METER_KEY, Space.METERS_OF, Space.ORDERS_OF, Space.TIMED,
                  Space.AGREEMENT, Space.ASKED, Space.CERTIFICATES_OF, Space.CERTIFICATE_OFFER,
                  Space.RANKED})


KNOWN_MOST = 32_768        # values read or written lately that need not be read again

VALUES = Values({**_SPACES, **dict.fromkeys(_RAW)}, Space.CHAIN,
                {kind: record.decode for kind, record in _CHAIN.items()}, KNOWN_MOST)
decode_value = VALUES.decode
"""The record (or, for numbers and indexes, the canonical bytes) that a key holds."""
encode_value = VALUES.encode
"""The canonical bytes of what a key is to hold."""
