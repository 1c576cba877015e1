/* SHA-256 (FIPS 180-4), header only, shared by the compiled modules.
 *
 * Two block functions: portable C, and the x86 SHA extensions where compiler and processor have them; the choice
 * is made once, at run time. Other architectures and compilers use the portable one. No allocation, no global
 * state but the chosen function; safe to call without the GIL after gtx_sha256_choose().
 */
#ifndef GRIDTOKENX_SHA256_H
#define GRIDTOKENX_SHA256_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#define GTX_SHA_X86 1
#include <cpuid.h>
#include <immintrin.h>
#endif

typedef void (*gtx_sha256_blocks_fn)(uint32_t state[8], const uint8_t *data, size_t blocks);
typedef void (*gtx_sha256_two_fn)(uint32_t first[8], const uint8_t *a, uint32_t second[8], const uint8_t *b,
                                  size_t blocks);

static const uint32_t GTX_SHA256_K[64] = {
    0x428a2f98u, 0x71374491u, 0xb5c0fbcfu, 0xe9b5dba5u, 0x3956c25bu, 0x59f111f1u, 0x923f82a4u, 0xab1c5ed5u,
    0xd807aa98u, 0x12835b01u, 0x243185beu, 0x550c7dc3u, 0x72be5d74u, 0x80deb1feu, 0x9bdc06a7u, 0xc19bf174u,
    0xe49b69c1u, 0xefbe4786u, 0x0fc19dc6u, 0x240ca1ccu, 0x2de92c6fu, 0x4a7484aau, 0x5cb0a9dcu, 0x76f988dau,
    0x983e5152u, 0xa831c66du, 0xb00327c8u, 0xbf597fc7u, 0xc6e00bf3u, 0xd5a79147u, 0x06ca6351u, 0x14292967u,
    0x27b70a85u, 0x2e1b2138u, 0x4d2c6dfcu, 0x53380d13u, 0x650a7354u, 0x766a0abbu, 0x81c2c92eu, 0x92722c85u,
    0xa2bfe8a1u, 0xa81a664bu, 0xc24b8b70u, 0xc76c51a3u, 0xd192e819u, 0xd6990624u, 0xf40e3585u, 0x106aa070u,
    0x19a4c116u, 0x1e376c08u, 0x2748774cu, 0x34b0bcb5u, 0x391c0cb3u, 0x4ed8aa4au, 0x5b9cca4fu, 0x682e6ff3u,
    0x748f82eeu, 0x78a5636fu, 0x84c87814u, 0x8cc70208u, 0x90befffau, 0xa4506cebu, 0xbef9a3f7u, 0xc67178f2u,
};

static const uint32_t GTX_SHA256_INITIAL[8] = {
    0x6a09e667u, 0xbb67ae85u, 0x3c6ef372u, 0xa54ff53au, 0x510e527fu, 0x9b05688cu, 0x1f83d9abu, 0x5be0cd19u,
};

static inline uint32_t gtx_rotr(uint32_t x, int n) { return (x >> n) | (x << (32 - n)); }

static inline uint32_t gtx_load_be32(const uint8_t *p) {
    return ((uint32_t)p[0] << 24) | ((uint32_t)p[1] << 16) | ((uint32_t)p[2] << 8) | (uint32_t)p[3];
}

static inline void gtx_store_be32(uint8_t *p, uint32_t x) {
    p[0] = (uint8_t)(x >> 24); p[1] = (uint8_t)(x >> 16); p[2] = (uint8_t)(x >> 8); p[3] = (uint8_t)x;
}

/* One round; the caller turns the names of the eight words instead of moving the words. */
#define GTX_ROUND(a, b, c, d, e, f, g, h, i) do { \
        uint32_t t = h + (gtx_rotr(e, 6) ^ gtx_rotr(e, 11) ^ gtx_rotr(e, 25)) + (g ^ (e & (f ^ g))) \
            + GTX_SHA256_K[i] + w[(i) & 15]; \
        d += t; \
        h = t + (gtx_rotr(a, 2) ^ gtx_rotr(a, 13) ^ gtx_rotr(a, 22)) + ((a & b) | (c & (a | b))); \
    } while (0)

