"""The native conservation checker against sums of Python integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx._native.conservation import (
    RECORD,
    ConservationError,
    check_limits,
    check_sums,
    find_negative,
)

LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1
AMOUNTS = st.one_of(st.integers(-1000, 1000), st.integers(LOWEST, HIGHEST), st.sampled_from([LOWEST, HIGHEST, 1 << 62]))
Row = tuple[int, int, int]      # group, identity, amount


def violations_of(arrays: list[list[Row]], least: list[int], most: list[int]) -> list[tuple[int | None, ...]]:
    """The model: (group, least, most, sum, array, record, identity), the last three of the record from which on the
    running sum was never in its range."""
    found = []
    for group, (low, high) in enumerate(zip(least, most, strict=True)):
        total, culprit = 0, (None, None, None)
        for number, rows in enumerate(arrays):
            for record, (of, identity, amount) in enumerate(rows):
                if of == group:
                    total += amount
                    if low <= total <= high:
                        culprit = (None, None, None)
                    elif culprit[0] is None:
                        culprit = (number, record, identity)
        if not low <= total <= high:
            found.append((group, low, high, total, *culprit))
    return found


def fitting(total: int) -> int:
    return min(max(total, LOWEST), HIGHEST)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**32 - 1), AMOUNTS), max_size=60), max_size=3),
       st.sampled_from([5, 6, 512, 513, 1024, 1025]), st.data())
def test_sums_and_limits_are_exact_beyond_64_bits(arrays: list[list[Row]], groups: int, data: st.DataObject) -> None:
    sums = [fitting(sum(amount for rows in arrays for of, _, amount in rows if of == group)) for group in range(groups)]
    given_arrays = [np.array(rows, RECORD) for rows in arrays]
    # within an exact sum, a little beside it, or anywhere
    least, most = sums.copy(), sums.copy()
    for group in range(5):
        kind = data.draw(st.integers(0, 3))
        if kind:
            shift = data.draw(st.integers(-3, 3))
            least[group] = fitting(sums[group] + shift) if kind < 3 else data.draw(AMOUNTS)
            most[group] = max(least[group], fitting(sums[group] + data.draw(st.integers(-3, 3))))
    expected = violations_of(arrays, least, most)
    bounds = (np.array(least, np.int64), np.array(most, np.int64))
    assert [tuple(found) for found in check_limits(given_arrays, *bounds)] == expected[:16]
    assert [tuple(found) for found in check_limits(given_arrays, *bounds, limit=1)] == expected[:1]
    equal = violations_of(arrays, least, least)
    assert [tuple(found) for found in check_sums(given_arrays, bounds[0])] == [
        (group, low, *rest) for group, low, _, *rest in equal[:16]]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 300), st.sampled_from([1, 3, 512, 513, 1024, 1025]))
def test_many_records_of_all_alignments(seed: int, count: int, groups: int) -> None:
    """Streams and tables meet at every length; sums of extreme amounts wrap many times."""
    rng = np.random.default_rng(seed)
    records = np.zeros(count, RECORD)
    records["group"] = rng.integers(0, groups, count)
    records["amount"] = rng.choice(np.array([LOWEST, HIGHEST, -1, 1, 1 << 62]), count)
    rows = [tuple(row) for row in records.tolist()]
    zero = np.zeros(groups, np.int64)
    assert [tuple(found) for found in check_limits(records, zero, zero)] == violations_of(
        [rows], [0] * groups, [0] * groups)[:16]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([0, 5, -1, LOWEST, HIGHEST]), max_size=70), st.integers(1, 20))
def test_negative_amounts_are_named(amounts: list[int], limit: int) -> None:
    records = np.array([(1, 100 + index, amount) for index, amount in enumerate(amounts)], RECORD)
    expected = [(index, 1, 100 + index, amount) for index, amount in enumerate(amounts) if amount < 0]
    assert [tuple(found) for found in find_negative(records, limit=limit)] == expected[:limit]


@pytest.mark.parametrize("place", [*range(9), 15, 16, 31, 32, 33])
@pytest.mark.parametrize("groups", [3, 800, 5000])
def test_a_group_that_does_not_exist_is_named(place: int, groups: int) -> None:
    records = np.zeros(34, RECORD)
    records["identity"] = np.arange(34) + 70
    records["group"][place] = groups
    message = f"record {place} of array 1, identity {70 + place}, is of group {groups};"
    for also in (place, 33):        # alone, and before another one
        records["group"][also] = groups
        with pytest.raises(ConservationError, match=message):
            check_sums((records[:0], records), np.zeros(groups, np.int64))


def test_what_is_created_is_found_among_many() -> None:
    """Trades in pairs of a debit and a credit: the one that creates something is named."""
    rng = np.random.default_rng(1)
    records = np.zeros(200_000, RECORD)
    records["group"] = np.repeat(rng.integers(0, 700, 100_000), 2)
    records["identity"] = np.repeat(np.arange(100_000), 2)
    records["amount"][::2] = rng.integers(0, 10**12, 100_000)
    records["amount"][1::2] = -records["amount"][::2]
    expected = np.zeros(700, np.int64)
    assert check_sums(records, expected) == []
    records["amount"][123_456] += 1
    [violation] = check_sums(records, expected)
    assert violation == (records["group"][123_456], 0, 1, 0, 123_456, 123_456 // 2)


def test_a_corridor_beyond_its_capacity_is_named_with_the_trade() -> None:
    """A corridor of 1000 Wh forward and 200 back: 600 Wh forward deliver 590, which the way back may carry on top."""
    records = np.array([
        (0, 1, 600), (1, 1, -590),          # trade 1: takes 600 forward, gives back 590
        (1, 2, 780), (0, 2, -770),          # trade 2 in the other direction: 590 + 200 would have been the most
        (0, 3, 1100), (1, 3, -1080),        # trade 3: 600 - 770 + 1100 = 930
        (0, 4, 100), (1, 4, -99)], RECORD)  # trade 4: 1030
    least = np.full(2, LOWEST)
    most = np.array([1000, 200])
    assert check_limits(records, least, most) == [(0, LOWEST, 1000, 1030, 0, 6, 4)]
    assert check_limits(records[:6], least, most) == []
    assert check_limits((records[:4], records[4:]), least, most)[0][4:] == (1, 2, 4)


def test_empty_strided_and_unaligned_input() -> None:
    assert check_sums(np.empty(0, RECORD), np.empty(0, np.int64)) == []
    assert check_sums([], np.zeros(3, np.int64)) == []
    assert find_negative(np.empty(0, RECORD)) == []
    records = np.zeros(10, RECORD)
    records["amount"] = np.arange(10)
    assert check_sums(records[::2], np.array([20, 0, 0, 0], np.int64)[::1]) == []
    unaligned = np.frombuffer(b"x" + records.tobytes(), RECORD, offset=1)
    assert check_sums(unaligned, np.array([45], np.int64)) == []
    assert check_sums(records, np.array([45, 9, 0, 9], np.int64)[::2]) == []


def test_wrong_types_are_refused() -> None:
    with pytest.raises(ConservationError, match="RECORD"):
        check_sums(np.zeros(16, np.uint8), np.zeros(1, np.int64))
    with pytest.raises(ConservationError, match="RECORD"):
        check_sums([np.zeros(1, RECORD), b"x" * 16], np.zeros(1, np.int64))     # type: ignore[list-item]
    with pytest.raises(ConservationError, match="int64"):
        check_sums(np.zeros(1, RECORD), np.zeros(1, np.float64))    # type: ignore[arg-type]
    with pytest.raises(ConservationError, match="there are 0"):
        check_sums(np.zeros(1, RECORD), np.empty(0, np.int64))
    with pytest.raises(ConservationError, match="2 least sums and 1 most"):
        check_limits(np.zeros(1, RECORD), np.zeros(2, np.int64), np.zeros(1, np.int64))
    with pytest.raises(ConservationError, match="RECORD"):
        find_negative(np.zeros((1, 1), RECORD))
