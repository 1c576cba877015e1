# cython: boundscheck=False, wraparound=False, initializedcheck=False
"""The state trie's pages: reading, updating, hashing. `gridtokenx.ledger.trie` documents the form and is the API.

A page is the four levels below its path: sixteen slots, one per nibble of the key hash, each empty, one leaf
(key hash, value hash) or the hash of a child page. Bytes: u16 mask of leaves, u16 mask of children (big-endian,
bit n = slot n), then per used slot in order 64 bytes of leaf or 32 bytes of hash. Nothing else is stored, so a
page has one form: which leaves are collapsed to where follows from the slots.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, qsort
from libc.string cimport memcmp, memcpy, memset

from gridtokenx.errors import GridTokenXError

cdef extern from "sha256.h" nogil:
    ctypedef void (*gtx_sha256_blocks_fn)(uint32_t*, const uint8_t*, size_t)
    gtx_sha256_blocks_fn gtx_sha256_blocks
    int gtx_sha256_choose()
    void gtx_sha256_with(gtx_sha256_blocks_fn blocks, int tag, const uint8_t* data, size_t length, uint8_t* out)
    void gtx_sha256_two_with(uint8_t tag, const uint8_t* data, size_t length, uint8_t* out,
                             uint8_t tag2, const uint8_t* data2, size_t length2, uint8_t* out2)
    void gtx_sha256_pair(uint8_t tag, const uint8_t* left, const uint8_t* right, uint8_t* out)
    ctypedef struct gtx_sha256_pair_job:
        uint8_t tag
        const uint8_t* left
        const uint8_t* right
        uint8_t* out
    void gtx_sha256_pairs(const gtx_sha256_pair_job* jobs, int count)

gtx_sha256_choose()

# crypto.hashing.Domain; a test holds them equal.
cdef enum:
    TAG_LEAF = 9
    TAG_INNER = 10
    TAG_KEY = 11
    TAG_VALUE = 12

cdef enum:
    EMPTY = 0
    LEAF = 1
    CHILD = 2
    MAX_NIBBLES = 64
    MAX_PAGE_BYTES = 1028  # 4 + 16 * 64
    ALL = 0xFFFF           # mask of all slots
    MOST_BUCKETS = 65536   # of changes while they are sorted
    MOST_BY_INSERTION = 24

TAGS = (TAG_LEAF, TAG_INNER, TAG_KEY, TAG_VALUE)


class TrieError(GridTokenXError):
    """A trie page that is missing, malformed or not the one its parent names, or changes that are ambiguous."""


cdef struct Slot:
    int kind
    uint8_t data[64]  # leaf: key hash, value hash; child: its hash in the first 32 bytes

cdef struct Change:
    uint8_t key[32]
    uint8_t value[32]
    int removed

# A change by the first bits of its key.
cdef struct Placed:
    uint64_t prefix
    Change* change

# A subtree while a page is folded: nothing, one leaf (of this slot) not hashed yet, or a hash.
cdef struct Node:
    int kind
    int leaf
    uint8_t hash[32]

cdef struct Page:
    Slot slots[16]
    Node inner[14]  # what the slots come to, as `fold` leaves it: eight, four, two


cdef inline int nibble(const uint8_t* key, int depth) noexcept nogil:
    return key[depth >> 1] & 15 if depth & 1 else key[depth >> 1] >> 4


cdef inline bint same_prefix(const uint8_t* a, const uint8_t* b, int nibbles) noexcept nogil:
    if memcmp(a, b, nibbles >> 1) != 0:
        return False
    return not nibbles & 1 or (a[nibbles >> 1] ^ b[nibbles >> 1]) < 16


cdef bytes path_of(const uint8_t* key, int depth):
    cdef uint8_t path[33]
    cdef int size = (depth + 1) >> 1
    path[0] = <uint8_t> depth
    memcpy(path + 1, key, size)
    if depth & 1:
        path[size] &= 0xF0
    return PyBytes_FromStringAndSize(<char*> path, 1 + size)


cdef int read_path(bytes path, uint8_t* prefix) except -1:
    """The number of nibbles; `prefix` gets 32 bytes, padded with zeros."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(path)
    cdef const uint8_t* raw = <const uint8_t*> PyBytes_AS_STRING(path)
    if size < 1 or raw[0] >= MAX_NIBBLES or size != 1 + ((raw[0] + 1) >> 1):
        raise TrieError(f"page path {path.hex()}: one byte, 0 to 63, then that many nibbles, are allowed")
    if raw[0] & 1 and raw[size - 1] & 15:
        raise TrieError(f"page path {path.hex()}: the unused half of the last byte must be zero")
    memset(prefix, 0, 32)
    memcpy(prefix, raw + 1, size - 1)
    return raw[0]


