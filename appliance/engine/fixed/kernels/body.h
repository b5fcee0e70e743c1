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

/* ---- products over bf16, X4 to X6
 *
 * A line is 64 elements: 32 words of two, a lane each, in PARTS registers. */

enum { FEW = 3, PARTS = LANES / WORDS, CHUNK = 2 * WORDS * FACTOR_BYTES, LINE_OPERAND = PARTS * CHUNK };

/* The rows of one tile; where a row ends inside a line, its last line is a copy filled up with zeros. */
typedef struct {
    const uint8_t *row[TILE_ROWS];
    int32_t lines, whole;
    _Alignas(64) uint8_t fill[TILE_ROWS][2 * LINE];
} Rows;

typedef V Sums[TILE_ROWS][FEW][PARTS];

/* One line of a pair of tight rows, but for its patches. */
INLINE void open_woven(const uint8_t *woven, Uppers uppers, Words line[2][PARTS]) {
    UNROLL
    for (int ahead = 0; ahead < WOVEN_LINE; ahead += LINE) __builtin_prefetch(woven + ahead + AHEAD);
    UNROLL
    for (int i = 0; i < 2; i++) open_line(woven, i, uppers, line[i]);
}

/* A pair of tight rows as they were, one `stride` behind the other. */
INLINE void open_pair(const Matrix *w, int first, uint8_t *to, int64_t stride) {
    const uint8_t *from = (const uint8_t *)w->data + first * w->row_bytes;
    const Uppers uppers = load_uppers(w->uppers);
    for (int64_t at = 0; at < 2 * (int64_t)w->columns; at += 2 * LINE, from += WOVEN_LINE) {
        Words line[2][PARTS];
        open_woven(from, uppers, line);
        UNROLL
        for (int i = 0; i < 2; i++) UNROLL for (int p = 0; p < PARTS; p++)
            store_words(to + i * stride + at + p * WORDS * 4, line[i][p]);
    }
    const Patch *end = w->patches + w->patched[first / 2 + 1];
    for (const Patch *patch = w->patches + w->patched[first / 2]; patch < end; patch++)
        memcpy(to + patch->second * stride + 2 * (int64_t)patch->column, &patch->value, 2);
}

/* Tight rows of a tile are opened, which their x, four rows at least, makes worth while. */
INLINE void open_rows(Rows *rows, const Matrix *w, int first, uint8_t *opened) {
    const int64_t stride = opened_bytes(w->columns);
    rows->whole = rows->lines = (w->columns + LINE - 1) / LINE;
    for (int n = 0; n < TILE_ROWS; n += 2) open_pair(w, first + n, opened + n * stride, stride);
    for (int n = 0; n < TILE_ROWS; n++) rows->row[n] = opened + n * stride;
}

INLINE void point_at(Rows *rows, const Matrix *w, int first, int tn) {
    rows->whole = w->columns / LINE;
    rows->lines = (w->columns + LINE - 1) / LINE;
    for (int n = 0; n < tn; n++) {
        rows->row[n] = (const uint8_t *)w->data + (first + n) * w->row_bytes;
        if (rows->whole == rows->lines) continue;
        memset(rows->fill[n], 0, 2 * LINE);
        memcpy(rows->fill[n], rows->row[n] + (int64_t)rows->whole * 2 * LINE, (size_t)(w->columns % LINE) * 2);
    }
}

/* One line of tn rows of weights by tm rows of x, in the registers p0 .. p0 + pn of each sum. */
INLINE void line(int tm, int tn, int p0, int pn, const uint8_t *const *w, const uint8_t *x, int64_t x_bytes, Sums s) {
    UNROLL
    for (int p = p0; p < p0 + pn; p++) {
        Operand xs[FEW];
        UNROLL
        for (int m = 0; m < tm; m++) xs[m] = load_operand(x + m * x_bytes + p * CHUNK);
        UNROLL
        for (int n = 0; n < tn; n++) {
            if (tn == 1) __builtin_prefetch(w[n] + p * WORDS * 4 + AHEAD);
            Words v = load_words(w[n] + p * WORDS * 4);
            UNROLL
            for (int m = 0; m < tm; m++) s[n][m][p] = pairs(v, xs[m], s[n][m][p]);
        }
    }
}

INLINE void lines(int tm, int tn, int p0, int pn, const Rows *rows, int first, int end, const uint8_t *x, int64_t x_bytes,
                  Sums s) {
    int whole = end < rows->whole ? end : rows->whole;
    const uint8_t *w[TILE_ROWS];
    UNROLL
    for (int n = 0; n < tn; n++) w[n] = rows->row[n] + (int64_t)first * 2 * LINE;
    x += (int64_t)first * LINE_OPERAND;
    for (int b = first; b < whole; b++, x += LINE_OPERAND) {
        line(tm, tn, p0, pn, w, x, x_bytes, s);
        UNROLL
        for (int n = 0; n < tn; n++) w[n] += 2 * LINE;
    }
    if (whole == end) return;
    UNROLL
    for (int n = 0; n < tn; n++) w[n] = rows->fill[n];
    line(tm, tn, p0, pn, w, x, x_bytes, s);
}

