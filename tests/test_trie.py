"""The state trie against a plain model: recursion over the sorted key hashes, nothing clever."""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gridtokenx._native import trie as native
from gridtokenx.codec import CodecError
from gridtokenx.crypto.hashing import ZERO_HASH, Domain, digest
from gridtokenx.ledger import trie

Content = dict[bytes, bytes]
Pages = dict[bytes, bytes]


# ---------------------------------------------------------------- the model


def entries(content: Content) -> list[tuple[bytes, bytes]]:
    """Sorted (key hash, value hash)."""
    return sorted((sha256(b"\x0b" + key).digest(), sha256(b"\x0c" + value).digest()) for key, value in content.items())


def bit(key_hash: bytes, depth: int) -> int:
    return int.from_bytes(key_hash, "big") >> (255 - depth) & 1


def model_node(items: list[tuple[bytes, bytes]], depth: int) -> bytes:
    if not items:
        return bytes(32)
    if len(items) == 1:
        return sha256(b"\x09" + items[0][0] + items[0][1]).digest()
    left = [item for item in items if not bit(item[0], depth)]
    right = [item for item in items if bit(item[0], depth)]
    return sha256(b"\x0a" + model_node(left, depth + 1) + model_node(right, depth + 1)).digest()


def model_pages(items: list[tuple[bytes, bytes]], nibbles: int = 0) -> Pages:
    if len(items) < (2 if nibbles else 1):
        return {}
    pages: Pages = {}
    leaves = children = 0
    data = b""
    for slot in range(16):
        below = [item for item in items if int(item[0].hex()[nibbles], 16) == slot]
        if len(below) == 1:
            leaves |= 1 << slot
            data += below[0][0] + below[0][1]
        elif below:
            children |= 1 << slot
            data += model_node(below, 4 * (nibbles + 1))
            pages |= model_pages(below, nibbles + 1)
    prefix = items[0][0].hex()[:nibbles]
    path = bytes((nibbles,)) + bytes.fromhex(prefix + "0" * (nibbles % 2))
    pages[path] = leaves.to_bytes(2, "big") + children.to_bytes(2, "big") + data
    return pages


def apply(pages: Pages, changed: dict[bytes, bytes | None]) -> Pages:
    after = dict(pages)
    for path, raw in changed.items():
        assert after.get(path) != raw, "a page that is the same is not a change"
        if raw is None:
            del after[path]
        else:
            after[path] = raw
    return after


# ---------------------------------------------------------------- keys that share long prefixes


def _clustered_keys() -> list[bytes]:
    """48 of 30 000 keys, the closest neighbours by hash: they share up to about 28 bits, so pages get deep."""
    ordered = sorted((digest(Domain.TRIE_KEY, number.to_bytes(4, "big")), number) for number in range(30_000))
    closeness = sorted(
        (int.from_bytes(first[0], "big") ^ int.from_bytes(second[0], "big"), first[1], second[1])
        for first, second in pairwise(ordered))
    chosen: dict[int, None] = {}
    for _, first, second in closeness[:20]:
        chosen |= {first: None, second: None}
    chosen |= dict.fromkeys(range(8))
    return [number.to_bytes(4, "big") for number in chosen]


KEYS = _clustered_keys()
MEMO = trie.Memo()
"""One for all examples: it knows pages of other tries, and of states that this one left."""
BATCH = st.dictionaries(st.sampled_from(KEYS), st.none() | st.binary(max_size=3), max_size=30)


def test_tags_are_those_of_the_wire_format() -> None:
    assert native.TAGS == (Domain.TRIE_LEAF, Domain.TRIE_INNER, Domain.TRIE_KEY, Domain.TRIE_VALUE)


