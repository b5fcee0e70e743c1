/* Single operations of docs/spec/engine.md on a GPU, each rounded once, and its trees of sums. */
#ifndef ANCHORHOLD_OPERATIONS_H
#define ANCHORHOLD_OPERATIONS_H

#include "device.h"

extern "C" {
#include "../kernels/model.h"
}

namespace {

enum { GROUP = 8, OWN = LANES / GROUP, OWN_BLOCKS = PIECE_BLOCKS / GROUP };    /* threads of a row; a thread's lanes */
enum { AHEAD = 16, ROWS_FOR_FEW = 8, ROWS_FOR_MANY = 16, COLUMNS_MAX = 8 };
enum { NORM_THREADS_MAX = 1024, NORM_OWN = 4, NORM_BATCH = 16, ROW_THREADS = 128 };
enum { ATTEND_THREADS = 256, KEYS = 4, VALUES = 16, CUDA_VARIANT = 3 };

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

}  // namespace

#endif