cdef inline void leaf_hash(const uint8_t* leaf, uint8_t* out) noexcept nogil:
    gtx_sha256_pair(TAG_LEAF, leaf, leaf + 32, out)


cdef inline const uint8_t* node_hash(Slot* slots, Node* node) noexcept nogil:
    if node.kind == LEAF:
        leaf_hash(slots[node.leaf].data, node.hash)
    elif node.kind == EMPTY:
        memset(node.hash, 0, 32)
    return node.hash


# What `combine` has to hash of its nodes: at most each of them as a leaf, then each pair.
cdef struct Jobs:
    gtx_sha256_pair_job leaves[32]
    gtx_sha256_pair_job pairs[16]
    int leaf_count
    int pair_count


cdef inline void hash_later(Slot* slots, Node* node, Jobs* jobs) noexcept nogil:
    cdef gtx_sha256_pair_job* job
    if node.kind == LEAF:
        job = &jobs.leaves[jobs.leaf_count]
        job.tag, job.out = TAG_LEAF, node.hash
        job.left, job.right = slots[node.leaf].data, slots[node.leaf].data + 32
        jobs.leaf_count += 1
    elif node.kind == EMPTY:
        memset(node.hash, 0, 32)


cdef int combine(Slot* slots, Node* nodes, Node* out, int pairs, int stale) noexcept nogil:
    """Each of `out` becomes the parent of two of `nodes`, of which there are twice as many; they lie apart.

    Only parents of those in the mask `stale` do; returns which parents that are.
    """
    cdef Jobs jobs
    cdef gtx_sha256_pair_job* job
    cdef Node* left
    cdef Node* right
    cdef int index, parents = 0
    jobs.leaf_count = jobs.pair_count = 0
    for index in range(pairs):
        if not stale >> 2 * index & 3:
            continue
        parents |= 1 << index
        left, right = &nodes[2 * index], &nodes[2 * index + 1]
        if left.kind == EMPTY and right.kind != CHILD:
            out[index] = right[0]
        elif right.kind == EMPTY and left.kind != CHILD:
            out[index] = left[0]
        else:
            hash_later(slots, left, &jobs)
            hash_later(slots, right, &jobs)
            job = &jobs.pairs[jobs.pair_count]
            job.tag, job.left, job.right, job.out = TAG_INNER, left.hash, right.hash, out[index].hash
            jobs.pair_count += 1
            out[index].kind = CHILD
    gtx_sha256_pairs(jobs.leaves, jobs.leaf_count)
    gtx_sha256_pairs(jobs.pairs, jobs.pair_count)
    return parents


cdef void load_nodes(Slot* slots, Node* nodes) noexcept nogil:
    cdef int index
    for index in range(16):
        nodes[index].kind = slots[index].kind
        nodes[index].leaf = index
        if slots[index].kind == CHILD:
            memcpy(nodes[index].hash, slots[index].data, 32)


