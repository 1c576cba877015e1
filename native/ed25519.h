/* Ed25519 verification (RFC 8032) with a table of multiples of the key: for keys that sign again and again, in a
 * third of the time. Header only, shared by nothing but `signatures.pyx`, which states the rule.
 *
 * The equation is the one without cofactor, on integers: encode(s B - h A) == R, with s below the group's order. It
 * holds or not whatever way it is computed, for any A on the curve; so does this. Nothing here is secret: all
 * time may depend on the data.
 *
 * Elements of the field of 2^255 - 19 have five limbs of 51 bits. A product's are below 2^51 + 2^13; each comment
 * `< 2^n` says what a limb may come to. A product takes limbs < 2^54.4.
 */
#ifndef GRIDTOKENX_ED25519_H
#define GRIDTOKENX_ED25519_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 gtx_u128;
typedef struct { uint64_t v[5]; } gtx_fe;

#define GTX_MASK51 0x7ffffffffffffu

/* ------------------------------------------------------------ the field */

static inline void gtx_fe_set(gtx_fe *out, uint64_t small) {
    memset(out, 0, sizeof *out);
    out->v[0] = small;
}

static inline void gtx_fe_add(gtx_fe *out, const gtx_fe *a, const gtx_fe *b) {
    for (int i = 0; i < 5; i++) out->v[i] = a->v[i] + b->v[i];
}

/* a - b + 4p for b < 2^53 - 76: < a + 2^53 */
static inline void gtx_fe_sub(gtx_fe *out, const gtx_fe *a, const gtx_fe *b) {
    out->v[0] = a->v[0] + 0x1fffffffffffb4u - b->v[0];
    for (int i = 1; i < 5; i++) out->v[i] = a->v[i] + 0x1ffffffffffffcu - b->v[i];
}

/* a - b + 8p for b < 2^54 - 152: < a + 2^54 */
static inline void gtx_fe_sub_more(gtx_fe *out, const gtx_fe *a, const gtx_fe *b) {
    out->v[0] = a->v[0] + 0x3fffffffffff68u - b->v[0];
    for (int i = 1; i < 5; i++) out->v[i] = a->v[i] + 0x3ffffffffffff8u - b->v[i];
}

static inline void gtx_fe_fold(gtx_fe *out, gtx_u128 t0, gtx_u128 t1, gtx_u128 t2, gtx_u128 t3, gtx_u128 t4) {
    uint64_t r0, r1, r2, r3, r4, c;
    r0 = (uint64_t)t0 & GTX_MASK51; t1 += (uint64_t)(t0 >> 51);
    r1 = (uint64_t)t1 & GTX_MASK51; t2 += (uint64_t)(t1 >> 51);
    r2 = (uint64_t)t2 & GTX_MASK51; t3 += (uint64_t)(t2 >> 51);
    r3 = (uint64_t)t3 & GTX_MASK51; t4 += (uint64_t)(t3 >> 51);
    r4 = (uint64_t)t4 & GTX_MASK51; c = (uint64_t)(t4 >> 51);   /* < 2^59.1: t4 has no factor of 19 */
    r0 += 19 * c; c = r0 >> 51; r0 &= GTX_MASK51;
    r1 += c;
    out->v[0] = r0; out->v[1] = r1; out->v[2] = r2; out->v[3] = r3; out->v[4] = r4;
}

static inline void gtx_fe_mul(gtx_fe *out, const gtx_fe *a, const gtx_fe *b) {
    const uint64_t a0 = a->v[0], a1 = a->v[1], a2 = a->v[2], a3 = a->v[3], a4 = a->v[4];
    const uint64_t b0 = b->v[0], b1 = b->v[1], b2 = b->v[2], b3 = b->v[3], b4 = b->v[4];
    const uint64_t c1 = 19 * b1, c2 = 19 * b2, c3 = 19 * b3, c4 = 19 * b4;
    gtx_fe_fold(out,
        (gtx_u128)a0 * b0 + (gtx_u128)a1 * c4 + (gtx_u128)a2 * c3 + (gtx_u128)a3 * c2 + (gtx_u128)a4 * c1,
        (gtx_u128)a0 * b1 + (gtx_u128)a1 * b0 + (gtx_u128)a2 * c4 + (gtx_u128)a3 * c3 + (gtx_u128)a4 * c2,
        (gtx_u128)a0 * b2 + (gtx_u128)a1 * b1 + (gtx_u128)a2 * b0 + (gtx_u128)a3 * c4 + (gtx_u128)a4 * c3,
        (gtx_u128)a0 * b3 + (gtx_u128)a1 * b2 + (gtx_u128)a2 * b1 + (gtx_u128)a3 * b0 + (gtx_u128)a4 * c4,
        (gtx_u128)a0 * b4 + (gtx_u128)a1 * b3 + (gtx_u128)a2 * b2 + (gtx_u128)a3 * b1 + (gtx_u128)a4 * b0);
}

