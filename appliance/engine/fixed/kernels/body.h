/* The kernels, written once over a vector `V` of `WORDS` floats (16 or 8) that each variant defines.
 *
 * Lane order: a block of 32 weights is 16 words of two bf16. `even` holds lanes 0, 2 .. 30 and `odd` lanes 1, 3 .. 31,
 * so that a word is widened by a shift and a mask, and activations are split alike once for each product. Which lane
 * sits in which register is layout; what is added to what, and when, is docs/spec/engine.md.
 */
#include "order.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { HALVES = 16 / WORDS };

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

/* ---- dot products, X2 to X8 */

/* The rows of one tile; where a row ends inside a block, the last block is a copy filled up with zeros. Rows of int4
 * are whole pieces of four blocks as they are kept. */
typedef struct {
    const uint8_t *row[4];
    const bf16 *scales[4];
    int32_t blocks, whole, group_blocks;
    _Alignas(64) uint8_t fill[4][64];
} Rows;

typedef V Pair[4][3][2];        /* by row of weights, row of x, half */

INLINE int block_bytes(int format) { return format == BF16 ? 64 : format == INT8 ? 32 : 128; }

INLINE void point_at(Rows *rows, const Matrix *w, int format, int first, int tn) {
    rows->whole = w->columns / LANES;
    rows->blocks = (w->columns + LANES - 1) / LANES;
    rows->group_blocks = w->group / LANES;
    for (int n = 0; n < tn; n++) {
        rows->row[n] = (const uint8_t *)w->data + (first + n) * w->row_bytes;
        rows->scales[n] = w->scales ? w->scales + (first + n) * w->row_scales : 0;
        if (format == INT4 || rows->whole == rows->blocks) continue;
        int rest = w->columns % LANES;
        memset(rows->fill[n], 0, 64);
        memcpy(rows->fill[n], rows->row[n] + (int64_t)rows->whole * block_bytes(format),
               (size_t)(format == BF16 ? 2 * rest : rest));
    }
}

INLINE void words(int format, const uint8_t *p, int half, Scale s, V *even, V *odd) {
    if (format == BF16) load_bf16(p + half * WORDS * 4, even, odd);
    else if (format == INT8) load_int8(p + half * WORDS * 2, s, even, odd);
    else {
        *even = load((const float *)p + half * WORDS);
        *odd = load((const float *)p + 16 + half * WORDS);
    }
}

/* The words of a block of x: loaded once for all rows of a tile, where there are registers to hold them. */
INLINE void x_words(int tm, int tn, const float *at, int64_t x_stride, V (*x)[2]) {
    UNROLL
    for (int m = 0; m < tm; m++) {
        x[m][0] = load(at + m * x_stride);
        x[m][1] = load(at + m * x_stride + 16);
        if (tn > 1) { HOLD(x[m][0]); HOLD(x[m][1]); }
    }
}

/* One row's words of one half by tm rows of x. */
INLINE void by_columns(int tm, V e, V o, V (*x)[2], V (*even)[2], V (*odd)[2], int h) {
    UNROLL
    for (int m = 0; m < tm; m++) {
        even[m][h] = fma_(e, x[m][0], even[m][h]);
        odd[m][h] = fma_(o, x[m][1], odd[m][h]);
    }
}

INLINE void block(int format, int tm, int tn, int h0, int hn, const uint8_t *const *p, const Scale *s, const float *at,
                  int64_t x_stride, V (*even)[3][2], V (*odd)[3][2]) {
    UNROLL
    for (int h = 0; h < hn; h++) {
        V x[3][2];
        x_words(tm, tn, at + (h0 + h) * WORDS, x_stride, x);
        UNROLL
        for (int n = 0; n < tn; n++) {
            V e, o;
            words(format, p[n], h0 + h, s[n], &e, &o);
            by_columns(tm, e, o, x, even[n], odd[n], h);
        }
    }
}

INLINE void add_blocks(int format, int tm, int tn, int h0, int hn, const Rows *rows, const float *x, int64_t x_stride,
                       V (*even)[3][2], V (*odd)[3][2]) {
    const int bytes = block_bytes(format);
    for (int32_t b = 0, g = 0; b < rows->blocks; g++) {
        Scale s[4];
        UNROLL
        for (int n = 0; n < tn; n++) s[n] = format == INT8 ? scale_int8(widen(rows->scales[n][g])) : all(0.0f);
        int32_t end = format == INT8 && b + rows->group_blocks < rows->blocks ? b + rows->group_blocks : rows->blocks;
        int32_t whole = end < rows->whole ? end : rows->whole;
        const uint8_t *p[4];
        UNROLL
        for (int n = 0; n < tn; n++) p[n] = rows->row[n] + (int64_t)b * bytes;
        const float *at = x + (int64_t)b * LANES;
        for (; b < whole; b++) {
            block(format, tm, tn, h0, hn, p, s, at, x_stride, even, odd);
            UNROLL
            for (int n = 0; n < tn; n++) p[n] += bytes;
            at += LANES;
        }
        if (b == end) continue;
        UNROLL
        for (int n = 0; n < tn; n++) p[n] = rows->fill[n];
        block(format, tm, tn, h0, hn, p, s, at, x_stride, even, odd);
        b++;
    }
}

