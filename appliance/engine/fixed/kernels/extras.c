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

static void quantize_group(const bf16 *from, int n, int format, uint8_t *to, bf16 *scale) {
    float extreme = 0;
    for (int i = 0; i < n; i++)
        if (fabsf(widen(from[i])) > fabsf(extreme)) extreme = widen(from[i]);
    *scale = narrow(format == INT8 ? fabsf(extreme) / 127.0f : extreme / -8.0f);
    if (fabsf(widen(*scale)) < 0x1p-100f) *scale = 0;       /* X7: what would not stay exact is nothing */
    float s = widen(*scale);
    for (int i = 0; i < n; i++) {
        float q = s == 0 ? 0 : widen(from[i]) / s;
        if (format == INT8) to[i] = (uint8_t)(int8_t)clamp(nearest(q), -127, 127);
        else {
            int code = clamp(nearest(q), -8, 7) + 8;
            if (i % 2) to[i / 2] = (uint8_t)((to[i / 2] & 0x0f) | code << 4);
            else to[i / 2] = (uint8_t)(code | 0x80);
        }
    }
}

void fixed_quantize(const bf16 *from, int32_t rows, int32_t columns, int32_t format, int32_t group, uint8_t *to,
                    bf16 *scales) {
    uint32_t numbers = numbers_now();
    plain_numbers();
    int64_t row_bytes = format == INT8 ? columns : (columns + 1) / 2;
    int32_t groups = (columns + group - 1) / group;
    for (int64_t n = 0; n < rows; n++)
        for (int32_t g = 0; g < groups; g++) {
            int32_t first = g * group, count = columns - first < group ? columns - first : group;
            quantize_group(from + n * columns + first, count, format,
                           to + n * row_bytes + (format == INT8 ? first : first / 2), scales + n * groups + g);
        }
    numbers_set(numbers);
}