static inline void gtx_fe_square(gtx_fe *out, const gtx_fe *a) {
    const uint64_t a0 = a->v[0], a1 = a->v[1], a2 = a->v[2], a3 = a->v[3], a4 = a->v[4];
    const uint64_t d0 = 2 * a0, d1 = 2 * a1, d2 = 2 * a2, c3 = 19 * a3, c4 = 19 * a4;
    gtx_fe_fold(out,
        (gtx_u128)a0 * a0 + (gtx_u128)d1 * c4 + (gtx_u128)d2 * c3,
        (gtx_u128)d0 * a1 + (gtx_u128)d2 * c4 + (gtx_u128)a3 * c3,
        (gtx_u128)d0 * a2 + (gtx_u128)a1 * a1 + (gtx_u128)(2 * a3) * c4,
        (gtx_u128)d0 * a3 + (gtx_u128)d1 * a2 + (gtx_u128)a4 * c4,
        (gtx_u128)d0 * a4 + (gtx_u128)d1 * a3 + (gtx_u128)a2 * a2);
}

static void gtx_fe_squares(gtx_fe *out, const gtx_fe *a, int times) {
    gtx_fe_square(out, a);
    while (--times) gtx_fe_square(out, out);
}

/* a^(2^250 - 1), and a^11 on the way. `out` and `eleventh` are others than `a`. */
static void gtx_fe_power(gtx_fe *out, gtx_fe *eleventh, const gtx_fe *a) {
    gtx_fe t, five, ten, twenty, fifty;
    gtx_fe_square(&t, a);                                               /* 2 */
    gtx_fe_squares(&five, &t, 2); gtx_fe_mul(&five, &five, a);          /* 9 */
    gtx_fe_mul(eleventh, &five, &t);                                    /* 11 */
    gtx_fe_square(&t, eleventh); gtx_fe_mul(&five, &t, &five);          /* 2^5 - 1 */
    gtx_fe_squares(&t, &five, 5); gtx_fe_mul(&ten, &t, &five);
    gtx_fe_squares(&t, &ten, 10); gtx_fe_mul(&twenty, &t, &ten);
    gtx_fe_squares(&t, &twenty, 20); gtx_fe_mul(&t, &t, &twenty);       /* 2^40 - 1 */
    gtx_fe_squares(&t, &t, 10); gtx_fe_mul(&fifty, &t, &ten);
    gtx_fe_squares(&t, &fifty, 50); gtx_fe_mul(out, &t, &fifty);        /* 2^100 - 1 */
    gtx_fe_squares(&t, out, 100); gtx_fe_mul(&t, &t, out);              /* 2^200 - 1 */
    gtx_fe_squares(&t, &t, 50); gtx_fe_mul(out, &t, &fifty);
}

/* a^(p - 2), p - 2 = 2^255 - 21: 1 / a, and 0 of 0 */
static void gtx_fe_invert(gtx_fe *out, const gtx_fe *a) {
    gtx_fe power, eleventh;
    gtx_fe_power(&power, &eleventh, a);
    gtx_fe_squares(&power, &power, 5);
    gtx_fe_mul(out, &power, &eleventh);
}

/* a^((p - 5) / 8), (p - 5) / 8 = 2^252 - 3. `out` is another than `a`. */
static void gtx_fe_root(gtx_fe *out, const gtx_fe *a) {
    gtx_fe unused;
    gtx_fe_power(out, &unused, a);
    gtx_fe_squares(out, out, 2);
    gtx_fe_mul(out, out, a);
}

