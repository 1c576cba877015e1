"""The short form of scripts/fuzz.sh: changed bytes into decoders, replica, pubsub and muxer."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import trio
from fuzz_network import Seeds, fuzz_decoders, fuzz_muxer, fuzz_pubsub, fuzz_replica


def test_what_no_honest_peer_sends_is_a_typed_error(tmp_path: Path) -> None:
    seeds = Seeds(tmp_path)
    for fuzz, inputs in ((fuzz_decoders, 3000), (fuzz_replica, 500)):
        done: Counter[str] = Counter()
        fuzz(seeds, inputs, 5, done)
        assert done.total() == inputs
        assert done["refused"] > inputs // 3
    seeds.cluster.close()


def test_pubsub_and_muxer_survive_anything() -> None:
    done: Counter[str] = Counter()
    trio.run(fuzz_pubsub, 300, 5, done)
    trio.run(fuzz_muxer, 500, 5, done)
    assert done.total() == 800
