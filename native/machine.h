/* What the compiled core needs of the machine: bit scans, prefetch, 128-bit comparison, and memory reserved now and paid for
 * on touch. */
#ifndef GRIDTOKENX_MACHINE_H
#define GRIDTOKENX_MACHINE_H
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define LOWEST_BIT(x) ((uint32_t)__builtin_ctzll(x))
#define HIGHEST_BIT(x) ((uint32_t)(63 - __builtin_clzll(x)))
#define PREFETCH(p) __builtin_prefetch((const void *)(p), 1, 3)
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* Sign of a / b - c / d, exactly, for positive denominators. */
static inline int compare_fractions(int64_t a, int64_t b, int64_t c, int64_t d) {
    __int128 left = (__int128)a * d, right = (__int128)c * b;
    return (left > right) - (left < right);
}

/* x / y, rounded down, for 0 <= x < 2^62 and y <= 2^20 with inverse = 2^82 / y rounded up: that is too much by less than 1, so
 * x inverse / 2^82 exceeds x / y by less than 2^-20 <= 1 / y, which does not reach the next integer. */
static inline int64_t divided(int64_t x, uint64_t inverse) {
    return (int64_t)(uint64_t)((unsigned __int128)(uint64_t)x * inverse >> 82);
}

/* Which of 16 zones may be within reach: near[i] + (price * loss[i] + toll[i]) / 65536 <= reach. No sum passes 32 bits. Zones
 * from 8 on are looked at if there are so many. */
#if defined(__SSE2__)
#include <emmintrin.h>
static inline __m128i near_half(const uint32_t *near, const uint16_t *loss, const uint32_t *toll, __m128i factor, __m128i limit) {
    const __m128i *keys = (const __m128i *)near, *tolls = (const __m128i *)toll;
    __m128i part = _mm_loadu_si128((const __m128i *)loss);
    __m128i low = _mm_mullo_epi16(part, factor), high = _mm_mulhi_epu16(part, factor);
    __m128i first = _mm_add_epi32(_mm_unpacklo_epi16(low, high), _mm_loadu_si128(tolls));
    __m128i second = _mm_add_epi32(_mm_unpackhi_epi16(low, high), _mm_loadu_si128(tolls + 1));
    first = _mm_add_epi32(_mm_srli_epi32(first, 16), _mm_loadu_si128(keys));
    second = _mm_add_epi32(_mm_srli_epi32(second, 16), _mm_loadu_si128(keys + 1));
    return _mm_packs_epi32(_mm_cmpgt_epi32(first, limit), _mm_cmpgt_epi32(second, limit));
}
static inline uint32_t within_reach(const uint32_t *near, const uint16_t *loss, const uint32_t *toll, uint32_t price,
                                    int32_t reach, uint32_t zones) {
    __m128i factor = _mm_set1_epi16((int16_t)(price < 65535 ? price : 65535)), limit = _mm_set1_epi32(reach);
    __m128i first = near_half(near, loss, toll, factor, limit);
    if (zones <= 8) return 0xFF & ~(uint32_t)_mm_movemask_epi8(_mm_packs_epi16(first, first));
    return 0xFFFF & ~(uint32_t)_mm_movemask_epi8(
        _mm_packs_epi16(first, near_half(near + 8, loss + 8, toll + 8, factor, limit)));
}
/* The same without losses and tolls, which are never below 0: near[i] <= reach. */
static inline uint32_t below_reach(const uint32_t *near, int32_t reach, uint32_t zones) {
    const __m128i *keys = (const __m128i *)near;
    const __m128i limit = _mm_set1_epi32(reach);
    __m128i first = _mm_packs_epi32(_mm_cmpgt_epi32(_mm_loadu_si128(keys), limit), _mm_cmpgt_epi32(_mm_loadu_si128(keys + 1), limit));
    if (zones <= 8) return 0xFF & ~(uint32_t)_mm_movemask_epi8(_mm_packs_epi16(first, first));
    return 0xFFFF & ~(uint32_t)_mm_movemask_epi8(_mm_packs_epi16(first, _mm_packs_epi32(
        _mm_cmpgt_epi32(_mm_loadu_si128(keys + 2), limit), _mm_cmpgt_epi32(_mm_loadu_si128(keys + 3), limit))));
}
#else
static inline uint32_t below_reach(const uint32_t *near, int32_t reach, uint32_t zones) {
    uint32_t mask = 0;
    for (uint32_t i = 0; i < zones; i++) mask |= (uint32_t)((int32_t)near[i] <= reach) << i;
    return mask;
}
static inline uint32_t within_reach(const uint32_t *near, const uint16_t *loss, const uint32_t *toll, uint32_t price,
                                    int32_t reach, uint32_t zones) {
    uint32_t mask = 0, factor = price < 65535 ? price : 65535;
    for (uint32_t i = 0; i < zones; i++)
        mask |= (uint32_t)((int32_t)(near[i] + ((factor * loss[i] + toll[i]) >> 16)) <= reach) << i;
    return mask;
}
#endif

/* One of two addresses, without a branch: for choices that nobody can foresee. */
static inline uint32_t *either(int first, uint32_t *a, uint32_t *b) {
    uintptr_t mask = -(uintptr_t)(first != 0);
    return (uint32_t *)(((uintptr_t)a & mask) | ((uintptr_t)b & ~mask));
}

#if defined(__SANITIZE_ADDRESS__)
/* Under the address sanitizer pools come from its own allocator, which sees a step beyond their end. It need not clear what
 * it has fresh from the system, so that large pools cost little here too. */
static void *pool_reserve(size_t bytes, int huge) {
    (void)huge;
    return calloc(1, bytes ? bytes : 1);
}
static void pool_release(void *memory, size_t bytes) { (void)bytes; free(memory); }
#else
#include <sys/mman.h>
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
/* Zeroed memory; a page of it costs nothing until it is written. NULL when the address space is refused. */
static void *pool_reserve(size_t bytes, int huge) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return NULL;
#ifdef MADV_HUGEPAGE
    if (huge) (void)madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}
static void pool_release(void *memory, size_t bytes) { if (memory != NULL) (void)munmap(memory, bytes); }
#endif

#endif
