/* Products on a GPU (docs/spec/engine.md X4 to X8): what they take, weights as the device has them, and the kernel. */
#ifndef ANCHORHOLD_PRODUCTS_H
#define ANCHORHOLD_PRODUCTS_H

#include "operations.h"

namespace {

/* ---- what products take */

/* A piece of codes on the device, of weights or of x: 128 bytes hold two slices, and of them thread q of eight has its
 * two blocks' words side by side. Of slice and block to a word: */
__device__ inline int word_of(int slice, int block) {
    return slice / 2 * 32 + block / 2 * 4 + slice % 2 * 2 + block % 2;
}

struct Operands {           /* rows of x: factors in bf16, or pieces of codes with their corrections and scales (X8) */
    uint8_t *rows;
    int64_t row_bytes;
    int32_t format, columns;        /* filled up with zeros to whole rounds of lines or pieces (`ahead`) */
};

/* X8: one block by one warp, a number a lane. */
__device__ void quantize(uint8_t *piece, int block, float v) {
    int l = threadIdx.x % LANES;
    uint32_t top = __float_as_uint(v) & 0x7fffffffu;
    for (int d = 16; d; d /= 2) {
        uint32_t other = __shfl_xor_sync(~0u, top, d);
        top = other > top ? other : top;
    }
    float scale = top < 0x26800000u ? 0.0f : top >= 0x5d800000u ? bits(0x7fc00000u) : over(bits(top), 127.0f);
    int code = 0;
    if (top >= 0x26800000u && top < 0x5d800000u)
        code = (int)minus(plus(times(v, over(127.0f, bits(top))), 12582912.0f), 12582912.0f);
    int sum = code;
    for (int d = 16; d; d /= 2) sum += __shfl_xor_sync(~0u, sum, d);
    ((int8_t *)piece)[word_of(l / 4, block) * 4 + l % 4] = (int8_t)code;
    if (l) return;
    ((int32_t *)(piece + PIECE_CORRECTIONS))[block] = -8 * sum;     /* for int4, whose codes are stored as code + 8 */
    ((float *)(piece + PIECE_SCALES))[block] = scale;
}

/* Number k of a row, by a whole warp that has k .. k + 31. */
__device__ inline void deliver(const Operands &to, int row, int k, float v) {
    uint8_t *at = to.rows + row * to.row_bytes;
    if (to.format == BF16) ((bf16 *)at)[k] = factored(v);
    else quantize(at + k / PIECE * PIECE_BYTES, k % PIECE / BLOCK, v);
}

/* ---- weights as the device has them */

struct DeviceMatrix {
    const uint8_t *data;
    const bf16 *scales;
    int64_t row_bytes;
    int32_t row_scales, rows, steps, shift;     /* steps: lines or pieces of a row; blocks >> shift is the group */
};

/* A word of the quantized row `from`, as `word_of` has it on the device; codes of int8 get their sign (X7). */
__global__ void arrange(const uint8_t *from, int64_t from_bytes, uint8_t *to, int64_t to_bytes, int format,
                        int blocks) {
    let_the_next_begin();
    after_the_one_before();
    int slices = format == INT8 ? 8 : 4, piece = blockIdx.y, left = blocks - piece * PIECE_BLOCKS;
    int words = left < PIECE_BLOCKS ? left : PIECE_BLOCKS;
    const uint32_t *source = (const uint32_t *)(from + blockIdx.x * from_bytes) + piece * slices * PIECE_BLOCKS;
    uint32_t *target = (uint32_t *)(to + blockIdx.x * to_bytes) + piece * slices * PIECE_BLOCKS;
    for (int i = threadIdx.x; i < slices * PIECE_BLOCKS; i += blockDim.x) {
        int slice = i / PIECE_BLOCKS, block = i % PIECE_BLOCKS;
        uint32_t codes = block < words ? source[slice * words + block] : 0x88888888u;
        target[word_of(slice, block)] = format == INT8 ? codes ^ 0x80808080u : codes;
    }
}

/* X4: the upper product of a pair first. */
__device__ inline void take(uint4 w, uint4 x, float lane[OWN]) {
    const uint32_t p[OWN] = {w.x, w.y, w.z, w.w}, q[OWN] = {x.x, x.y, x.z, x.w};
    #pragma unroll
    for (int i = 0; i < OWN; i++) lane[i] = fused_(lower(p[i]), lower(q[i]), fused_(upper(p[i]), upper(q[i]), lane[i]));
}

/* Rounds of lines, or of pieces: each is fetched a round before it is taken. The last round may go on beyond the row,
 * with weights that have been there before: x is zero there. Several rows of x need less under way. */
__device__ constexpr int ahead(int m) { return m == 1 ? AHEAD : m <= 4 ? AHEAD / 2 : AHEAD / 4; }

template <int M>
__device__ inline void dots_bf16(const DeviceMatrix &w, int row, int q, const uint8_t *x, int64_t x_bytes,
                                 float sums[M]) {
    enum { LINES = ahead(M) };
    const uint4 *from = (const uint4 *)(w.data + row * w.row_bytes) + q;
    uint4 next[LINES];
    #pragma unroll
    for (int u = 0; u < LINES; u++) next[u] = u < w.steps ? __ldcs(from + u * GROUP) : make_uint4(0, 0, 0, 0);
    float lane[M][OWN];
    for (int m = 0; m < M; m++)
        for (int i = 0; i < OWN; i++) lane[m][i] = 0.0f;
    after_the_one_before();
    for (int first = 0; first < w.steps; first += LINES) {
        #pragma unroll
        for (int u = 0; u < LINES; u++) {
            int line = first + u;
            uint4 now = next[u];
            if (line + LINES < w.steps) next[u] = __ldcs(from + (line + LINES) * GROUP);
            #pragma unroll
            for (int m = 0; m < M; m++) take(now, ((const uint4 *)(x + m * x_bytes))[line * GROUP + q], lane[m]);
        }
    }
    #pragma unroll
    for (int m = 0; m < M; m++) sums[m] = line_tree(lane[m]);
}

struct CodesRow {           /* where a thread has its part of a row, and the scales of its two blocks */
    const uint4 *words;
    const bf16 *scales[OWN_BLOCKS];
    int step;               /* scales of a piece */
};

__device__ inline CodesRow codes_row(const DeviceMatrix &w, int row, int q) {
    const bf16 *scales = w.scales + (int64_t)row * w.row_scales;
    return CodesRow{(const uint4 *)(w.data + row * w.row_bytes) + q,
                    {scales + (OWN_BLOCKS * q >> w.shift), scales + ((OWN_BLOCKS * q + 1) >> w.shift)},
                    PIECE_BLOCKS >> w.shift};
}

/* Two blocks of a piece. Their sums of codes are exact. */
template <int FORMAT> struct Codes {
    enum { LOADS = FORMAT == INT8 ? 4 : 2 };
    uint4 words[LOADS];
    bf16 scale[OWN_BLOCKS];

    __device__ void fetch(const CodesRow &row, int piece) {
        #pragma unroll
        for (int j = 0; j < LOADS; j++) words[j] = __ldcs(row.words + (piece * LOADS + j) * GROUP);
        #pragma unroll
        for (int i = 0; i < OWN_BLOCKS; i++) scale[i] = row.scales[i][piece * row.step];
    }

    __device__ static void add(uint4 w, uint4 x, int sum[OWN_BLOCKS]) {
        sum[0] = __dp4a((int)w.z, (int)x.z, __dp4a((int)w.x, (int)x.x, sum[0]));
        sum[1] = __dp4a((int)w.w, (int)x.w, __dp4a((int)w.y, (int)x.y, sum[1]));
    }

    __device__ static uint4 half(uint4 w, int shift) {
        const uint32_t mask = 0x0f0f0f0fu;
        return make_uint4(w.x >> shift & mask, w.y >> shift & mask, w.z >> shift & mask, w.w >> shift & mask);
    }

    __device__ void take(const uint8_t *x, int q, float lane[OWN_BLOCKS]) const {
        const uint4 *codes = (const uint4 *)x + q;
        int2 corrections = ((const int2 *)(x + PIECE_CORRECTIONS))[q];
        float2 scales = ((const float2 *)(x + PIECE_SCALES))[q];
        int sum[OWN_BLOCKS] = {0, 0};
        if (FORMAT == INT4) sum[0] = corrections.x, sum[1] = corrections.y;
        #pragma unroll
        for (int j = 0; j < LOADS; j++) {
            if (FORMAT == INT8) add(words[j], codes[j * GROUP], sum);
            else {
                add(half(words[j], 0), codes[j * GROUP], sum);
                add(half(words[j], 4), codes[(j + LOADS) * GROUP], sum);
            }
        }
        lane[0] = fused_(__int2float_rn(sum[0]), times(wide(scale[0]), scales.x), lane[0]);
        lane[1] = fused_(__int2float_rn(sum[1]), times(wide(scale[1]), scales.y), lane[1]);
    }
};

template <int FORMAT, int M>
__device__ inline void dots_codes(const DeviceMatrix &w, int row, int q, const uint8_t *x, int64_t x_bytes,
                                  float sums[M]) {
    enum { PIECES = ahead(M) / Codes<FORMAT>::LOADS };
    CodesRow from = codes_row(w, row, q);
    Codes<FORMAT> next[PIECES] = {};
    #pragma unroll
    for (int u = 0; u < PIECES; u++)
        if (u < w.steps) next[u].fetch(from, u);
    float lane[M][OWN_BLOCKS];
    for (int m = 0; m < M; m++) lane[m][0] = lane[m][1] = 0.0f;
    after_the_one_before();
    for (int first = 0; first < w.steps; first += PIECES) {
        #pragma unroll
        for (int u = 0; u < PIECES; u++) {
            int piece = first + u;
            Codes<FORMAT> now = next[u];
            if (piece + PIECES < w.steps) next[u].fetch(from, piece + PIECES);
            #pragma unroll
            for (int m = 0; m < M; m++) now.take(x + m * x_bytes + piece * PIECE_BYTES, q, lane[m]);
        }
    }
    #pragma unroll
    for (int m = 0; m < M; m++) sums[m] = piece_tree(lane[m]);
}

/* ---- products (X4, X7, X8): up to three matrices over the same x */

struct Target {
    DeviceMatrix w;
    const bf16 *bias;       /* 0: none */
    float *y;
};

struct Targets {
    Target part[3];
    int32_t rows;           /* of all of them */
};

enum Then { AS_IT_IS = 0, ADDED = 1, ONE_NAN = 2 };     /* y = product; y = y + product; X17 */

/* Blocks that have the same rows of weights follow each other, so that these come from memory once. */
template <int FORMAT, int M>
__global__ void product(Targets targets, const uint8_t *x, int64_t x_bytes, int64_t ys, int count, int then) {
    let_the_next_begin();
    int tiles = (count + M - 1) / M, first = blockIdx.x % tiles * M, q = threadIdx.x % GROUP;
    int wanted = (blockIdx.x / tiles * blockDim.x + threadIdx.x) / GROUP;
    int row = wanted < targets.rows ? wanted : targets.rows - 1, part = 0;
    while (row >= targets.part[part].w.rows) row -= targets.part[part++].w.rows;
    const Target &target = targets.part[part];
    float sums[M];
    x += first * x_bytes;
    if (FORMAT == BF16) dots_bf16<M>(target.w, row, q, x, x_bytes, sums);
    else dots_codes<FORMAT, M>(target.w, row, q, x, x_bytes, sums);
    #pragma unroll
    for (int m = 0; m < M; m++) {
        if (q != m || wanted >= targets.rows || first + m >= count) continue;
        float s = sums[m], *y = target.y + (first + m) * ys + row;
        if (target.bias) s = plus(s, wide(target.bias[row]));
        if (then == ADDED) s = plus(*y, s);
        if (then == ONE_NAN && s != s) s = bits(0x7fc00000u);
        *y = s;
    }
}

}  // namespace

#endif
