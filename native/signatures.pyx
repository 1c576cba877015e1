# cython: language_level=3, boundscheck=False, wraparound=False
"""Ed25519 verification through the libsodium that PyNaCl loads, for one signature or many.

Called with the address of libsodium's `crypto_sign_open`: the rule is exactly PyNaCl's. One signature is verified
without letting go of the interpreter, many with one release for all: letting go for each costs more than verifying
when another thread computes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

ctypedef int (*open_function)(unsigned char*, unsigned long long*, const unsigned char*, unsigned long long,
                              const unsigned char*) noexcept nogil

cdef struct Item:
    const unsigned char* public_key
    const unsigned char* signature
    const unsigned char* message
    size_t length
    bint good

cdef void _verify(open_function sign_open, Item* item, unsigned char* signed_message, unsigned char* opened) noexcept nogil:
    cdef unsigned long long length = 0
    memcpy(signed_message, item.signature, 64)
    memcpy(signed_message + 64, item.message, item.length)
    item.good = sign_open(opened, &length, signed_message, 64 + item.length, item.public_key) == 0


def verify_many(uintptr_t sign_open, list items not None):
    """One bool per `(public key, signature, message)`, all bytes; a key or signature of another length is bad."""
    cdef Py_ssize_t count = len(items), index
    cdef size_t longest = 0
    cdef Item* work = <Item*>malloc(count * sizeof(Item) + 1)
    cdef unsigned char* scratch = NULL
    cdef bytes public_key, signature, message
    cdef open_function function = <open_function>sign_open
    if work == NULL:
        raise MemoryError
    try:
        for index in range(count):
            public_key, signature, message = items[index]
            work[index].good = False
            work[index].length = PyBytes_GET_SIZE(message)
            work[index].message = <const unsigned char*>PyBytes_AS_STRING(message)
            work[index].signature = <const unsigned char*>PyBytes_AS_STRING(signature)
            work[index].public_key = <const unsigned char*>PyBytes_AS_STRING(public_key)
            if PyBytes_GET_SIZE(public_key) != 32 or PyBytes_GET_SIZE(signature) != 64:
                work[index].public_key = NULL
            longest = max(longest, work[index].length)
        scratch = <unsigned char*>malloc(2 * (longest + 64))
        if scratch == NULL:
            raise MemoryError
        if count == 1:
            if work[0].public_key != NULL:
                _verify(function, &work[0], scratch, scratch + longest + 64)
        else:
            with nogil:
                for index in range(count):
                    if work[index].public_key != NULL:
                        _verify(function, &work[index], scratch, scratch + longest + 64)
        return [bool(work[index].good) for index in range(count)]
    finally:
        free(scratch)
        free(work)
