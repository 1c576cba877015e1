"""The scratch state against a plain dictionary."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx.store.errors import StoreClosed
from gridtokenx.store.scratch import Scratch

KEYS = st.binary(min_size=1, max_size=3)
CHANGES = st.dictionaries(KEYS, st.one_of(st.none(), st.binary(max_size=9)), max_size=12)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(CHANGES, CHANGES), max_size=5))
def test_it_holds_what_was_written_last(
        writes: list[tuple[dict[bytes, bytes | None], dict[bytes, bytes | None]]]) -> None:
    state: dict[bytes, tuple[int, bytes]] = {}
    trie: dict[bytes, bytes] = {}
    with TemporaryDirectory() as folder:
        scratch = Scratch(Path(folder))
        for number, (changes, pages) in enumerate(writes, 300):
            heights = {key: number - key[0] % 3 for key in changes}
            scratch.write(changes, heights, pages)
            state.update({key: (heights[key], value) for key, value in changes.items() if value is not None})
            trie.update({path: page for path, page in pages.items() if page is not None})
            for key in [key for key, value in changes.items() if value is None]:
                state.pop(key, None)
            for path in [path for path, page in pages.items() if page is None]:
                trie.pop(path, None)
            for prefix in (b"", b"\x00", b"\x01\x00"):
                assert list(scratch.scan(prefix)) == [(key, state[key][1]) for key in sorted(state)
                                                      if key.startswith(prefix)]
            for prefix in (b"\x00", b"\x01", b"\xfe", b"\xff"):
                assert scratch.last_key(prefix) == max((key for key in state if key.startswith(prefix)), default=None)
            assert list(scratch.pages()) == sorted(trie.items())
            for key in {*changes, *state, b"absent"}:
                height, value = state.get(key, (None, None))
                assert (scratch.get(key), scratch.last_change(key)) == (value, height)
            for path in {*pages, *trie, b"absent"}:
                assert scratch.page(path) == trie.get(path)
        scratch.close()


def test_nothing_is_read_after_it_was_closed(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.write({b"a": b"1"}, {b"a": 7}, {})
    assert (scratch.get(b"a"), scratch.last_change(b"a")) == (b"1", 7)
    scratch.close()
    scratch.close()
    with pytest.raises(StoreClosed):
        scratch.get(b"a")