/* A piece is sixteen words of eight codes: two for each of its four blocks. `tables`: new scales in a piece, 4, 2 or 1. */
INLINE void add_pieces(int tables, int tm, int tn, int h0, int hn, const Rows *rows, const float *x, int64_t x_stride,
                       V (*even)[3][2], V (*odd)[3][2]) {
    Table table[4];
    int32_t left = 0, g = 0;
    for (int32_t b = 0; b < rows->blocks; b += 4) {
        Words w[4][2];
        UNROLL
        for (int n = 0; n < tn; n++) UNROLL for (int h = 0; h < hn; h++)
            w[n][h] = load_words(rows->row[n] + (int64_t)b * 16 + (h0 + h) * WORDS * 4);
        UNROLL
        for (int sub = 0; sub < 4; sub++) {
            if (b + sub == rows->blocks) break;
            if (sub % (4 / tables) == 0 && (tables > 1 || left == 0)) {
                UNROLL
                for (int n = 0; n < tn; n++) table[n] = table_int4(widen(rows->scales[n][g]));
                g++;
                left = rows->group_blocks;
            }
            UNROLL
            for (int h = 0; h < hn; h++) {
                V a[3][2];
                x_words(tm, tn, x + (b + sub) * LANES + (h0 + h) * WORDS, x_stride, a);
                UNROLL
                for (int n = 0; n < tn; n++)
                    by_columns(tm, look_up(w[n][h], 8 * sub, table[n]), look_up(w[n][h], 8 * sub + 4, table[n]), a,
                               even[n], odd[n], h);
            }
        }
        left -= 4;
    }
}

/* tn rows of weights by tm rows of x, over the words of halves h0 .. h0 + hn; the pairs' sums go to `sums`. */
INLINE void tile_part(int format, int tm, int tn, int h0, int hn, const Rows *rows, const float *x, int64_t x_stride,
                      Pair sums) {
    Pair even, odd;
    UNROLL
    for (int n = 0; n < tn; n++) UNROLL for (int m = 0; m < tm; m++) UNROLL for (int h = 0; h < hn; h++)
        even[n][m][h] = odd[n][m][h] = all(0.0f);
    if (format != INT4) add_blocks(format, tm, tn, h0, hn, rows, x, x_stride, even, odd);
    else if (rows->group_blocks == 1) add_pieces(4, tm, tn, h0, hn, rows, x, x_stride, even, odd);
    else if (rows->group_blocks == 2) add_pieces(2, tm, tn, h0, hn, rows, x, x_stride, even, odd);
    else add_pieces(1, tm, tn, h0, hn, rows, x, x_stride, even, odd);
    UNROLL
    for (int n = 0; n < tn; n++) UNROLL for (int m = 0; m < tm; m++) UNROLL for (int h = 0; h < hn; h++)
        sums[n][m][h0 + h] = add(even[n][m][h], odd[n][m][h]);
}

/* Few rows of x: all words in one pass, one stream of weights. Many: as many passes as registers ask for. */
INLINE void tile(int format, int tm, int tn, const Rows *rows, const float *x, int64_t x_stride, float *y,
                 int64_t y_stride) {
    Pair sums;
    if (HALVES == 1 || tm * tn <= 2) tile_part(format, tm, tn, 0, HALVES, rows, x, x_stride, sums);
    else
        for (int h = 0; h < HALVES; h++) tile_part(format, tm, tn, h, 1, rows, x, x_stride, sums);
    UNROLL
    for (int n = 0; n < tn; n++) UNROLL for (int m = 0; m < tm; m++) {
        V s = sums[n][m][0];
        if (HALVES == 2) s = add(s, sums[n][m][1]);
        y[m * y_stride + n] = fold(s);
    }
}

/* One row of weights after the other: one sequential stream is what memory gives fastest, and the processor overlaps
 * the rows by itself. (Two rows side by side halve the rate of int4.) */
INLINE void few(int format, int tm, const Matrix *w, int first, int end, const float *x, int64_t x_stride, float *y,
                int64_t y_stride) {
    Rows rows;
    for (int n = first; n < end; n++) {
        point_at(&rows, w, format, n, 1);
        tile(format, tm, 1, &rows, x, x_stride, y + n, y_stride);
    }
}