static void gtx_fe_read(gtx_fe *out, const uint8_t *bytes) {
    uint64_t w[4];
    for (int i = 0; i < 4; i++) {
        w[i] = 0;
        for (int b = 7; b >= 0; b--) w[i] = w[i] << 8 | bytes[8 * i + b];
    }
    out->v[0] = w[0] & GTX_MASK51;
    out->v[1] = (w[0] >> 51 | w[1] << 13) & GTX_MASK51;
    out->v[2] = (w[1] >> 38 | w[2] << 26) & GTX_MASK51;
    out->v[3] = (w[2] >> 25 | w[3] << 39) & GTX_MASK51;
    out->v[4] = w[3] >> 12 & GTX_MASK51;                                /* the highest bit is not the number's */
}

static inline void gtx_fe_carry(gtx_fe *a) {
    gtx_fe_fold(a, a->v[0], a->v[1], a->v[2], a->v[3], a->v[4]);
}

/* The one form of an element: below p, 32 bytes, the least first. */
static void gtx_fe_write(uint8_t *bytes, const gtx_fe *a) {
    gtx_fe t = *a;
    uint64_t over, w[4];
    gtx_fe_carry(&t);
    gtx_fe_carry(&t);                                                   /* below 2p: all limbs are of 51 bits but the
                                                                           second, which may be one more */
    over = (t.v[0] + 19) >> 51;                                         /* does adding 19 pass 2^255? */
    for (int i = 1; i < 5; i++) over = (t.v[i] + over) >> 51;
    t.v[0] += 19 * over;
    for (int i = 0; i < 4; i++) {
        t.v[i + 1] += t.v[i] >> 51;
        t.v[i] &= GTX_MASK51;
    }
    t.v[4] &= GTX_MASK51;
    w[0] = t.v[0] | t.v[1] << 51;
    w[1] = t.v[1] >> 13 | t.v[2] << 38;
    w[2] = t.v[2] >> 26 | t.v[3] << 25;
    w[3] = t.v[3] >> 39 | t.v[4] << 12;
    for (int i = 0; i < 32; i++) bytes[i] = (uint8_t)(w[i / 8] >> 8 * (i % 8));
}

static int gtx_fe_equal(const gtx_fe *a, const gtx_fe *b) {
    uint8_t one[32], two[32];
    gtx_fe_write(one, a);
    gtx_fe_write(two, b);
    return memcmp(one, two, 32) == 0;
}

/* ------------------------------------------------------------ points of -x^2 + y^2 = 1 + d x^2 y^2 */

typedef struct { gtx_fe x, y, z, t; } gtx_point;            /* x/z, y/z; t = x y / z where it is said to be set */
typedef struct { gtx_fe plus, minus, product; } gtx_ready;  /* y + x, y - x, 2 d x y of a point with z = 1 */
typedef struct { gtx_fe x, y, z, t; } gtx_sum;              /* x/z, y/t: before it is brought to one denominator */

static gtx_fe gtx_d, gtx_2d, gtx_root_minus_1;

/* Without t. */
static inline void gtx_finish(gtx_point *out, const gtx_sum *in) {
    gtx_fe_mul(&out->x, &in->x, &in->t);
    gtx_fe_mul(&out->y, &in->y, &in->z);
    gtx_fe_mul(&out->z, &in->z, &in->t);
}

static inline void gtx_finish_all(gtx_point *out, const gtx_sum *in) {
    gtx_finish(out, in);
    gtx_fe_mul(&out->t, &in->x, &in->y);
}

static inline void gtx_double(gtx_sum *out, const gtx_point *p) {
    gtx_fe xx, yy, zz, sum;
    gtx_fe_square(&xx, &p->x);
    gtx_fe_square(&yy, &p->y);
    gtx_fe_square(&zz, &p->z);
    gtx_fe_add(&sum, &p->x, &p->y);
    gtx_fe_square(&sum, &sum);
    gtx_fe_add(&out->y, &yy, &xx);                  /* < 2^52.1 */
    gtx_fe_sub(&out->z, &yy, &xx);                  /* < 2^53.4 */
    gtx_fe_sub(&out->x, &sum, &out->y);             /* < 2^53.4 */
    gtx_fe_add(&zz, &zz, &zz);
    gtx_fe_sub_more(&out->t, &zz, &out->z);         /* < 2^54.4 */
}

