"""The native conservation checker against sums of Python integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx._native.conservation import RECORD, ConservationError, check_sums, find_negative

AMOUNTS = st.one_of(
    st.integers(-1000, 1000), st.integers(-(1 << 63), (1 << 63) - 1),
    st.sampled_from([-(1 << 63), (1 << 63) - 1, (1 << 62)]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**32 - 1), AMOUNTS), max_size=60),
       st.sampled_from([5, 6, 4096, 4097]), st.integers(0, 4))
def test_sums_are_exact_beyond_64_bits(rows: list[tuple[int, int, int]], groups: int, wrong: int) -> None:
    records = np.array(rows, RECORD)
    sums = [0] * groups
    for group, _, amount in rows:
        sums[group] += amount
    expected = np.array([total if -(1 << 63) <= total < 1 << 63 else 0 for total in sums], np.int64)
    expected[wrong] ^= 1
    violations = [(group, int(expected[group]), total) for group, total in enumerate(sums) if expected[group] != total]
    assert [tuple(found) for found in check_sums(records, expected)] == violations
    assert [tuple(found) for found in check_sums(records, expected, limit=1)] == violations[:1]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([0, 5, -1, -(1 << 63), (1 << 63) - 1]), max_size=70), st.integers(1, 20))
def test_negative_amounts_are_named(amounts: list[int], limit: int) -> None:
    records = np.array([(1, 100 + index, amount) for index, amount in enumerate(amounts)], RECORD)
    expected = [(index, 1, 100 + index, amount) for index, amount in enumerate(amounts) if amount < 0]
    assert [tuple(found) for found in find_negative(records, limit=limit)] == expected[:limit]


@pytest.mark.parametrize("place", range(9))
@pytest.mark.parametrize("groups", [3, 5000])
def test_a_group_that_does_not_exist_is_named(place: int, groups: int) -> None:
    records = np.zeros(9, RECORD)
    records["identity"] = np.arange(9) + 70
    records["group"][place] = groups
    with pytest.raises(ConservationError, match=f"record {place}, identity {70 + place}, is of group {groups};"):
        check_sums(records, np.zeros(groups, np.int64))


def test_what_is_created_is_found_among_many() -> None:
    rng = np.random.default_rng(1)
    records = np.zeros(200_001, RECORD)
    records["group"] = rng.integers(0, 700, len(records))
    records["amount"] = rng.integers(-10**12, 10**12, len(records))
    expected = np.zeros(700, np.int64)
    np.add.at(expected, records["group"], records["amount"])
    assert check_sums(records, expected) == []
    records["amount"][123_456] += 1
    [violation] = check_sums(records, expected)
    assert violation.group == records["group"][123_456] and violation.actual == violation.expected + 1


def test_empty_strided_and_unaligned_input() -> None:
    assert check_sums(np.empty(0, RECORD), np.empty(0, np.int64)) == []
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
    with pytest.raises(ConservationError, match="int64"):
        check_sums(np.zeros(1, RECORD), np.zeros(1, np.float64))
    with pytest.raises(ConservationError, match="no groups"):
        check_sums(np.zeros(1, RECORD), np.empty(0, np.int64))
    with pytest.raises(ConservationError, match="RECORD"):
        find_negative(np.zeros((1, 1), RECORD))
