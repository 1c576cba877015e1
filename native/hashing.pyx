# cython: boundscheck=False, wraparound=False
"""SHA-256 of the compiled modules, opened for tests and measurements; the code is in `sha256.h`."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stddef cimport size_t
from libc.stdint cimport uint8_t, uint32_t

cdef extern from "sha256.h" nogil:
    ctypedef void (*gtx_sha256_blocks_fn)(uint32_t*, const uint8_t*, size_t)
    gtx_sha256_blocks_fn gtx_sha256_blocks
    void gtx_sha256_blocks_portable(uint32_t*, const uint8_t*, size_t)
    int gtx_sha256_choose()
    void gtx_sha256_with(gtx_sha256_blocks_fn blocks, int tag, const uint8_t* data, size_t length, uint8_t* out)
    void gtx_sha256_pair(uint8_t tag, const uint8_t* left, const uint8_t* right, uint8_t* out)

cdef bint _accelerated = gtx_sha256_choose() != 0


def accelerated():
    """True iff this processor's SHA instructions are used."""
    return _accelerated


def sha256(bytes data not None):
    """The 32-byte SHA-256 of `data`, by the fastest code this processor has."""
    cdef uint8_t out[32]
    gtx_sha256_with(gtx_sha256_blocks, -1, <const uint8_t*> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), out)
    return out[:32]


def sha256_portable(bytes data not None):
    """The 32-byte SHA-256 of `data`, by the portable code."""
    cdef uint8_t out[32]
    gtx_sha256_with(gtx_sha256_blocks_portable, -1, <const uint8_t*> PyBytes_AS_STRING(data),
                    PyBytes_GET_SIZE(data), out)
    return out[:32]


def tagged(int tag, bytes data not None):
    """SHA-256 of the tag byte and `data`. Raises ValueError if `tag` is not a byte."""
    cdef uint8_t out[32]
    if not 0 <= tag <= 255:
        raise ValueError(f"a tag is a byte, not {tag}")
    gtx_sha256_with(gtx_sha256_blocks, tag, <const uint8_t*> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), out)
    return out[:32]


def pair(int tag, bytes left not None, bytes right not None):
    """SHA-256 of tag byte, `left` and `right` of 32 bytes each. Raises ValueError for other lengths."""
    cdef uint8_t out[32]
    if not 0 <= tag <= 255 or len(left) != 32 or len(right) != 32:
        raise ValueError("a byte tag and two parts of 32 bytes are needed")
    gtx_sha256_pair(<uint8_t> tag, <const uint8_t*> PyBytes_AS_STRING(left),
                    <const uint8_t*> PyBytes_AS_STRING(right), out)
    return out[:32]
