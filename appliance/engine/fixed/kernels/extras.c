/* What stands beside the pass: the making of int8 and int4 weights (engine.md X8). */
#include <math.h>

#include "model.h"
#include "numbers.h"

int fixed_finite(const bf16 *numbers, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if ((numbers[i] & 0x7f80) == 0x7f80) return 0;
    return 1;
}

/* To the nearest integer, ties to even, by the same shift as X9. */
static int nearest(float x) {
    float shifted = x + 12582912.0f;
    return (int)(shifted - 12582912.0f);
}

static int clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

/* Where the code of weight k of a row lies: X8. */
static void put(uint8_t *row, int32_t format, int32_t k, int code) {
    if (format == INT8) {
        row[k] = (uint8_t)(int8_t)code;
        return;
    }
    int32_t r = k % PIECE;
    uint8_t *at = row + k / PIECE * 64 + r % LANES / 2 * 4 + r / LANES;
    *at = (uint8_t)(r % 2 ? (*at & 0x0f) | (code + 8) << 4 : (*at & 0xf0) | (code + 8));
}

static bf16 quantize_group(const bf16 *from, int32_t first, int32_t end, int32_t format, uint8_t *row) {
    float extreme = 0;
    for (int32_t k = first; k < end; k++)
        if (fabsf(widen(from[k])) > fabsf(extreme)) extreme = widen(from[k]);
    bf16 scale = narrow(format == INT8 ? fabsf(extreme) / 127.0f : extreme / -8.0f);
    float s = widen(scale);
    if (!(fabsf(s) >= 0x1p-100f && fabsf(s) <= 0x1p100f)) s = scale = 0;    /* X7: what would not be exact is nothing */
    for (int32_t k = first; k < end; k++) {
        int q = s == 0 ? 0 : nearest(widen(from[k]) / s);
        put(row, format, k, format == INT8 ? clamp(q, -127, 127) : clamp(q, -8, 7));
    }
    return scale;
}

void fixed_quantize(const bf16 *from, int32_t rows, int32_t columns, int32_t format, int32_t group, uint8_t *to,
                    bf16 *scales) {
    uint32_t numbers = numbers_now();
    plain_numbers();
    int64_t row_bytes = format == INT8 ? columns : (columns + PIECE - 1) / PIECE * 64;
    int32_t groups = (columns + group - 1) / group;
    if (format == INT4) memset(to, 0x88, (size_t)(rows * row_bytes));
    for (int64_t n = 0; n < rows; n++)
        for (int32_t g = 0; g < groups; g++) {
            int32_t first = g * group, end = first + group < columns ? first + group : columns;
            scales[n * groups + g] = quantize_group(from + n * columns, first, end, format, to + n * row_bytes);
        }
    numbers_set(numbers);
}