cdef void fold(Page* page, int stale, Node* result) noexcept nogil:
    """The subtree that sixteen slots make: empty, one leaf, or a hash. `page.inner` fits all slots but those of the
    mask `stale`, and is made to fit these."""
    cdef Node nodes[16]
    load_nodes(page.slots, nodes)
    stale = combine(page.slots, nodes, page.inner, 8, stale)
    stale = combine(page.slots, page.inner, page.inner + 8, 4, stale)
    stale = combine(page.slots, page.inner + 8, page.inner + 12, 2, stale)
    combine(page.slots, page.inner + 12, result, 1, 3)


cdef int parse(bytes raw, const uint8_t* prefix, int depth, Slot* slots) except -1:
    """Fills `slots` from page bytes at the path of `depth` nibbles of `prefix`."""
    cdef const uint8_t* data = <const uint8_t*> PyBytes_AS_STRING(raw)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(raw)
    cdef Py_ssize_t used = 4
    cdef int leaves, children, index, leaf_count = 0, child_count = 0, byte
    cdef uint8_t any_bit
    if size < 4:
        raise TrieError(f"page {path_of(prefix, depth).hex()}: {size} bytes; a page has at least 4")
    leaves = data[0] << 8 | data[1]
    children = data[2] << 8 | data[3]
    if leaves & children:
        raise TrieError(f"page {path_of(prefix, depth).hex()}: a slot is both leaf and child")
    for index in range(16):
        leaf_count += leaves >> index & 1
        child_count += children >> index & 1
    if size != 4 + 64 * leaf_count + 32 * child_count:
        raise TrieError(f"page {path_of(prefix, depth).hex()}: {size} bytes; its slots need "
                        f"{4 + 64 * leaf_count + 32 * child_count}")
    if leaf_count + 2 * child_count < (2 if depth else 1):
        raise TrieError(f"page {path_of(prefix, depth).hex()}: too few keys; it should not exist")
    if child_count and depth == MAX_NIBBLES - 1:
        raise TrieError(f"page {path_of(prefix, depth).hex()}: a child below the last nibble")
    for index in range(16):
        if leaves >> index & 1:
            slots[index].kind = LEAF
            memcpy(slots[index].data, data + used, 64)
            if not same_prefix(data + used, prefix, depth) or nibble(data + used, depth) != index:
                raise TrieError(f"page {path_of(prefix, depth).hex()}: the leaf in slot {index} belongs elsewhere")
            used += 64
        elif children >> index & 1:
            slots[index].kind = CHILD
            memcpy(slots[index].data, data + used, 32)
            any_bit = 0
            for byte in range(32):
                any_bit |= slots[index].data[byte]
            if not any_bit:
                raise TrieError(f"page {path_of(prefix, depth).hex()}: the child in slot {index} is empty")
            used += 32
        else:
            slots[index].kind = EMPTY
    return 0


cdef bytes build(Slot* slots):
    cdef uint8_t out[MAX_PAGE_BYTES]
    cdef int leaves = 0, children = 0, index
    cdef Py_ssize_t used = 4
    for index in range(16):
        if slots[index].kind == LEAF:
            leaves |= 1 << index
            memcpy(out + used, slots[index].data, 64)
            used += 64
        elif slots[index].kind == CHILD:
            children |= 1 << index
            memcpy(out + used, slots[index].data, 32)
            used += 32
    out[0] = leaves >> 8
    out[1] = leaves & 255
    out[2] = children >> 8
    out[3] = children & 255
    return PyBytes_FromStringAndSize(<char*> out, used)


cdef bytes fetch(object read_page, bytes path):
    raw = read_page(path)
    if raw is None:
        raise TrieError(f"page {path.hex()} is missing")
    if type(raw) is not bytes:
        raise TrieError(f"page {path.hex()} is {type(raw).__name__}, not bytes")
    return raw


include "trie_memo.pxi"


cdef inline int nibble_of(const Placed* placed, int depth) noexcept nogil:
    return placed.prefix >> (60 - 4 * depth) & 15 if depth < 16 else nibble(placed.change.key, depth)