/* Lines first .. end of a tile. Between the first and the last lines its sums wait in `kept`, as they are. */
INLINE void tile(int tm, int tn, const Rows *rows, int first, int end, const uint8_t *x, int64_t x_bytes, float *kept,
                 float *y, int64_t y_stride) {
    Sums s;
    const int pn = tm * tn == 1 ? PARTS : PARTS_AT_ONCE;
    UNROLL
    for (int p0 = 0; p0 < PARTS; p0 += pn) {
        UNROLL
        for (int n = 0; n < tn; n++) UNROLL for (int m = 0; m < tm; m++) UNROLL for (int p = 0; p < pn; p++)
            s[n][m][p0 + p] = first ? load(kept + ((2 * n + m) * PARTS + p0 + p) * WORDS) : all(0.0f);
        lines(tm, tn, p0, pn, rows, first, end, x, x_bytes, s);
        if (end == rows->lines) continue;
        UNROLL
        for (int n = 0; n < tn; n++) UNROLL for (int m = 0; m < tm; m++) UNROLL for (int p = 0; p < pn; p++)
            store(kept + ((2 * n + m) * PARTS + p0 + p) * WORDS, s[n][m][p0 + p]);
    }
    if (end < rows->lines) return;
    if (tm * tn == FOLDED_TOGETHER) { fold_together(s, y, y_stride); return; }
    UNROLL
    for (int n = 0; n < tn; n++) UNROLL for (int m = 0; m < tm; m++) y[m * y_stride + n] = fold(s[n][m], PARTS);
}

/* One row of weights after the other: one sequential stream is what memory gives fastest, and the processor overlaps
 * the rows by itself. */
INLINE void few(int tm, const Matrix *w, int first, int end, const uint8_t *x, int64_t x_bytes, float *y, int64_t y_stride) {
    Rows rows;
    for (int n = first; n < end; n++) {
        point_at(&rows, w, n, 1);
        tile(tm, 1, &rows, 0, rows.lines, x, x_bytes, 0, y + n, y_stride);
    }
}

static inline int next_patched(const Patch *patch, const Patch *end) { return patch < end ? patch->column : INT32_MAX; }

/* A line of a pair that has patches. */
static __attribute__((noinline)) const Patch *patched(const Patch *patch, const Patch *end, int k, Words line[2][PARTS]) {
    uint8_t opened[2][2 * LINE];
    for (int n = 0; n < 2; n++) for (int p = 0; p < PARTS; p++) store_words(opened[n] + p * WORDS * 4, line[n][p]);
    for (; patch < end && patch->column < k + LINE; patch++)
        memcpy(opened[patch->second] + 2 * (patch->column - k), &patch->value, 2);
    for (int n = 0; n < 2; n++) for (int p = 0; p < PARTS; p++) line[n][p] = load_words(opened[n] + p * WORDS * 4);
    return patch;
}

/* Pairs of tight rows, opened in registers: again one sequential stream. `first` is even, and so is `end`, but for a last
 * row that has no other. */
INLINE void few_tight(int tm, const Matrix *w, int first, int end, const uint8_t *x, int64_t x_bytes, float *y,
                      int64_t y_stride) {
    const Uppers uppers = load_uppers(w->uppers);
    const uint8_t *from = (const uint8_t *)w->data + first * w->row_bytes;
    const Patch *patch = w->patches + w->patched[first / 2];
    for (int n = first; n < end; n += 2) {
        const Patch *patches_end = w->patches + w->patched[n / 2 + 1];
        int next = next_patched(patch, patches_end);
        V s[2][FEW][PARTS];
        UNROLL
        for (int i = 0; i < 2; i++) UNROLL for (int m = 0; m < tm; m++) UNROLL for (int p = 0; p < PARTS; p++)
            s[i][m][p] = all(0.0f);
        const uint8_t *at = x;
        for (int k = 0; k < w->columns; k += LINE, at += LINE_OPERAND, from += WOVEN_LINE) {
            Words line[2][PARTS];
            open_woven(from, uppers, line);
            if (__builtin_expect(next < k + LINE, 0)) {
                patch = patched(patch, patches_end, k, line);
                next = next_patched(patch, patches_end);
            }
            UNROLL
            for (int p = 0; p < PARTS; p++) UNROLL for (int m = 0; m < tm; m++) {
                Operand xs = load_operand(at + m * x_bytes + p * CHUNK);
                UNROLL
                for (int i = 0; i < 2; i++) s[i][m][p] = pairs(line[i][p], xs, s[i][m][p]);
            }
        }
        UNROLL
        for (int m = 0; m < tm; m++) {
            y[m * y_stride + n] = fold(s[0][m], PARTS);
            if (n + 1 < end) y[m * y_stride + n + 1] = fold(s[1][m], PARTS);
        }
    }
}

