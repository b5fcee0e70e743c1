/* What a GPU does row by row (docs/spec/engine.md X10 to X15): norms, places, gates and attention. */
#ifndef ANCHORHOLD_ROWS_H
#define ANCHORHOLD_ROWS_H

#include "products.h"

namespace {

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

}  // namespace

#endif