cdef bint walk(object read_page, Memo memo, int depth, const uint8_t* hash, bytes raw, Slot* seed, Placed* changes,
               Py_ssize_t count, dict out, Slot* result) except -1:
    """Applies the changes (sorted, all below one path of `depth` nibbles) to one page and those under it.

    `hash` is that of the page's subtree, or NULL if there is no page yet; `raw` its bytes, if they were read; `seed` a
    leaf of the parent's slot that moves down, or NULL. `result` gets what the parent's slot becomes. Returns False when
    nothing changed (`result` is not written then).
    """
    cdef Page spare
    cdef Page* page = NULL
    cdef Slot below
    cdef Slot* slot
    cdef Change* change
    cdef Node folded
    cdef Py_ssize_t start = 0, end
    cdef int index, keys = 0, changed = 0, stale = ALL
    cdef bytes path, new
    if depth >= MAX_NIBBLES:
        raise TrieError("two different keys have one hash")
    if hash != NULL:
        if memo is not None:
            page = memo.take(changes.change.key, depth, hash, &spare)
        if page != NULL:
            stale = 0
        else:
            page = &spare
            if raw is None:
                raw = fetch(read_page, path_of(changes.change.key, depth))
            parse(raw, changes.change.key, depth, page.slots)
    else:
        page = &spare
        for index in range(16):
            page.slots[index].kind = EMPTY
        if seed != NULL:
            page.slots[nibble(seed.data, depth)] = seed[0]
    while start < count:
        index = nibble_of(changes + start, depth)
        end = start + 1
        while end < count and nibble_of(changes + end, depth) == index:
            end += 1
        slot = &page.slots[index]
        change = changes[start].change
        if slot.kind == CHILD:
            if walk(read_page, memo, depth + 1, slot.data, None, NULL, changes + start, end - start, out, &below):
                slot[0] = below
                changed |= 1 << index
        elif end == start + 1 and (slot.kind == EMPTY or memcmp(slot.data, change.key, 32) == 0):
            if change.removed:
                changed |= (slot.kind != EMPTY) << index
                slot.kind = EMPTY
            elif slot.kind == EMPTY or memcmp(slot.data + 32, change.value, 32) != 0:
                slot.kind = LEAF
                memcpy(slot.data, change.key, 32)
                memcpy(slot.data + 32, change.value, 32)
                changed |= 1 << index
        elif end == start + 1 and change.removed:
            pass  # the slot's leaf is another key
        else:
            walk(read_page, memo, depth + 1, NULL, None, slot if slot.kind == LEAF else NULL, changes + start,
                 end - start, out, &below)
            if slot.kind != below.kind or (slot.kind == LEAF and memcmp(slot.data, below.data, 64) != 0):
                changed |= 1 << index
            slot[0] = below
        start = end
    if hash != NULL and not changed:
        if memo is not None and not stale:
            memo.keep(changes.change.key, depth, hash, page)
        return False
    for index in range(16):
        keys += 1 if page.slots[index].kind == LEAF else 2 if page.slots[index].kind == CHILD else 0
    new = build(page.slots) if keys >= (2 if depth else 1) else None
    if new is not None or hash != NULL:
        out[path_of(changes.change.key, depth)] = new
    fold(page, stale | changed, &folded)
    result.kind = folded.kind
    if folded.kind == LEAF:
        memcpy(result.data, page.slots[folded.leaf].data, 64)
    elif folded.kind == CHILD:
        memcpy(result.data, folded.hash, 32)
        if memo is not None:
            memo.keep(changes.change.key, depth, folded.hash, page)
    return True


cdef int by_key(const void* a, const void* b) noexcept nogil:
    cdef const Placed* one = <const Placed*> a
    cdef const Placed* other = <const Placed*> b
    if one.prefix != other.prefix:
        return -1 if one.prefix < other.prefix else 1
    return memcmp(one.change.key, other.change.key, 32)


cdef void insert(Placed* some, Py_ssize_t count) noexcept nogil:
    """Sorts a few."""
    cdef Placed moved
    cdef Py_ssize_t index, at
    for index in range(1, count):
        moved, at = some[index], index
        while at and by_key(&moved, &some[at - 1]) < 0:
            some[at] = some[at - 1]
            at -= 1
        some[at] = moved


