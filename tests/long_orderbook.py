"""Long runs of the order book against its model: `python tests/long_orderbook.py operations first_seed`.

Every seed is one stream on its own grid of zones, corridors and profiles; a difference names the seed.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

import model_orderbook as model  # noqa: E402
from test_orderbook_model import check_stream  # noqa: E402


class Draw:
    """Random choices with the few shapes that the stream needs."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def grid(self):  # type: ignore[no-untyped-def]
        rng = self.rng
        zones = [(rng.choice([0, 0, 1500, 30_000]), rng.choice([0, 0, 4, 50_000])) for _ in range(rng.randrange(1, 8))]
        corridors = [(a, b, rng.choice([0, 800, 20_000]), rng.choice([0, 5, 20_000]))
                     for a, b in ((rng.randrange(len(zones)), rng.randrange(len(zones))) for _ in range(9)) if a != b]
        profiles = [(rng.randrange(256), rng.randrange(1 << len(zones))) for _ in range(rng.randrange(3))]
        return zones, corridors, [(0xFF, 0xFFFF), *profiles]

    def operation(self, number, zones, corridors, profiles, base, near):  # type: ignore[no-untyped-def]
        rng = self.rng
        kind = rng.choice([0] * 40 + [1] * 6 + [2] * 7 + [3] * 2 + [4] * 3 + [5, 6, 6, 6, 7])
        side, zone = rng.randrange(2), rng.randrange(len(zones))
        quantity = rng.choice([rng.randrange(1, 30) * 100, 100, 10_000_000 if rng.random() < 0.1 else 400])
        price = max(0, (base + rng.randrange(-near, near + 1)) * 10)
        op = {"window": rng.randrange(7, 9), "kind": kind, "price": price, "quantity": quantity}
        if kind in (1, 2):
            op["order_id"] = rng.randrange(max(1, number - 60), number + 1)
            op["flags"] = rng.choice([0, 0, 4])
        elif kind == 3:
            op |= {"order_id": number, "zone": zone, "to_zone": rng.randrange(len(zones)), "path": rng.randrange(3)}
        elif kind == 4:
            op |= {"corridor": rng.randrange(max(1, len(corridors))), "side": side,
                   "quantity": rng.choice([0, 90, 700, 3000, 100_000])}
        elif kind == 0:
            force = rng.choice([0, 0, 0, 1, 2, 3])
            flags = rng.randrange(3) | (4 if force < 2 and rng.random() < 0.15 else 0)
            op |= {"order_id": number, "zone": zone, "side": side, "force": force, "flags": flags,
                   "participant": rng.randrange(6), "meter": number,
                   "expires_ms": rng.randrange(1, 80) * 5 if force == 1 else 0,
                   "minimum": (100 * rng.randrange(1, quantity // 100 + 1)
                               if flags < 4 and force < 3 and rng.random() < 0.1 else 0),
                   "display": max(100, -(-quantity // 2000) * 100) if force < 2 and rng.random() < 0.2 else 0,
                   "source": rng.randrange(3) if side else 0, "profile": 0 if side else rng.randrange(len(profiles))}
        return model.Operation(**op)

    def stream(self, zones, corridors, profiles, count):  # type: ignore[no-untyped-def]
        rng = self.rng
        base, near = rng.choice([3, 400, 4095, 20_000]), rng.randrange(1, 15)
        batches: list[object] = [[
            model.Operation(quantity=rng.choice([0, 2000, 10**9]), kind=4, window=window, corridor=corridor, side=side)
            for window in (7, 8) for corridor in range(len(corridors)) for side in (0, 1)]]
        number = 0
        while number < count:
            batch = []
            for _ in range(rng.randrange(1, 40)):
                number += 1
                batch.append(self.operation(number, zones, corridors, profiles, base, near))
            batches += [batch, rng.choice(["go on", "go on", "go on", "reload 7", "reload both", "restore"])]
        return batches


def compare(seed: int) -> tuple[int, int]:
    """Engine and model on the stream of one seed: operations and trades. Raises AssertionError."""
    draw = Draw(seed)
    grid = draw.grid()
    batches = draw.stream(*grid, 400)
    book = check_stream(*grid, batches, draw.rng.choice([(1024, 8192), (3, 8192), (1024, 4), (1, 1)]))
    return sum(len(batch) for batch in batches if not isinstance(batch, str)), book.made


def main() -> None:
    wanted, seed = int(sys.argv[1]), int(sys.argv[2])
    done = trades = 0
    begun = time.monotonic()
    while done < wanted:
        try:
            more, made = compare(seed)
        except AssertionError:
            print(f"difference in the stream of seed {seed}", file=sys.stderr)
            raise
        done += more
        trades += made
        if seed % 50 == 0:
            print(f"{done} operations, {trades} trades, no difference; {time.monotonic() - begun:.0f} s", flush=True)
        seed += 1
    print(f"{done} operations, {trades} trades, {time.monotonic() - begun:.0f} s: no difference, next seed {seed}")


if __name__ == "__main__":
    main()
