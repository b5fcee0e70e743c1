/* The weight of a gap and the noise of a token (docs/spec/sampling.md Y12 to Y14). */
#ifndef ANCHORHOLD_WEIGHTS_H
#define ANCHORHOLD_WEIGHTS_H

#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

static const double LOG2_E = 0x1.71547652b82fep+0;
static const double LN_2 = 0x1.62e42fefa39efp-1;
static const double SQRT_HALF = 0x1.6a09e667f3bcdp-1;

INLINE uint64_t bits_of(double x) { uint64_t b; memcpy(&b, &x, sizeof b); return b; }
INLINE double of_bits(uint64_t b) { double x; memcpy(&x, &b, sizeof x); return x; }

/* ---- Y12: weights ---- */

INLINE double exp_of(double gap, int32_t *scale) {
    int32_t n = (int32_t)(gap * LOG2_E + 64.5) - 64;
    double r = gap - (double)n * LN_2;
    double p = 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 1.0 / 2.0;
    p = p * r + 1.0;
    p = p * r + 1.0;
    *scale = n;
    return p;
}

/* Written without a branch so that a loop over it becomes vector code: adding 2^52 to a double below it leaves its
 * nearest whole number in the last bits, one too many where that rounded up. */
INLINE uint64_t weight_of(double gap) {
    const double big = 0x1p52;
    double inside = gap > -28.0 ? gap : -28.0;      /* exp(-28) weighs nothing; neither does NaN */
    int32_t n;
    double p = exp_of(inside, &n);
    double scaled = p * of_bits((uint64_t)(int64_t)(n + 40 + 1023) << 52);
    double shifted = scaled + big;
    return bits_of(shifted) - bits_of(big) - (uint64_t)(shifted - big > scaled);
}

/* ---- Y13, Y14: noise ---- */

INLINE double ln_of(double x) {
    uint64_t b = bits_of(x);
    int32_t e = (int32_t)(b >> 52) - 1022;
    double m = of_bits((b & 0x000fffffffffffffull) | 0x3fe0000000000000ull);    /* in [1/2, 1) */
    if (m < SQRT_HALF) {
        m = m * 2.0;
        e -= 1;
    }
    double s = (m - 1.0) / (m + 1.0), z = s * s, p = 1.0 / 19.0;
    p = p * z + 1.0 / 17.0;
    p = p * z + 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    p = p * z + 1.0;
    return (2.0 * s) * p + (double)e * LN_2;
}

INLINE uint64_t mix(uint64_t key, uint32_t token) {
    uint64_t z = (uint64_t)token * 0x9e3779b97f4a7c15ull + key;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

INLINE double noise_of(uint64_t key, int32_t token) {
    double u = ((double)(mix(key, (uint32_t)token) >> 12) + 0.5) * 0x1p-52;
    return -ln_of(-ln_of(u));
}

#endif