cdef int sort(Change* pool, Py_ssize_t count, Placed* order) except -1:
    """Makes `order` the changes by their keys. Hashes lie evenly, so that counting their first bits puts nearly all in
    place; whoever makes keys whose hashes begin alike gets a slower sort, not a slow one."""
    cdef Py_ssize_t* ends
    cdef Placed* before
    cdef Py_ssize_t index, at, buckets = 2
    cdef int shift = 63
    while buckets < MOST_BUCKETS and buckets < count:
        buckets, shift = 2 * buckets, shift - 1
    ends = <Py_ssize_t*> calloc(buckets + 1, sizeof(Py_ssize_t))
    before = <Placed*> malloc(count * sizeof(Placed))
    try:
        if ends == NULL or before == NULL:
            raise MemoryError
        for index in range(count):
            before[index].prefix, before[index].change = prefix_of(pool[index].key, 16), &pool[index]
            ends[before[index].prefix >> shift] += 1
        for index in range(1, buckets + 1):
            ends[index] += ends[index - 1]
        for index in range(count):              # what was a bucket's end is its beginning then
            at = before[index].prefix >> shift
            ends[at] -= 1
            order[ends[at]] = before[index]
        for index in range(buckets):
            at = ends[index + 1] - ends[index]
            if at > MOST_BY_INSERTION:
                qsort(order + ends[index], at, sizeof(Placed), by_key)
            else:
                insert(order + ends[index], at)
    finally:
        free(ends)
        free(before)
    return 0


cdef inline void root_of(Slot* slot, uint8_t* out) noexcept nogil:
    if slot.kind == EMPTY:
        memset(out, 0, 32)
    elif slot.kind == LEAF:
        leaf_hash(slot.data, out)
    else:
        memcpy(out, slot.data, 32)


cdef bytes root_page(object read_page, bytes root):
    """The bytes of the root page, or None for the empty trie; checked against `root`."""
    if len(root) != 32:
        raise TrieError(f"a root has 32 bytes, not {len(root)}")
    if root == bytes(32):
        return None
    raw = fetch(read_page, b"\x00")
    if page_hash(b"\x00", raw) != root:
        raise TrieError(f"the root page does not belong to root {root.hex()}")
    return raw


def update(object read_page, bytes root not None, object changes not None, Memo memo=None):
    """`gridtokenx.ledger.trie.update`."""
    cdef Py_ssize_t count = len(changes)
    cdef Py_ssize_t index = 0
    cdef Change* pool
    cdef Placed* order
    cdef Slot result
    cdef uint8_t hash[32]
    cdef dict out = {}
    if memo is not None and memo.busy:      # `read_page` may let other threads run, or update a trie itself
        memo = None
    cdef bytes raw = None if memo is not None and memo.has_root(root) else root_page(read_page, root)
    cdef const uint8_t* old = NULL if root == bytes(32) else <const uint8_t*> PyBytes_AS_STRING(root)
    if count == 0:
        return root, out
    pool = <Change*> malloc(count * sizeof(Change))
    order = <Placed*> malloc(count * sizeof(Placed))
    if memo is not None:
        memo.busy = True
    try:
        if pool == NULL or order == NULL:
            raise MemoryError
        for key, value in changes:
            if index >= count:
                raise TrieError("the changes grew while they were read")
            if type(key) is not bytes or not (value is None or type(value) is bytes):
                raise TrieError(f"a change is (bytes, bytes or None), not ({type(key).__name__}, "
                                f"{type(value).__name__})")
            pool[index].removed = value is None
            if value is None:
                gtx_sha256_with(gtx_sha256_blocks, TAG_KEY, <const uint8_t*> PyBytes_AS_STRING(key),
                                PyBytes_GET_SIZE(key), pool[index].key)
            else:
                gtx_sha256_two_with(TAG_KEY, <const uint8_t*> PyBytes_AS_STRING(key), PyBytes_GET_SIZE(key),
                                    pool[index].key, TAG_VALUE, <const uint8_t*> PyBytes_AS_STRING(value),
                                    PyBytes_GET_SIZE(value), pool[index].value)
            index += 1
        if index != count:
            raise TrieError("the changes shrank while they were read")
        sort(pool, count, order)
        for index in range(1, count):
            if not by_key(&order[index - 1], &order[index]):
                raise TrieError("two changes of one key; give each key once")
        if not walk(read_page, memo, 0, old, raw, NULL, order, count, out, &result):
            return root, out
        root_of(&result, hash)
        return hash[:32], out
    finally:
        if memo is not None:
            memo.busy = False
        free(pool)
        free(order)