/* p + q, or p - q; p with t. Signs are as good as random: what to take is chosen without a jump. */
static inline void gtx_add_ready(gtx_sum *out, const gtx_point *p, const gtx_ready *q, int negative) {
    const gtx_fe *same = negative ? &q->minus : &q->plus, *other = negative ? &q->plus : &q->minus;
    gtx_fe *more = negative ? &out->t : &out->z, *less = negative ? &out->z : &out->t;
    gtx_fe plus, minus, product, twice;
    gtx_fe_add(&plus, &p->y, &p->x);
    gtx_fe_sub(&minus, &p->y, &p->x);
    gtx_fe_mul(&plus, &plus, same);
    gtx_fe_mul(&minus, &minus, other);
    gtx_fe_mul(&product, &q->product, &p->t);
    gtx_fe_add(&twice, &p->z, &p->z);
    gtx_fe_sub(&out->x, &plus, &minus);             /* < 2^53.4 */
    gtx_fe_add(&out->y, &plus, &minus);
    gtx_fe_add(more, &twice, &product);             /* < 2^52.7 */
    gtx_fe_sub(less, &twice, &product);             /* < 2^53.7 */
}

/* p + q, both with t */
static void gtx_add(gtx_sum *out, const gtx_point *p, const gtx_point *q) {
    gtx_fe plus, minus, product, other, twice;
    gtx_fe_add(&plus, &p->y, &p->x);
    gtx_fe_add(&other, &q->y, &q->x);
    gtx_fe_mul(&plus, &plus, &other);
    gtx_fe_sub(&minus, &p->y, &p->x);
    gtx_fe_sub(&other, &q->y, &q->x);
    gtx_fe_mul(&minus, &minus, &other);
    gtx_fe_mul(&product, &p->t, &q->t);
    gtx_fe_mul(&product, &product, &gtx_2d);
    gtx_fe_mul(&twice, &p->z, &q->z);
    gtx_fe_add(&twice, &twice, &twice);
    gtx_fe_sub(&out->x, &plus, &minus);
    gtx_fe_add(&out->y, &plus, &minus);
    gtx_fe_add(&out->z, &twice, &product);
    gtx_fe_sub(&out->t, &twice, &product);
}

/* The point that 32 bytes stand for, z = 1 and with t; 0 if there is none. */
static int gtx_point_read(gtx_point *out, const uint8_t *bytes) {
    gtx_fe yy, u, v, t, check;
    uint8_t x[32];
    gtx_fe_read(&out->y, bytes);
    gtx_fe_set(&out->z, 1);
    gtx_fe_square(&yy, &out->y);
    gtx_fe_sub(&u, &yy, &out->z);                   /* x^2 = u / v, v = d y^2 + 1 */
    gtx_fe_mul(&v, &yy, &gtx_d);
    gtx_fe_add(&v, &v, &out->z);
    gtx_fe_square(&t, &v);
    gtx_fe_mul(&t, &t, &v);                         /* v^3 */
    gtx_fe_square(&check, &t);
    gtx_fe_mul(&check, &check, &v);
    gtx_fe_mul(&check, &check, &u);                 /* u v^7 */
    gtx_fe_root(&out->x, &check);
    gtx_fe_mul(&out->x, &out->x, &t);
    gtx_fe_mul(&out->x, &out->x, &u);               /* u v^3 (u v^7)^((p - 5) / 8) */
    gtx_fe_square(&check, &out->x);
    gtx_fe_mul(&check, &check, &v);
    if (!gtx_fe_equal(&check, &u)) {
        gtx_fe_mul(&out->x, &out->x, &gtx_root_minus_1);
        gtx_fe_square(&check, &out->x);
        gtx_fe_mul(&check, &check, &v);
        if (!gtx_fe_equal(&check, &u)) return 0;
    }
    gtx_fe_write(x, &out->x);
    if ((x[0] & 1) != bytes[31] >> 7) {
        gtx_fe_set(&t, 0);
        gtx_fe_sub(&out->x, &t, &out->x);
        gtx_fe_carry(&out->x);
    }
    gtx_fe_mul(&out->t, &out->x, &out->y);
    return 1;
}

/* ------------------------------------------------------------ tables */

enum { GTX_ROWS = 8, GTX_KEY_COLUMNS = 8, GTX_BASE_COLUMNS = 128 };