@settings(max_examples=150, deadline=None)
@given(st.lists(BATCH, max_size=6), st.randoms(use_true_random=False))
def test_any_history_equals_the_model(batches: list[dict[bytes, bytes | None]], random: object) -> None:
    content: Content = {}
    pages: Pages = {}
    root = trie.EMPTY_ROOT
    for batch in batches:
        changes = list(batch.items())
        random.shuffle(changes)  # type: ignore[attr-defined]
        before = root
        root, changed = trie.update(pages.get, root, changes)
        for _ in range(2):      # what the first makes is known to the second only below what it changed
            assert trie.update(pages.get, before, changes, MEMO) == (root, changed)
        pages = apply(pages, changed)
        for key, value in batch.items():
            if value is None:
                content.pop(key, None)
            else:
                content[key] = value
        items = entries(content)
        assert root == model_node(items, 0)
        assert pages == model_pages(items)
    assert list(trie.leaves(pages.get, root)) == entries(content)
    for key in KEYS[:12] + KEYS[-4:] + [b"never there"]:
        proof = trie.prove(pages.get, root, key)
        assert trie.decode_proof(proof.encode()) == proof
        assert trie.verify_proof(root, key, content.get(key), proof)
        assert not trie.verify_proof(root, key, b"another value", proof)
        if key in content:
            assert not trie.verify_proof(root, key, None, proof)
        if proof.siblings:
            assert not trie.verify_proof(root, key, content.get(key), trie.Proof(proof.siblings[:-1], proof.other))


def test_many_keys_equal_the_model_and_each_page_is_read_once() -> None:
    content = {number.to_bytes(8, "big"): b"%d" % number for number in range(5000)}
    root, changed = trie.update({}.get, trie.EMPTY_ROOT, list(content.items()))
    pages = apply({}, changed)
    assert root == model_node(entries(content), 0)
    assert pages == model_pages(entries(content))
    reads: list[bytes] = []

    def read(path: bytes) -> bytes | None:
        reads.append(path)
        return pages.get(path)

    batch: dict[bytes, bytes | None] = {number.to_bytes(8, "big"): None for number in range(0, 4000, 7)}
    batch |= {number.to_bytes(8, "big"): b"new" for number in range(3, 6000, 11)}
    root, changed = trie.update(read, root, list(batch.items()))
    assert len(reads) == len(set(reads))
    content = {key: value for key, value in (content | batch).items() if value is not None}
    assert root == model_node(entries(content), 0)
    assert apply(pages, changed) == model_pages(entries(content))
    root, changed = trie.update(apply(pages, changed).get, root, [(key, None) for key in content])
    assert root == trie.EMPTY_ROOT
    assert set(changed.values()) == {None}


def test_a_memo_knows_pages_by_their_hash() -> None:
    content = {number.to_bytes(8, "big"): b"%d" % number for number in range(20_000)}
    memo = trie.Memo()
    root, changed = trie.update({}.get, trie.EMPTY_ROOT, list(content.items()), memo)
    pages = apply({}, changed)
    reads: list[bytes] = []

    def read(path: bytes) -> bytes | None:
        reads.append(path)
        return pages.get(path)

    touched = [number.to_bytes(8, "big") for number in range(0, 20_000, 300)]
    rivals = [[(key, text) for key in touched] for text in (b"one", b"two", None)]
    for changes in rivals:      # blocks of one parent: each finds what the one before left as it was
        assert trie.update(read, root, changes, memo) == trie.update(pages.get, root, changes)
    after, changed = trie.update(read, root, rivals[2], memo)
    below, reads = len([path for path in reads if path[0] > 3]), []
    assert below                # deep pages share places
    pages = apply(pages, changed)
    trie.update(read, after, rivals[0], memo)
    assert not [path for path in reads if path[0] <= 3]
    wrong, reads = bytes(31) + b"\x01", []
    with pytest.raises(trie.TrieError, match="does not belong to root"):
        trie.update(read, wrong, rivals[0], memo)
    assert reads == [trie.ROOT_PATH]