def page_hash(bytes path not None, bytes raw not None):
    """The hash of the subtree that page `raw` at `path` holds. Raises TrieError if it is malformed."""
    cdef uint8_t prefix[32]
    cdef Page page
    cdef Node folded
    cdef int depth = read_path(path, prefix)
    parse(raw, prefix, depth, page.slots)
    fold(&page, ALL, &folded)
    return node_hash(page.slots, &folded)[:32]


def page_entries(bytes path not None, bytes raw not None):
    """`([(key hash, value hash), ...], [(child path, child hash), ...])`. Raises TrieError if malformed."""
    cdef uint8_t prefix[32]
    cdef Slot slots[16]
    cdef int depth = read_path(path, prefix)
    cdef int index
    cdef list leaves = [], children = []
    parse(raw, prefix, depth, slots)
    for index in range(16):
        if slots[index].kind == LEAF:
            leaves.append((slots[index].data[:32], slots[index].data[32:64]))
        elif slots[index].kind == CHILD:
            if depth & 1:
                prefix[depth >> 1] = (prefix[depth >> 1] & 0xF0) | <uint8_t> index
            else:
                prefix[depth >> 1] = <uint8_t> (index << 4)
            children.append((path_of(prefix, depth + 1), slots[index].data[:32]))
    return leaves, children


def page_proof(int depth, bytes raw not None, bytes key not None):
    """How the page on the way to key hash `key`, at `depth` nibbles, proves its part.

    Returns (hash of the page's subtree, siblings from the top, end) where end is None (empty), (key hash, value
    hash) of the leaf the path ends in, or the child's hash (then 4 siblings). Raises TrieError if malformed.
    """
    cdef Slot slots[16]
    cdef Node levels[31]  # heap order: node n has children 2n+1 and 2n+2, the slots are 15..30
    cdef int first = 15
    cdef Node* node
    cdef Node* other
    cdef int index, at, target
    cdef list siblings = []
    if not 0 <= depth < MAX_NIBBLES or len(key) != 32:
        raise TrieError("a page lies at 0 to 63 nibbles of a key hash of 32 bytes")
    cdef const uint8_t* hashed = <const uint8_t*> PyBytes_AS_STRING(key)
    parse(raw, hashed, depth, slots)
    load_nodes(slots, &levels[15])
    while first:
        index = first >> 1
        combine(slots, &levels[first], &levels[index], index + 1, ALL)
        first = index
    target = nibble(hashed, depth)
    at = 0
    for index in range(3, -1, -1):
        if levels[at].kind != CHILD:
            break
        node = &levels[2 * at + 1 + (target >> index & 1)]
        other = &levels[2 * at + 2 - (target >> index & 1)]
        siblings.append(node_hash(slots, other)[:32])
        at = 2 * at + 1 + (target >> index & 1)
    subtree = node_hash(slots, &levels[0])[:32]
    if levels[at].kind == EMPTY:
        return subtree, siblings, None
    if levels[at].kind == LEAF:
        return subtree, siblings, (slots[levels[at].leaf].data[:32], slots[levels[at].leaf].data[32:64])
    return subtree, siblings, levels[at].hash[:32]
