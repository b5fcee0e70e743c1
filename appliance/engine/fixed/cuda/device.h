/* What a kernel is launched with: the CUDA runtime, or, where there is no GPU, threads of our own (emulated.h).
 *
 * Kernels of one queue run one after the other, but a kernel may be brought onto the device while the one before still
 * runs: it can then fetch weights, which nothing writes, and has to say `after_the_one_before` before it touches
 * anything else. Every kernel says so, in all of its threads.
 */
#ifndef ANCHORHOLD_DEVICE_H
#define ANCHORHOLD_DEVICE_H

#ifdef ANCHORHOLD_EMULATED
#include "emulated.h"
#else
#include <cuda_runtime.h>

#define LAUNCH(kernel, grid, block, shared, queue, ...) launch(kernel, grid, block, shared, queue, __VA_ARGS__)
#define SHARED_ROOM(name) extern __shared__ __align__(16) unsigned char name[]

template <class... Taken, class... Given>
static void launch(void (*kernel)(Taken...), dim3 grid, int block, size_t shared, cudaStream_t queue, Given... given) {
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(block);
    config.dynamicSmemBytes = shared;
    config.stream = queue;
    config.attrs = &early;
    config.numAttrs = 1;
    cudaLaunchKernelEx(&config, kernel, given...);
}

__device__ inline void let_the_next_begin() { cudaTriggerProgrammaticLaunchCompletion(); }
__device__ inline void after_the_one_before() { cudaGridDependencySynchronize(); }
__device__ inline void prefetch(const void *from) { asm volatile("prefetch.global.L2 [%0];" : : "l"(from)); }

typedef cudaGraphExec_t GRAPH;

static inline void drop_graph(GRAPH &graph) {
    if (graph) cudaGraphExecDestroy(graph);
    graph = 0;
}

/* A pass of always the same launches is recorded once. */
template <class Work> static void replay(GRAPH &graph, cudaStream_t queue, Work work) {
    if (!graph) {
        cudaGraph_t recorded;
        cudaStreamBeginCapture(queue, cudaStreamCaptureModeThreadLocal);
        work();
        if (cudaStreamEndCapture(queue, &recorded) != cudaSuccess) return;
        cudaGraphInstantiate(&graph, recorded, 0);
        cudaGraphDestroy(recorded);
    }
    cudaGraphLaunch(graph, queue);
}
#endif

#endif
