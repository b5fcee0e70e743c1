/* What a kernel is launched with: the CUDA runtime, or, where there is no GPU, threads of our own (emulated.h). */
#ifndef ANCHORHOLD_DEVICE_H
#define ANCHORHOLD_DEVICE_H

#ifdef ANCHORHOLD_EMULATED
#include "emulated.h"
#else
#include <cuda_runtime.h>

#define LAUNCH(kernel, grid, block, shared, queue, ...) kernel<<<grid, block, shared, queue>>>(__VA_ARGS__)
#define SHARED_ROOM(name) extern __shared__ __align__(16) float name[]

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