#define FEW_OF(few) \
    static __attribute__((noinline)) void dots_##few(const Matrix *w, int first, int end, const uint8_t *x, int64_t xb, \
                                                     int m, float *y, int64_t ys) { \
        switch (m) { \
        case 1: few(1, w, first, end, x, xb, y, ys); break; \
        case 2: few(2, w, first, end, x, xb, y, ys); break; \
        default: few(3, w, first, end, x, xb, y, ys); \
        } \
    }
FEW_OF(few)
FEW_OF(few_tight)

/* A tile of rows of weights by all rows of x, two by two, as many lines at once as the nearest cache holds. */
INLINE void many(const Rows *rows, const uint8_t *x, int64_t x_bytes, int m, float *y, int64_t y_stride, float *sums) {
    for (int from = 0; from < rows->lines; from += LINES_AT_ONCE) {
        int to = from + LINES_AT_ONCE < rows->lines ? from + LINES_AT_ONCE : rows->lines;
        int r = 0;
        for (; r + 2 <= m; r += 2)
            tile(2, TILE_ROWS, rows, from, to, x + r * x_bytes, x_bytes, sums + (int64_t)r * SUMS_ROOM, y + r * y_stride,
                 y_stride);
        if (r < m)
            tile(1, TILE_ROWS, rows, from, to, x + r * x_bytes, x_bytes, sums + (int64_t)r * SUMS_ROOM, y + r * y_stride,
                 y_stride);
    }
}

static __attribute__((noinline)) void dots_bf16(const Matrix *w, int first, int end, const uint8_t *x, int64_t x_bytes,
                                                int m, float *y, int64_t y_stride, float *room) {
    float *sums = room + TILE_ROWS_MAX * opened_bytes(w->columns) / 4;
    uint8_t *opened = (uint8_t *)room;
    Rows rows;
    int n = first;
    for (; m > FEW && n + TILE_ROWS <= end; n += TILE_ROWS) {
        if (w->uppers) open_rows(&rows, w, n, opened);
        else point_at(&rows, w, n, TILE_ROWS);
        many(&rows, x, x_bytes, m, y + n, y_stride, sums);
    }
    for (int r = 0; n < end && r < m; r += FEW) {
        const uint8_t *at = x + r * x_bytes;
        if (w->uppers) dots_few_tight(w, n, end, at, x_bytes, m - r, y + r * y_stride, y_stride);
        else dots_few(w, n, end, at, x_bytes, m - r, y + r * y_stride, y_stride);
    }
}

/* ---- products over int8 and int4, X7 and X8
 *
 * A slice of a piece is sixteen words, one of each block, four codes in a word (int4: eight, the upper half of a byte
 * for the slice four further on). Sums of codes are integers, so no order can be felt before a block's sum is scaled. */

enum { PIECE_PARTS = PIECE_BLOCKS / WORDS, OFFSET_INT4 = 8 };

typedef V Scaled[CODES_ROWS][CODES_COLUMNS][PIECE_PARTS];

/* Part p of a piece that has `blocks` blocks, of tn rows by tm. What `open` rows have behind them may be read with them:
 * it meets zeros of x. */
