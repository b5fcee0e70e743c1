/* Products over bf16, docs/spec/engine.md X4 to X6: a part of body.h.
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
