/* Enough of CUDA to run the kernels on a processor: every thread of a block is a fibre, blocks come one after another.
 *
 * For tests. It shows that the kernels add what docs/spec/engine.md says in the order it says; that a GPU's single
 * operations are rounded as IEEE 754 has it is for the self-test on a GPU to show.
 */
#ifndef ANCHORHOLD_EMULATED_H
#define ANCHORHOLD_EMULATED_H

#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define __global__ static
#define __device__
#define __shared__ static
#define LAUNCH(kernel, grid, block, shared, queue, ...) \
    emulated::run(grid, block, shared, [=] { kernel(__VA_ARGS__); })
#define SHARED_ROOM(name) unsigned char *name = emulated::shared_room

struct dim3 {
    int x, y;
    dim3(int x_, int y_ = 1) : x(x_), y(y_) {}
};
struct int2 { int32_t x, y; };
struct float2 { float x, y; };
struct uint4 { uint32_t x, y, z, w; };
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return uint4{x, y, z, w}; }

static dim3 threadIdx(0), blockIdx(0), blockDim(0);

static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __int2float_rn(int i) { return (float)i; }
static inline float __uint_as_float(uint32_t u) { float f; memcpy(&f, &u, 4); return f; }
static inline uint32_t __float_as_uint(float f) { uint32_t u; memcpy(&u, &f, 4); return u; }
static inline int __dp4a(int a, int b, int sum) {
    for (int i = 0; i < 32; i += 8) sum += (int8_t)(a >> i) * (int8_t)(b >> i);
    return sum;
}
template <class T> static inline T __ldcs(const T *p) { return *p; }
template <class T> static inline T __ldcg(const T *p) { return *p; }

namespace emulated {

enum { THREADS_MAX = 1024, WARP = 32, STACK_BYTES = 64 << 10 };

struct Barrier {
    int arrived, phase;
};

static struct {
    ucontext_t start, born;         /* a fibre is born by these, and switched by jumps, which ask no kernel */
    jmp_buf fibre[THREADS_MAX], scheduler;
    bool done[THREADS_MAX], alive[THREADS_MAX];
    char *stacks;
    Barrier block, warp[THREADS_MAX / WARP];
    uint32_t slot[2][THREADS_MAX];  /* of this shuffle and of the one before, which a slower thread may still read */
    void (*body)(void *);
    void *context;
} state;
alignas(16) static unsigned char shared_room[64 << 10];

inline void yield() {
    if (!_setjmp(state.fibre[threadIdx.x])) _longjmp(state.scheduler, 1);
}

inline void wait(Barrier &barrier, int expected) {
    int phase = barrier.phase;
    if (++barrier.arrived == expected) {
        barrier.arrived = 0;
        barrier.phase++;
    }
    while (barrier.phase == phase) yield();
}

inline void wait_for_warp() {
    int rest = blockDim.x - threadIdx.x / WARP * WARP;
    wait(state.warp[threadIdx.x / WARP], rest < WARP ? rest : WARP);
}

/* A fibre lives on: when one block's thread is done, it waits to be another's. */
static void live() {
    for (;; yield()) {
        state.body(state.context);
        state.done[threadIdx.x] = true;
    }
}

inline void go_on(int thread) {
    if (_setjmp(state.scheduler)) return;
    if (state.alive[thread]) _longjmp(state.fibre[thread], 1);
    state.alive[thread] = true;
    getcontext(&state.born);
    state.born.uc_stack.ss_sp = state.stacks + (size_t)thread * STACK_BYTES;
    state.born.uc_stack.ss_size = STACK_BYTES;
    state.born.uc_link = 0;
    makecontext(&state.born, live, 0);
    swapcontext(&state.start, &state.born);
}

template <class Body> void run(dim3 grid, int threads, size_t, Body body) {
    if (!state.stacks) state.stacks = (char *)malloc((size_t)THREADS_MAX * STACK_BYTES);
    state.body = [](void *at) { (*(Body *)at)(); };
    state.context = &body;
    blockDim = dim3(threads);
    for (int y = 0; y < grid.y; y++)
        for (int x = 0; x < grid.x; x++) {
            blockIdx = dim3(x, y);
            for (int t = 0; t < threads; t++) state.done[t] = false;
            for (int left = threads; left;)
                for (int t = 0; t < threads; t++) {
                    if (state.done[t]) continue;
                    threadIdx = dim3(t);
                    go_on(t);
                    left -= state.done[t];
                }
        }
}

}  // namespace emulated

static inline void __syncthreads() { emulated::wait(emulated::state.block, blockDim.x); }
static inline void __syncwarp() { emulated::wait_for_warp(); }
template <class T> static inline T __shfl_xor_sync(unsigned, T own, int distance) {
    static_assert(sizeof own == 4, "a shuffle is of 32 bits");
    int at = threadIdx.x;
    uint32_t *slot = emulated::state.slot[emulated::state.warp[at / emulated::WARP].phase & 1];
    memcpy(slot + at, &own, 4);
    emulated::wait_for_warp();
    memcpy(&own, slot + (at ^ distance), 4);
    return own;
}
static inline void let_the_next_begin() {}
static inline void after_the_one_before() {}
static inline void prefetch(const void *) {}

typedef int cudaError_t;
typedef void *cudaStream_t;
typedef int GRAPH;
enum { cudaSuccess = 0, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };

static inline int cudaMalloc(void **p, size_t n) { return (*p = aligned_alloc(256, (n + 255) / 256 * 256)) ? 0 : 1; }
static inline int cudaMallocHost(void **p, size_t n) { return cudaMalloc(p, n); }
static inline int cudaFreeHost(void *p) { free(p); return 0; }
static inline int cudaFree(void *p) { free(p); return 0; }
static inline int cudaMemset(void *p, int v, size_t n) { memset(p, v, n); return 0; }
static inline int cudaMemcpy(void *to, const void *from, size_t n, int) { memcpy(to, from, n); return 0; }
static inline int cudaMemcpyAsync(void *to, const void *from, size_t n, int, cudaStream_t) {
    memcpy(to, from, n);
    return 0;
}
static inline int cudaMemcpy2D(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                               size_t height, int) {
    for (size_t i = 0; i < height; i++) memcpy((char *)to + i * to_pitch, (const char *)from + i * from_pitch, width);
    return 0;
}
static inline int cudaStreamCreate(cudaStream_t *queue) { *queue = 0; return 0; }
static inline int cudaStreamDestroy(cudaStream_t) { return 0; }
static inline int cudaStreamSynchronize(cudaStream_t) { return 0; }
static inline int cudaGetLastError() { return 0; }
static inline int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
static inline void drop_graph(GRAPH &) {}
template <class Work> static void replay(GRAPH &, cudaStream_t, Work work) { work(); }

#endif
