/* The kernels, written once over a vector `V` of `WORDS` floats (16 or 8) that each variant defines.
 *
 * Which lane sits in which register, and how many rows are worked on at once, is layout; what is added to what, and
 * when, is docs/spec/engine.md.
 */
#include "order.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { HALVES = 16 / WORDS };
enum { AHEAD = 8192 };      /* bytes of weights asked for early where each is used once: processors stop at a page's end */

/* ---- exponential, docs/spec/engine.md X9 */
INLINE V exponential(V x) {
    x = least(greatest(x, all(-87.0f)), all(88.0f));
    const V shift = all(12582912.0f);
    V n = sub(add(mul(x, all(0x1.715476p+0f)), shift), shift);
    V r = fma_(n, all(-0x1.62p-1f), x);
    r = fma_(n, all(-0x1.c85fep-10f), r);
    V q = all(0x1.6d117cp-10f);
    q = fma_(q, r, all(0x1.120be2p-7f));
    q = fma_(q, r, all(0x1.555518p-5f));
    q = fma_(q, r, all(0x1.5554dcp-3f));
    q = fma_(q, r, all(0.5f));
    V e = fma_(mul(r, r), q, add(r, all(1.0f)));
    return mul(e, power_of_two(n));
}

/* ---- products, X4 to X8 */
#include "products_bf16.h"
#include "products_codes.h"

/* y[m][n] = row n of w by row m of x, for n in first .. end. */
static void dots(const Matrix *w, int first, int end, const void *x, int64_t x_bytes, int m, float *y, int64_t y_stride,
                 float *room) {
    if (w->format == INT8) dots_INT8(w, first, end, x, x_bytes, m, y, y_stride);
    else if (w->format == INT4) dots_INT4(w, first, end, x, x_bytes, m, y, y_stride);
    else dots_bf16(w, first, end, x, x_bytes, m, y, y_stride, room);
}

/* ---- what products take */

static void prepare_bf16(const float *from, uint8_t *to, int n) {
    for (int k = 0; k < n; k += 2 * WORDS, to += CHUNK) {
        bf16 rest[2 * WORDS] = {0};
        int count = n - k < 2 * WORDS ? n - k : 2 * WORDS;
        for (int i = 0; i < count; i++) rest[i] = factor(from[k + i]);
        store_operand(to, rest);
    }
    for (int k = padded(n, 2 * WORDS); k < padded(n, LINE); k += 2 * WORDS, to += CHUNK) memset(to, 0, CHUNK);
}

/* X8: one block. Its codes go where the words of block b are; the sum of them is given back. */
INLINE int32_t quantize_block(const float *x, uint8_t *words, float *scale) {
    uint32_t top = 0;
    for (int i = 0; i < BLOCK; i++) {
        uint32_t u = bits_of(x[i]) & 0x7fffffffu;
        top = u > top ? u : top;
    }
    int8_t code[BLOCK] = {0};
    int32_t sum = 0;
    *scale = top < 0x26800000u ? 0.0f : top >= 0x5d800000u ? float_of(0x7fc00000u) : float_of(top) / 127.0f;
    if (top >= 0x26800000u && top < 0x5d800000u) {
        float inverse = 127.0f / float_of(top);
        for (int i = 0; i < BLOCK; i++) code[i] = (int8_t)(int32_t)((x[i] * inverse + 12582912.0f) - 12582912.0f);
        for (int i = 0; i < BLOCK; i++) sum += code[i];
    }
    for (int j = 0; j < 8; j++) memcpy(words + j * 64, code + 4 * j, 4);
    return sum;
}

static void prepare_codes(const float *from, uint8_t *to, int n, int offset) {
    for (int k = 0; k < n; k += PIECE, to += PIECE_BYTES) {
        memset(to, 0, PIECE_BYTES);
        for (int b = 0; b < PIECE_BLOCKS && k + b * BLOCK < n; b++) {
            float rest[BLOCK] = {0};
            int at = k + b * BLOCK, count = n - at < BLOCK ? n - at : BLOCK;
            memcpy(rest, from + at, (size_t)count * 4);
            int32_t correction = -offset * quantize_block(rest, to + b * 4, (float *)(to + PIECE_SCALES) + b);
            memcpy(to + PIECE_CORRECTIONS + b * 4, &correction, 4);
        }
    }
}

static void prepare(int format, const float *from, void *to, int n) {
    if (format == BF16) prepare_bf16(from, to, n);
    else prepare_codes(from, to, n, format == INT8 ? OFFSET_INT8 : OFFSET_INT4);
}

/* ---- norm, X10 */
static void norm(const float *x, const bf16 *gain, float *y, int n, float epsilon) {
    float lane[LANES], rest[LANES] = {0};
    V sum[32 / WORDS];
    for (int i = 0; i < 32 / WORDS; i++) sum[i] = all(0.0f);
    int whole = n / LANES * LANES;
    memcpy(rest, x + whole, (size_t)(n - whole) * 4);
    for (int b = 0; b < n; b += LANES)
        for (int i = 0; i < 32 / WORDS; i++) {
            V t = load((b < whole ? x + b : rest) + i * WORDS);
            sum[i] = fma_(t, t, sum[i]);
        }
    for (int i = 0; i < 32 / WORDS; i++) store(lane + i * WORDS, sum[i]);
    float r = 1.0f / root(lane_tree(lane) / (float)n + epsilon);
    for (int k = 0; k < n; k++) y[k] = (x[k] * r) * widen(gain[k]);
}

/* ---- attention, X12 to X14 */