/* The schedule sixteen words at a time, in place: word i becomes word i + 16. */
#define GTX_SCHEDULE(i) do { \
        uint32_t x = w[((i) + 1) & 15], y = w[((i) + 14) & 15]; \
        w[(i) & 15] += (gtx_rotr(x, 7) ^ gtx_rotr(x, 18) ^ (x >> 3)) + w[((i) + 9) & 15] \
            + (gtx_rotr(y, 17) ^ gtx_rotr(y, 19) ^ (y >> 10)); \
    } while (0)

static void gtx_sha256_blocks_portable(uint32_t state[8], const uint8_t *data, size_t blocks) {
    uint32_t w[16];
    while (blocks--) {
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int i = 0; i < 16; i++) w[i] = gtx_load_be32(data + 4 * i);
        for (int i = 0; i < 64; i += 16) {
            if (i) {
                GTX_SCHEDULE(0); GTX_SCHEDULE(1); GTX_SCHEDULE(2); GTX_SCHEDULE(3);
                GTX_SCHEDULE(4); GTX_SCHEDULE(5); GTX_SCHEDULE(6); GTX_SCHEDULE(7);
                GTX_SCHEDULE(8); GTX_SCHEDULE(9); GTX_SCHEDULE(10); GTX_SCHEDULE(11);
                GTX_SCHEDULE(12); GTX_SCHEDULE(13); GTX_SCHEDULE(14); GTX_SCHEDULE(15);
            }
            for (int j = i; j < i + 16; j += 8) {
                GTX_ROUND(a, b, c, d, e, f, g, h, j);
                GTX_ROUND(h, a, b, c, d, e, f, g, j + 1);
                GTX_ROUND(g, h, a, b, c, d, e, f, j + 2);
                GTX_ROUND(f, g, h, a, b, c, d, e, j + 3);
                GTX_ROUND(e, f, g, h, a, b, c, d, j + 4);
                GTX_ROUND(d, e, f, g, h, a, b, c, j + 5);
                GTX_ROUND(c, d, e, f, g, h, a, b, j + 6);
                GTX_ROUND(b, c, d, e, f, g, h, a, j + 7);
            }
        }
        state[0] += a; state[1] += b; state[2] += c; state[3] += d;
        state[4] += e; state[5] += f; state[6] += g; state[7] += h;
        data += 64;
    }
}
#undef GTX_ROUND
#undef GTX_SCHEDULE

#ifdef GTX_SHA_X86
/* Sixteen groups of four rounds. The instruction set keeps the state as ABEF and CDGH and the schedule in four
 * registers of four words; sha256msg1 and sha256msg2 extend it sixteen words ahead. */
__attribute__((target("sha,sse4.1,ssse3")))
static void gtx_sha256_blocks_x86(uint32_t state[8], const uint8_t *data, size_t blocks) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i low = _mm_loadu_si128((const __m128i *)&state[0]);   /* a b c d */
    __m128i high = _mm_loadu_si128((const __m128i *)&state[4]);  /* e f g h */
    low = _mm_shuffle_epi32(low, 0xB1);
    high = _mm_shuffle_epi32(high, 0x1B);
    __m128i abef = _mm_alignr_epi8(low, high, 8);
    __m128i cdgh = _mm_blend_epi16(high, low, 0xF0);
    while (blocks--) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i m[4];
        for (int i = 0; i < 4; i++)
            m[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), swap);
#define GTX_ROUNDS(group, words) do { \
            __m128i wk = _mm_add_epi32(words, _mm_loadu_si128((const __m128i *)&GTX_SHA256_K[4 * (group)])); \
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk); \
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0E)); \
        } while (0)
