/* The host's side: memory taken on the device and given back, weights brought there, products started. */
#ifndef ANCHORHOLD_DEVICE_MEMORY_H
#define ANCHORHOLD_DEVICE_MEMORY_H

#include "products.h"
#include "rows.h"

#include <vector>

namespace {

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

#endif
