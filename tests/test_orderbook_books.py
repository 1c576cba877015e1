"""The books facade over random trees of blocks: wherever execution stands, a cached engine equals a fresh one."""

from __future__ import annotations

import gc
import os
import random
from pathlib import Path

import numpy as np
import pytest

from gridtokenx._native.orderbook import OPERATION, RESTING, BookError, Engine, EngineFull, WindowNotLoaded
from gridtokenx.market.book import BLOCKS_MOST, Books, WindowContent

ZONES = [(10_000, 50_000), (0, 0)]
WINDOWS = range(6)
EMPTY = np.empty(0, RESTING)
STATM = Path("/proc/self/statm")
State = dict[int, np.ndarray]       # window -> its records, the ledger's side of the matter


def loader(state: State):  # type: ignore[no-untyped-def]
    return lambda window: WindowContent(state.get(window, EMPTY))


def batch(rng: random.Random, window: int, first_id: int, count: int) -> np.ndarray:
    ops = np.zeros(count, OPERATION)
    for index in range(count):
        cancel = rng.random() < 0.3
        ops[index]["kind"] = cancel
        ops[index]["order_id"] = rng.randrange(1, first_id + 1) if cancel else first_id + index
        ops[index]["side"] = rng.randrange(2)
        ops[index]["zone"] = rng.randrange(2)
        ops[index]["quantity_wh"] = rng.randrange(1, 9) * 100
        ops[index]["price_mthb_kwh"] = rng.randrange(398, 403) * 10
        ops[index]["participant"] = rng.randrange(5)
    ops["window"] = window
    return ops


def execute(books: Books, state: State, rng: random.Random, ids: list[int],
            sequence: int) -> tuple[State, set[int], int]:
    """A block's work on a copy of the parent's state; the fresh engine is the reference for every batch."""
    state, touched = dict(state), set()
    for window in rng.sample(list(WINDOWS), rng.randrange(4)):
        work = rng.random()
        if work < 0.15 and len(state.get(window, EMPTY)):
            # timed work closes orders in state, window loaded or not
            gone = state[window]["order_id"][: rng.randrange(1, 4)]
            books.remove(window, gone.tolist())
            state[window] = state[window][len(gone):]
            touched.add(window)
            if rng.random() < 0.5:
                continue
        elif work < 0.25:
            # the whole window closes, and the facade is told only by the list of touched windows
            if rng.random() < 0.5:
                books.forget(window)
            state.pop(window, None)
            touched.add(window)
            continue
        books.ensure(window, loader(state))
        if work > 0.9:
            continue                                         # loaded, looked at, left alone
        ops = batch(rng, window, ids[0], rng.randrange(1, 12))
        ids[0] += len(ops)
        fresh = Engine(ZONES)
        fresh.load(window, state.get(window, EMPTY))
        expected = fresh.process(ops, now_ms=0, next_sequence=sequence)
        outcome = books.process(ops, now_ms=0, next_sequence=sequence)
        for ours, theirs in zip(outcome, expected, strict=True):
            assert ours == theirs if isinstance(ours, int) else ours.tobytes() == theirs.tobytes()
        sequence = outcome.next_sequence
        state[window] = fresh.records(window)
        touched.add(window)
    return state, touched, sequence


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("limits", [{}, {"max_windows": 3}])
def test_random_block_trees(seed: int, limits: dict[str, int]) -> None:
    rng = random.Random(seed)
    books = Books(ZONES, 4000, **limits)
    blocks: dict[bytes, tuple[State, int]] = {bytes(32): ({}, 1)}
    order = [bytes(32)]
    ids = [1]
    for number in range(1, 60):
        # mostly on recent blocks, at times far back; siblings and grandparents come by themselves
        parent = rng.choice(order[-3:]) if rng.random() < 0.8 else rng.choice(order)
        state, sequence = blocks[parent]
        books.at(parent)
        child, touched, after = execute(books, state, rng, ids, sequence)
        if rng.random() < 0.2:
            if rng.random() < 0.5:
                books.abandon()
            continue
        name = number.to_bytes(32, "big")
        books.commit(name, parent, frozenset(touched))
        blocks[name] = (child, after)
        order.append(name)
        for window in books.engine.windows():
            assert books.engine.records(window).tobytes() == child.get(window, EMPTY).tobytes()
    assert len(order) > 30


