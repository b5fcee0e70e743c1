/* Products over int8 and int4, docs/spec/engine.md X7 and X8: a part of body.h.
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