def test_a_memo_is_whole_after_nothing_changed_and_after_a_failure() -> None:
    content = {number.to_bytes(8, "big"): b"%d" % number for number in range(20_000)}
    root, changed = trie.update({}.get, trie.EMPTY_ROOT, list(content.items()))
    pages = apply({}, changed)
    absent = [(number.to_bytes(8, "big"), None) for number in range(30_000, 30_100)]
    changes = [(number.to_bytes(8, "big"), b"new") for number in range(0, 20_000, 70)]
    rivals = [(key, b"newer") for key, _ in changes]
    wanted = trie.update(pages.get, root, changes), trie.update(pages.get, root, rivals)
    memo, reads = trie.Memo(), 0

    def failing(path: bytes) -> bytes | None:
        nonlocal reads
        reads += 1
        return None if reads == 800 else pages.get(path)

    assert trie.update(pages.get, root, absent, memo) == (root, {})     # read, but nothing of it was hashed
    assert trie.update(pages.get, root, changes, memo) == wanted[0]
    assert trie.update(pages.get, root, rivals, memo) == wanted[1]
    knowing, shallow = trie.Memo(), list[bytes]()
    trie.update({}.get, trie.EMPTY_ROOT, list(content.items()), knowing)
    for _ in range(2):                                  # what did not change is known as before
        assert trie.update(lambda path: shallow.append(path) or pages.get(path), root, absent, knowing) == (root, {})
    assert shallow and not [path for path in shallow if path[0] <= 3]
    for fails_at in (1, 10, 100, 250):
        reads = 800 - fails_at
        with pytest.raises(trie.TrieError, match="is missing"):
            trie.update(failing, root, [(key, b"more") for key in content], memo)
        assert trie.update(pages.get, root, changes, memo) == wanted[0]


def test_who_reads_pages_may_update_a_trie_with_the_same_memo() -> None:
    content = {number.to_bytes(8, "big"): b"%d" % number for number in range(20_000)}
    memo = trie.Memo()
    root, changed = trie.update({}.get, trie.EMPTY_ROOT, list(content.items()), memo)
    pages = apply({}, changed)
    changes = [(number.to_bytes(8, "big"), b"new") for number in range(0, 20_000, 70)]
    rivals = [(key, b"newer") for key, _ in changes]
    wanted = trie.update(pages.get, root, changes), trie.update(pages.get, root, rivals)
    inside: list[tuple[bytes, Pages]] = []

    def read(path: bytes) -> bytes | None:
        if len(inside) < 5:
            inside.append(trie.update(pages.get, root, rivals, memo))
        return pages.get(path)

    assert trie.update(read, root, changes, memo) == wanted[0]
    assert inside == [wanted[1]] * 5
    assert trie.update(pages.get, root, rivals, memo) == wanted[1]


def test_the_deepest_shared_prefix_spans_several_pages() -> None:
    content = dict.fromkeys(KEYS, b"")
    assert max(path[0] for path in model_pages(entries(content))) >= 5


@pytest.mark.parametrize("bits", [1, 4, 7, 9])
def test_many_keys_whose_hashes_begin_alike_equal_the_model(bits: int) -> None:
    """They are told apart by what follows: of 200 changes the first eight bits are counted."""
    keys = [number.to_bytes(4, "big") for number in range(200 << bits)
            if digest(Domain.TRIE_KEY, number.to_bytes(4, "big"))[:2] < (1 << 16 - bits).to_bytes(3, "big")[1:]]
    content = {key: key for key in keys}
    root, changed = trie.update({}.get, trie.EMPTY_ROOT, list(content.items()))
    assert len(keys) > 150
    assert root == model_node(entries(content), 0)
    assert apply({}, changed) == model_pages(entries(content))


def test_keys_and_values_of_any_length() -> None:
    """Two that fit into one block of SHA-256 with tag and padding are hashed at once."""
    for length in (0, 1, 30, 53, 54, 55, 56, 63, 64, 119, 120, 500):
        for other in (0, 1, 53, 54, 55, 56, 63, 64, 500):
            key, value = b"k" * length, b"v" * other
            root, _ = trie.update({}.get, trie.EMPTY_ROOT, [(key, value)])
            assert root == model_node(entries({key: value}), 0)


def test_no_change_is_no_change() -> None:
    root, changed = trie.update({}.get, trie.EMPTY_ROOT, [(b"a", b"1"), (b"b", b"2")])
    pages = apply({}, changed)
    assert trie.update(pages.get, root, []) == (root, {})
    assert trie.update(pages.get, root, [(b"a", b"1")]) == (root, {})
    assert trie.update(pages.get, root, [(b"c", None)]) == (root, {})
    assert trie.update({}.get, trie.EMPTY_ROOT, [(b"c", None), (b"d", None)]) == (trie.EMPTY_ROOT, {})


