"""Status, blocks, transactions, authorities, peers, parameters, search."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from gridtokenx.api.models.parts import Address, Answer, Hash, with_decimal_fields


class Status(Answer):
    """What the network is doing, as one node sees it."""

    name: str
    version: str
    chain_id: Hash
    chain_name: str
    authority: str = Field(description="empty for an observer")
    public: Address | None
    height: int = Field(description="of the newest final block")
    hash: Hash
    state_root: Hash
    timestamp_ms: int
    epoch: int
    view: int
    leader: str
    delta_ms: int
    market_time_s: int
    market_rate: int
    window: int = Field(description="the one that delivers now")
    peers: int
    pending_transactions: int
    produced: dict[str, int] = Field(description="blocks by authority since the node started")
    confirmations: int = Field(description="transactions submitted here that became final since the node started")
    confirmation_p50_ms: int | None = Field(description="submission to finality, of the last 1 024; null: none yet")
    confirmation_p99_ms: int | None
    checkpoint_height: int
    certificates_verified: int
    uptime_ms: int


@with_decimal_fields
class Block(Answer):
    height: int
    hash: Hash
    parent: Hash
    view: int
    timestamp_ms: int
    proposer: str
    state_root: Hash
    transactions_root: Hash
    receipts_root: Hash
    certified: bool = Field(description="false: a later block's certificate makes it final")
    transaction_ids: list[Hash]
    codes: list[int] = Field(description="first failing code of each transaction, or 0")
    trades: int
    traded_wh: int
    value_uthb: int
    zones: list[list[int]] = Field(description="[Wh, uTHB] traded per buyers' zone")


class Blocks(Answer):
    items: list[Block]
    next: int | None = Field(description="`from` of the next page")


class OperationOf(Answer):
    kind: int
    name: str
    fields: list[Any] = Field(description="as docs/ledger.md lists them; bytes in hexadecimal")


class ReceiptOf(Answer):
    code: int
    name: str
    data: list[Any]


@with_decimal_fields
class Transaction(Answer):
    """`pending`; `final` with receipts; `refused` for good or `evicted` by this node's pool, with the reason."""

    id: Hash
    state: str = Field(pattern="^(pending|final|refused|evicted)$")
    reason: str | None
    height: int | None
    index: int | None
    code: int | None = Field(description="first failing code of its operations, or 0")
    code_name: str | None
    receipts: list[ReceiptOf] | None
    sender: Address | None
    nonce: int | None
    valid_until_height: int | None
    fee_uthb: int | None
    operations: list[OperationOf] | None


class SignatureIn(Answer):
    public: str = Field(pattern="^[0-9a-f]{64}$")
    signature: str = Field(pattern="^[0-9a-f]{128}$")


class SignedBytes(Answer):
    """A signed transaction as its bytes in hexadecimal."""

    transaction: str = Field(pattern="^([0-9a-f]{2})+$", max_length=131_072)


class SignedParts(Answer):
    """A signed transaction as its payload (canonical CBOR in hexadecimal) and the signatures over it."""

    payload: str = Field(pattern="^([0-9a-f]{2})+$", max_length=131_072)
    signatures: list[SignatureIn] = Field(min_length=1, max_length=16)


@with_decimal_fields
class Authority(Answer):
    name: str
    public: Address
    produced: int = Field(description="blocks since the node started")
    silent: bool | None = None
    heard_ms_ago: int | None = None
    late_views: int | None = None
    clock_offset_ms: int | None = None
    finalized_height: int | None = None


class Authorities(Answer):
    items: list[Authority]


class Peer(Answer):
    public: Address
    name: str
    address: str
    connected: bool
    connected_s: int
    outbound: bool
    authority: bool
    linked: bool
    sent_bytes: int
    received_bytes: int
    dropped: int
    error: str


class Peers(Answer):
    items: list[Peer]


class ParameterOf(Answer):
    name: str
    value: int
    unit: str
    help: str


class Parameters(Answer):
    items: list[ParameterOf]


class FoundThing(Answer):
    """`id` is a height, hash, address, number or name, as `kind` says; `account` is whose it is."""

    kind: str = Field(pattern="^(block|transaction|account|meter|participant|certificate|order|window|zone|authority)$")
    id: str
    text: str = Field(description="more about it for people, or empty")
    account: Address | None


class Found(Answer):
    items: list[FoundThing]
