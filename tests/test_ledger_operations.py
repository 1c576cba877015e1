"""Each operation kind: its effect, and each of its refusals as a failed receipt that changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from ledger_support import FEE, ISSUER, OPERATOR, REGISTRAR, START_MS, THB, Chain, genesis, key, trading_chain

from gridtokenx.grid.kinds import Network, Role, Source
from gridtokenx.ledger import queries, spaces
from gridtokenx.ledger.operations import (
    KINDS,
    Deposit,
    Operation,
    PlaceOrder,
    RegisterMeter,
    RegisterParticipant,
    SetAccountKeys,
    Transfer,
    Withdraw,
    parse_operation,
)
from gridtokenx.ledger.receipts import Code, Failed, InvalidBlock, decode_receipt
from gridtokenx.ledger.records import Totals
from gridtokenx.ledger.transaction import FLAG_ALL_OR_NOTHING
from gridtokenx.market.orders import Side

A, B = key("a"), key("b")


def codes(chain: Chain, sender: Any, *operations: Operation | list[Any], **options: Any) -> list[Code]:
    return [outcome.code for outcome in chain.do(sender, *operations, **options)]


def test_kinds_are_distinct_and_read_back() -> None:
    assert len({kind.KIND for kind in KINDS}) == len(KINDS)
    operation = Transfer(A.public, 5, b"memo")
    assert parse_operation(tuple(operation.fields())) == operation
    orders = [PlaceOrder(7, 30, Side.BUY, 2_000, 200), PlaceOrder(7, 31, Side.SELL, 10, 100)]
    assert [parse_operation(made) for made in PlaceOrder.plain_fields(
        7, (30, 31), (0, 1), (2_000, 10), (200, 100))] == orders
    assert PlaceOrder.plain_fields(7, (31,), (1,), (10,), (100,)) == [tuple(orders[1].fields())]


def test_transfer() -> None:
    chain = Chain(genesis())
    assert codes(chain, ISSUER, Transfer(A.public, 10 * THB, b"for you")) == [Code.OK]
    assert chain.account(A).balance == 10 * THB
    assert codes(chain, A, Transfer(B.public, 4 * THB), fee=THB) == [Code.OK]
    assert chain.account(A).balance == 5 * THB
    assert chain.account(B).balance == 4 * THB
    assert chain.account(OPERATOR).balance == FEE + THB


def test_transfer_to_oneself_keeps_the_money() -> None:
    chain = Chain(genesis())
    chain.do(ISSUER, Transfer(A.public, 10 * THB))
    assert codes(chain, A, Transfer(A.public, 5 * THB)) == [Code.OK]
    assert chain.account(A).balance == 10 * THB - FEE


def test_a_failed_operation_takes_nonce_and_fee_only() -> None:
    chain = Chain(genesis())
    chain.do(ISSUER, Transfer(A.public, THB))
    assert codes(chain, A, Transfer(B.public, THB)) == [Code.UNFUNDED]     # the fee came first
    assert chain.account(A).balance == THB - FEE
    assert chain.account(A).nonce == 1
    assert chain.account(B).balance == 0


def test_money_received_in_a_block_is_spent_in_it() -> None:
    chain = Chain(genesis())
    chain.do(ISSUER, Transfer(A.public, THB), Transfer(B.public, THB))
    first = chain.send(A, Transfer(B.public, THB // 2))
    second = chain.send(B, Transfer(key("c").public, THB + THB // 4))
    chain.block()
    outcomes = {outcome.code for outcome in chain.outcomes(first, second)}
    ordered = chain.transactions[-1]
    assert outcomes == ({Code.OK} if ordered[0] is first else {Code.OK, Code.UNFUNDED})


def test_deposit_and_withdraw_are_counted() -> None:
    chain = Chain(genesis())
    before = Totals.decode(chain.head.get(spaces.TOTALS) or b"")
    assert codes(chain, ISSUER, Deposit(A.public, 7 * THB, b"ref"), Withdraw(2 * THB, b"ref")) == [Code.OK, Code.OK]
    after = Totals.decode(chain.head.get(spaces.TOTALS) or b"")
    assert (after.minted_uthb, after.burned_uthb) == (7 * THB, 2 * THB)
    assert after.held_uthb == before.held_uthb + 5 * THB == queries.totals(chain.head)["held_uthb"]


def test_only_issuers_mint_and_burn_and_only_registrars_register() -> None:
    chain = Chain(genesis())
    chain.do(ISSUER, Transfer(A.public, THB))
    licence = RegisterParticipant(A.public, "L", Role.PROSUMER, 0, 2 * START_MS)
    meter = RegisterMeter(1, key("m").public, 0, Network.PEA, Source.SOLAR, 0, 1, 1)
    assert codes(chain, A, Deposit(A.public, 1), Withdraw(1), licence, meter) == [Code.NOT_ALLOWED] * 4


def test_supply_is_bounded() -> None:
    chain = Chain(genesis())
    assert codes(chain, ISSUER, Deposit(A.public, (1 << 63) - 1)) == [Code.SUPPLY_LIMIT]


def test_register_participant() -> None:
    chain = Chain(genesis())
    base = RegisterParticipant(A.public, "L-1", Role.PROSUMER, 1, 2 * START_MS, 5 * THB)
    [done] = chain.do(REGISTRAR, base)
    assert (done.code, done.data) == (Code.OK, (1,))
    found = queries.participant(chain.head, A.public)
    assert found == {"participant": 1, "address": A.public, "licence": "L-1", "role": Role.PROSUMER, "zone": 1,
                     "expires_ms": 2 * START_MS, "credit_uthb": 5 * THB, "meters": []}
    assert chain.account(A).credit == 5 * THB
    other = evolve(base, account=B.public, licence="L-2")
    assert codes(chain, REGISTRAR, evolve(base, account=B.public), evolve(base, licence="L-2"),
                 evolve(other, zone=2), evolve(other, expires_ms=START_MS),
                 evolve(other, credit_uthb=chain.genesis.parameters.max_credit_uthb + 1),
                 [10, B.public, "L-2", 99, 0, 2 * START_MS, 0]) == [
        Code.LICENCE_TAKEN, Code.ACCOUNT_TAKEN, Code.UNKNOWN_ZONE, Code.LICENCE_EXPIRED, Code.OUT_OF_RANGE,
        Code.BAD_ROLE]


def test_register_meter() -> None:
    chain = Chain(genesis())
    chain.do(REGISTRAR, RegisterParticipant(A.public, "L-1", Role.PROSUMER, 0, 2 * START_MS))
    base = RegisterMeter(1, key("m").public, 1, Network.MEA, Source.WIND, 0, 5000, 9000)
    [done] = chain.do(REGISTRAR, base)
    assert (done.code, done.data) == (Code.OK, (1,))
    assert queries.meter(chain.head, 1) == {
        "meter": 1, "owner": A.public, "participant": 1, "key": key("m").public, "zone": 1, "network": Network.MEA,
        "source": Source.WIND, "tariff": 0, "injection_w": 5000, "withdrawal_w": 9000,
        "since_ms": START_MS + 40_000, "boundary": 0}
    assert queries.meters_of(chain.head, A.public) == [1]
    other = evolve(base, key=key("m2").public)
    assert codes(chain, REGISTRAR, base, evolve(other, participant=2), evolve(other, zone=9), evolve(other, tariff=99),
                 evolve(other, key=bytes(32)), [11, 1, key("m2").public, 0, 9, 0, 0, 1, 1]) == [
        Code.METER_KEY_TAKEN, Code.UNKNOWN_PARTICIPANT, Code.UNKNOWN_ZONE, Code.UNKNOWN_TARIFF, Code.BAD_KEY,
        Code.UNKNOWN_NETWORK]


@pytest.mark.parametrize("fields, code", [
    ([99], Code.UNKNOWN_OPERATION), ([-1], Code.UNKNOWN_OPERATION), ([1], Code.BAD_FIELDS),
    ([1, b"short", 5, b""], Code.BAD_FIELDS), ([1, bytes(32), "5", b""], Code.BAD_FIELDS),
    ([1, bytes(32), True, b""], Code.BAD_FIELDS), ([1, bytes(32), 0, b""], Code.OUT_OF_RANGE),
    ([1, bytes(32), 1 << 63, b""], Code.OUT_OF_RANGE), ([1, bytes(32), 5, bytes(65)], Code.BAD_FIELDS),
    ([2, bytes(32), -5, b""], Code.OUT_OF_RANGE), ([3, 5], Code.BAD_FIELDS), ([4, 1, []], Code.OUT_OF_RANGE),
    ([4, 0, [bytes(32)]], Code.OUT_OF_RANGE), ([4, 1, [bytes(32), bytes(32)]], Code.BAD_FIELDS),
    ([4, 1, bytes(32)], Code.BAD_FIELDS), ([10, bytes(32), "", 1, 0, 1, 0], Code.BAD_FIELDS),
    ([20, 1, 1, 2, 0, 100, 0, 0], Code.OUT_OF_RANGE), ([20, 1, 1 << 24, 0, 0, 100, 0, 0], Code.OUT_OF_RANGE),
    ([20, 1, 1, 0, 0, 100, 4, 0], Code.BAD_TIME_IN_FORCE), ([20, 1, 1, 0, 0, 100, 0], Code.BAD_FIELDS),
    ([20, 1, 1, 0, 0, 100, 0, 0, 3], Code.BAD_CONDITIONS), ([20, 1, 1, 0, 0, 100, 0, 0, 16], Code.OUT_OF_RANGE),
    ([20, 1, 1, 0, 5000, 100, 0, 0, 8], Code.BAD_CONDITIONS), ([22, 1, 0, 100, 2], Code.OUT_OF_RANGE),
    ([20, 1, 1, 0, 0, 100, 0, 0, 0, 0, 0, 0, 0], Code.BAD_FIELDS), ([21, b"x"], Code.BAD_FIELDS),
])
def test_fields_that_no_state_could_make_right(fields: list[Any], code: Code) -> None:
    frozen = tuple(tuple(part) if isinstance(part, list) else part for part in fields)
    with pytest.raises(Failed) as refused:
        parse_operation(frozen)
    assert refused.value.code is code
    assert codes(Chain(genesis()), ISSUER, fields) == [code]


def test_account_keys() -> None:
    chain = Chain(genesis())
    chain.do(ISSUER, Transfer(A.public, 100 * THB))
    one, two, three = sorted((key(f"k{number}") for number in range(3)), key=lambda k: k.public)
    assert codes(chain, A, SetAccountKeys(1, (bytes(32),))) == [Code.BAD_KEY]
    assert codes(chain, A, SetAccountKeys(2, (one.public, two.public, three.public))) == [Code.OK]
    for keys in ([A], [one], [one, A]):
        with pytest.raises((AssertionError, InvalidBlock)):
            chain.do(A, Transfer(B.public, 1), keys=keys)
        chain._nonces[A.public] = chain.account(A).nonce
    assert codes(chain, A, Transfer(B.public, 1), keys=[one, three]) == [Code.OK]
    assert codes(chain, A, SetAccountKeys(0, ()), keys=[one, two, three]) == [Code.OK]
    assert codes(chain, A, Transfer(B.public, 1)) == [Code.OK]
    assert chain.head.get(spaces.account_keys(A.public)) is None


def test_all_or_nothing() -> None:
    chain = trading_chain(1)
    house = key("house 0")
    before = chain.account(house).balance
    order = [20, 1, chain.window, 0, 5000, 100, 0, 0]
    assert codes(chain, house, Transfer(B.public, 1), Transfer(B.public, 1 << 62), Transfer(B.public, 1),
                 flags=FLAG_ALL_OR_NOTHING) == [Code.NOT_APPLIED, Code.UNFUNDED, Code.NOT_APPLIED]
    assert codes(chain, house, Transfer(B.public, 1), order, flags=FLAG_ALL_OR_NOTHING) == [
        Code.NOT_APPLIED, Code.ORDER_IN_ALL_OR_NOTHING]
    assert codes(chain, house, Transfer(B.public, 1), Transfer(B.public, 2), flags=FLAG_ALL_OR_NOTHING) == [Code.OK] * 2
    assert chain.account(B).balance == 3
    assert chain.account(house).balance == before - 3 - 3 * FEE


def test_receipts_read_back() -> None:
    chain = Chain(genesis())
    chain.do(ISSUER, Transfer(A.public, 1), [99])
    [receipt] = chain.results[-1].receipts
    assert decode_receipt(receipt.encode()) == receipt
    assert not receipt.ok
    assert receipt.fee_uthb == FEE


def test_code_numbers_are_frozen() -> None:
    assert {code.name: int(code) for code in Code} == {
        "OK": 0, "REMAINDER_CANCELLED": 1, "SELF_TRADE": 2, "MALFORMED": 10, "BAD_SIGNATURE": 11, "WRONG_SIGNERS": 12,
        "WRONG_NONCE": 13, "EXPIRED": 14, "UNFUNDED_FEE": 15, "FEE_TOO_LOW": 16, "OVERSIZED": 17,
        "DUPLICATE_TRANSACTION": 18, "POOL_FULL": 19, "INTERNAL": 20, "NOT_READY": 21, "TOO_HEAVY": 22,
        "UNKNOWN_OPERATION": 30, "BAD_FIELDS": 31, "NOT_ALLOWED": 32, "NOT_APPLIED": 33, "ORDER_IN_ALL_OR_NOTHING": 34,
        "OUT_OF_RANGE": 35, "UNFUNDED": 36, "SUPPLY_LIMIT": 37, "UNKNOWN_PARTICIPANT": 50, "LICENCE_TAKEN": 51,
        "ACCOUNT_TAKEN": 52, "LICENCE_EXPIRED": 53, "METER_KEY_TAKEN": 54, "UNKNOWN_ZONE": 55, "UNKNOWN_TARIFF": 56,
        "UNKNOWN_NETWORK": 57, "BAD_KEY": 58, "BAD_ROLE": 59, "UNKNOWN_METER": 70, "NOT_METER_OWNER": 71,
        "WINDOW_NOT_OPEN": 72, "WINDOW_CLOSED": 73, "OUT_OF_TICK": 74, "OUT_OF_LOT": 75, "OUT_OF_BAND": 76,
        "BAD_TIME_IN_FORCE": 77, "NO_CAPACITY": 78, "UNKNOWN_ORDER": 79, "BOOK_FULL": 81,
        "PRICE_LIMIT": 82, "QUANTITY_LIMIT": 83, "KILLED": 84, "WOULD_TRADE": 85, "BAD_CONDITIONS": 86,
        "UNKNOWN_PROFILE": 87, "HALTED": 88, "WORK_LEFT": 89, "SET_ALREADY": 90, "BAD_AGREEMENT": 91,
        "AGREED_ALREADY": 92, "NO_PATH": 93, "NO_RESIDUAL": 94, "ORDER_CHANGED": 95,
        "NOT_COLLECTOR": 100, "METER_NOT_THEN": 101, "WINDOW_NOT_DELIVERED": 102, "READING_TOO_LATE": 103,
        "ABOVE_CAPACITY": 104, "BAD_QUALITY": 105, "READING_KNOWN": 106, "READING_CONFLICT": 107,
        "READING_SUPERSEDED": 108, "BAD_READING_SIGNATURE": 109, "DUES": 110, "UNKNOWN_CORRIDOR": 111,
        "NOT_GRID_OPERATOR": 112, "TOO_MANY_BOUNDARY_METERS": 113,
        "VERSION_TOO_LATE": 120, "TOO_MANY_VERSIONS": 121, "BAD_BLOCKS": 122, "OTHER_CLASS": 123, "DAY_BEGUN": 124,
        "UNKNOWN_CERTIFICATE": 130, "NOT_CERTIFICATE_OWNER": 131, "CERTIFICATE_RETIRED": 132, "NOT_OFFERED": 133,
        "PRICE_CHANGED": 134, "TOO_FEW_CLAIMS": 135, "OWN_CERTIFICATE": 136,
        "WRONG_EPOCH": 150, "BAD_APPROVAL": 151, "TOO_FEW_APPROVALS": 152, "AUTHORITY_EXISTS": 153,
        "UNKNOWN_AUTHORITY": 154, "ALREADY_LEAVING": 155, "TOO_MANY_CHANGES": 156, "BAD_STATUS": 157,
        "STATUS_BEHIND": 158, "NO_EVIDENCE": 159, "EVIDENCE_TOO_OLD": 160,
        "REPLACED": 180, "REPLACEMENT_FEE": 181, "NONCE_GAP": 182, "OVERLOADED": 183,
    }
