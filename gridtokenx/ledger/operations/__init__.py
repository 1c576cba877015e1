"""The kinds of operation. A new kind is a module and one line of `KINDS`."""

from __future__ import annotations

from typing import Any

from gridtokenx.ledger.operations.account_keys import SetAccountKeys
from gridtokenx.ledger.operations.activate_authority import ActivateAuthority
from gridtokenx.ledger.operations.amend_order import AmendOrder
from gridtokenx.ledger.operations.base import Block, Operation
from gridtokenx.ledger.operations.bilateral_trade import BilateralTrade
from gridtokenx.ledger.operations.buy_certificate import BuyCertificate
from gridtokenx.ledger.operations.cancel_order import CancelOrder
from gridtokenx.ledger.operations.deposit import Deposit
from gridtokenx.ledger.operations.evidence import Evidence
from gridtokenx.ledger.operations.grid import HaltWindows, SetCapacity
from gridtokenx.ledger.operations.issue_certificates import IssueCertificates
from gridtokenx.ledger.operations.offer_certificate import OfferCertificate
from gridtokenx.ledger.operations.place_order import PlaceOrder
from gridtokenx.ledger.operations.publish_calendar import PublishCalendar
from gridtokenx.ledger.operations.publish_carbon import PublishCarbon
from gridtokenx.ledger.operations.publish_rate import PublishRate
from gridtokenx.ledger.operations.publish_schedule import PublishSchedule
from gridtokenx.ledger.operations.publish_tariff import PublishTariff
from gridtokenx.ledger.operations.register_authority import RegisterAuthority
from gridtokenx.ledger.operations.register_boundary import RegisterBoundaryMeter
from gridtokenx.ledger.operations.register_collector import RegisterCollector
from gridtokenx.ledger.operations.register_meter import RegisterMeter
from gridtokenx.ledger.operations.register_participant import RegisterParticipant
from gridtokenx.ledger.operations.remove_authority import RevokeAuthority, SuspendAuthority
from gridtokenx.ledger.operations.renew_licence import RenewLicence
from gridtokenx.ledger.operations.report_readings import ReportReadings, SignedReport, sign_reading, sign_report
from gridtokenx.ledger.operations.retire_certificate import RetireCertificate
from gridtokenx.ledger.operations.transfer import Transfer
from gridtokenx.ledger.operations.transfer_certificate import TransferCertificate
from gridtokenx.ledger.operations.withdraw import Withdraw
from gridtokenx.ledger.receipts import Code, Failed

__all__ = ["KINDS", "ActivateAuthority", "AmendOrder", "BilateralTrade", "Block", "BuyCertificate", "CancelOrder",
           "Deposit", "Evidence", "HaltWindows", "IssueCertificates", "OfferCertificate", "Operation", "PlaceOrder",
           "PublishCalendar", "PublishCarbon", "PublishRate", "PublishSchedule", "PublishTariff", "RegisterAuthority",
           "RegisterBoundaryMeter", "RegisterCollector", "RegisterMeter", "RegisterParticipant", "RenewLicence",
           "ReportReadings", "RetireCertificate", "RevokeAuthority", "SetAccountKeys", "SetCapacity", "SignedReport",
           "SuspendAuthority", "Transfer", "TransferCertificate", "Withdraw", "kind_of", "parse_operation",
           "sign_reading", "sign_report"]

KINDS: tuple[type[Operation], ...] = (
    Transfer,
    Deposit,
    Withdraw,
    SetAccountKeys,
    RegisterParticipant,
    RegisterMeter,
    PlaceOrder,
    CancelOrder,
    AmendOrder,
    BilateralTrade,
    SetCapacity,
    HaltWindows,
    PublishTariff,
    PublishRate,
    PublishCalendar,
    PublishSchedule,
    RegisterAuthority,
    RevokeAuthority,
    SuspendAuthority,
    ActivateAuthority,
    Evidence,
    RegisterCollector,
    RegisterBoundaryMeter,
    RenewLicence,
    ReportReadings,
    IssueCertificates,
    TransferCertificate,
    OfferCertificate,
    BuyCertificate,
    RetireCertificate,
    PublishCarbon,
)

ALLOWED_IN_DEBT = frozenset({CancelOrder.KIND, ReportReadings.KIND})
"""What an account whose dues exceed its credit limit may still do: readings may prove the due wrong."""

CHANGE_RATES = frozenset({PublishTariff.KIND, PublishRate.KIND, PublishCalendar.KIND, PublishSchedule.KIND})
"""After these, price bands, VAT and the collateral of sales may be others."""

_BY_KIND: dict[int, type[Operation]] = {kind.KIND: kind for kind in KINDS}


def kind_of(number: int) -> type[Operation]:
    """Raises Failed(UNKNOWN_OPERATION)."""
    kind = _BY_KIND.get(number)
    if kind is None:
        raise Failed(Code.UNKNOWN_OPERATION, f"no operation of kind {number}; there are "
                                             f"{', '.join(str(known) for known in sorted(_BY_KIND))}")
    return kind


def parse_operation(operation: tuple[Any, ...]) -> Operation:
    """Reads `(kind, field, ...)`. Raises Failed with UNKNOWN_OPERATION, BAD_FIELDS or OUT_OF_RANGE."""
    return kind_of(operation[0]).parse(operation[1:])
