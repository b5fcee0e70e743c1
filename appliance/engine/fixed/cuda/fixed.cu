/* The same arithmetic on a GPU, behind the same functions (../kernels/model.h).
 *
 * Eight threads hold one row of a product. Over bf16 a line of 64 elements is 128 bytes, and thread q of the eight has
 * the sixteen bytes of lanes 4 q to 4 q + 3 (docs/spec/engine.md X4). Over codes it has blocks 2 q and 2 q + 1 of every
 * piece, which are lanes again (X8). So a row streams in whole lines, every lane takes its elements in the order said,
 * and a row has 2 KiB under way while what came before is multiplied: few rows are enough to keep the memory busy.
 *
 * Nothing here lets a compiler contract or reorder: every operation is an intrinsic that is rounded once. Weights are
 * copied to the device, their rows filled up to whole lines with zeros, or to whole pieces with codes that meet zeros.
 */
#include "device.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

extern "C" {
#include "../kernels/model.h"
}

namespace {

enum { GROUP = 8, OWN = LANES / GROUP, OWN_BLOCKS = PIECE_BLOCKS / GROUP };    /* threads of a row; a thread's lanes */
enum { AHEAD = 16, ROWS_FOR_FEW = 8, ROWS_FOR_MANY = 16, COLUMNS_MAX = 8 };
enum { NORM_THREADS_MAX = 1024, NORM_OWN = 4, NORM_BATCH = 16, ROW_THREADS = 128 };
enum { ATTEND_THREADS = 256, KEYS = 4, VALUES = 16, CUDA_VARIANT = 3 };
const size_t SCORES_BYTES_MAX = (size_t)256 << 20;

/* ---- operations, each rounded once */

__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float minus(float a, float b) { return __fsub_rn(a, b); }
__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float over(float a, float b) { return __fdiv_rn(a, b); }
__device__ inline float fused_(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ inline float bits(uint32_t u) { return __uint_as_float(u); }
__device__ inline float wide(bf16 b) { return bits((uint32_t)b << 16); }
__device__ inline float lower(uint32_t pair) { return bits(pair << 16); }
__device__ inline float upper(uint32_t pair) { return bits(pair & 0xffff0000u); }

/* X5 */
__device__ inline bf16 narrowed(float f) {
    uint32_t u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
    return (bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* X6 */
__device__ inline bf16 factored(float f) {
    bf16 rounded = narrowed(f);
    uint32_t size = rounded & 0x7fffu;
    return size < 0x2680u ? 0 : size >= 0x5d80u ? 0x7fc0 : rounded;
}

/* X9 */
__device__ inline float exponential(float x) {
    x = x > -87.0f ? x : -87.0f;
    x = x < 88.0f ? x : 88.0f;
    float n = minus(plus(times(x, 0x1.715476p+0f), 12582912.0f), 12582912.0f);
    float r = fused_(n, -0x1.62p-1f, x);
    r = fused_(n, -0x1.c85fep-10f, r);
    float q = 0x1.6d117cp-10f;
    q = fused_(q, r, 0x1.120be2p-7f);
    q = fused_(q, r, 0x1.555518p-5f);
    q = fused_(q, r, 0x1.5554dcp-3f);
    q = fused_(q, r, 0.5f);
    float e = fused_(times(r, r), q, plus(r, 1.0f));
    return times(e, bits((uint32_t)((int)n + 127) << 23));
}

/* X3 where every thread of a warp has one lane. */
__device__ inline float warp_tree(float lane) {
    for (int d = 16; d; d /= 2) lane = plus(lane, __shfl_xor_sync(~0u, lane, d));
    return lane;
}

/* X3 where thread q of eight has lanes 4 q to 4 q + 3: distances 16, 8 and 4 are between threads. */
__device__ inline float line_tree(const float lane[OWN]) {
    float s[OWN];
    #pragma unroll
    for (int i = 0; i < OWN; i++) s[i] = lane[i];
    #pragma unroll
    for (int d = 4; d; d /= 2)
        #pragma unroll
        for (int i = 0; i < OWN; i++) s[i] = plus(s[i], __shfl_xor_sync(~0u, s[i], d));
    return plus(plus(s[0], s[2]), plus(s[1], s[3]));
}

/* X3 of sixteen lanes where thread q has lanes 2 q and 2 q + 1. */
__device__ inline float piece_tree(const float lane[OWN_BLOCKS]) {
    float a = lane[0], b = lane[1];
    #pragma unroll
    for (int d = 4; d; d /= 2) {
        a = plus(a, __shfl_xor_sync(~0u, a, d));
        b = plus(b, __shfl_xor_sync(~0u, b, d));
    }
    return plus(a, b);
}

/* Brings memory nearer that a block is about to read. Nothing is read here: another kernel may still write it. */
__device__ inline void bring(const void *from, int64_t bytes) {
    for (int64_t at = threadIdx.x * 128; at < bytes; at += blockDim.x * 128) prefetch((const uint8_t *)from + at);
}

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

/* ---- row by row */

struct DeviceCache {
    bf16 *data;             /* [layer][keys, values][kv head][position][padded head width] */
    int32_t positions;
};

struct Asked {              /* of each row of a pass; written by no kernel */
    int32_t token, position, wanted;        /* wanted: which row the logits of this number are of */
    DeviceCache cache;
};

/* X10: what every number is multiplied by, of the lanes of a warp. */
__device__ inline float inverse_norm(float lane, int n, float epsilon) {
    return over(1.0f, __fsqrt_rn(plus(over(warp_tree(lane), (float)n), epsilon)));
}

/* X10: the first warp takes the sum, of what all threads bring. `asked`: only the wanted rows; 0: all as they stand. */
__global__ void norm(const float *x, int64_t xs, const Asked *asked, const bf16 *gain, Operands to, int n,
                     float epsilon) {
    __shared__ float part[NORM_THREADS_MAX * NORM_OWN];
    __shared__ float inverse;
    let_the_next_begin();
    bring(gain, (int64_t)n * 2);
    after_the_one_before();
    x += (asked ? asked[blockIdx.x].wanted : blockIdx.x) * xs;
    float lane = 0.0f;
    for (int first = 0; first < n; first += NORM_OWN * blockDim.x) {
        float own[NORM_OWN];
        #pragma unroll
        for (int u = 0; u < NORM_OWN; u++) {
            int k = first + u * blockDim.x + threadIdx.x;
            own[u] = k < n ? x[k] : 0.0f;
        }
        #pragma unroll
        for (int u = 0; u < NORM_OWN; u++) part[u * blockDim.x + threadIdx.x] = own[u];
        __syncthreads();
        int end = threadIdx.x >= LANES ? 0 : n - first < NORM_OWN * (int)blockDim.x ? n - first : NORM_OWN * blockDim.x;
        for (int k = threadIdx.x; k < end; k += LANES * NORM_BATCH) {
            float batch[NORM_BATCH];
            #pragma unroll
            for (int u = 0; u < NORM_BATCH; u++) batch[u] = part[k + u * LANES];
            #pragma unroll
            for (int u = 0; u < NORM_BATCH; u++) lane = fused_(batch[u], batch[u], lane);
        }
        __syncthreads();
    }
    if (threadIdx.x < LANES) {
        float r = inverse_norm(lane, n, epsilon);
        if (threadIdx.x == 0) inverse = r;
    }
    __syncthreads();
    for (int first = threadIdx.x; first < to.columns; first += NORM_OWN * blockDim.x) {
        float y[NORM_OWN];
        #pragma unroll
        for (int u = 0; u < NORM_OWN; u++) {
            int k = first + u * blockDim.x;
            y[u] = k < n ? times(times(x[k], inverse), wide(gain[k])) : 0.0f;
        }
        #pragma unroll
        for (int u = 0; u < NORM_OWN; u++)
            if (first + u * (int)blockDim.x < to.columns) deliver(to, blockIdx.x, first + u * blockDim.x, y[u]);
    }
}

__global__ void prepare(const float *x, int64_t xs, int n, Operands to) {
    let_the_next_begin();
    after_the_one_before();
    int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k < to.columns) deliver(to, blockIdx.y, k, k < n ? x[blockIdx.y * xs + k] : 0.0f);
}

__global__ void embed(const bf16 *embedding, const Asked *asked, float *stream, int width) {
    let_the_next_begin();
    after_the_one_before();
    const bf16 *from = embedding + (int64_t)asked[blockIdx.x].token * width;
    for (int k = threadIdx.x; k < width; k += blockDim.x) stream[(int64_t)blockIdx.x * width + k] = wide(from[k]);
}

/* X15 */
__global__ void gate(const float *gates, int64_t stride, int n, Operands to) {
    let_the_next_begin();
    after_the_one_before();
    const float *g = gates + blockIdx.y * stride, *u = g + n;
    int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= to.columns) return;
    float v = k < n ? times(over(g[k], plus(1.0f, exponential(minus(0.0f, g[k])))), u[k]) : 0.0f;
    deliver(to, blockIdx.y, k, v);
}

struct Heads {
    int32_t heads, kv_heads, width, padded, half, layer, window;
    float epsilon;
};

__device__ inline bf16 *kept(const Heads &h, DeviceCache cache, int values, int kv_head) {
    int64_t part = (int64_t)h.kv_heads * cache.positions * h.padded;
    return cache.data + (h.layer * 2 + values) * part + (int64_t)kv_head * cache.positions * h.padded;
}

/* X10 and X11: a warp a head: norm, turn, keep. Value heads are only kept. */
__global__ void place(Heads h, float *qkv, int64_t stride, const bf16 *q_norm, const bf16 *k_norm, const float *cosines,
                      const float *sines, const Asked *asked) {
    let_the_next_begin();
    int head = blockIdx.x, row = blockIdx.y, l = threadIdx.x, position = asked[row].position;
    bring(cosines + (int64_t)position * h.half, h.half * 4);
    bring(sines + (int64_t)position * h.half, h.half * 4);
    after_the_one_before();
    float *v = qkv + row * stride + (int64_t)head * h.width;
    if (head < h.heads + h.kv_heads) {
        const bf16 *gain = head < h.heads ? q_norm : k_norm;
        float lane = 0.0f;
        for (int d = l; gain && d < h.width; d += LANES) lane = fused_(v[d], v[d], lane);
        float r = inverse_norm(lane, h.width, h.epsilon);
        for (int d = l; gain && d < h.width; d += LANES) v[d] = times(times(v[d], r), wide(gain[d]));
        __syncwarp();
        for (int d = l; d < h.half; d += LANES) {
            float c = cosines[(int64_t)position * h.half + d], s = sines[(int64_t)position * h.half + d];
            float a = v[d], b = v[d + h.half];
            v[d] = minus(times(a, c), times(b, s));
            v[d + h.half] = plus(times(b, c), times(a, s));
        }
        __syncwarp();
    }
    if (head < h.heads) return;
    int values = head >= h.heads + h.kv_heads;
    bf16 *to = kept(h, asked[row].cache, values, (head - h.heads) % h.kv_heads) + (int64_t)position * h.padded;
    for (int d = l; d < h.padded; d += LANES) to[d] = d >= h.width ? 0 : values ? narrowed(v[d]) : factored(v[d]);
}

/* ---- attention: a block is one query head of one row (X12 to X14) */

__device__ float block_greatest(float own, float *shared) {
    for (int d = 16; d; d /= 2) {
        float other = __shfl_xor_sync(~0u, own, d);
        own = other > own ? other : own;
    }
    if (threadIdx.x % LANES == 0) shared[threadIdx.x / LANES] = own;
    __syncthreads();
    own = shared[0];
    for (int w = 1; w < ATTEND_THREADS / LANES; w++) own = shared[w] > own ? shared[w] : own;
    return own;
}

/* A product over bf16 in which the keys are the rows: KEYS of them for each eight threads at once. */
__device__ void score(const Heads &h, const bf16 *keys, const uint4 *query, float *scores, int low, int top,
                      float scale) {
    int q = threadIdx.x % GROUP, groups = ATTEND_THREADS / GROUP;
    for (int first = low; first <= top; first += groups * KEYS) {
        const uint4 *row[KEYS];
        float lane[KEYS][OWN];
        #pragma unroll
        for (int u = 0; u < KEYS; u++) {
            int wanted = first + u * groups + threadIdx.x / GROUP, at = wanted <= top ? wanted : top;
            row[u] = (const uint4 *)(keys + (int64_t)at * h.padded) + q;
            for (int i = 0; i < OWN; i++) lane[u][i] = 0.0f;
        }
        #pragma unroll 2
        for (int line = 0; line < h.padded / LINE; line++) {
            uint4 x = query[line * GROUP + q];
            #pragma unroll
            for (int u = 0; u < KEYS; u++) take(__ldcg(row[u] + line * GROUP), x, lane[u]);
        }
        #pragma unroll
        for (int u = 0; u < KEYS; u++) {
            int wanted = first + u * groups + threadIdx.x / GROUP;
            float s = times(line_tree(lane[u]), scale);
            if (q == 0 && wanted <= top) scores[wanted] = s;
        }
    }
}

/* The sum of X13 by the first warp, for all. */
__device__ float inverse_of_sum(const float *p, int low, int top, float *shared) {
    if (threadIdx.x < LANES) {
        float lane = 0.0f;
        #pragma unroll 8
        for (int i = low / LANES * LANES + threadIdx.x; i < (top / LANES + 1) * LANES; i += LANES)
            lane = plus(lane, i >= low && i <= top ? p[i] : 0.0f);
        lane = warp_tree(lane);
        if (threadIdx.x == 0) *shared = over(1.0f, lane);
    }
    __syncthreads();
    return *shared;
}

/* One span of X14 for two dimensions. What follows its end is zeros by zeros, which no sum that is used can show: one
 * of minus zero becomes zero there, or else where it is added to the total. */
__device__ inline float2 span_of(const uint32_t *values, int stride, const float *p, int from, int end) {
    float2 s = {0.0f, 0.0f};
    for (int first = from; first < end; first += VALUES) {
        uint32_t pair[VALUES];
        float weight[VALUES];
        #pragma unroll
        for (int u = 0; u < VALUES; u++) {
            bool within = first + u < end;
            pair[u] = within ? __ldcg(values + (int64_t)(first + u) * stride) : 0;
            weight[u] = within ? p[first + u] : 0.0f;
        }
        #pragma unroll
        for (int u = 0; u < VALUES; u++) {
            s.x = fused_(weight[u], lower(pair[u]), s.x);
            s.y = fused_(weight[u], upper(pair[u]), s.y);
        }
    }
    return s;
}

/* X14: a thread has two dimensions of one span; as many spans at once as there are threads for, added in order. */
template <class Keep>
__device__ void mix(const Heads &h, const bf16 *values, const float *p, int low, int top, float inverse, float2 *shared,
                    Keep keep) {
    int pairs = h.padded / 2, across = pairs < ATTEND_THREADS ? pairs : ATTEND_THREADS, spans = ATTEND_THREADS / across;
    int own = threadIdx.x / across;
    for (int d0 = 0; d0 < pairs; d0 += across) {
        int d = d0 + threadIdx.x % across;
        float2 total = {0.0f, 0.0f};
        for (int first = low / SPAN; first <= top / SPAN; first += spans) {
            int span = first + own, from = span * SPAN > low ? span * SPAN : low;
            int end = (span + 1) * SPAN <= top ? (span + 1) * SPAN : top + 1;
            if (own < spans && d < pairs)
                shared[threadIdx.x] = span_of((const uint32_t *)values + d, pairs, p, from, end);
            __syncthreads();
            for (int n = 0; n < spans && first + n <= top / SPAN; n++) {
                float2 part = shared[n * across + threadIdx.x % across];
                total.x = plus(total.x, part.x);
                total.y = plus(total.y, part.y);
            }
            __syncthreads();
        }
        if (own) continue;
        if (2 * d < h.width) keep(2 * d, times(total.x, inverse));
        if (2 * d + 1 < h.width) keep(2 * d + 1, times(total.y, inverse));
    }
}

/* A product over bf16 takes the result as factors, at once; one over codes waits for all heads (`prepare`). */
__global__ void attend(Heads h, const float *qkv, int64_t stride, const Asked *asked, float *all_scores,
                       int64_t score_stride, Operands mixed) {
    __shared__ float2 shared[ATTEND_THREADS];
    __shared__ float inverse_at;
    SHARED_ROOM(query);
    let_the_next_begin();
    int head = blockIdx.x, row = blockIdx.y, kv_head = head / (h.heads / h.kv_heads), top = asked[row].position;
    int low = h.window && top - h.window + 1 > 0 ? top - h.window + 1 : 0;
    const bf16 *keys = kept(h, asked[row].cache, 0, kv_head), *values = kept(h, asked[row].cache, 1, kv_head);
    bring(keys + (int64_t)low * h.padded, (int64_t)(top - low + 1) * h.padded * 2);
    bring(values + (int64_t)low * h.padded, (int64_t)(top - low + 1) * h.padded * 2);
    after_the_one_before();
    float *scores = all_scores + ((int64_t)row * h.heads + head) * score_stride;
    const float *own = qkv + row * stride + (int64_t)head * h.width;
    for (int d = threadIdx.x; d < h.padded; d += blockDim.x) ((bf16 *)query)[d] = d < h.width ? factored(own[d]) : 0;
    __syncthreads();
    float scale = over(1.0f, __fsqrt_rn((float)h.width));
    score(h, keys, (const uint4 *)query, scores, low, top, scale);
    __syncthreads();
    float most = bits(0xff800000u);
    for (int i = low + threadIdx.x; i <= top; i += blockDim.x) most = scores[i] > most ? scores[i] : most;
    most = block_greatest(most, (float *)shared);
    for (int i = low + threadIdx.x; i <= top; i += blockDim.x) scores[i] = exponential(minus(scores[i], most));
    __syncthreads();
    float inverse = inverse_of_sum(scores, low, top, &inverse_at);
    uint8_t *to = mixed.rows + row * mixed.row_bytes;
    int64_t at = (int64_t)head * h.width;
    bool factors = mixed.format == BF16;
    mix(h, values, scores, low, top, inverse, shared, [=](int d, float v) {
        if (factors) ((bf16 *)to)[at + d] = factored(v);
        else ((float *)to)[at + d] = v;
    });
}

/* ---- the host's side */

struct Taken {      /* device memory of one owner */
    std::vector<void *> all;
    bool failed = false;

    void *bytes(size_t n) {
        void *p = 0;
        if (failed || cudaMalloc(&p, n ? n : 1) != cudaSuccess) {
            failed = true;
            return 0;
        }
        all.push_back(p);
        return p;
    }
    template <class T> T *room(int64_t n) { return (T *)bytes((size_t)n * sizeof(T)); }
    uint8_t *zeros(int64_t n) {
        uint8_t *to = room<uint8_t>(n);
        if (to && cudaMemset(to, 0, (size_t)n) != cudaSuccess) failed = true;
        return to;
    }
    template <class T> T *copy(const T *from, int64_t n) {
        if (!from) return 0;
        T *to = room<T>(n);
        if (to && cudaMemcpy(to, from, (size_t)n * sizeof(T), cudaMemcpyHostToDevice) != cudaSuccess) failed = true;
        return to;
    }
    ~Taken() {
        for (void *p : all) cudaFree(p);
    }
};

/* Numbers of a row of x, filled up to whole rounds. */
int filled(int format, int n) {
    return padded(n, AHEAD * (format == BF16 ? LINE : format == INT8 ? PIECE / 4 : PIECE / 2));
}

int64_t bytes_of(int format, int n) {
    return format == BF16 ? (int64_t)filled(format, n) * 2 : (int64_t)filled(format, n) / PIECE * PIECE_BYTES;
}

Operands operands_of(uint8_t *rows, int64_t row_bytes, int format, int n) {
    return Operands{rows, row_bytes, format, filled(format, n)};
}

/* Rows as they are, each filled up with zeros to a whole number of bytes `to`. */
uint8_t *upload_rows(Taken &taken, const void *from, int64_t row_bytes, int64_t rows, int64_t to) {
    uint8_t *data = taken.zeros(to * rows);
    if (data && cudaMemcpy2D(data, (size_t)to, from, (size_t)row_bytes, (size_t)row_bytes, (size_t)rows,
                             cudaMemcpyHostToDevice) != cudaSuccess) taken.failed = true;
    return data;
}

DeviceMatrix upload_codes(Taken &taken, const Matrix &w, cudaStream_t queue) {
    int pieces = padded(w.columns, PIECE) / PIECE, shift = w.group == 32 ? 0 : w.group == 64 ? 1 : 2;
    int64_t row_bytes = (int64_t)pieces * (w.format == INT8 ? PIECE : PIECE / 2);
    int64_t row_scales = pieces * PIECE_BLOCKS >> shift;
    uint8_t *data = taken.room<uint8_t>(row_bytes * w.rows);
    const uint8_t *scales = upload_rows(taken, w.scales, w.row_scales * 2, w.rows, row_scales * 2);
    Taken raw;                                  /* until it is arranged */
    const uint8_t *from = raw.copy((const uint8_t *)w.data, w.row_bytes * w.rows);
    if (raw.failed || taken.failed) taken.failed = true;
    else LAUNCH(arrange, dim3(w.rows, pieces), LANES, 0, queue, from, w.row_bytes, data, row_bytes, w.format,
                padded(w.columns, BLOCK) / BLOCK);
    if (cudaStreamSynchronize(queue) != cudaSuccess) taken.failed = true;
    return DeviceMatrix{data, (const bf16 *)scales, row_bytes, (int32_t)row_scales, w.rows, pieces, shift};
}

DeviceMatrix upload(Taken &taken, const Matrix &w, cudaStream_t queue) {
    if (w.format != BF16) return upload_codes(taken, w, queue);
    int64_t row_bytes = (int64_t)padded(w.columns, LINE) * 2;
    uint8_t *data = upload_rows(taken, w.data, 2 * (int64_t)w.columns, w.rows, row_bytes);
    return DeviceMatrix{data, 0, row_bytes, 0, w.rows, padded(w.columns, LINE) / LINE, 0};
}

struct DeviceLayer {
    const bf16 *norm_before, *norm_after, *q_norm, *k_norm, *q_bias, *k_bias, *v_bias, *o_bias;
    DeviceMatrix q, k, v, o, gate, up, down;
    int format, window;
};

void launch_product(int format, Targets targets, Operands x, int64_t ys, int m, int then, cudaStream_t queue) {
    targets.rows = 0;
    for (const Target &part : targets.part) targets.rows += part.w.rows;
    int rows = m <= 2 ? ROWS_FOR_FEW : ROWS_FOR_MANY, across = (targets.rows + rows - 1) / rows;
#define BY_COLUMNS(f, M) \
    LAUNCH((product<f, M>), dim3(across * ((m + M - 1) / M)), rows * GROUP, 0, queue, targets, x.rows, x.row_bytes, \
           ys, m, then)
#define BY_FORMAT(M) \
    switch (format) { \
    case BF16: BY_COLUMNS(BF16, M); break; \
    case INT8: BY_COLUMNS(INT8, M); break; \
    default: BY_COLUMNS(INT4, M); \
    }
    if (m == 1) { BY_FORMAT(1) }
    else if (m == 2) { BY_FORMAT(2) }
    else if (m <= 4) { BY_FORMAT(4) }
    else { BY_FORMAT(8) }
}

void launch_prepare(const float *x, int64_t xs, int n, Operands to, int rows, cudaStream_t queue) {
    LAUNCH(prepare, dim3((to.columns + ROW_THREADS - 1) / ROW_THREADS, rows), ROW_THREADS, 0, queue, x, xs, n, to);
}

Targets one(DeviceMatrix w, const bf16 *bias, float *y) {
    Targets targets = {};
    targets.part[0] = Target{w, bias, y};
    return targets;
}

}  // namespace

struct Cache {
    DeviceCache device;
    Taken taken;
};

struct Model {
    Sizes s;
    Taken taken;
    std::vector<DeviceLayer> layers;
    const bf16 *embedding, *final_norm;
    const float *cosines, *sines;
    DeviceMatrix head;
    int head_format;
    int64_t heads, qkv, operand_bytes, scores_stride;
    float *stream, *qkv_rows, *gates, *scores, *logits, *logits_at_host;
    uint8_t *operands, *mixed;      /* what the next product takes; what attention gives: factors, or floats */
    Asked *asked, *asked_at_host;
    int32_t attend_rows, logit_rows;
    cudaStream_t queue;
    GRAPH graph;