INLINE void blocks_of(int format, int tm, int tn, int p, int blocks, int open, const uint8_t *const *w,
                      const bf16 *const *scales, int shift, const uint8_t *x, int64_t x_bytes, Scaled s) {
    enum { CHAINS = 2 };
    Integers sum[CODES_ROWS][CODES_COLUMNS][CHAINS];
    const int chains = tn == 1 ? CHAINS : 1, left = open ? WORDS : blocks - p * WORDS;
    UNROLL
    for (int n = 0; n < tn; n++) UNROLL for (int m = 0; m < tm; m++) {
        sum[n][m][0] = load_integers(x + m * x_bytes + PIECE_CORRECTIONS + p * WORDS * 4);
        UNROLL
        for (int c = 1; c < chains; c++) sum[n][m][c] = no_integers();
    }
    UNROLL
    for (int j = 0; j < (format == INT8 ? 8 : 4); j++) {
        Words low[CODES_COLUMNS], high[CODES_COLUMNS];
        UNROLL
        for (int m = 0; m < tm; m++) {
            low[m] = load_words(x + m * x_bytes + j * 64 + p * WORDS * 4);
            if (format == INT4) high[m] = load_words(x + m * x_bytes + (j + 4) * 64 + p * WORDS * 4);
        }
        UNROLL
        for (int n = 0; n < tn; n++) {
            if (tn == 1) __builtin_prefetch(w[n] + j * 64 + AHEAD);
            Words v = load_some(w[n] + (j * blocks + p * WORDS) * 4, left);
            UNROLL
            for (int m = 0; m < tm; m++) {
                Integers *at = &sum[n][m][j % chains];
                if (format == INT8) *at = codes_int8(v, low[m], *at);
                else *at = codes_int4(upper(v), high[m], codes_int4(lower(v), low[m], *at));
            }
        }
    }
    UNROLL
    for (int n = 0; n < tn; n++) {
        if (tn == 1) __builtin_prefetch(scales[n] + 256);       /* a thin stream of its own, too slow for the hardware */
        V scale = load_scales(scales[n], p, shift, blocks);
        UNROLL
        for (int m = 0; m < tm; m++) {
            Integers total = sum[n][m][0];
            UNROLL
            for (int c = 1; c < chains; c++) total = add_integers(total, sum[n][m][c]);
            V both = mul(scale, load((const float *)(x + m * x_bytes + PIECE_SCALES) + p * WORDS));
            s[n][m][p] = fma_(to_floats(total), both, s[n][m][p]);
        }
    }
}

INLINE void quantized_tile(int format, int tm, int tn, const Matrix *w, int first, int shift, const uint8_t *x,
                           int64_t x_bytes, float *y, int64_t y_stride) {
    const int blocks = (w->columns + BLOCK - 1) / BLOCK, block_bytes = format == INT8 ? 32 : 16;
    const int open = (w->rows - first - tn) * w->row_bytes >= PIECE_BLOCKS * 4;
    const uint8_t *row[CODES_ROWS];
    const bf16 *scales[CODES_ROWS];
    UNROLL
    for (int n = 0; n < tn; n++) {
        row[n] = (const uint8_t *)w->data + (first + n) * w->row_bytes;
        scales[n] = w->scales + (first + n) * w->row_scales;
    }
    Scaled s;
    UNROLL
    for (int n = 0; n < tn; n++) UNROLL for (int m = 0; m < tm; m++) UNROLL for (int p = 0; p < PIECE_PARTS; p++)
        s[n][m][p] = all(0.0f);
    for (int b = 0; b < blocks; b += PIECE_BLOCKS, x += PIECE_BYTES) {
        UNROLL
        for (int p = 0; p < PIECE_PARTS; p++) {
            if (b + PIECE_BLOCKS <= blocks)
                blocks_of(format, tm, tn, p, PIECE_BLOCKS, 1, row, scales, shift, x, x_bytes, s);
            else blocks_of(format, tm, tn, p, blocks - b, open, row, scales, shift, x, x_bytes, s);
        }
        UNROLL
        for (int n = 0; n < tn; n++) {
            row[n] += PIECE_BLOCKS * block_bytes;
            scales[n] += PIECE_BLOCKS >> shift;
        }
    }
    UNROLL
    for (int n = 0; n < tn; n++) UNROLL for (int m = 0; m < tm; m++) y[m * y_stride + n] = fold(s[n][m], PIECE_PARTS);
}

INLINE void quantized_rows(int format, int tn, int shift, const Matrix *w, int n, const uint8_t *x, int64_t x_bytes, int m,
                           float *y, int64_t y_stride) {
    for (int r = 0; r < m; r += CODES_COLUMNS) {
        const uint8_t *at = x + r * x_bytes;
        float *out = y + r * y_stride + n;
        switch (m - r) {
        case 1: quantized_tile(format, 1, tn, w, n, shift, at, x_bytes, out, y_stride); break;
        case 2: quantized_tile(format, 2, tn, w, n, shift, at, x_bytes, out, y_stride); break;
        default: quantized_tile(format, 3, tn, w, n, shift, at, x_bytes, out, y_stride);
        }
    }
}

#define QUANTIZED(format) \
    static __attribute__((noinline)) void dots_##format(const Matrix *w, int first, int end, const uint8_t *x, \
                                                        int64_t xb, int m, float *y, int64_t ys) { \
        const int shift = w->group == 32 ? 0 : w->group == 64 ? 1 : 2; \
        int n = first; \
        if (m > 2) \
            for (; n + CODES_ROWS <= end; n += CODES_ROWS) quantized_rows(format, CODES_ROWS, shift, w, n, x, xb, m, y, ys); \
        for (; n < end; n++) quantized_rows(format, 1, shift, w, n, x, xb, m, y, ys); \
    }
QUANTIZED(INT8)
QUANTIZED(INT4)

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