#define GTX_EXTEND(a, b, c, d) do { \
            a = _mm_add_epi32(_mm_sha256msg1_epu32(a, b), _mm_alignr_epi8(d, c, 4)); \
            a = _mm_sha256msg2_epu32(a, d); \
        } while (0)
        GTX_ROUNDS(0, m[0]); GTX_ROUNDS(1, m[1]); GTX_ROUNDS(2, m[2]); GTX_ROUNDS(3, m[3]);
        for (int group = 4; group < 16; group += 4) {
            GTX_EXTEND(m[0], m[1], m[2], m[3]); GTX_ROUNDS(group, m[0]);
            GTX_EXTEND(m[1], m[2], m[3], m[0]); GTX_ROUNDS(group + 1, m[1]);
            GTX_EXTEND(m[2], m[3], m[0], m[1]); GTX_ROUNDS(group + 2, m[2]);
            GTX_EXTEND(m[3], m[0], m[1], m[2]); GTX_ROUNDS(group + 3, m[3]);
        }
#undef GTX_ROUNDS
#undef GTX_EXTEND
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
        data += 64;
    }
    low = _mm_shuffle_epi32(abef, 0x1B);
    high = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)&state[0], _mm_blend_epi16(low, high, 0xF0));
    _mm_storeu_si128((__m128i *)&state[4], _mm_alignr_epi8(high, low, 8));
}

/* The same for two messages in step: each round waits for the one before it, and the other message's fills the wait. */
__attribute__((target("sha,sse4.1,ssse3")))
static void gtx_sha256_two_x86(uint32_t first[8], const uint8_t *a, uint32_t second[8], const uint8_t *b, size_t blocks) {
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    uint32_t *states[2] = {first, second};
    const uint8_t *data[2] = {a, b};
    __m128i abef[2], cdgh[2];
    for (int n = 0; n < 2; n++) {
        __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)&states[n][0]), 0xB1);
        __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)&states[n][4]), 0x1B);
        abef[n] = _mm_alignr_epi8(low, high, 8);
        cdgh[n] = _mm_blend_epi16(high, low, 0xF0);
    }
    while (blocks--) {
        const __m128i abef_before[2] = {abef[0], abef[1]}, cdgh_before[2] = {cdgh[0], cdgh[1]};
        __m128i m[2][4];
        for (int n = 0; n < 2; n++)
            for (int i = 0; i < 4; i++)
                m[n][i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data[n] + 16 * i)), swap);
#define GTX_ROUNDS(group, i) do { \
            const __m128i k = _mm_loadu_si128((const __m128i *)&GTX_SHA256_K[4 * (group)]); \
            __m128i wk = _mm_add_epi32(m[0][i], k), wl = _mm_add_epi32(m[1][i], k); \
            cdgh[0] = _mm_sha256rnds2_epu32(cdgh[0], abef[0], wk); \
            cdgh[1] = _mm_sha256rnds2_epu32(cdgh[1], abef[1], wl); \
            abef[0] = _mm_sha256rnds2_epu32(abef[0], cdgh[0], _mm_shuffle_epi32(wk, 0x0E)); \
            abef[1] = _mm_sha256rnds2_epu32(abef[1], cdgh[1], _mm_shuffle_epi32(wl, 0x0E)); \
        } while (0)
#define GTX_EXTEND(n, a, b, c, d) do { \
            m[n][a] = _mm_add_epi32(_mm_sha256msg1_epu32(m[n][a], m[n][b]), _mm_alignr_epi8(m[n][d], m[n][c], 4)); \
            m[n][a] = _mm_sha256msg2_epu32(m[n][a], m[n][d]); \
        } while (0)