    ~Model() {
        drop_graph(graph);
        if (logits_at_host) cudaFreeHost(logits_at_host);
        if (asked_at_host) cudaFreeHost(asked_at_host);
        if (queue) cudaStreamDestroy(queue);
    }
};

namespace {

/* A tile reads whole rows of x, wanted or not. */
int rows_of_x(int m) { return (m + COLUMNS_MAX - 1) / COLUMNS_MAX * COLUMNS_MAX; }

int64_t largest_operand(const Sizes &s) {
    int64_t widest = 0;
    for (int n : {s.width, s.hidden, s.heads * s.head_width})
        for (int format : {BF16, INT8, INT4}) widest = bytes_of(format, n) > widest ? bytes_of(format, n) : widest;
    return widest;
}

void take_buffers(Model *model) {
    const Sizes &s = model->s;
    int rows = rows_of_x(s.rows_max);
    model->operand_bytes = largest_operand(s);
    model->stream = model->taken.room<float>((int64_t)rows * s.width);
    model->operands = model->taken.zeros(rows * model->operand_bytes);
    model->mixed = model->taken.zeros(rows * (int64_t)filled(BF16, (int)model->heads) * 4);
    model->qkv_rows = model->taken.room<float>(rows * model->qkv);
    model->gates = model->taken.room<float>(rows * 2 * (int64_t)s.hidden);
    model->asked = model->taken.room<Asked>(rows);
    if (cudaMallocHost((void **)&model->asked_at_host, (size_t)rows * sizeof(Asked)) != cudaSuccess)
        model->taken.failed = true;
    model->scores_stride = padded(s.positions_max, LANES);
    int64_t per_row = model->scores_stride * s.heads * 4;
    int64_t fit = (int64_t)SCORES_BYTES_MAX / per_row;
    model->attend_rows = fit < 1 ? 1 : fit < rows ? (int32_t)fit : rows;
    model->scores = model->taken.room<float>(model->attend_rows * model->scores_stride * s.heads);
    model->logit_rows = 0;
}

DeviceLayer upload_layer(Model *model, const Layer &from) {
    const Sizes &s = model->s;
    Taken &t = model->taken;
    DeviceLayer to = {};
    int q = s.heads * s.head_width, kv = s.kv_heads * s.head_width;
    to.norm_before = t.copy(from.norm_before, s.width);
    to.norm_after = t.copy(from.norm_after, s.width);
    to.q_norm = t.copy(from.q_norm, s.head_width);
    to.k_norm = t.copy(from.k_norm, s.head_width);
    to.q_bias = t.copy(from.q_bias, q);
    to.k_bias = t.copy(from.k_bias, kv);
    to.v_bias = t.copy(from.v_bias, kv);
    to.o_bias = t.copy(from.o_bias, s.width);
    to.q = upload(t, from.q, model->queue);
    to.k = upload(t, from.k, model->queue);
    to.v = upload(t, from.v, model->queue);
    to.o = upload(t, from.o, model->queue);
    to.gate = upload(t, from.gate, model->queue);
    to.up = upload(t, from.up, model->queue);
    to.down = upload(t, from.down, model->queue);
    to.format = from.q.format;
    to.window = from.window;
    return to;
}

void launch_norm(Model *model, const bf16 *gain, Operands to, int rows, const Asked *asked) {
    const Sizes &s = model->s;
    int unit = LANES * NORM_BATCH / NORM_OWN;       /* so that what all bring is whole batches */
    int threads = s.width < NORM_THREADS_MAX ? padded(s.width, unit) : NORM_THREADS_MAX;
    LAUNCH(norm, dim3(rows), threads, 0, model->queue, (const float *)model->stream, (int64_t)s.width, asked, gain, to,
           s.width, s.epsilon);
}

/* Where attention leaves its rows, and what the product after it takes. */
Operands attend_rows(Model *model, const DeviceLayer &layer, const Heads &h, int rows) {
    int n = (int)model->heads;
    int64_t row_bytes = (int64_t)filled(BF16, n) * (layer.format == BF16 ? 2 : 4);
    Operands mixed = {model->mixed, row_bytes, layer.format, n};
    for (int row = 0; row < rows; row += model->attend_rows) {
        int some = rows - row < model->attend_rows ? rows - row : model->attend_rows;
        Operands to = {mixed.rows + row * row_bytes, row_bytes, layer.format, mixed.columns};
        LAUNCH(attend, dim3(h.heads, some), ATTEND_THREADS, (size_t)h.padded * 2, model->queue, h,
               (const float *)model->qkv_rows + row * model->qkv, model->qkv, (const Asked *)model->asked + row,
               model->scores, model->scores_stride, to);
    }
    if (layer.format == BF16) return mixed;
    Operands made = operands_of(model->operands, model->operand_bytes, layer.format, n);
    launch_prepare((const float *)mixed.rows, row_bytes / 4, n, made, rows, model->queue);
    return made;
}

void attention(Model *model, int layer_index, int rows) {
    const Sizes &s = model->s;
    const DeviceLayer &layer = model->layers[layer_index];
    int q = s.heads * s.head_width, kv = s.kv_heads * s.head_width;
    cudaStream_t queue = model->queue;
    Operands x = operands_of(model->operands, model->operand_bytes, layer.format, s.width);
    launch_norm(model, layer.norm_before, x, rows, 0);
    Targets qkv = {};
    qkv.part[0] = Target{layer.q, layer.q_bias, model->qkv_rows};
    qkv.part[1] = Target{layer.k, layer.k_bias, model->qkv_rows + q};
    qkv.part[2] = Target{layer.v, layer.v_bias, model->qkv_rows + q + kv};
    launch_product(layer.format, qkv, x, model->qkv, rows, AS_IT_IS, queue);
    Heads h = {s.heads, s.kv_heads, s.head_width, padded(s.head_width, LINE), s.rotary_width / 2, layer_index,
               layer.window, s.epsilon};
    LAUNCH(place, dim3(s.heads + 2 * s.kv_heads, rows), LANES, 0, queue, h, model->qkv_rows, model->qkv, layer.q_norm,
           layer.k_norm, model->cosines, model->sines, (const Asked *)model->asked);
    Operands mixed = attend_rows(model, layer, h, rows);
    launch_product(layer.format, one(layer.o, layer.o_bias, model->stream), mixed, s.width, rows, ADDED, queue);
}

void feed_forward(Model *model, int layer_index, int rows) {
    const Sizes &s = model->s;
    const DeviceLayer &layer = model->layers[layer_index];
    cudaStream_t queue = model->queue;
    Operands x = operands_of(model->operands, model->operand_bytes, layer.format, s.width);
    launch_norm(model, layer.norm_after, x, rows, 0);
    Targets both = {};
    both.part[0] = Target{layer.gate, 0, model->gates};
    both.part[1] = Target{layer.up, 0, model->gates + s.hidden};
    launch_product(layer.format, both, x, 2 * (int64_t)s.hidden, rows, AS_IT_IS, queue);
    Operands gated = operands_of(model->operands, model->operand_bytes, layer.format, s.hidden);
    LAUNCH(gate, dim3((gated.columns + ROW_THREADS - 1) / ROW_THREADS, rows), ROW_THREADS, 0, queue,
           (const float *)model->gates, 2 * (int64_t)s.hidden, s.hidden, gated);
    launch_product(layer.format, one(layer.down, 0, model->stream), gated, s.width, rows, ADDED, queue);
}

void pass(Model *model, int rows, int outputs) {
    const Sizes &s = model->s;
    LAUNCH(embed, dim3(rows), ROW_THREADS, 0, model->queue, model->embedding, (const Asked *)model->asked,
           model->stream, s.width);
    for (int layer = 0; layer < s.layers; layer++) {
        attention(model, layer, rows);
        feed_forward(model, layer, rows);
    }
    if (!outputs) return;
    Operands x = operands_of(model->operands, model->operand_bytes, model->head_format, s.width);
    launch_norm(model, model->final_norm, x, outputs, model->asked);
    launch_product(model->head_format, one(model->head, 0, model->logits), x, s.vocabulary, outputs, ONE_NAN,
                   model->queue);
}

bool room_for_logits(Model *model, int outputs) {
    if (outputs <= model->logit_rows) return true;
    drop_graph(model->graph);                           /* it wrote to the buffer before */
    int64_t count = (int64_t)outputs * model->s.vocabulary;
    if (model->logits_at_host) cudaFreeHost(model->logits_at_host);
    model->logits_at_host = 0;
    model->logits = model->taken.room<float>(count);
    bool made = model->logits && cudaMallocHost((void **)&model->logits_at_host, (size_t)count * 4) == cudaSuccess;
    model->logit_rows = made ? outputs : 0;
    return made;
}

int bounded(const Model *model, int32_t rows, const int32_t *tokens, Cache *const *caches, const int32_t *positions,
            int32_t outputs, const int32_t *wanted) {
    if (rows < 1 || rows > model->s.rows_max || outputs < 0 || outputs > rows) return 0;
    for (int32_t i = 0; i < rows; i++) {
        if (tokens[i] < 0 || tokens[i] >= model->s.vocabulary || !caches[i]) return 0;
        if (positions[i] < 0 || positions[i] >= caches[i]->device.positions || positions[i] >= model->s.positions_max)
            return 0;
    }
    for (int32_t i = 0; i < outputs; i++)
        if (wanted[i] < 0 || wanted[i] >= rows) return 0;
    return 1;
}

}  // namespace

extern "C" {

int fixed_has(int variant) {
    int count = 0;
    return variant == CUDA_VARIANT && cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

Pool *fixed_pool_new(int) { return (Pool *)malloc(1); }
void fixed_pool_free(Pool *pool) { free(pool); }

void fixed_model_free(Model *model) { delete model; }

Model *fixed_model_new(const Sizes *sizes, const Layer *layers, const Ends *ends, int, Pool *) {
    Model *model = new (std::nothrow) Model();
    if (!model) return 0;
    const Sizes &s = model->s = *sizes;
    Taken &t = model->taken;
    model->heads = (int64_t)s.heads * s.head_width;
    model->qkv = (int64_t)(s.heads + 2 * s.kv_heads) * s.head_width;
    if (cudaStreamCreate(&model->queue) != cudaSuccess) t.failed = true;
    take_buffers(model);
    int64_t turning = (int64_t)s.positions_max * (s.rotary_width / 2);
    model->embedding = t.copy(ends->embedding, (int64_t)s.vocabulary * s.width);
    model->final_norm = t.copy(ends->final_norm, s.width);
    model->cosines = t.copy(ends->cosines, turning);
    model->sines = t.copy(ends->sines, turning);
    model->head = upload(t, ends->head, model->queue);
    model->head_format = ends->head.format;
    for (int i = 0; i < s.layers && !t.failed; i++) model->layers.push_back(upload_layer(model, layers[i]));
    if (!t.failed) return model;
    delete model;
    return 0;
}

Cache *fixed_cache_new(const Model *model, int32_t positions) {
    const Sizes &s = model->s;
    Cache *cache = new (std::nothrow) Cache();
    if (!cache) return 0;
    int64_t count = (int64_t)s.layers * 2 * s.kv_heads * positions * padded(s.head_width, LINE);
    cache->device = DeviceCache{cache->taken.room<bf16>(count), positions};
    if (cache->device.data && cudaMemset(cache->device.data, 0, (size_t)count * sizeof(bf16)) == cudaSuccess)
        return cache;
    delete cache;
    return 0;
}

void fixed_cache_free(Cache *cache) { delete cache; }

void fixed_cache_copy(const Model *model, Cache *to, const Cache *from, int32_t positions) {
    size_t head = (size_t)padded(model->s.head_width, LINE) * sizeof(bf16);
    size_t parts = (size_t)model->s.layers * 2 * (size_t)model->s.kv_heads;
    cudaMemcpy2D(to->device.data, (size_t)to->device.positions * head, from->device.data,
                 (size_t)from->device.positions * head, (size_t)positions * head, parts, cudaMemcpyDeviceToDevice);
}

int fixed_forward(Model *model, int32_t rows, const int32_t *tokens, Cache *const *caches, const int32_t *positions,
                  int32_t outputs, const int32_t *wanted, float *logits) {
    if (!bounded(model, rows, tokens, caches, positions, outputs, wanted)) return OUT_OF_BOUNDS;
    if (!room_for_logits(model, outputs)) return OUT_OF_BOUNDS;
    cudaStream_t queue = model->queue;
    cudaGetLastError();                                 /* a cache there was no memory for is no error of this pass */
    for (int32_t i = 0; i < rows; i++)
        model->asked_at_host[i] = Asked{tokens[i], positions[i], i < outputs ? wanted[i] : 0, caches[i]->device};
    cudaMemcpyAsync(model->asked, model->asked_at_host, (size_t)rows * sizeof(Asked), cudaMemcpyHostToDevice, queue);
    if (rows == 1 && outputs == 1) replay(model->graph, queue, [&] { pass(model, 1, 1); });
    else pass(model, rows, outputs);
    size_t bytes = (size_t)outputs * (size_t)model->s.vocabulary * 4;
    if (outputs) cudaMemcpyAsync(model->logits_at_host, model->logits, bytes, cudaMemcpyDeviceToHost, queue);
    if (cudaStreamSynchronize(queue) != cudaSuccess || cudaGetLastError() != cudaSuccess) return OUT_OF_BOUNDS;
    if (outputs) memcpy(logits, model->logits_at_host, bytes);
    return DONE;
}

int fixed_product(int, Pool *, const Matrix *w, const float *x, int32_t m, float *y) {
    Taken taken;
    cudaStream_t queue = 0;
    if (cudaStreamCreate(&queue) != cudaSuccess) return OUT_OF_BOUNDS;
    size_t given = (size_t)m * (size_t)w->columns, made = (size_t)m * (size_t)w->rows;
    int64_t row_bytes = bytes_of(w->format, w->columns);
    DeviceMatrix matrix = upload(taken, *w, queue);
    Operands operands = operands_of(taken.zeros(rows_of_x(m) * row_bytes), row_bytes, w->format, w->columns);
    float *from = taken.copy(x, (int64_t)given), *out = taken.room<float>((int64_t)made);
    if (!taken.failed) {
        launch_prepare(from, w->columns, w->columns, operands, m, queue);
        launch_product(w->format, one(matrix, 0, out), operands, w->rows, m, AS_IT_IS, queue);
        cudaMemcpyAsync(y, out, made * 4, cudaMemcpyDeviceToHost, queue);
        if (cudaStreamSynchronize(queue) != cudaSuccess || cudaGetLastError() != cudaSuccess) taken.failed = true;
    }
    cudaStreamDestroy(queue);
    return taken.failed ? OUT_OF_BOUNDS : DONE;
}

#ifndef ANCHORHOLD_EMULATED
/* Bytes a second that a copy inside the device reads and writes: what a decode is held against. */
double fixed_copy_rate(size_t bytes, int times_) {
    Taken taken;
    void *from = taken.bytes(bytes), *to = taken.bytes(bytes);
    if (taken.failed) return 0;
    cudaEvent_t begin, end;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToDevice);
    cudaEventRecord(begin);
    for (int i = 0; i < times_; i++) cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice);
    cudaEventRecord(end);
    cudaEventSynchronize(end);
    float milliseconds = 0;
    cudaEventElapsedTime(&milliseconds, begin, end);
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return 2.0 * (double)bytes * times_ / (milliseconds / 1000.0);
}
#endif

void *fixed_memory_new(size_t bytes) { return calloc(1, bytes); }
void fixed_memory_free(void *memory, size_t) { free(memory); }

}
