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