#define GTX_NEXT(group, a, b, c, d) do { \
            GTX_EXTEND(0, a, b, c, d); GTX_EXTEND(1, a, b, c, d); GTX_ROUNDS(group, a); \
        } while (0)
        GTX_ROUNDS(0, 0); GTX_ROUNDS(1, 1); GTX_ROUNDS(2, 2); GTX_ROUNDS(3, 3);
        for (int group = 4; group < 16; group += 4) {
            GTX_NEXT(group, 0, 1, 2, 3);
            GTX_NEXT(group + 1, 1, 2, 3, 0);
            GTX_NEXT(group + 2, 2, 3, 0, 1);
            GTX_NEXT(group + 3, 3, 0, 1, 2);
        }
#undef GTX_ROUNDS
#undef GTX_EXTEND
#undef GTX_NEXT
        for (int n = 0; n < 2; n++) {
            abef[n] = _mm_add_epi32(abef[n], abef_before[n]);
            cdgh[n] = _mm_add_epi32(cdgh[n], cdgh_before[n]);
            data[n] += 64;
        }
    }
    for (int n = 0; n < 2; n++) {
        __m128i low = _mm_shuffle_epi32(abef[n], 0x1B), high = _mm_shuffle_epi32(cdgh[n], 0xB1);
        _mm_storeu_si128((__m128i *)&states[n][0], _mm_blend_epi16(low, high, 0xF0));
        _mm_storeu_si128((__m128i *)&states[n][4], _mm_alignr_epi8(high, low, 8));
    }
}

static int gtx_sha256_x86_present(void) {
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return 0;
    if (!(ecx & (1u << 9)) || !(ecx & (1u << 19))) return 0; /* SSSE3, SSE4.1 */
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return 0;
    return (ebx >> 29) & 1;
}
#endif

static void gtx_sha256_two_portable(uint32_t first[8], const uint8_t *a, uint32_t second[8], const uint8_t *b,
                                    size_t blocks) {
    gtx_sha256_blocks_portable(first, a, blocks);
    gtx_sha256_blocks_portable(second, b, blocks);
}

static gtx_sha256_blocks_fn gtx_sha256_blocks = gtx_sha256_blocks_portable;
static gtx_sha256_two_fn gtx_sha256_two = gtx_sha256_two_portable;

/* Call once at import. Returns 1 if the processor's SHA instructions are used. */
static inline int gtx_sha256_choose(void) {
#ifdef GTX_SHA_X86
    if (gtx_sha256_x86_present()) {
        gtx_sha256_blocks = gtx_sha256_blocks_x86;
        gtx_sha256_two = gtx_sha256_two_x86;
        return 1;
    }
#endif
    return 0;
}

static inline void gtx_sha256_output(const uint32_t state[8], uint8_t out[32]) {
    for (int i = 0; i < 8; i++) gtx_store_be32(out + 4 * i, state[i]);
}

/* SHA-256 of `data`, or of `tag || data` when `tag` is 0..255 (-1: none). */
static void gtx_sha256_with(gtx_sha256_blocks_fn blocks, int tag, const uint8_t *data, size_t length,
                            uint8_t out[32]) {
    uint32_t state[8];
    uint8_t tail[128];
    size_t used = 0;
    memcpy(state, GTX_SHA256_INITIAL, sizeof state);
    uint64_t bits = ((uint64_t)length + (tag >= 0 ? 1 : 0)) * 8;
    if (tag >= 0) {
        tail[0] = (uint8_t)tag;
        used = 1;
        size_t take = length < 63 ? length : 63;
        if (take) memcpy(tail + 1, data, take);
        used += take; data += take; length -= take;
        if (used == 64) { blocks(state, tail, 1); used = 0; }
    }
    if (used == 0) {
        size_t whole = length / 64;
        if (whole) blocks(state, data, whole);
        data += whole * 64; length -= whole * 64;
        if (length) memcpy(tail, data, length);
        used = length;
    }
    tail[used++] = 0x80;
    size_t total = used <= 56 ? 64 : 128;
    memset(tail + used, 0, total - used);
    for (int i = 0; i < 8; i++) tail[total - 1 - i] = (uint8_t)(bits >> (8 * i));
    blocks(state, tail, total / 64);
    gtx_sha256_output(state, out);
}

