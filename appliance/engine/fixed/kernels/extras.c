/* What stands beside the pass: what bf16 weights may be, their tight rows, and the making of int8 and int4 weights
 * (engine.md X6 to X8). */
#include <math.h>

#include "model.h"
#include "numbers.h"

int fixed_factors(const bf16 *from, bf16 *to, int64_t n) {
    int tiny = 0, wild = 0;
    for (int64_t i = 0; i < n; i++) {
        uint32_t size = from[i] & 0x7fffu;
        tiny |= size != 0 && size < 0x2680u;
        wild |= size >= 0x5d80u;
    }
    for (int64_t i = 0; to && i < n; i++) to[i] = factor(widen(from[i]));
    return wild ? WEIGHTS_WILD : tiny ? WEIGHTS_TINY : DONE;
}

int fixed_finite(const bf16 *numbers, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if ((numbers[i] & 0x7f80) == 0x7f80) return 0;
    return 1;
}

int64_t fixed_uppers(const bf16 *from, int64_t n, uint8_t *uppers) {
    int64_t seen[256] = {0}, rest = n;
    for (int64_t i = 0; i < n; i++) seen[from[i] >> 8]++;
    for (int u = 0; u < UPPERS; u++) {
        int most = 0;
        for (int b = 1; b < 256; b++)
            if (seen[b] > seen[most]) most = b;
        uppers[u] = (uint8_t)most;
        rest -= seen[most];
        seen[most] = 0;
    }
    return rest;
}

/* One line of one row of a pair. */
static Patch *weave(const bf16 *row, int32_t first, int32_t columns, const uint8_t *name, int second, uint8_t *woven,
                    Patch *patch) {
    for (int i = 0; i < LINE; i++) {
        int32_t at = first + place_of(i);
        if (at >= columns) continue;
        woven[second * LINE + i] = (uint8_t)row[at];
        uint8_t named = name[row[at] >> 8];
        if (named < UPPERS) woven[2 * LINE + i] |= (uint8_t)(named << 4 * second);
        else *patch++ = (Patch){at, row[at], (uint16_t)second};
    }
    return patch;
}

void fixed_tighten(const bf16 *from, int32_t rows, int32_t columns, const uint8_t *uppers, uint8_t *to, int32_t *patched,
                   Patch *patches) {
    uint8_t name[256];
    Patch *patch = patches;
    memset(name, UPPERS, sizeof name);
    for (int u = UPPERS - 1; u >= 0; u--) name[uppers[u]] = (uint8_t)u;     /* where several are one byte, the first */
    for (int32_t n = 0; n < rows; n += 2, from += 2 * (int64_t)columns) {
        *patched++ = (int32_t)(patch - patches);
        for (int32_t k = 0; k < columns; k += LINE, to += WOVEN_LINE) {
            memset(to, 0, WOVEN_LINE);
            patch = weave(from, k, columns, name, 0, to, patch);
            if (n + 1 < rows) patch = weave(from + columns, k, columns, name, 1, to, patch);
        }
    }
    *patched = (int32_t)(patch - patches);
}

/* To the nearest integer, ties to even, by the same shift as X9. */
static int nearest(float x) {
    float shifted = x + 12582912.0f;
    return (int)(shifted - 12582912.0f);
}

static int clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

/* The code of weight k into a row of that many blocks: X7. */
static void put(uint8_t *row, int32_t format, int32_t blocks, int32_t k, int code) {
    int32_t piece = k / PIECE, block = k % PIECE / BLOCK, slice = k % BLOCK / 4;
    int32_t words = blocks - piece * PIECE_BLOCKS < PIECE_BLOCKS ? blocks - piece * PIECE_BLOCKS : PIECE_BLOCKS;
    if (format == INT8) {
        row[piece * PIECE + (slice * words + block) * 4 + k % 4] = (uint8_t)(code + 128);
        return;
    }
    uint8_t *at = row + piece * (PIECE / 2) + (slice % 4 * words + block) * 4 + k % 4;
    *at = (uint8_t)(slice < 4 ? (*at & 0xf0) | (code + 8) : (*at & 0x0f) | (code + 8) << 4);
}

static bf16 quantize_group(const bf16 *from, int32_t first, int32_t end, int32_t format, uint8_t *row,
                           int32_t blocks) {
    float extreme = 0;
    for (int32_t k = first; k < end; k++)
        if (fabsf(widen(from[k])) > fabsf(extreme)) extreme = widen(from[k]);
    bf16 scale = narrow(format == INT8 ? fabsf(extreme) / 127.0f : extreme / -8.0f);
    float s = widen(scale);
    if (!(fabsf(s) >= 0x1p-50f && fabsf(s) <= 0x1p50f)) s = scale = 0;
    for (int32_t k = first; k < end; k++) {
        int q = s == 0 ? 0 : nearest(widen(from[k]) / s);
        put(row, format, blocks, k, format == INT8 ? clamp(q, -127, 127) : clamp(q, -8, 7));
    }
    return scale;
}

void fixed_quantize(const bf16 *from, int32_t rows, int32_t columns, int32_t format, int32_t group, uint8_t *to,
                    bf16 *scales) {
    uint32_t numbers = numbers_now();
    plain_numbers();
    int32_t blocks = padded(columns, BLOCK) / BLOCK;
    int64_t row_bytes = (int64_t)blocks * (format == INT8 ? 32 : 16);
    int32_t groups = (columns + group - 1) / group;
    memset(to, format == INT8 ? 0x80 : 0x88, (size_t)(rows * row_bytes));
    for (int64_t n = 0; n < rows; n++)
        for (int32_t g = 0; g < groups; g++) {
            int32_t first = g * group, end = first + group < columns ? first + group : columns;
            scales[n * groups + g] = quantize_group(from + n * columns, first, end, format, to + n * row_bytes,
                                                   blocks);
        }
    numbers_set(numbers);
}
