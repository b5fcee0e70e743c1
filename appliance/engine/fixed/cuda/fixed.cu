/* The same arithmetic on a GPU, behind the same functions (../kernels/model.h).
 *
 * Four threads hold one row of a product: thread q of them owns lanes 8 q to 8 q + 7 of docs/spec/engine.md X2, which are
 * sixteen bytes of bf16 in each block, so a row streams in whole sectors and every lane still takes its elements with k
 * ascending. A warp holds eight rows. Nothing here lets a compiler contract or reorder: every operation is an intrinsic
 * that is rounded once.
 *
 * Weights are copied to the device, each row filled up with zeros to whole blocks (X2).
 */
#include "device.h"

#include <cstdlib>
#include <new>
#include <vector>

extern "C" {
#include "../kernels/model.h"
}

namespace {

enum { GROUP = 4, OWN = 8, BLOCK_THREADS = 128, AHEAD = 8, ATTEND_THREADS = 256, CUDA_VARIANT = 3 };
const size_t SCORES_BYTES_MAX = (size_t)256 << 20;

/* ---- operations, each rounded once */

__device__ inline float plus(float a, float b) { return __fadd_rn(a, b); }
__device__ inline float minus(float a, float b) { return __fsub_rn(a, b); }
__device__ inline float times(float a, float b) { return __fmul_rn(a, b); }
__device__ inline float over(float a, float b) { return __fdiv_rn(a, b); }
__device__ inline float fused_(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ inline float bits(uint32_t u) { return __uint_as_float(u); }
__device__ inline float wide(bf16 b) { return bits((uint32_t)b << 16); }

/* X5 */
__device__ inline bf16 narrowed(float f) {
    uint32_t u = __float_as_uint(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return 0x7fc0;
    return (bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
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
    lane = plus(lane, __shfl_xor_sync(~0u, lane, 1));
    for (int d = 16; d > 1; d /= 2) lane = plus(lane, __shfl_xor_sync(~0u, lane, d));
    return lane;
}

/* X3 where each of four threads has eight lanes: neighbours, 16 and 8 between threads, 4 and 2 inside. */
__device__ inline float group_tree(const float lane[OWN]) {
    float s[4];
    for (int i = 0; i < 4; i++) s[i] = plus(lane[2 * i], lane[2 * i + 1]);
    for (int i = 0; i < 4; i++) s[i] = plus(s[i], __shfl_xor_sync(~0u, s[i], 2));
    for (int i = 0; i < 4; i++) s[i] = plus(s[i], __shfl_xor_sync(~0u, s[i], 1));
    return plus(plus(s[0], s[2]), plus(s[1], s[3]));
}

/* ---- weights as the device has them */

struct DeviceMatrix {
    const uint8_t *data;
    const bf16 *scales;
    int64_t row_bytes;
    int32_t row_scales, rows, blocks, group_blocks;
};

__device__ inline void eight_bf16(uint4 v, float w[OWN]) {
    const uint32_t u[4] = {v.x, v.y, v.z, v.w};
    for (int i = 0; i < 4; i++) {
        w[2 * i] = bits(u[i] << 16);
        w[2 * i + 1] = bits(u[i] & 0xffff0000u);
    }
}

__device__ inline void take(const float w[OWN], const float *x, float lane[OWN]) {
    float4 a = *(const float4 *)x, b = *(const float4 *)(x + 4);
    const float v[OWN] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
    for (int i = 0; i < OWN; i++) lane[i] = fused_(w[i], v[i], lane[i]);
}

template <int M>
__device__ inline void take_rows(const float w[OWN], const float *x, int64_t x_stride, float lane[M][OWN]) {
    #pragma unroll
    for (int m = 0; m < M; m++) take(w, x + m * x_stride, lane[m]);
}

/* A row of bf16: AHEAD blocks are on their way while those before them are taken. */
template <int M>
__device__ void row_bf16(const uint8_t *row, int blocks, int q, const float *x, int64_t xs, float lane[M][OWN]) {
    const uint4 *p = (const uint4 *)row + q;
    uint4 next[AHEAD];
    #pragma unroll
    for (int u = 0; u < AHEAD; u++) next[u] = u < blocks ? __ldcs(p + u * GROUP) : make_uint4(0, 0, 0, 0);
    for (int b = 0; b < blocks; b += AHEAD) {
        uint4 now[AHEAD];
        #pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            now[u] = next[u];
            if (b + AHEAD + u < blocks) next[u] = __ldcs(p + (b + AHEAD + u) * GROUP);
        }
        #pragma unroll
        for (int u = 0; u < AHEAD; u++) {
            if (b + u >= blocks) break;
            float w[OWN];
            eight_bf16(now[u], w);
            take_rows<M>(w, x + (b + u) * LANES + q * OWN, xs, lane);
        }
    }
}

template <int M>
__device__ void row_int8(const DeviceMatrix &w, int row, int q, const float *x, int64_t xs, float lane[M][OWN]) {
    const uint2 *p = (const uint2 *)(w.data + row * w.row_bytes) + q;
    const bf16 *scales = w.scales + (int64_t)row * w.row_scales;
    #pragma unroll 4
    for (int b = 0; b < w.blocks; b++) {
        uint2 v = __ldcs(p + b * GROUP);
        float scale = wide(scales[b / w.group_blocks]), values[OWN];
        for (int i = 0; i < OWN; i++)
            values[i] = times((float)(int8_t)((i < 4 ? v.x : v.y) >> (8 * (i % 4))), scale);
        take_rows<M>(values, x + b * LANES + q * OWN, xs, lane);
    }
}

/* Words 4 q to 4 q + 3 of a piece are this thread's lanes of four blocks (X7). */
template <int M>
__device__ void row_int4(const DeviceMatrix &w, int row, int q, const float *x, int64_t xs, float lane[M][OWN]) {
    const uint4 *p = (const uint4 *)(w.data + row * w.row_bytes) + q;
    const bf16 *scales = w.scales + (int64_t)row * w.row_scales;
    #pragma unroll 2
    for (int b = 0; b < w.blocks; b += 4) {
        uint4 v = __ldcs(p + b);
        const uint32_t u[4] = {v.x, v.y, v.z, v.w};
        for (int sub = 0; sub < 4 && b + sub < w.blocks; sub++) {
            float scale = wide(scales[(b + sub) / w.group_blocks]), values[OWN];
            for (int i = 0; i < OWN; i++)
                values[i] = times((float)((int)(u[i / 2] >> (8 * sub + 4 * (i % 2)) & 15u) - 8), scale);
            take_rows<M>(values, x + (b + sub) * LANES + q * OWN, xs, lane);
        }
    }
}

/* ---- products: up to three matrices over the same x */

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

template <int FORMAT, int M>
__global__ void product(Targets targets, const float *x, int64_t xs, int64_t ys, int count, int then) {
    int q = threadIdx.x % GROUP, wanted = (blockIdx.x * blockDim.x + threadIdx.x) / GROUP, first = blockIdx.y * M;
    int row = wanted < targets.rows ? wanted : targets.rows - 1, part = 0;
    while (row >= targets.part[part].w.rows) row -= targets.part[part++].w.rows;
    const Target &target = targets.part[part];
    float lane[M][OWN];
    for (int m = 0; m < M; m++)
        for (int i = 0; i < OWN; i++) lane[m][i] = 0.0f;
    x += first * xs;
    if (FORMAT == BF16) row_bf16<M>(target.w.data + row * target.w.row_bytes, target.w.blocks, q, x, xs, lane);
    else if (FORMAT == INT8) row_int8<M>(target.w, row, q, x, xs, lane);
    else row_int4<M>(target.w, row, q, x, xs, lane);
    for (int m = 0; m < M; m++) {
        float s = group_tree(lane[m]);
        if (q || wanted >= targets.rows || first + m >= count) continue;
        float *y = target.y + (first + m) * ys + row;
        if (target.bias) s = plus(s, wide(target.bias[row]));
        if (then == ADDED) s = plus(*y, s);
        if (then == ONE_NAN && s != s) s = bits(0x7fc00000u);
        *y = s;
    }
}

/* ---- row by row; a warp a row */

/* X10 by one warp; `n` numbers, y filled up to whole blocks where `y_blocks` asks for it. */
__device__ void norm_by_warp(const float *x, const bf16 *gain, float *y, int n, int n_out, float epsilon) {
    int l = threadIdx.x % LANES;
    float lane = 0.0f;
    for (int k = l; k < (n + LANES - 1) / LANES * LANES; k += LANES) {
        float v = k < n ? x[k] : 0.0f;
        lane = fused_(v, v, lane);
    }
    float r = over(1.0f, __fsqrt_rn(plus(over(warp_tree(lane), (float)n), epsilon)));
    for (int k = l; k < n_out; k += LANES) y[k] = k < n ? times(times(x[k], r), wide(gain[k])) : 0.0f;
}

__global__ void norm(const float *x, int64_t xs, const int32_t *rows, const bf16 *gain, float *y, int64_t ys, int n,
                     float epsilon) {
    int row = rows ? rows[blockIdx.x] : blockIdx.x;
    norm_by_warp(x + row * xs, gain, y + blockIdx.x * ys, n, (int)ys, epsilon);
}

__global__ void embed(const bf16 *embedding, const int32_t *tokens, float *stream, int width) {
    const bf16 *from = embedding + (int64_t)tokens[blockIdx.x] * width;
    for (int k = threadIdx.x; k < width; k += blockDim.x) stream[(int64_t)blockIdx.x * width + k] = wide(from[k]);
}

/* X15 */
__global__ void gate(float *gates, int64_t stride, int n, float *y, int64_t ys) {
    const float *g = gates + blockIdx.y * stride, *u = g + n;
    int k = blockIdx.x * blockDim.x + threadIdx.x;
    if (k >= (int)ys) return;
    y[blockIdx.y * ys + k] = k < n ? times(over(g[k], plus(1.0f, exponential(minus(0.0f, g[k])))), u[k]) : 0.0f;
}

struct DeviceCache {
    bf16 *data;             /* [layer][keys, values][kv head][position][padded head width] */
    int32_t positions;
};

struct Heads {
    int32_t heads, kv_heads, width, padded, half, layer, window;
    float epsilon;
};

__device__ inline bf16 *kept(const Heads &h, DeviceCache cache, int values, int kv_head) {
    int64_t part = (int64_t)h.kv_heads * cache.positions * h.padded;
    return cache.data + (h.layer * 2 + values) * part + (int64_t)kv_head * cache.positions * h.padded;
}

/* X11: a warp a head: norm, turn, keep. Value heads are only kept. */
__global__ void place(Heads h, float *qkv, int64_t stride, const bf16 *q_norm, const bf16 *k_norm, const float *cosines,
                      const float *sines, const int32_t *positions, const DeviceCache *caches) {
    int head = blockIdx.x, row = blockIdx.y, l = threadIdx.x, position = positions[row];
    float *v = qkv + row * stride + (int64_t)head * h.width;
    if (head < h.heads + h.kv_heads) {
        const bf16 *gain = head < h.heads ? q_norm : k_norm;
        if (gain) norm_by_warp(v, gain, v, h.width, h.width, h.epsilon);
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
    bf16 *to = kept(h, caches[row], values, (head - h.heads) % h.kv_heads) + (int64_t)position * h.padded;
    for (int d = l; d < h.padded; d += LANES) to[d] = d < h.width ? narrowed(v[d]) : 0;
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

__device__ void score(const Heads &h, const bf16 *keys, const float *query, float *scores, int low, int top,
                      float scale) {
    int q = threadIdx.x % GROUP, groups = ATTEND_THREADS / GROUP;
    for (int i = low; i <= top; i += groups) {
        int wanted = i + threadIdx.x / GROUP, at = wanted <= top ? wanted : top;
        const uint4 *row = (const uint4 *)(keys + (int64_t)at * h.padded) + q;
        float lane[OWN] = {0, 0, 0, 0, 0, 0, 0, 0}, w[OWN];
        for (int b = 0; b < h.padded / LANES; b++) {
            eight_bf16(row[b * GROUP], w);
            take(w, query + b * LANES + q * OWN, lane);
        }
        float s = times(group_tree(lane), scale);
        if (q == 0 && wanted <= top) scores[wanted] = s;
    }
}

/* The sum of X13 by the first warp, for all. */
__device__ float inverse_of_sum(const float *p, int low, int top, float *shared) {
    if (threadIdx.x < LANES) {
        float lane = 0.0f;
        for (int i = low / LANES * LANES + threadIdx.x; i < (top / LANES + 1) * LANES; i += LANES)
            lane = plus(lane, i >= low && i <= top ? p[i] : 0.0f);
        lane = warp_tree(lane);
        if (threadIdx.x == 0) *shared = over(1.0f, lane);
    }
    __syncthreads();
    return *shared;
}

/* X14: as many spans at once as the block has threads for; their sums are added in order. */
__device__ void mix(const Heads &h, const bf16 *values, const float *p, int low, int top, float inverse, float *shared,
                    float *y) {
    int across = h.padded < ATTEND_THREADS ? h.padded : ATTEND_THREADS, spans = ATTEND_THREADS / across;
    int own = threadIdx.x / across;
    for (int d0 = 0; d0 < h.padded; d0 += across) {
        int d = d0 + threadIdx.x % across;
        float total = 0.0f;
        for (int first = low / SPAN; first <= top / SPAN; first += spans) {
            int span = first + own, from = span * SPAN > low ? span * SPAN : low;
            int end = (span + 1) * SPAN <= top ? (span + 1) * SPAN : top + 1;
            float s = 0.0f;
            if (own < spans && d < h.padded)
                for (int i = from; i < end; i++) s = fused_(p[i], wide(values[(int64_t)i * h.padded + d]), s);
            shared[threadIdx.x] = s;
            __syncthreads();
            for (int n = 0; n < spans && first + n <= top / SPAN; n++)
                total = plus(total, shared[n * across + threadIdx.x % across]);
            __syncthreads();
        }
        if (own == 0 && d < h.width) y[d] = times(total, inverse);
    }
}

__global__ void attend(Heads h, const float *qkv, int64_t stride, const int32_t *positions, const DeviceCache *caches,
                       float *all_scores, int64_t score_stride, float *mixed, int64_t mixed_stride) {
    __shared__ float shared[ATTEND_THREADS];
    __shared__ float inverse_at;
    SHARED_ROOM(query);
    int head = blockIdx.x, row = blockIdx.y, kv_head = head / (h.heads / h.kv_heads), top = positions[row];
    int low = h.window && top - h.window + 1 > 0 ? top - h.window + 1 : 0;
    float *scores = all_scores + ((int64_t)row * h.heads + head) * score_stride;
    const float *own = qkv + row * stride + (int64_t)head * h.width;
    for (int d = threadIdx.x; d < h.padded; d += blockDim.x) query[d] = d < h.width ? own[d] : 0.0f;
    __syncthreads();
    float scale = over(1.0f, __fsqrt_rn((float)h.width));
    score(h, kept(h, caches[row], 0, kv_head), query, scores, low, top, scale);
    __syncthreads();
    float most = bits(0xff800000u);
    for (int i = low + threadIdx.x; i <= top; i += blockDim.x) most = scores[i] > most ? scores[i] : most;
    most = block_greatest(most, shared);
    for (int i = low + threadIdx.x; i <= top; i += blockDim.x) scores[i] = exponential(minus(scores[i], most));
    __syncthreads();
    float inverse = inverse_of_sum(scores, low, top, &inverse_at);
    mix(h, kept(h, caches[row], 1, kv_head), scores, low, top, inverse, shared,
        mixed + row * mixed_stride + (int64_t)head * h.width);
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

int64_t own_bytes(const Matrix &w) { return w.format == BF16 ? 2 * (int64_t)w.columns : w.row_bytes; }

DeviceMatrix upload(Taken &taken, const Matrix &w) {
    int blocks = padded(w.columns) / LANES;
    int64_t row_bytes = w.format == BF16 ? blocks * 64 : w.format == INT8 ? blocks * 32 : w.row_bytes;
    uint8_t *data = taken.room<uint8_t>(row_bytes * w.rows);
    if (data) {
        int64_t from = own_bytes(w);
        if (cudaMemset(data, 0, (size_t)(row_bytes * w.rows)) != cudaSuccess
            || cudaMemcpy2D(data, (size_t)row_bytes, w.data, (size_t)w.row_bytes, (size_t)from, (size_t)w.rows,
                            cudaMemcpyHostToDevice) != cudaSuccess) taken.failed = true;
    }
    const bf16 *scales = w.scales ? taken.copy(w.scales, w.row_scales * w.rows) : 0;
    return DeviceMatrix{data, scales, row_bytes, (int32_t)w.row_scales, w.rows, blocks,
                        w.group ? w.group / LANES : 1};
}

struct DeviceLayer {
    const bf16 *norm_before, *norm_after, *q_norm, *k_norm, *q_bias, *k_bias, *v_bias, *o_bias;
    DeviceMatrix q, k, v, o, gate, up, down;
    int format, window;
};

void launch_product(int format, Targets targets, const float *x, int64_t xs, int64_t ys, int m, int then,
                    cudaStream_t stream) {
    targets.rows = 0;
    for (const Target &part : targets.part) targets.rows += part.w.rows;
    int across = (targets.rows * GROUP + BLOCK_THREADS - 1) / BLOCK_THREADS;
#define BY_ROWS(f, M) \
    LAUNCH((product<f, M>), dim3(across, (m + M - 1) / M), BLOCK_THREADS, 0, stream, targets, x, xs, ys, m, then)
#define BY_FORMAT(M) \
    switch (format) { \
    case BF16: BY_ROWS(BF16, M); break; \
    case INT8: BY_ROWS(INT8, M); break; \
    default: BY_ROWS(INT4, M); \
    }
    if (m == 1) { BY_FORMAT(1) } else if (m == 2) { BY_FORMAT(2) } else { BY_FORMAT(4) }
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
    int64_t width, hidden, heads, qkv, scores_stride;
    float *stream, *lanes, *qkv_rows, *mixed, *gates, *scores, *logits;
    int32_t *tokens, *positions, *wanted, attend_rows, logit_rows;
    DeviceCache *caches;
    cudaStream_t queue;
    GRAPH graph;

    ~Model() {
        drop_graph(graph);
        if (queue) cudaStreamDestroy(queue);
    }
};

namespace {

int rows_of_x(int m) { return (m + 3) / 4 * 4; }      /* a tile reads whole rows of x, wanted or not */

void take_buffers(Model *model) {
    const Sizes &s = model->s;
    int rows = rows_of_x(s.rows_max);
    int64_t lanes = model->width > model->hidden ? model->width : model->hidden;
    model->stream = model->taken.room<float>((int64_t)rows * s.width);
    model->lanes = model->taken.room<float>(rows * lanes);
    model->qkv_rows = model->taken.room<float>(rows * model->qkv);
    model->mixed = model->taken.room<float>(rows * model->heads);
    model->gates = model->taken.room<float>(rows * 2 * (int64_t)s.hidden);
    model->tokens = model->taken.room<int32_t>(rows);
    model->positions = model->taken.room<int32_t>(rows);
    model->wanted = model->taken.room<int32_t>(rows);
    model->caches = model->taken.room<DeviceCache>(rows);
    model->scores_stride = padded(s.positions_max);
    int64_t per_row = model->scores_stride * s.heads * 4;
    int64_t fit = (int64_t)SCORES_BYTES_MAX / per_row;
    model->attend_rows = fit < 1 ? 1 : fit < rows ? (int32_t)fit : rows;
    model->scores = model->taken.room<float>(model->attend_rows * model->scores_stride * s.heads);
    model->logit_rows = 0;
    if (!model->taken.failed) {     /* what is filled up with zeros stays so: only whole rows are ever written */
        cudaMemset(model->mixed, 0, (size_t)(rows * model->heads) * 4);
        cudaMemset(model->lanes, 0, (size_t)(rows * lanes) * 4);
    }
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
    to.q = upload(t, from.q);
    to.k = upload(t, from.k);
    to.v = upload(t, from.v);
    to.o = upload(t, from.o);
    to.gate = upload(t, from.gate);
    to.up = upload(t, from.up);
    to.down = upload(t, from.down);
    to.format = from.q.format;
    to.window = from.window;
    return to;
}

void attention(Model *model, int layer_index, int rows) {
    const Sizes &s = model->s;
    const DeviceLayer &layer = model->layers[layer_index];
    int q = s.heads * s.head_width, kv = s.kv_heads * s.head_width, head = padded(s.head_width);
    cudaStream_t queue = model->queue;
    LAUNCH(norm, dim3(rows), LANES, 0, queue, model->stream, s.width, (const int32_t *)0, layer.norm_before, model->lanes,
           model->width, s.width, s.epsilon);
    Targets qkv = {};
    qkv.part[0] = Target{layer.q, layer.q_bias, model->qkv_rows};
    qkv.part[1] = Target{layer.k, layer.k_bias, model->qkv_rows + q};
    qkv.part[2] = Target{layer.v, layer.v_bias, model->qkv_rows + q + kv};
    launch_product(layer.format, qkv, model->lanes, model->width, model->qkv, rows, AS_IT_IS, queue);
    Heads h = {s.heads, s.kv_heads, s.head_width, head, s.rotary_width / 2, layer_index, layer.window, s.epsilon};
    LAUNCH(place, dim3(s.heads + 2 * s.kv_heads, rows), LANES, 0, queue, h, model->qkv_rows, model->qkv, layer.q_norm,
           layer.k_norm, model->cosines, model->sines, model->positions, model->caches);
    for (int row = 0; row < rows; row += model->attend_rows) {
        int some = rows - row < model->attend_rows ? rows - row : model->attend_rows;
        LAUNCH(attend, dim3(s.heads, some), ATTEND_THREADS, (size_t)head * 4, queue, h,
               model->qkv_rows + row * model->qkv, model->qkv, model->positions + row, model->caches + row,
               model->scores, model->scores_stride, model->mixed + row * model->heads, model->heads);
    }
    launch_product(layer.format, one(layer.o, layer.o_bias, model->stream), model->mixed, model->heads, s.width, rows,
                   ADDED, queue);
}

void feed_forward(Model *model, int layer_index, int rows) {
    const Sizes &s = model->s;
    const DeviceLayer &layer = model->layers[layer_index];
    cudaStream_t queue = model->queue;
    LAUNCH(norm, dim3(rows), LANES, 0, queue, model->stream, s.width, (const int32_t *)0, layer.norm_after, model->lanes,
           model->width, s.width, s.epsilon);
    Targets both = {};
    both.part[0] = Target{layer.gate, 0, model->gates};
    both.part[1] = Target{layer.up, 0, model->gates + s.hidden};
    launch_product(layer.format, both, model->lanes, model->width, 2 * (int64_t)s.hidden, rows, AS_IT_IS, queue);
    LAUNCH(gate, dim3((int)((model->hidden + BLOCK_THREADS - 1) / BLOCK_THREADS), rows), BLOCK_THREADS, 0, queue,
           model->gates, 2 * (int64_t)s.hidden, s.hidden, model->lanes, model->hidden);
    launch_product(layer.format, one(layer.down, 0, model->stream), model->lanes, model->hidden, s.width, rows, ADDED,
                   queue);
}

void pass(Model *model, int rows, int outputs) {
    const Sizes &s = model->s;
    LAUNCH(embed, dim3(rows), BLOCK_THREADS, 0, model->queue, model->embedding, model->tokens, model->stream, s.width);
    for (int layer = 0; layer < s.layers; layer++) {
        attention(model, layer, rows);
        feed_forward(model, layer, rows);
    }
    if (!outputs) return;
    LAUNCH(norm, dim3(outputs), LANES, 0, model->queue, model->stream, s.width, model->wanted, model->final_norm,
           model->lanes, model->width, s.width, s.epsilon);
    launch_product(model->head_format, one(model->head, 0, model->logits), model->lanes, model->width, s.vocabulary,
                   outputs, ONE_NAN, model->queue);
}

bool room_for_logits(Model *model, int outputs) {
    if (outputs <= model->logit_rows) return true;
    drop_graph(model->graph);                           /* it wrote to the buffer before */
    model->logits = model->taken.room<float>((int64_t)outputs * model->s.vocabulary);
    model->logit_rows = model->logits ? outputs : 0;
    return model->logits != 0;
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
    model->width = padded(s.width);
    model->hidden = padded(s.hidden);
    model->heads = padded(s.heads * s.head_width);
    model->qkv = (int64_t)(s.heads + 2 * s.kv_heads) * s.head_width;
    if (cudaStreamCreate(&model->queue) != cudaSuccess) t.failed = true;
    take_buffers(model);
    int64_t turning = (int64_t)s.positions_max * (s.rotary_width / 2);
    model->embedding = t.copy(ends->embedding, (int64_t)s.vocabulary * s.width);
    model->final_norm = t.copy(ends->final_norm, s.width);
    model->cosines = t.copy(ends->cosines, turning);
    model->sines = t.copy(ends->sines, turning);
    model->head = upload(t, ends->head);
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
    int64_t count = (int64_t)s.layers * 2 * s.kv_heads * positions * padded(s.head_width);
    cache->device = DeviceCache{cache->taken.room<bf16>(count), positions};
    if (cache->device.data && cudaMemset(cache->device.data, 0, (size_t)count * sizeof(bf16)) == cudaSuccess) return cache;
    delete cache;
    return 0;
}

void fixed_cache_free(Cache *cache) { delete cache; }

void fixed_cache_copy(const Model *model, Cache *to, const Cache *from, int32_t positions) {
    size_t head = (size_t)padded(model->s.head_width) * sizeof(bf16);
    size_t parts = (size_t)model->s.layers * 2 * (size_t)model->s.kv_heads;
    cudaMemcpy2D(to->device.data, (size_t)to->device.positions * head, from->device.data,
                 (size_t)from->device.positions * head, (size_t)positions * head, parts, cudaMemcpyDeviceToDevice);
}

int fixed_forward(Model *model, int32_t rows, const int32_t *tokens, Cache *const *caches, const int32_t *positions,
                  int32_t outputs, const int32_t *wanted, float *logits) {
    if (!bounded(model, rows, tokens, caches, positions, outputs, wanted)) return OUT_OF_BOUNDS;
    if (!room_for_logits(model, outputs)) return OUT_OF_BOUNDS;
    std::vector<DeviceCache> at;
    for (int32_t i = 0; i < rows; i++) at.push_back(caches[i]->device);
    cudaStream_t queue = model->queue;
    cudaMemcpyAsync(model->tokens, tokens, (size_t)rows * 4, cudaMemcpyHostToDevice, queue);
    cudaMemcpyAsync(model->positions, positions, (size_t)rows * 4, cudaMemcpyHostToDevice, queue);
    cudaMemcpyAsync(model->wanted, wanted, (size_t)outputs * 4, cudaMemcpyHostToDevice, queue);
    cudaMemcpyAsync(model->caches, at.data(), (size_t)rows * sizeof(DeviceCache), cudaMemcpyHostToDevice, queue);
    if (rows == 1 && outputs == 1) replay(model->graph, queue, [&] { pass(model, 1, 1); });
    else pass(model, rows, outputs);
    cudaMemcpyAsync(logits, model->logits, (size_t)outputs * (size_t)model->s.vocabulary * 4, cudaMemcpyDeviceToHost,
                    queue);
    return cudaStreamSynchronize(queue) == cudaSuccess && cudaGetLastError() == cudaSuccess ? DONE : OUT_OF_BOUNDS;
}

int fixed_product(int, Pool *, const Matrix *w, const float *x, int32_t m, float *y) {
    Taken taken;
    int64_t stride = padded(w->columns);
    DeviceMatrix matrix = upload(taken, *w);
    float *lanes = taken.room<float>(rows_of_x(m) * stride), *out = taken.room<float>((int64_t)m * w->rows);
    if (taken.failed) return OUT_OF_BOUNDS;
    cudaMemset(lanes, 0, (size_t)(rows_of_x(m) * stride) * 4);
    cudaMemcpy2D(lanes, (size_t)stride * 4, x, (size_t)w->columns * 4, (size_t)w->columns * 4, (size_t)m,
                 cudaMemcpyHostToDevice);
    launch_product(w->format, one(matrix, 0, out), lanes, stride, w->rows, m, AS_IT_IS, 0);
    return cudaMemcpy(y, out, (size_t)m * (size_t)w->rows * 4, cudaMemcpyDeviceToHost) == cudaSuccess ? DONE : OUT_OF_BOUNDS;
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
