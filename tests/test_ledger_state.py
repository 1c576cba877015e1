"""Views over views, and the working state of a block."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ledger_support import Flat, genesis

from gridtokenx._native.state import Changes, Rows, Values
from gridtokenx.ledger import records, spaces, tariff_records
from gridtokenx.ledger.metering_records import Energy
from gridtokenx.ledger.records import Account, Order, Position
from gridtokenx.ledger.schema import VALUES, decode_value, encode_value
from gridtokenx.ledger.session import Session
from gridtokenx.ledger.state import EmptyState, Recent, StateView

HEADER = genesis().header()
of_windows = st.tuples(st.sampled_from([b"\x12", b"\x1e"]), st.sampled_from([0, 1, 0xFFFF, 1 << 31]),
                       st.text("\x00\x01\xfe", max_size=2)).map(
    lambda part: part[0] + part[1].to_bytes(4, "big") + part[2].encode("latin-1"))
keys = st.one_of(st.binary(min_size=1, max_size=3), of_windows)      # those of windows lie in shelves of their own
Layers = list[dict[bytes, bytes | None]]
layers = st.lists(st.dictionaries(keys, st.one_of(st.none(), st.binary(max_size=2)), max_size=8), max_size=6)


@given(layers, keys)
def test_a_view_is_the_sum_of_its_layers(changes: Layers, prefix: bytes) -> None:
    view = StateView(EmptyState(), HEADER)
    model: dict[bytes, bytes] = {}
    for layer in changes:
        view = StateView(view, HEADER, layer, layer)
        for where, value in layer.items():
            if value is None:
                model.pop(where, None)
            else:
                model[where] = value
    assert dict(view.scan(b"")) == model
    assert [k for k, _ in view.scan(b"")] == sorted(model)
    assert list(view.scan(prefix)) == sorted((k, v) for k, v in model.items() if k.startswith(prefix))
    for where in {k for layer in changes for k in layer}:
        assert view.get(where) == view.page(where) == model.get(where)
    assert view.get(b"absent key") is None


@given(layers, layers, layers, layers)
def test_recent_blocks_read_as_one_layer(earlier: Layers, below: Layers, recently: Layers, above: Layers) -> None:
    """As a node has it: the store's state, final blocks merged over it one by one, and blocks not final yet.

    What was known before the last checkpoint, of an earlier state and blocks up to and beyond it, says nothing wrong.
    """
    base = StateView(EmptyState(), HEADER)
    for layer in earlier:
        base = StateView(base, HEADER, layer, layer)
    before = Recent(Flat(base))
    for layer in (*earlier, *below, *recently):
        for where in layer:
            before.get(where), before.page(where)
    for layer in below:
        base = StateView(base, HEADER, layer, layer)
        before.add(base)
    for layer in recently[:1]:
        before.add(StateView(EmptyState(), HEADER, layer, layer))
    recent, final, plain = Recent(Flat(base), before), base, base
    asked = {where for layer in (*below, *recently, *above) for where in layer}
    prefixes = {where[:size] for where in asked for size in range(len(where) + 1)}
    for layer in recently:
        plain = StateView(plain, HEADER, layer, layer)
        recent.add(plain)
        final = StateView(StateView(EmptyState(), HEADER), HEADER, layer, layer)    # nothing is asked of what is below
        final.recent = recent
        for prefix in prefixes:
            assert list(final.scan(prefix)) == list(plain.scan(prefix))
        for where in asked:
            assert final.get(where) == plain.get(where)
    assert recent.flat() == {where: value for layer in recently for where, value in layer.items()}
    assert sorted(Rows(recent)) == sorted(recent.flat().items())
    assert len(Rows(recent)) == len(recent.flat())
    merged = StateView(base, HEADER, recent, final.pages)       # as a fork has it when its root was made
    assert merged.changes == recent.flat()
    assert [merged.get(where) for where in asked] == [plain.get(where) for where in asked]
    again = Recent(Flat(base))
    again.add(StateView(base, HEADER, recent))
    assert again.flat() == recent.flat()
    for layer in above:
        final, plain = StateView(final, HEADER, layer, layer), StateView(plain, HEADER, layer, layer)
    for prefix in prefixes:
        assert list(final.scan(prefix)) == list(plain.scan(prefix))
    for where in asked:
        assert (final.get(where), final.page(where)) == (plain.get(where), plain.page(where))


def test_recent_blocks_ask_the_base_once_and_never_beyond_its_last_key() -> None:
    asked: list[bytes] = []

    class Counting(Flat):
        def get(self, key_: bytes) -> bytes | None:
            asked.append(key_)
            return super().get(key_)

    recent = Recent(Counting(StateView(EmptyState(), HEADER, {b"\x02a": b"1", b"\x02c": b"2", b"\x04a": b"3"})))
    for _ in range(2):
        assert [recent.get(key_) for key_ in (b"\x02a", b"\x02b", b"\x02c", b"\x02d", b"\x03a", b"\x04a", b"\x05")] == [
            b"1", None, b"2", None, None, b"3", None]
    assert asked == [b"\x02a", b"\x02b", b"\x02c", b"\x04a"]
    assert recent.size == 4


def test_each_of_many_windows_has_a_shelf_of_its_own() -> None:
    recent = Recent(Flat(StateView(EmptyState(), HEADER)))
    made: dict[bytes, bytes | None] = {}
    for window in range(1000):
        block: dict[bytes, bytes | None] = {place: str(window).encode() for place in (
            spaces.position(window, 1), spaces.reading(window << 8, 1), spaces.order(spaces.order_id(window, 1)))}
        assert [recent.get(where) for where in block] == [None] * 3
        recent.add(StateView(EmptyState(), HEADER, block))
        made.update(block)
    assert {where: recent.get(where) for where in made} == made
    assert dict(recent.range(b"\x12") or ()) == {where: value for where, value in made.items() if where[0] == 0x12}


def test_a_session_undoes_and_tells_net_changes() -> None:
    one, two, three, four = (spaces.account(bytes([number]) * 32) for number in range(4))
    parent = StateView(EmptyState(), HEADER, {
        one: Account(balance=1).encode(), two: Account(balance=2).encode(), four: Account(balance=4).encode()})
    session = Session(parent, 1)
    session.put(one, Account(balance=5))
    session.put(four, Account(balance=4).encode())
    mark = session.mark()
    session.put(one, None)
    session.put(three, Account(balance=9))
    session.rollback(mark)
    assert session.get(one) == Account(balance=5)
    assert session.get(three) is None
    session.put(two, Account(balance=7))
    session.put(two, Account(balance=2))        # back to what it was: no change
    session.put(three, Account())
    session.put(three, None)
    changes = session.changed()
    assert list(changes) == [(one, Account(balance=1), Account(balance=5))]
    assert changes.encoded() == {one: Account(balance=5).encode()}
    assert session.keys_touched == 4


@given(st.lists(st.binary(max_size=3).flatmap(lambda tail: st.sampled_from([b"", bytes(7), b"a" * 8, b"a" * 20]).map(
    lambda middle: b"\x0f" + middle + tail)), unique=True))
def test_changes_come_by_ascending_key(made: list[bytes]) -> None:
    """Keys of any length, also such as begin alike or with one another."""
    session = Session(StateView(EmptyState(), HEADER), 1)
    for where in made:
        session.put(where, spaces.PRESENT)
        session.put(b"\x0a" + where, spaces.PRESENT)
    assert [where for where, _, _ in session.changed()] == sorted([*made, *(b"\x0a" + where for where in made)])


def test_changes_are_told_by_space_and_by_key() -> None:
    accounts = [spaces.account(bytes([number]) * 32) for number in range(3)]
    parent = StateView(EmptyState(), HEADER, {where: Account(balance=1).encode() for where in accounts[:2]})
    session = Session(parent, 1)
    meters = [spaces.meters_of(b"o" * 32, number) for number in range(3)]
    for where in reversed(meters):
        session.put(where, spaces.PRESENT)
    session.put(accounts[0], None)
    session.put(accounts[1], Account(balance=2).encode())
    session.put(accounts[2], Account(balance=3))
    changes = session.changed()
    assert changes.of_space(spaces.Space.ACCOUNT) == list(changes)[:3] == [
        (accounts[0], Account(balance=1), None), (accounts[1], Account(balance=1), Account(balance=2)),
        (accounts[2], None, Account(balance=3))]
    assert changes.keys(spaces.Space.METERS_OF) == meters
    assert changes.gone(spaces.Space.ACCOUNT) == accounts[:1]
    assert changes.gone(spaces.Space.METERS_OF) == changes.keys(spaces.Space.ACCOUNT_KEYS) == []
    assert [changes.before(where) for where in (*accounts, spaces.account(b""), spaces.CLOCK, b"\xff")] == [
        Account(balance=1), Account(balance=1), None, None, None, None]
    assert len(changes) == 6
    for index in (6, -1):
        with pytest.raises(IndexError):
            changes[index]
    elsewhere = [(accounts[0], Account(balance=1).encode(), None), (accounts[1], None, Account(balance=2).encode())]
    assert list(Changes(VALUES, elsewhere)) == [(accounts[0], Account(balance=1), None),
                                                (accounts[1], None, Account(balance=2))]


def test_a_layer_of_changes_is_one_of_their_table() -> None:
    one, two, three = (spaces.account(bytes([number]) * 32) for number in range(3))
    parent = StateView(EmptyState(), HEADER, {one: Account(balance=1).encode(), two: Account(balance=2).encode()})
    rows = [(one, Account(balance=1), None), (three, None, Account(balance=3))]
    now = {one: None, three: Account(balance=3).encode()}
    for encoded in (False, True):
        changes = Changes(VALUES, rows)
        if encoded:
            assert changes.encoded() == now
        view = StateView(parent, HEADER, changes)
        recent = Recent(Flat(parent))
        recent.add(view)
        assert recent.flat() == now
        assert [recent.get(where) for where in (one, two, three)] == [None, Account(balance=2).encode(), now[three]]
        assert [view.get(where) for where in (one, two, three)] == [None, Account(balance=2).encode(), now[three]]
        assert view.changes == now
        assert list(view.scan(b"")) == [(two, Account(balance=2).encode()), (three, now[three])]
        recent = Recent(Flat(parent))
        recent.add(view)        # whose table was made
        assert recent.flat() == now


ADDRESSES = [bytes([number]) * 32 for number in range(4)]
KEYS = [spaces.energy(address) for address in ADDRESSES] + [spaces.account(address) for address in ADDRESSES]
amounts = st.one_of(st.none(), st.integers(0, 2))


def _record(key_: bytes, amount: int | None) -> Account | Energy | None:
    if amount is None:
        return None
    return Account(balance=amount) if key_[0] == spaces.Space.ACCOUNT else Energy(amount)


@given(st.lists(amounts, min_size=len(KEYS), max_size=len(KEYS)), st.lists(st.one_of(
    st.tuples(st.sampled_from(["put", "pack"]), st.integers(0, len(KEYS) - 1), amounts),
    st.tuples(st.sampled_from(["get", "peek"]), st.integers(0, len(KEYS) - 1)),
    st.tuples(st.sampled_from(["mark", "rollback"]))), max_size=16))
def test_a_session_is_a_map_that_knows_what_it_was(held: list[int | None], steps: list[tuple[Any, ...]]) -> None:
    """Whether records are put as such or as bytes, read or only looked at, taken back or not."""
    before = {key_: _record(key_, amount) for key_, amount in zip(KEYS, held, strict=True)}
    session = Session(StateView(EmptyState(), HEADER, {
        key_: None if record is None else record.encode() for key_, record in before.items()}), 1)
    now, marked = dict(before), (session.mark(), dict(before))
    for step, *of in steps:
        if step == "mark":
            marked = session.mark(), dict(now)
        elif step == "rollback":
            session.rollback(marked[0])
            now = dict(marked[1])
        elif step in {"get", "peek"}:
            found, record = getattr(session, step)(KEYS[of[0]]), now[KEYS[of[0]]]
            assert session.record(KEYS[of[0]], found) == record
            assert step == "peek" or not isinstance(found, bytes)
        else:
            record = now[KEYS[of[0]]] = _record(KEYS[of[0]], of[1])
            session.put(KEYS[of[0]], record.encode() if record is not None and step == "pack" else record)
    net = [(key_, before[key_], now[key_]) for key_ in sorted(KEYS) if before[key_] != now[key_]]
    changes = session.changed()
    assert list(changes) == net
    assert [session.get(key_) for key_ in KEYS] == [now[key_] for key_ in KEYS]
    assert list(changes) == list(session.changed()) == net
    assert changes.encoded() == {key_: None if is_ is None else is_.encode() for key_, _, is_ in net}


def test_records_read_back() -> None:
    for record in (Account(*range(13)), Order(*range(12)), Position(*range(9)), records.Peaks(b"x"),
                   records.Roles((b"a" * 32,), (), b"o", b"t"), records.Authorities((("EGAT", b"k"),)),
                   records.Trade(*range(15)), records.Market(*range(6)), records.WindowBook(1, 2, 3),
                   Order(*range(17)), Order(*range(12), 0, 3), records.Trade(*range(17), (4, 5)),
                   records.Trade(*range(15), 1), records.Trade(*range(17), (), 1), records.Profile("p", 1, 2),
                   records.CorridorWindow(*range(5)), records.Zone("n", 1, 2, b"a", b"b"),
                   tariff_records.Calendar((1, 2)), tariff_records.tariff("t", 1, 2),
                   tariff_records.block_tariff("b", (5, 1), (0, 2))):
        assert type(record).decode(record.encode()) == record


def test_values_that_were_seen_lately_are_not_read_again_and_bounded() -> None:
    read: list[bytes] = []

    def reader(raw: bytes) -> Account:
        read.append(raw)
        return Account.decode(raw)

    values = Values({4: reader, 5: None}, 1, {7: records.Peaks.decode}, {Account: records.form_of(Account).write}, 2)
    accounts = [Account(balance=number) for number in range(3)]
    raws = [account.encode() for account in accounts]
    assert values.encode(b"\x04a", accounts[0]) == raws[0]
    assert values.decode(b"\x04b", raws[0]) is accounts[0]
    assert [values.decode(b"\x04a", raw) for raw in (raws[1], raws[1], raws[2], raws[0])] == [
        accounts[1], accounts[1], accounts[2], accounts[0]]
    assert read == [raws[1], raws[2], raws[0]]      # the third filled it up, and what was there was forgotten
    assert values.decode(b"\x05", b"raw") == values.encode(b"\x05", b"raw") == b"raw"
    assert values.decode(b"\x01\x07", records.Peaks(b"p").encode()) == records.Peaks(b"p")
    for key_ in (b"", b"\x06"):
        with pytest.raises(KeyError):
            values.decode(key_, raws[0])


def test_values_that_are_seldom_read_are_not_remembered() -> None:
    values = Values({4: Account.decode, 5: Account.decode}, 1, {}, {Account: Account.encode}, 9, frozenset({5}))
    account = Account(balance=3)
    raw = account.encode()
    changes = Changes(values, [(b"\x04a", None, account), (b"\x04b", account, None), (b"\x05a", None, account)])
    assert changes.encoded() == {b"\x04a": raw, b"\x04b": None, b"\x05a": raw}
    assert values.decode(b"\x04a", raw) is account
    read = values.decode(b"\x05a", raw)
    assert read == account
    assert read is not account


def test_every_space_has_a_reader() -> None:
    view = genesis().view()
    for where, raw in view.scan(b""):
        assert encode_value(where, decode_value(where, raw)) == raw


def test_keys_sort_like_numbers() -> None:
    assert spaces.order_id(5, 7) >> 40 == spaces.window_of(spaces.order_id(5, 7)) == 5
    assert spaces.order(spaces.order_id(5, 7)).startswith(spaces.orders_of_window(5))
    assert spaces.order(spaces.order_id(5, 255)) < spaces.order(spaces.order_id(5, 256))
    assert spaces.timed(9, 3, 0) < spaces.timed(10, 1, 0) < spaces.timed(10, 1, 1) < spaces.timed(10, 2, 0)
