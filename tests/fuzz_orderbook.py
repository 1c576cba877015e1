"""Arbitrary bytes into all of the order book that takes bytes or numbers: a result or a clear error, never a crash.

    python tests/fuzz_orderbook.py SECONDS FIRST_SEED

A round builds one engine and makes some calls; what it may raise is GridTokenXError, and TypeError or ValueError for
arguments of another Python type. After every call the book must still be whole: its records load into a fresh engine
that has the same digest. A failure names its seed.
"""

from __future__ import annotations

import io
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import numpy as np  # noqa: E402
import pyarrow  # noqa: E402
import pyarrow.parquet as parquet  # noqa: E402

from gridtokenx._native import conservation  # noqa: E402
from gridtokenx._native.orderbook import (  # noqa: E402
    OPERATION,
    RECORD,
    RESTING,
    WORK_LEFT,
    Code,
    Engine,
    SelfTrade,
)
from gridtokenx.errors import GridTokenXError  # noqa: E402
from gridtokenx.flow import Flow, read_flow, replay, write_flow, write_flow_parquet  # noqa: E402

ZONES = [(0, 0), (20_000, 150_000), (500_000, 7), (0, 5)]
CORRIDORS = [(0, 1, 1_200, 20_000), (1, 3, 0, 10_000), (0, 3, 0, 30_000), (2, 3, 500, 4)]
PROFILES = [(0xFF, 0xFFFF), (0b10, 0xFFFF), (0xFF, 0b0101)]
WINDOWS = (-5, 0, 7)
ODD = [-1, 0, 1, 2, 3, 7, 99, 255, 256, 65_535, 1 << 31, (1 << 31) - 1, 1 << 32, (1 << 32) - 1, 1 << 63, (1 << 63) - 1,
       -(1 << 63), 1 << 64, -(1 << 31)]
DTYPES = [OPERATION, RECORD, RESTING, WORK_LEFT, conservation.RECORD, np.dtype(np.uint8), np.dtype(np.int64),
          np.dtype(np.float64), np.dtype("V64"), np.dtype("O"), OPERATION.newbyteorder(">")]


def writable(array: object, dtype: np.dtype) -> bool:       # type: ignore[type-arg]
    return isinstance(array, np.ndarray) and array.dtype == dtype and array.ndim == 1 and array.flags.writeable