def test_frozen_roots() -> None:
    """The wire format: these roots may never change."""
    one, _ = trie.update({}.get, trie.EMPTY_ROOT, [(b"key", b"value")])
    assert one == digest(Domain.TRIE_LEAF, digest(Domain.TRIE_KEY, b"key"), digest(Domain.TRIE_VALUE, b"value"))
    assert one.hex() == "2041b00f262b91cc6cc9a23d9ec48527f736c2f8c2e5e7fc6edf9a1e7514bd66"
    many, _ = trie.update({}.get, trie.EMPTY_ROOT, [(b"%d" % number, b"%d" % -number) for number in range(1000)])
    assert many.hex() == "ae2c0567f4c0f9af896c6adc0a86728316bcb16477af842fdecc25f756565c1e"


# ---------------------------------------------------------------- bad input


def sample() -> tuple[bytes, Pages]:
    root, changed = trie.update({}.get, trie.EMPTY_ROOT, [(key, key) for key in KEYS])
    return root, apply({}, changed)


@pytest.mark.parametrize("changes", [
    [(b"a", b"1"), (b"a", b"2")], [(b"a", b"1"), (b"a", None)], [("a", b"1")], [(b"a", 1)], [(b"a", bytearray(1))],
])
def test_ambiguous_or_wrong_changes_are_refused(changes: list[tuple[bytes, bytes | None]]) -> None:
    with pytest.raises(trie.TrieError):
        trie.update({}.get, trie.EMPTY_ROOT, changes)


def test_missing_and_foreign_pages_are_refused() -> None:
    root, pages = sample()
    deep = max(pages, key=lambda path: path[0])
    lacking = {path: raw for path, raw in pages.items() if path != deep}
    with pytest.raises(trie.TrieError, match="missing"):
        trie.update(lacking.get, root, [(key, b"new") for key in KEYS])
    with pytest.raises(trie.TrieError, match="missing"):
        list(trie.leaves(lacking.get, root))
    with pytest.raises(trie.TrieError, match="missing"):
        trie.update({}.get, root, [(b"a", b"")])
    with pytest.raises(trie.TrieError, match="does not belong"):
        trie.update(pages.get, bytes(31) + b"\x01", [(b"a", b"")])
    with pytest.raises(trie.TrieError, match="32 bytes"):
        trie.update(pages.get, b"short", [(b"a", b"")])
    with pytest.raises(trie.TrieError, match="not bytes"):
        trie.update(lambda path: bytearray(4), root, [(b"a", b"")])  # type: ignore[arg-type, return-value]


def test_an_error_of_the_reader_comes_through() -> None:
    def fails(path: bytes) -> bytes | None:
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        trie.update(fails, bytes(31) + b"\x01", [(b"a", b"")])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_pages_raise_a_typed_error(data: st.DataObject) -> None:
    root, pages = sample()
    path = data.draw(st.sampled_from(sorted(pages)))
    raw = bytearray(pages[path])
    how = data.draw(st.sampled_from(["flip", "cut", "extend", "replace"]))
    if how == "flip":
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del raw[data.draw(st.integers(0, len(raw) - 1)):]
    elif how == "extend":
        raw += data.draw(st.binary(min_size=1, max_size=80))
    else:
        raw = bytearray(data.draw(st.binary(max_size=200)))
    if bytes(raw) == pages[path]:
        return
    damaged = pages | {path: bytes(raw)}
    with pytest.raises(trie.TrieError):
        list(trie.leaves(damaged.get, root))
    for key in KEYS:
        try:
            assert trie.verify_proof(root, key, key, trie.prove(damaged.get, root, key))
        except trie.TrieError:
            continue
    try:
        trie.update(damaged.get, root, [(key, None) for key in KEYS[::2]] + [(b"x", b"y")])
    except trie.TrieError:
        return


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=1100), st.integers(-1, 65))
def test_any_bytes_as_a_page(path: bytes, raw: bytes, depth: int) -> None:
    for call in (lambda: trie.page_hash(path, raw), lambda: trie.page_entries(path, raw),
                 lambda: trie.page_hash(b"\x00", raw), lambda: native.page_proof(depth, raw, bytes(32))):
        try:
            call()
        except trie.TrieError:
            continue