INLINE void many(int format, const Matrix *w, int first, int end, const float *x, int64_t x_stride, int m, float *y,
                 int64_t y_stride) {
    Rows rows[BLOCK_ROWS / TILE_ROWS];
    int n = first;
    for (; n + TILE_ROWS <= end; n += BLOCK_ROWS) {
        int tiles = (end - n < BLOCK_ROWS ? end - n : BLOCK_ROWS) / TILE_ROWS;
        for (int t = 0; t < tiles; t++) point_at(&rows[t], w, format, n + t * TILE_ROWS, TILE_ROWS);
        for (int r = 0; r < m; r += TILE_COLUMNS) {
            const float *at = x + r * x_stride;
            float *to = y + r * y_stride + n;
            for (int t = 0; t < tiles; t++, to += TILE_ROWS)
                switch (m - r) {
                case 1: tile(format, 1, TILE_ROWS, &rows[t], at, x_stride, to, y_stride); break;
#if TILE_COLUMNS > 2
                case 2: tile(format, 2, TILE_ROWS, &rows[t], at, x_stride, to, y_stride); break;
#endif
                default: tile(format, TILE_COLUMNS, TILE_ROWS, &rows[t], at, x_stride, to, y_stride);
                }
        }
        if (tiles < BLOCK_ROWS / TILE_ROWS) { n += tiles * TILE_ROWS; break; }
    }
    for (; n < end; n++)
        for (int r = 0; r < m; r++) few(format, 1, w, n, n + 1, x + r * x_stride, x_stride, y + r * y_stride, y_stride);
}

/* Quantized rows widened to float32, which is exact (X7), in lane order. */
INLINE void widen_rows(int format, const Matrix *w, int first, int end, float *panel) {
    Rows rows;
    int64_t stride = padded(w->columns);
    for (int n = first; n < end; n++, panel += stride) {
        point_at(&rows, w, format, n, 1);
        for (int b = 0; b < rows.blocks; b++)
            for (int h = 0; h < HALVES; h++) {
                float scale = widen(rows.scales[0][b / rows.group_blocks]);
                V e, o;
                if (format == INT4) {
                    Words v = load_words(rows.row[0] + b / 4 * 64 + h * WORDS * 4);
                    e = look_up(v, b % 4 * 8, table_int4(scale));
                    o = look_up(v, b % 4 * 8 + 4, table_int4(scale));
                } else {
                    const uint8_t *p = b < rows.whole ? rows.row[0] + b * 32 : rows.fill[0];
                    load_int8(p + h * WORDS * 2, scale_int8(scale), &e, &o);
                }
                store(panel + b * LANES + h * WORDS, e);
                store(panel + b * LANES + 16 + h * WORDS, o);
            }
    }
}

#define FEW(format) \
    static __attribute__((noinline)) void few_##format(const Matrix *w, int first, int end, const float *x, \
                                                       int64_t xs, int m, float *y, int64_t ys) { \
        switch (m) { \
        case 1: few(format, 1, w, first, end, x, xs, y, ys); break; \
        case 2: few(format, 2, w, first, end, x, xs, y, ys); break; \
        default: few(format, 3, w, first, end, x, xs, y, ys); \
        } \
    }
FEW(BF16)
FEW(INT8)
FEW(INT4)

static __attribute__((noinline)) void many_bf16(const Matrix *w, int first, int end, const float *x, int64_t xs, int m,
                                                float *y, int64_t ys) {
    many(BF16, w, first, end, x, xs, m, y, ys);
}

static __attribute__((noinline)) void many_widened(const Matrix *w, int first, int end, const float *x, int64_t xs,
                                                   int m, float *y, int64_t ys, float *panel) {
    Matrix wide = {panel, 0, padded(w->columns) * 4, 0, BLOCK_ROWS, padded(w->columns), 0, F32};
    for (int n = first; n < end; n += BLOCK_ROWS) {
        int stop = n + BLOCK_ROWS < end ? n + BLOCK_ROWS : end;
        if (w->format == INT8) widen_rows(INT8, w, n, stop, panel);
        else widen_rows(INT4, w, n, stop, panel);
        many(F32, &wide, 0, stop - n, x, xs, m, y + n, ys);
    }
}

/* y[m][n] = row n of w by row m of x, for n in first .. end. */
static void dots(const Matrix *w, int first, int end, const float *x, int64_t xs, int m, float *y, int64_t ys,
                 float *panel) {
    if (m > 3 && w->format == BF16) many_bf16(w, first, end, x, xs, m, y, ys);
    else if (m > 3) many_widened(w, first, end, x, xs, m, y, ys, panel);
    else if (w->format == BF16) few_BF16(w, first, end, x, xs, m, y, ys);
    else if (w->format == INT8) few_INT8(w, first, end, x, xs, m, y, ys);
    else few_INT4(w, first, end, x, xs, m, y, ys);
}

/* Natural order to lane order, filled up with zeros. */
static void split(const float *from, float *to, int n) {
    int whole = n / LANES * LANES;
    for (int b = 0; b < whole; b += LANES)
        for (int i = 0; i < 16; i++) {
            to[b + i] = from[b + 2 * i];
            to[b + 16 + i] = from[b + 2 * i + 1];
        }
    if (whole == n) return;
    float rest[LANES] = {0};
    memcpy(rest, from + whole, (size_t)(n - whole) * 4);
    for (int i = 0; i < 16; i++) {
        to[whole + i] = rest[2 * i];
        to[whole + 16 + i] = rest[2 * i + 1];
    }
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
                    load_bf16((const uint8_t *)(row + b * LANES) + h * WORDS * 4, &e[b], &o[b]);
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

const Kernels KERNELS = {dots, split, norm, softmax, mix, gate};