#define GTX_SHA256_SHORT 54 /* what fits into one block with its tag and its padding */

static inline void gtx_sha256_short_message(uint8_t message[64], uint8_t tag, const uint8_t *data, size_t length) {
    message[0] = tag;
    memcpy(message + 1, data, length);
    message[length + 1] = 0x80;
    memset(message + length + 2, 0, 60 - length);
    message[62] = (uint8_t)((length + 1) >> 5);
    message[63] = (uint8_t)((length + 1) << 3);
}

/* SHA-256 of two `tag || data`, at once when both are short. */
static void gtx_sha256_two_with(uint8_t tag, const uint8_t *data, size_t length, uint8_t out[32],
                                uint8_t tag2, const uint8_t *data2, size_t length2, uint8_t out2[32]) {
    uint32_t states[2][8];
    uint8_t messages[2][64];
    if (length > GTX_SHA256_SHORT || length2 > GTX_SHA256_SHORT) {
        gtx_sha256_with(gtx_sha256_blocks, tag, data, length, out);
        gtx_sha256_with(gtx_sha256_blocks, tag2, data2, length2, out2);
        return;
    }
    memcpy(states[0], GTX_SHA256_INITIAL, sizeof states[0]);
    memcpy(states[1], GTX_SHA256_INITIAL, sizeof states[1]);
    gtx_sha256_short_message(messages[0], tag, data, length);
    gtx_sha256_short_message(messages[1], tag2, data2, length2);
    gtx_sha256_two(states[0], messages[0], states[1], messages[1], 1);
    gtx_sha256_output(states[0], out);
    gtx_sha256_output(states[1], out2);
}

/* `tag || left || right`, 65 bytes, padded to the two blocks that are hashed. */
static inline void gtx_sha256_pair_message(uint8_t message[128], uint8_t tag, const uint8_t left[32],
                                           const uint8_t right[32]) {
    message[0] = tag;
    memcpy(message + 1, left, 32);
    memcpy(message + 33, right, 32);
    message[65] = 0x80;
    memset(message + 66, 0, 60);
    message[126] = 0x02; /* 65 * 8 = 520 = 0x0208 bits */
    message[127] = 0x08;
}

/* SHA-256 of `tag || left || right`: leaves and inner nodes of the state trie. */
static inline void gtx_sha256_pair(uint8_t tag, const uint8_t left[32], const uint8_t right[32], uint8_t out[32]) {
    uint32_t state[8];
    uint8_t message[128];
    memcpy(state, GTX_SHA256_INITIAL, sizeof state);
    gtx_sha256_pair_message(message, tag, left, right);
    gtx_sha256_blocks(state, message, 2);
    gtx_sha256_output(state, out);
}

/* Several of these, two at a time. No job may need what another one gives. */
typedef struct {
    uint8_t tag;
    const uint8_t *left, *right;
    uint8_t *out;
} gtx_sha256_pair_job;

static void gtx_sha256_pairs(const gtx_sha256_pair_job *jobs, int count) {
    uint32_t states[2][8];
    uint8_t messages[2][128];
    int done = 0;
    for (; done + 2 <= count; done += 2) {
        for (int n = 0; n < 2; n++) {
            const gtx_sha256_pair_job *job = jobs + done + n;
            memcpy(states[n], GTX_SHA256_INITIAL, sizeof states[n]);
            gtx_sha256_pair_message(messages[n], job->tag, job->left, job->right);
        }
        gtx_sha256_two(states[0], messages[0], states[1], messages[1], 2);
        gtx_sha256_output(states[0], jobs[done].out);
        gtx_sha256_output(states[1], jobs[done + 1].out);
    }
    if (done < count) gtx_sha256_pair(jobs[done].tag, jobs[done].left, jobs[done].right, jobs[done].out);
}

#endif
