"""Money, licence and meters, bills, certificates."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from gridtokenx.api.models.parts import Address, Answer, with_decimal_fields


@with_decimal_fields
class Balance(Answer):
    address: Address
    nonce: int = Field(description="of the next transaction")
    balance_uthb: int = Field(description="free")
    bids_uthb: int
    proceeds_uthb: int
    locked_uthb: int
    collateral_uthb: int
    credit_uthb: int
    total_uthb: int
    dues_uthb: int
    participant: int
    threshold: int
    keys: list[Address]


@with_decimal_fields
class Participant(Answer):
    participant: int
    address: Address
    licence: str
    role: int
    zone: int
    expires_ms: int
    credit_uthb: int
    meters: list[int]


@with_decimal_fields
class Energy(Answer):
    """GT since the beginning."""

    minted_wh: int
    delivered_wh: int
    received_wh: int
    burned_wh: int
    supplied_wh: int
    taken_wh: int


@with_decimal_fields
class Due(Answer):
    utility: Address
    amount_uthb: int


class Account(Answer):
    account: Balance
    participant: Participant | None
    energy: Energy
    dues: list[Due]


@with_decimal_fields
class Line(Answer):
    rule: int
    rule_name: str
    quantity_wh: int
    amount_uthb: int = Field(description="above zero: paid by the meter's owner")
    rate: int | None = Field(None, description="uTHB/kWh, or ppm in lines of VAT")


class WindowBill(Answer):
    model_config = ConfigDict(extra="allow")

    window: int
    meter: int
    owner: Address
    zone: int
    lines: list[Line]


@with_decimal_fields
class Bill(Answer):
    """Every settled window of an account's meters on a day."""

    address: Address
    day: int = Field(description="since 1970-01-01, Bangkok")
    first_window: int
    windows: list[WindowBill]
    rules: list[Line]
    pays_uthb: int
    withdrawn_wh: int
    injected_wh: int
    estimated: int
    corrected: int
    dues_uthb: int


@with_decimal_fields
class Certificate(Answer):
    certificate: int
    status: str
    meter: int
    owner: Address
    source: int
    zone: int
    first_window: int
    last_window: int
    avoided_g: int
    credit_g: int
    height: int
    issued_ms: int
    price_uthb: int
    buyer: str
    beneficiary: str
    purpose: str
    retired_ms: int


class Certificates(Answer):
    items: list[Certificate]
    next: str | None
