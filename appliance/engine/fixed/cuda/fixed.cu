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
#include "device_memory.h"
#include "products.h"
#include "rows.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <vector>

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

const size_t SCORES_BYTES_MAX = (size_t)256 << 20;

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
