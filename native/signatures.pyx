# cython: language_level=3, boundscheck=False, wraparound=False
"""Ed25519 verification: through the libsodium that PyNaCl loads, and faster for keys that sign again and again.

The rule is exactly that of libsodium's `crypto_sign_open`, whose address the caller has. A key by which it has found
two signatures good gets a table of its multiples, 7.5 KiB, with which the same equation takes a third of the time
(`ed25519.h`). Only "good" is believed of that; whatever a table does not find good is libsodium's to judge. What
libsodium says of the key itself it has said by then; what it says of the signature's two halves (s below the group's
order, R of no small order) is checked here as well.

Many signatures are verified with one release of the interpreter for all, one without letting go of it: letting go for
each costs more than verifying when another thread computes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy

cdef extern from "ed25519.h" nogil:
    ctypedef struct gtx_fe:
        pass
    ctypedef struct gtx_point:
        pass
    ctypedef struct gtx_key_table:
        pass
    int gtx_ed25519_prepare()
    int gtx_key_table_make(gtx_key_table*, const uint8_t* key)
    int gtx_below_order(const uint8_t* scalar)
    int gtx_small_order(const uint8_t* point)
    void gtx_equation(gtx_point*, const uint8_t* s, const uint8_t* h, const gtx_key_table*)
    void gtx_invert_all(gtx_point*, gtx_fe* scratch, size_t count)
    void gtx_point_write(uint8_t*, const gtx_point*)

if not gtx_ed25519_prepare():
    raise MemoryError

ctypedef int (*open_function)(unsigned char*, unsigned long long*, const unsigned char*, unsigned long long,
                              const unsigned char*) noexcept nogil
ctypedef int (*hash_function)(unsigned char*, const unsigned char*, unsigned long long) noexcept nogil
ctypedef void (*reduce_function)(unsigned char*, const unsigned char*) noexcept nogil

cdef struct Item:
    const uint8_t* public_key       # NULL: its length or the signature's is wrong
    const uint8_t* signature
    const uint8_t* message
    size_t length
    const gtx_key_table* table      # NULL: the key has none
    bint good
    bint quick                      # found good by the table


cdef class _Table:
    cdef gtx_key_table multiples


cdef class Verifier:
    """Verifies by libsodium's functions at these addresses, and knows up to `most` keys that signed well before.

    `quick` counts the signatures that a table found good.
    """

    cdef open_function _open
    cdef hash_function _sha512
    cdef reduce_function _reduce
    cdef Py_ssize_t _most
    cdef dict _known        # key: its table, or None where one signature was good
    cdef readonly Py_ssize_t quick

    def __init__(self, uintptr_t sign_open, uintptr_t sha512, uintptr_t scalar_reduce, Py_ssize_t most):
        self._open = <open_function>sign_open
        self._sha512 = <hash_function>sha512
        self._reduce = <reduce_function>scalar_reduce
        self._most = most
        self._known = {}
        self.quick = 0

    @property
    def tables(self):
        """How many keys have one."""
        return sum(table is not None for table in self._known.values())

    def verify(self, list items not None):
        """One bool per `(public key, signature, message)`, all bytes; a key or signature of another length is bad."""
        cdef Py_ssize_t count = len(items), index, tabled = 0
        cdef size_t longest = 0
        cdef bytes public_key, signature, message
        cdef list used = []         # tables, which must outlive the release of the interpreter
        cdef PyObject* known
        cdef Item* work = <Item*>malloc(count * sizeof(Item) + 1)
        cdef uint8_t* scratch = NULL
        cdef gtx_point* points = NULL
        try:
            if work == NULL:
                raise MemoryError
            for index in range(count):
                public_key, signature, message = items[index]
                work[index].length = PyBytes_GET_SIZE(message)
                work[index].message = <const uint8_t*>PyBytes_AS_STRING(message)
                work[index].signature = <const uint8_t*>PyBytes_AS_STRING(signature)
                work[index].public_key = <const uint8_t*>PyBytes_AS_STRING(public_key)
                work[index].table = NULL
                work[index].good = work[index].quick = False
                if PyBytes_GET_SIZE(public_key) != 32 or PyBytes_GET_SIZE(signature) != 64:
                    work[index].public_key = NULL
                    continue
                longest = max(longest, work[index].length)
                known = PyDict_GetItem(self._known, public_key)
                if known != NULL and <object>known is not None and gtx_below_order(work[index].signature + 32):
                    used.append(<object>known)
                    work[index].table = &(<_Table><object>known).multiples
                    tabled += 1
            scratch = <uint8_t*>malloc(2 * (longest + 64))
            points = <gtx_point*>malloc(tabled * (sizeof(gtx_point) + sizeof(gtx_fe)) + 1)
            if scratch == NULL or points == NULL:
                raise MemoryError
            if count == 1:
                self._verify(work, count, points, tabled, scratch, scratch + longest + 64)
            else:
                with nogil:
                    self._verify(work, count, points, tabled, scratch, scratch + longest + 64)
            for index in range(count):
                self.quick += work[index].quick
                if work[index].good and work[index].table == NULL:
                    self._learn(items[index][0])
            return [bool(work[index].good) for index in range(count)]
        finally:
            free(points)
            free(scratch)
            free(work)

    cdef void _verify(self, Item* items, Py_ssize_t count, gtx_point* points, Py_ssize_t tabled, uint8_t* scratch,
                      uint8_t* opened) noexcept nogil:
        cdef uint8_t hashed[64]
        cdef uint8_t scalar[32]
        cdef uint8_t point[32]
        cdef unsigned long long length = 0
        cdef Py_ssize_t index, at = 0
        cdef Item* item
        for index in range(count):
            item = &items[index]
            if item.table != NULL:
                memcpy(scratch, item.signature, 32)
                memcpy(scratch + 32, item.public_key, 32)
                memcpy(scratch + 64, item.message, item.length)
                self._sha512(hashed, scratch, 64 + item.length)
                self._reduce(scalar, hashed)
                gtx_equation(&points[at], item.signature + 32, scalar, item.table)
                at += 1
        gtx_invert_all(points, <gtx_fe*>(points + tabled), tabled)
        at = 0
        for index in range(count):
            item = &items[index]
            if item.public_key == NULL:
                continue
            if item.table != NULL:
                gtx_point_write(point, &points[at])
                at += 1
                item.good = item.quick = memcmp(point, item.signature, 32) == 0 and not gtx_small_order(point)
            if not item.good:
                memcpy(scratch, item.signature, 64)
                memcpy(scratch + 64, item.message, item.length)
                item.good = self._open(opened, &length, scratch, 64 + item.length, item.public_key) == 0

    cdef int _learn(self, bytes public_key) except -1:
        """A signature by this key was good, by libsodium's word."""
        cdef _Table table
        if public_key in self._known:
            if self._known[public_key] is None:
                table = _Table.__new__(_Table)
                if gtx_key_table_make(&table.multiples, <const uint8_t*>PyBytes_AS_STRING(public_key)):
                    self._known[public_key] = table
            return 0
        if len(self._known) >= self._most:
            self._known.clear()
        self._known[public_key] = None
        return 0
