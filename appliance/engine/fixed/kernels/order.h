/* What every variant shares: bf16, the lane tree, one fused multiply-add, and the table of kernels of a variant.
 *
 * Nothing here may be reordered by a compiler: the build forbids contraction and every kind of "fast" arithmetic.
 */
#ifndef ANCHORHOLD_ORDER_H
#define ANCHORHOLD_ORDER_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 32, LINE = 64, BLOCK = 32, PIECE = 512, PIECE_BLOCKS = 16, HEADS_AT_ONCE = 8, SPAN = 128 };
enum { TILE_ROWS_MAX = 6, UNIT_ROWS = 24, SUMS_ROOM = TILE_ROWS_MAX * LANES };
enum { BF16 = 0, INT8 = 1, INT4 = 2 };

/* Tight rows: bf16 in three quarters of its bytes, and the same numbers. Upper bytes (sign and exponent) are few, so four
 * bits name one of sixteen; a number that has another is a patch. Rows lie woven in pairs: of each line the lower bytes of
 * both, then 64 bytes that name an upper byte of the first row in their lower half, of the second in their upper half.
 * Byte i of these stands for element `place_of(i)` of the line, so that two registers interleave into one. */
enum { WOVEN_LINE = 3 * LINE, UPPERS = 16 };

typedef struct {
    int32_t column;
    uint16_t value, second;         /* 1: of the second row of its pair */
} Patch;

/* A piece of quantized x: the codes of 512 numbers, then for each of its 16 blocks a correction and a scale (X8). */
enum { PIECE_CORRECTIONS = 512, PIECE_SCALES = 576, PIECE_BYTES = 640 };

typedef uint16_t bf16;

/* Rows of weights as they lie in memory. Quantized rows have a scale for every `group` weights: 32, 64 or 128. */
typedef struct {
    const void *data;
    const bf16 *scales;
    int64_t row_bytes, row_scales;
    int32_t rows, columns, group, format;
    const uint8_t *uppers;          /* sixteen, of tight rows; 0: rows of bf16 as they are, or quantized ones */
    const int32_t *patched;         /* patches of pair i are those from patched[i] to patched[i + 1], line by line */
    const Patch *patches;
} Matrix;

/* One instruction set's kernels. A product takes x as `prepare` leaves it: rounded or quantized for weights of that
 * format, filled up with zeros, in the layout of this instruction set (at most `operand_bytes`). `room` is of
 * `room_floats`. */
typedef struct {
    void (*dots)(const Matrix *w, int first, int end, const void *x, int64_t x_bytes, int m, float *y, int64_t y_stride,
                 float *room);
    void (*prepare)(int format, const float *from, void *to, int n);
    void (*norm)(const float *x, const bf16 *gain, float *y, int n, float epsilon);
    float (*softmax)(float *scores, int64_t low, int64_t top, float scale);
    void (*mix)(const float *p, int64_t p_stride, int rows, const bf16 *values, int64_t low, int64_t top,
                int width, const float *inverse, float *y);
    void (*gate)(const float *gate, const float *up, float *y, int n);
} Kernels;

extern const Kernels kernels_scalar, kernels_avx2, kernels_avx512;

static inline uint32_t bits_of(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static inline float float_of(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static inline float widen(bf16 b) { return float_of((uint32_t)b << 16); }

/* engine.md X5: to the nearest, ties to even; every NaN becomes one NaN. */
static inline bf16 narrow(float f) {
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
    return (bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* engine.md X6: what a product takes. Nothing below 2^-50, so that no sum of products can become subnormal; what is
 * 2^60 or more, infinite or NaN is one NaN. */
static inline bf16 factor(float f) {
    uint32_t u = bits_of(f);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16, size = (u & 0x7fffffffu) > 0x7f800000u ? 0x7fff : rounded & 0x7fffu;
    return (bf16)(size < 0x2680u ? 0 : size >= 0x5d80u ? 0x7fc0 : rounded);
}

static inline int padded(int n, int to) { return (n + to - 1) / to * to; }

static inline int place_of(int byte) { return byte % 16 < 8 ? byte / 16 * 8 + byte % 8 : LANES + byte / 16 * 8 + byte % 8; }

/* Room for one prepared row of n numbers. */
static inline int64_t operand_bytes(int format, int n) {
    return format == BF16 ? (int64_t)padded(n, LINE) * 4 : (int64_t)padded(n, PIECE) / PIECE * PIECE_BYTES;
}

/* What a thread needs to multiply m rows of x, two by two, of n numbers: a tile of rows of weights opened, and sums. */
static inline int64_t opened_bytes(int n) { return (int64_t)padded(n, LINE) * 2 + LINE; }
static inline int64_t room_floats(int m, int n) {
    return TILE_ROWS_MAX * opened_bytes(n) / 4 + (int64_t)padded(m, 2) * SUMS_ROOM;
}

/* engine.md X3 */
static inline float lane_tree(const float lane[LANES]) {
    float s[16];
    for (int i = 0; i < 16; i++) s[i] = lane[i] + lane[i + 16];
    for (int d = 8; d; d /= 2)
        for (int i = 0; i < d; i++) s[i] = s[i] + s[i + d];
    return s[0];
}

/* a * b + c rounded once. Without the instruction: the product is exact in double, the sum is rounded to odd. */
static inline float fused(float a, float b, float c) {
#if defined(__FMA__) || defined(__aarch64__)
    return __builtin_fmaf(a, b, c);
#else
    double p = (double)a * b, t = c, s = p + t;
    uint64_t u;
    memcpy(&u, &s, 8);
    if ((u & 0x7ff0000000000000u) == 0x7ff0000000000000u) return (float)s;
    double back = s - p, error = (p - (s - back)) + (t - back);
    if (error != 0 && !(u & 1)) {
        u += ((error > 0) == (s > 0)) ? 1 : (uint64_t)-1;
        memcpy(&s, &u, 8);
    }
    return (float)s;
#endif
}

#endif