def leaf_of(prefix: str) -> bytes:
    return bytes.fromhex(prefix.ljust(64, "7")) + bytes(32)


@pytest.mark.parametrize(("path", "raw", "reason"), [
    (b"\x00", b"\x00\x00\x00\x00", "too few keys"),
    (b"\x01\x10", b"\x00\x01\x00\x00" + leaf_of("10"), "too few keys"),
    (b"\x01\x10", b"\x00\x03\x00\x00" + leaf_of("10") + leaf_of("12"), "belongs elsewhere"),
    (b"\x01\x10", b"\x00\x03\x00\x00" + leaf_of("10") + leaf_of("21"), "belongs elsewhere"),
    (b"\x00", b"\x00\x01\x00\x01" + leaf_of("0") + bytes(32), "both leaf and child"),
    (b"\x00", b"\x00\x00\x00\x01" + bytes(32), "is empty"),
    (b"\x3f" + bytes(32), b"\x00\x00\x00\x01" + b"\x01" * 32, "below the last nibble"),
    (b"\x00", b"\x00\x01\x00\x00" + leaf_of("0") + b"\x00", "its slots need"),
    (b"\x01\x11", b"", "unused half"),
    (b"\x40" + bytes(32), b"", "page path"),
    (b"\x02\x11\x11", b"", "page path"),
    (b"", b"", "page path"),
])
def test_pages_without_canonical_form(path: bytes, raw: bytes, reason: str) -> None:
    with pytest.raises(trie.TrieError, match=reason):
        trie.page_hash(path, raw)


# ---------------------------------------------------------------- proofs


def test_proofs_of_the_empty_trie_and_of_one_key() -> None:
    proof = trie.prove({}.get, trie.EMPTY_ROOT, b"a")
    assert proof == trie.Proof((), None)
    assert trie.verify_proof(trie.EMPTY_ROOT, b"a", None, proof)
    root, changed = trie.update({}.get, trie.EMPTY_ROOT, [(b"a", b"1")])
    pages = apply({}, changed)
    assert trie.verify_proof(root, b"a", b"1", trie.prove(pages.get, root, b"a"))
    absent = trie.prove(pages.get, root, b"b")
    assert absent.other is not None
    assert trie.verify_proof(root, b"b", None, absent)
    assert not trie.verify_proof(root, b"a", None, absent)
    assert not trie.verify_proof(root, b"b", b"1", absent)


def test_a_leaf_that_is_not_on_the_path_proves_no_absence() -> None:
    root, pages = sample()
    here = trie.prove(pages.get, root, KEYS[0])
    leaf = (digest(Domain.TRIE_KEY, KEYS[0]), digest(Domain.TRIE_VALUE, KEYS[0]))
    assert not trie.verify_proof(root, KEYS[-1], None, trie.Proof(here.siblings, leaf))
    assert not trie.verify_proof(root, KEYS[0], None, trie.Proof(here.siblings, leaf))
    assert not trie.verify_proof(root, KEYS[0], KEYS[0], trie.Proof((ZERO_HASH,) * 257, None))
    assert not trie.verify_proof(root, KEYS[0], KEYS[0], trie.Proof((*here.siblings[:-1], b"short"), None))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_as_a_proof(raw: bytes) -> None:
    try:
        proof = trie.decode_proof(raw)
    except (trie.TrieError, CodecError):
        return
    assert proof.encode() == raw


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_changed_proof_proves_nothing_else(data: st.DataObject) -> None:
    root, pages = sample()
    key = data.draw(st.sampled_from(KEYS))
    raw = bytearray(trie.prove(pages.get, root, key).encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        proof = trie.decode_proof(bytes(raw))
    except (trie.TrieError, CodecError):
        return
    assert not trie.verify_proof(root, key, None, proof)
    assert not trie.verify_proof(root, key, b"other", proof)
    assert not trie.verify_proof(root, key, key, proof)