def test_going_on_from_the_tip_keeps_windows_and_switching_forgets_only_what_differs() -> None:
    books = Books(ZONES)
    genesis, left, right = bytes(32), b"l" * 32, b"r" * 32
    loads: list[int] = []

    def load(window: int) -> WindowContent:
        loads.append(window)
        return WindowContent(EMPTY)

    books.at(genesis)
    for window in (1, 2):
        books.ensure(window, load)
    books.commit(left, genesis, ())
    books.at(left)
    for window in (1, 2):
        books.ensure(window, load)
    assert loads == [1, 2]
    books.commit(right, left, ())
    books.at(right)
    books.ensure(3, load)
    books.commit(b"x" * 32, right, {3})
    books.at(left)
    assert books.engine.windows() == [1, 2]
    books.at(b"unheard of" * 3 + b"xx")
    assert books.engine.windows() == []


def test_misuse_is_named() -> None:
    books = Books(ZONES)
    ops = np.zeros(1, OPERATION)
    with pytest.raises(BookError, match="call `at"):
        books.process(ops, now_ms=0, next_sequence=1)
    with pytest.raises(BookError, match="call `at"):
        books.ensure(1, loader({}))
    books.at(bytes(32))
    with pytest.raises(WindowNotLoaded):
        books.process(ops, now_ms=0, next_sequence=1)
    with pytest.raises(BookError, match="commit of a child"):
        books.commit(b"b" * 32, b"a" * 32, ())
    books.commit(b"b" * 32, bytes(32), ())
    with pytest.raises(BookError, match="no block"):
        books.commit(b"c" * 32, b"b" * 32, ())


def test_a_full_engine_gives_up_idle_windows_but_not_those_in_use() -> None:
    books = Books(ZONES, max_orders=10, max_windows=8)
    books.at(bytes(32))
    for window in (1, 2):
        ops = np.zeros(5, OPERATION)
        ops["order_id"] = np.arange(5) + 10 * window
        ops["window"], ops["quantity_wh"], ops["price_mthb_kwh"] = window, 100, 10
        books.ensure(window, loader({}))
        books.process(ops, now_ms=0, next_sequence=1 + 5 * window)
    ops["order_id"] += 100
    with pytest.raises(EngineFull):
        books.process(ops, now_ms=0, next_sequence=100)
    books.commit(b"b" * 32, bytes(32), {1, 2})
    books.at(b"b" * 32)
    books.process(ops, now_ms=0, next_sequence=100)          # window 1 makes room
    assert books.engine.windows() == [2] and books.engine.live == 10


def test_memory_of_blocks_is_bounded() -> None:
    books = Books(ZONES)
    parent = bytes(32)
    for number in range(BLOCKS_MOST + 40):
        books.at(parent)
        books.ensure(number % 6, loader({}))
        name = number.to_bytes(31, "big") + b"b"
        books.commit(name, parent, ())
        parent = name
    assert len(books._steps) == BLOCKS_MOST
    books.at((3).to_bytes(31, "big") + b"b")
    assert books.engine.windows() == []


@pytest.mark.skipif(not STATM.exists(), reason="tells its size in /proc only on Linux")
@pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="the sanitizer holds freed memory back")
def test_an_engine_that_the_collector_ends_gives_its_memory_back() -> None:
    """It clears the engine's Python objects first, so that the engine must know its sizes without them."""
    def circle() -> None:
        part: list[object] = [Engine([(0, 0)] * 4, sources=1, max_orders=8, max_windows=1)]
        part.append(part)

    def mapped_pages() -> int:
        return int(STATM.read_text().split()[0])

    for _ in range(20):
        circle()
    gc.collect()
    before = mapped_pages()
    for _ in range(300):
        circle()
    gc.collect()
    assert mapped_pages() - before < 150