class Round:
    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.dense = self.rng.choice([0, 0, 64])
        self.sequence = 1
        self.engine = self.fresh()
        for window in WINDOWS[: self.rng.randrange(4)]:
            self.engine.load(window, np.empty(0, RESTING), capacities=np.array(
                [[self.rng.choice([0, 50, 700, 5000, 10**12]) for _ in range(2)] for _ in CORRIDORS], np.int64))

    def fresh(self) -> Engine:
        return Engine(ZONES, corridors=CORRIDORS, profiles=PROFILES, max_orders=80, max_windows=3, dense_ids=self.dense)

    def number(self) -> int:
        rng = self.rng
        return rng.choice(ODD) if rng.random() < 0.3 else rng.randrange(-3, 10)

    def noise(self, count: int) -> bytes:
        return self.rng.choice([self.rng.randbytes(count), bytes(count), b"\xff" * count])

    def array(self, dtype: np.dtype, count: int) -> object:      # type: ignore[type-arg]
        """Mostly of the right type, at times misaligned, strided, read-only, of another type or shape, or no array."""
        rng = self.rng
        kind = rng.randrange(24)
        if kind == 0:
            dtype = rng.choice([other for other in DTYPES if not other.hasobject])
        elif kind == 1:
            return rng.choice([None, b"x" * 64, [], [1, 2], 5, np.zeros(3, "O"), np.zeros((2, 2), dtype),
                               np.zeros((), dtype)])
        data = bytearray(self.noise(dtype.itemsize * count + 1))
        made = np.frombuffer(data, dtype, count, rng.choice([0, 0, 1]))
        if kind == 2:
            made = made[::-1]
        elif kind == 3:
            made = np.frombuffer(bytes(data), dtype, count)
        return made

    def tame(self, ops: np.ndarray) -> None:
        """So that operations get further in: each field with a chance of its own."""
        rng = self.rng
        for field, values in (
                ("window", WINDOWS), ("kind", range(8)), ("zone", range(4)), ("side", (0, 1)), ("force", range(4)),
                ("flags", (0, 1, 2, 4)), ("order_id", range(60)), ("profile", (0, 0, 1)), ("source", (0, 0, 1)),
                ("to_zone", (0, 0, 0, 1)), ("path", (0, 0, 0, 1)), ("corridor", (0, 0, 0, 1)), ("group", (0, 0, 0, 1)),
                ("reserved", (0,)), ("minimum_wh", (0, 0, 0, 300)), ("display_wh", (0, 0, 100, 500)),
                ("price_mthb_kwh", range(3900, 4100, 10)), ("quantity_wh", range(100, 3000, 100)),
                ("expires_ms", (0, 0, 5, 50)), ("participant", range(4))):
            if rng.random() < 0.985:
                ops[field] = [rng.choice(values) for _ in range(len(ops))]

    # ---- calls

    def process(self) -> None:
        ops = self.array(OPERATION, self.rng.randrange(0, 30))
        if writable(ops, OPERATION) and self.rng.random() < 0.9:
            self.tame(ops)
        wild = self.rng.random() < 0.1
        outcome = self.engine.process(
            ops, now_ms=self.number(), next_sequence=self.number() if wild else self.sequence,
            uncross_fills=self.number() if wild else self.rng.choice([0, 1, 1024]),
            uncross_visits=self.number() if wild else 8192)
        self.sequence = outcome.next_sequence
        assert {int(code) for code in outcome.results["code"]} <= {int(code) for code in Code}

    def compact(self) -> None:
        records = self.array(RECORD, self.rng.randrange(0, 30))
        if writable(records, RECORD):
            for field, most in (("id", 64), ("kind", 6), ("side", 2), ("price", 450), ("quantity", 90), ("owner", 4)):
                if self.rng.random() < 0.95:
                    records[field] %= most
        windows = [self.rng.choice(WINDOWS) for _ in range(self.rng.randrange(3))]
        count = records.shape[0] if isinstance(records, np.ndarray) and records.ndim else 1
        places = self.rng.choice([None, self.array(np.dtype(np.uint16), count)])
        if writable(places, np.dtype(np.uint16)):
            places %= 9
        mode = self.number() % 5
        # a record may ask for more than the ledger's orders, and OFF is no order's mode: that book is not loaded again
        wild = not (isinstance(records, np.ndarray) and records.dtype == RECORD and mode != SelfTrade.OFF
                    and (records["quantity"] < 50_000).all())
        outcome = self.engine.replay(records, windows=windows, places=places, next_sequence=self.sequence,
                                     self_trade=mode, now_ms=self.number() % 100)
        self.sequence = outcome.next_sequence
        if wild:
            self.engine = self.fresh()

    def load(self) -> None:
        window = self.number()
        records = self.array(RESTING, self.rng.randrange(0, 5))
        if self.engine.windows() and self.rng.random() < 0.7:
            window = self.rng.choice(self.engine.windows())
            records = self.damaged(self.engine.records(window))
            self.engine.forget(window)
        capacities = self.array(np.dtype(np.int64), 8) if self.rng.random() < 0.1 else None
        self.engine.load(window, records, capacities=capacities, flags=self.rng.choice([0, 0, 0, self.number()]))

    def damaged(self, records: np.ndarray) -> np.ndarray:
        raw = bytearray(records.tobytes())
        for _ in range(self.rng.choice([0, 1, 1, 5])):
            if raw:
                raw[self.rng.randrange(len(raw))] = self.rng.randrange(256)
        return np.frombuffer(raw, records.dtype)

    def restore(self) -> None:
        raw = bytearray(self.engine.snapshot())
        kind = self.rng.randrange(6)
        if kind == 0:
            raw = bytearray(self.noise(self.rng.randrange(200)))
        elif kind == 1:
            del raw[self.rng.randrange(len(raw) + 1):]
        elif kind == 2:
            raw += self.noise(self.rng.randrange(1, 80))
        elif kind < 5:
            for _ in range(self.rng.randrange(1, 6)):
                raw[self.rng.randrange(len(raw))] = self.rng.choice([0, 255, self.rng.randrange(256)])
        self.engine.restore(self.rng.choice([bytes(raw), raw, memoryview(raw)]))

    def query(self) -> None:
        engine, number = self.engine, self.number
        window = self.rng.choice([*WINDOWS, number()])
        self.rng.choice([
            lambda: engine.depth(window, number(), number(), number(), now_ms=number()),
            lambda: engine.landed_depth(window, number(), number(), number(), now_ms=number()),
            lambda: engine.quote(window, number() % 5, number() % 3, 100 * number(), 10 * number(),
                                 profile=number() % 4, source=number() % 9, participant=number(), now_ms=number()),
            lambda: engine.quote(window, number(), number(), number(), number(), profile=number(), source=number()),
            lambda: engine.orders_of(window, number()), lambda: engine.best(window, number()),
            lambda: engine.resting(self.array(np.dtype(np.uint64), 5)), lambda: engine.forget(window),
            lambda: engine.digest([window, number()]), lambda: engine.flags_of(window),
            lambda: engine.residuals(window), lambda: engine.work_left(window), lambda: engine.loaded(number()),
            lambda: engine.paths(number(), number()),
            lambda: Engine([(number(), number())] * self.rng.randrange(3),
                           corridors=[(number(), number(), 0, number())], profiles=[(number(), number())],
                           sources=number(), max_orders=self.rng.randrange(-2, 99),
                           max_windows=self.rng.randrange(-2, 9), dense_ids=self.rng.randrange(-2, 99)),
        ])()

    def conserve(self) -> None:
        groups = self.rng.randrange(6)
        records = [self.array(conservation.RECORD, self.rng.randrange(40)) for _ in range(self.rng.randrange(3))]
        for part in records:
            if writable(part, conservation.RECORD) and groups and self.rng.random() < 0.9:
                part["group"] %= groups
        bounds = [self.array(np.dtype(np.int64), groups) for _ in range(2)]
        conservation.check_limits(records, *bounds, limit=self.number())
        for part in records:
            conservation.find_negative(part, limit=self.number())

    def flow(self) -> None:
        """A file of either format, whole or damaged, into `read_flow` and `replay`."""
        count = self.rng.randrange(0, 30)
        records = np.frombuffer(bytearray(self.noise(16 * count)), RECORD)
        for field, most in (("id", 64), ("kind", 6), ("side", 2), ("price", 450), ("quantity", 90)):
            if self.rng.random() < 0.9:
                records[field] %= most
        records["id"] %= 1 << 20        # what an id is looked up in is as long as the greatest
        given = Flow(records, self.rng.randrange(count + 1))
        path = self.folder / "flow"
        if self.rng.random() < 0.5:
            write_flow(path, given)
            raw = bytearray(path.read_bytes())
        else:
            write_flow_parquet(path, given)
            if self.rng.random() < 0.5:
                self.odd_table(path)
            raw = bytearray(path.read_bytes())
        kind = self.rng.randrange(5)
        if kind == 0:
            del raw[self.rng.randrange(len(raw) + 1):]
        elif kind == 1:
            raw += self.noise(self.rng.randrange(40))
        elif kind == 2:
            for _ in range(self.rng.randrange(1, 5)):
                raw[self.rng.randrange(min(len(raw), 200))] = self.rng.randrange(256)
        path.write_bytes(raw)
        flow = read_flow(path)
        if flow.max_id < 1 << 24:
            replay(flow, batch=self.rng.choice([1, 7, 65_536]))

    def odd_table(self, path: Path) -> None:
        """A Parquet file whose columns have other types, gaps or names, or whose metadata say something else."""
        table = parquet.read_table(path)
        names = table.column_names
        at = self.rng.randrange(len(names))
        column = self.rng.choice([
            pyarrow.array(["x"] * table.num_rows), pyarrow.array([None] * table.num_rows, pyarrow.int64()),
            pyarrow.array([1.5] * table.num_rows), pyarrow.array([True] * table.num_rows),
            pyarrow.array([1 << 40] * table.num_rows), pyarrow.array([[1]] * table.num_rows)])
        table = table.set_column(at, self.rng.choice([names[at], "other"]), column)
        table = table.replace_schema_metadata(
            {"prefill": self.rng.choice(["0", "-1", "x", "", "99999999999999999999", "1.5"])})
        sink = io.BytesIO()
        parquet.write_table(table, sink)
        path.write_bytes(sink.getvalue())

    # ---- a round

    def play(self) -> None:
        calls = [self.process] * 6 + [self.compact] * 2 + [
            self.load, self.restore, self.query, self.query, self.conserve]
        if self.rng.random() < 0.2:
            calls += [self.flow] * 4
        for _ in range(self.rng.randrange(1, 12)):
            call = self.rng.choice(calls)
            try:
                call()
            except GridTokenXError as error:
                assert str(error), f"{call.__name__} failed without a word"
            except (TypeError, ValueError, OverflowError) as error:
                assert call.__name__ not in ("flow", "restore"), f"{call.__name__} raised {error!r}"
            self.check()

    def check(self) -> None:
        engine, other = self.engine, self.fresh()
        windows = engine.windows()
        for window in windows:
            other.load(window, engine.records(window), capacities=engine.capacities(window),
                       residuals=engine.residuals(window), flags=engine.flags_of(window),
                       work_left=engine.work_left(window))
            if len(engine.records(window)):
                self.sequence = max(self.sequence, int(engine.records(window)["sequence"].max()) + 1)
        assert other.digest() == engine.digest() and other.live == engine.live
        assert engine.snapshot() == other.snapshot()


def run(seed: int, folder: Path) -> None:
    try:
        Round(seed, folder).play()
    except BaseException:
        print(f"the round of seed {seed} failed", file=sys.stderr)
        raise


def main() -> None:
    seconds, seed = float(sys.argv[1]), int(sys.argv[2])
    begun, first = time.monotonic(), seed
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() - begun < seconds:
            run(seed, Path(folder))
            seed += 1
    print(f"{seed - first} rounds in {time.monotonic() - begun:.0f} s: results or errors; next seed {seed}")


if __name__ == "__main__":
    main()