/* Scores low .. top become their exponentials, zeros around them up to whole blocks; the inverse of the sum. */
static float softmax(float *scores, int64_t low, int64_t top, float scale) {
    const float nothing = float_of(0xff800000u);    /* minus infinity */
    float lane[LANES];
    int64_t start = low / LANES * LANES, end = (top / LANES + 1) * LANES;
    for (int64_t i = start; i < low; i++) scores[i] = nothing;
    for (int64_t i = top + 1; i < end; i++) scores[i] = nothing;
    V most = all(nothing);
    for (int64_t i = start; i < end; i += WORDS) {
        V s = mul(load(scores + i), all(scale));
        store(scores + i, s);
        most = greatest(s, most);
    }
    store(lane, most);
    float top_score = nothing;
    for (int i = 0; i < WORDS; i++) top_score = lane[i] > top_score ? lane[i] : top_score;
    most = all(top_score);
    for (int64_t i = start; i < end; i += WORDS) store(scores + i, exponential(sub(load(scores + i), most)));
    for (int64_t i = start; i < low; i++) scores[i] = 0;
    for (int64_t i = top + 1; i < end; i++) scores[i] = 0;
    V sum[32 / WORDS];
    for (int i = 0; i < 32 / WORDS; i++) sum[i] = all(0.0f);
    for (int64_t b = start; b < end; b += LANES)
        for (int i = 0; i < 32 / WORDS; i++) sum[i] = add(sum[i], load(scores + b + i * WORDS));
    for (int i = 0; i < 32 / WORDS; i++) store(lane + i * WORDS, sum[i]);
    return 1.0f / lane_tree(lane);
}

INLINE void mix_part(int tr, int tb, const float *p, int64_t p_stride, const bf16 *values, int64_t low, int64_t top,
                     int width, const float *inverse, float *y) {
    for (int h = 0; h < HALVES; h++) {
        V total[8][2][2], part[8][2][2];
        UNROLL
        for (int r = 0; r < tr; r++) UNROLL for (int b = 0; b < tb; b++) total[r][b][0] = total[r][b][1] = all(0.0f);
        for (int64_t i = low; i <= top;) {
            int64_t end = (i / SPAN + 1) * SPAN;
            if (end > top + 1) end = top + 1;
            UNROLL
            for (int r = 0; r < tr; r++) UNROLL for (int b = 0; b < tb; b++) part[r][b][0] = part[r][b][1] = all(0.0f);
            for (; i < end; i++) {
                const bf16 *row = values + i * width;
                V e[2], o[2];
                UNROLL
                for (int b = 0; b < tb; b++)
                    apart(load_words((const uint8_t *)(row + b * LANES) + h * WORDS * 4), &e[b], &o[b]);
                UNROLL
                for (int r = 0; r < tr; r++) {
                    V weight = all(p[r * p_stride + i]);
                    UNROLL
                    for (int b = 0; b < tb; b++) {
                        part[r][b][0] = fma_(weight, e[b], part[r][b][0]);
                        part[r][b][1] = fma_(weight, o[b], part[r][b][1]);
                    }
                }
            }
            UNROLL
            for (int r = 0; r < tr; r++) UNROLL for (int b = 0; b < tb; b++) {
                total[r][b][0] = add(total[r][b][0], part[r][b][0]);
                total[r][b][1] = add(total[r][b][1], part[r][b][1]);
            }
        }
        UNROLL
        for (int r = 0; r < tr; r++) UNROLL for (int b = 0; b < tb; b++) {
            float *to = y + r * width + b * LANES + h * WORDS;
            store(to, mul(total[r][b][0], all(inverse[r])));
            store(to + 16, mul(total[r][b][1], all(inverse[r])));
        }
    }
}

INLINE void mix_rows(int tr, const float *p, int64_t ps, const bf16 *values, int64_t low, int64_t top, int width,
                     const float *inverse, float *y) {
    int d = 0;
    if (tr <= 4)
        for (; d + 2 * LANES <= width; d += 2 * LANES)
            mix_part(tr, 2, p, ps, values + d, low, top, width, inverse, y + d);
    for (; d < width; d += LANES) mix_part(tr, 1, p, ps, values + d, low, top, width, inverse, y + d);
}

/* Rows of weights by values low .. top; `width` is whole blocks; y is in lane order, [rows][width]. */
static void mix(const float *p, int64_t ps, int rows, const bf16 *values, int64_t low, int64_t top, int width,
                const float *inverse, float *y) {
    for (int r = 0; r < rows;) {
        int left = rows - r;
        const float *q = p + r * ps, *v = inverse + r;
        float *to = y + (int64_t)r * width;
        if (left >= 8) { mix_rows(8, q, ps, values, low, top, width, v, to); r += 8; }
        else if (left >= 4) { mix_rows(4, q, ps, values, low, top, width, v, to); r += 4; }
        else if (left >= 2) { mix_rows(2, q, ps, values, low, top, width, v, to); r += 2; }
        else { mix_rows(1, q, ps, values, low, top, width, v, to); r += 1; }
    }
}

/* ---- the gated layer, X15 */
static void gate(const float *g, const float *up, float *y, int n) {
    int k = 0;
    for (; k + WORDS <= n; k += WORDS) {
        V a = load(g + k);
        V s = div_(a, add(all(1.0f), exponential(sub(all(0.0f), a))));
        store(y + k, mul(s, load(up + k)));
    }
    if (k == n) return;
    float a[WORDS] = {0}, b[WORDS] = {0};
    memcpy(a, g + k, (size_t)(n - k) * 4);
    memcpy(b, up + k, (size_t)(n - k) * 4);
    gate(a, b, a, WORDS);
    memcpy(y + k, a, (size_t)(n - k) * 4);
}

const Kernels KERNELS = {dots, prepare, norm, softmax, mix, gate};