typedef struct { gtx_ready multiple[GTX_ROWS][GTX_KEY_COLUMNS]; } gtx_key_table;    /* (column + 1) 2^(32 row) A */

static gtx_ready gtx_base_table[GTX_ROWS][GTX_BASE_COLUMNS];                        /* the same of B */

/* 1 / z of each point, in place, with a single inversion. `scratch` has as many elements; no z is 0. */
static void gtx_invert_all(gtx_point *points, gtx_fe *scratch, size_t count) {
    gtx_fe product, inverse, t;
    gtx_fe_set(&product, 1);
    for (size_t i = 0; i < count; i++) {
        scratch[i] = product;
        gtx_fe_mul(&product, &product, &points[i].z);
    }
    gtx_fe_invert(&inverse, &product);
    for (size_t i = count; i-- > 0;) {
        gtx_fe_mul(&t, &inverse, &scratch[i]);
        gtx_fe_mul(&inverse, &inverse, &points[i].z);
        points[i].z = t;
    }
}

/* (column + 1) 2^(32 row) `point`, row by row. 0: no memory. */
static int gtx_multiples(gtx_ready *out, const gtx_point *point, size_t columns) {
    const size_t count = GTX_ROWS * columns;
    gtx_point *made = (gtx_point *)malloc(count * (sizeof(gtx_point) + sizeof(gtx_fe)));
    gtx_sum sum;
    if (made == NULL) return 0;
    for (size_t row = 0; row < GTX_ROWS; row++) {
        gtx_point *first = made + row * columns;
        if (row == 0) {
            *first = *point;
        } else {
            *first = first[-(ptrdiff_t)columns];
            for (int i = 0; i < 32; i++) {
                gtx_double(&sum, first);
                gtx_finish_all(first, &sum);
            }
        }
        for (size_t column = 1; column < columns; column++) {
            gtx_add(&sum, &first[column - 1], first);
            gtx_finish_all(&first[column], &sum);
        }
    }
    gtx_invert_all(made, (gtx_fe *)(made + count), count);
    for (size_t i = 0; i < count; i++) {
        gtx_fe x, y;
        gtx_fe_mul(&x, &made[i].x, &made[i].z);
        gtx_fe_mul(&y, &made[i].y, &made[i].z);
        gtx_fe_add(&out[i].plus, &y, &x);
        gtx_fe_carry(&out[i].plus);
        gtx_fe_sub(&out[i].minus, &y, &x);
        gtx_fe_carry(&out[i].minus);
        gtx_fe_mul(&out[i].product, &x, &y);
        gtx_fe_mul(&out[i].product, &out[i].product, &gtx_2d);
    }
    free(made);
    return 1;
}

/* To be called once, before all else: the curve's constants, and the base point's table. 0: no memory. */
static int gtx_ed25519_prepare(void) {
    gtx_point base;
    gtx_fe t, one;
    uint8_t bytes[32];
    gtx_fe_set(&one, 1);
    gtx_fe_set(&t, 121666);                         /* d = -121665 / 121666 */
    gtx_fe_invert(&gtx_d, &t);
    gtx_fe_set(&t, 121665);
    gtx_fe_mul(&gtx_d, &gtx_d, &t);
    gtx_fe_set(&t, 0);
    gtx_fe_sub(&gtx_d, &t, &gtx_d);
    gtx_fe_carry(&gtx_d);
    gtx_fe_add(&gtx_2d, &gtx_d, &gtx_d);
    gtx_fe_carry(&gtx_2d);
    gtx_fe_set(&t, 2);                              /* 2^((p - 1) / 4), (p - 1) / 4 = 2 (2^252 - 3) + 1 */
    gtx_fe_root(&gtx_root_minus_1, &t);
    gtx_fe_square(&gtx_root_minus_1, &gtx_root_minus_1);
    gtx_fe_mul(&gtx_root_minus_1, &gtx_root_minus_1, &t);
    gtx_fe_set(&t, 5);                              /* B: y = 4 / 5, x even */
    gtx_fe_invert(&base.y, &t);
    gtx_fe_set(&t, 4);
    gtx_fe_mul(&base.y, &base.y, &t);
    gtx_fe_write(bytes, &base.y);
    return gtx_point_read(&base, bytes) && gtx_multiples(&gtx_base_table[0][0], &base, GTX_BASE_COLUMNS);
}

/* 0: `key` stands for no point, or there is no memory. */
static int gtx_key_table_make(gtx_key_table *out, const uint8_t *key) {
    gtx_point point;
    return gtx_point_read(&point, key) && gtx_multiples(&out->multiple[0][0], &point, GTX_KEY_COLUMNS);
}

/* ------------------------------------------------------------ verification */

/* The group's order, the least byte first. */
static const uint8_t GTX_ORDER[32] = {
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
};

static int gtx_below_order(const uint8_t *scalar) {
    for (int i = 31; i >= 0; i--)
        if (scalar[i] != GTX_ORDER[i]) return scalar[i] < GTX_ORDER[i];
    return 0;
}

/* Asks for what one place of h takes of a table, which is seldom in the nearest caches. */
static inline void gtx_fetch(const gtx_key_table *key, const int *digits, int place) {
    for (int row = 0; row < GTX_ROWS; row++) {
        int digit = digits[8 * row + place];
        if (digit) {
            const char *entry = (const char *)&key->multiple[row][abs(digit) - 1];
            __builtin_prefetch(entry);
            __builtin_prefetch(entry + 64);
        }
    }
}

/* s B - h A, without t; both scalars are below the order. */
static void gtx_equation(gtx_point *out, const uint8_t *s, const uint8_t *h, const gtx_key_table *key) {
    int of_key[64], of_base[32], carry = 0;
    gtx_sum sum;
    for (int i = 0; i < 64; i++) {                  /* digits from -8 to 7 */
        int digit = (h[i / 2] >> 4 * (i & 1) & 15) + carry;
        carry = (digit + 8) >> 4;
        of_key[i] = digit - 16 * carry;
    }
    gtx_fetch(key, of_key, 7);
    carry = 0;
    for (int i = 0; i < 32; i++) {                  /* from -128 to 127 */
        int digit = s[i] + carry;
        carry = (digit + 128) >> 8;
        of_base[i] = digit - 256 * carry;
    }
    gtx_fe_set(&out->x, 0);
    gtx_fe_set(&out->y, 1);
    gtx_fe_set(&out->z, 1);
    gtx_fe_set(&out->t, 0);
    for (int place = 7; place >= 0; place--) {      /* digits 8 row + place of h have the weight 16^place 2^(32 row) */
        if (place > 0) gtx_fetch(key, of_key, place - 1);
        if (place < 7)
            for (int i = 0; i < 4; i++) {
                gtx_double(&sum, out);
                if (i < 3) gtx_finish(out, &sum); else gtx_finish_all(out, &sum);
            }
        for (int row = 0; row < GTX_ROWS; row++) {
            int digit = of_key[8 * row + place];
            if (digit) {                            /* subtracted */
                gtx_add_ready(&sum, out, &key->multiple[row][abs(digit) - 1], digit > 0);
                gtx_finish_all(out, &sum);
            }
            if (place & 1) continue;
            digit = of_base[4 * row + place / 2];
            if (digit) {
                gtx_add_ready(&sum, out, &gtx_base_table[row][abs(digit) - 1], digit < 0);
                gtx_finish_all(out, &sum);
            }
        }
    }
}

/* Points whose order divides 8, by their y: the least byte first, the sign of x left out. */
static const uint8_t GTX_SMALL[5][32] = {
    {0}, {1},
    {0xec, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
     0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f},
    {0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
     0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05},
    {0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
     0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a},
};

static int gtx_small_order(const uint8_t *point) {
    for (int i = 0; i < 5; i++)
        if (memcmp(point, GTX_SMALL[i], 31) == 0 && (point[31] & 0x7f) == GTX_SMALL[i][31]) return 1;
    return 0;
}

/* The bytes of a point whose `z` holds 1 / z. */
static void gtx_point_write(uint8_t *bytes, const gtx_point *p) {
    gtx_fe x, y;
    uint8_t parity[32];
    gtx_fe_mul(&x, &p->x, &p->z);
    gtx_fe_mul(&y, &p->y, &p->z);
    gtx_fe_write(parity, &x);
    gtx_fe_write(bytes, &y);
    bytes[31] |= (uint8_t)(parity[0] << 7);
}

#endif
