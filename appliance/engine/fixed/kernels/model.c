/* The forward pass: which product follows which. Every reduction is a kernel's; here are only order and layout. */
#define _GNU_SOURCE
#include "model.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "numbers.h"

enum { HUGE_PAGE = 2 << 20, UNIT_BYTES = 96 << 10 };

struct Cache {
    bf16 *data;                     /* [layer][keys, values][kv head][position][padded head width] */
    size_t bytes;
    int32_t positions;
};

typedef struct {
    int32_t first, count;           /* rows of one sequence whose positions follow each other */
} Group;

struct Model {
    Sizes s;
    Ends ends;
    Layer *layers;
    const Kernels *kernels;
    Pool *pool;
    int head_padded;
    int64_t scores_stride, operand_bytes;
    float *memory, *stream, *plain, *qkv, *mixed, *gates, *per_thread;
    uint8_t *operands;              /* what the next product takes, row by row */
    int64_t thread_floats;
    size_t memory_bytes;
    Group *groups;
    /* the job at hand */
    const int32_t *tokens, *positions;
    Cache *const *caches;
    int32_t rows, group_count, layer;
};

/* ---- memory */

void *fixed_memory_new(size_t bytes) {
    size_t whole = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    uint8_t *p = mmap(0, whole + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 0;
    size_t before = (size_t)(-(uintptr_t)p & (HUGE_PAGE - 1));
    if (before) munmap(p, before);
    if (HUGE_PAGE - before) munmap(p + before + whole, HUGE_PAGE - before);
    madvise(p + before, whole, MADV_HUGEPAGE);
    madvise(p + before, whole, MADV_DONTDUMP);
    return p + before;
}

void fixed_memory_free(void *memory, size_t bytes) {
    if (memory) munmap(memory, (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE);
}

/* Every page taken now, so that want of memory is an answer here and not a death later. */
static int present(void *memory, size_t bytes) {
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
    if (madvise(memory, bytes, MADV_POPULATE_WRITE) == 0) return 1;
    if (errno != EINVAL) return 0;
    memset(memory, 0, bytes);       /* a kernel before 5.14 */
    return 1;
}

static int64_t cache_part(const Sizes *s, int32_t positions) {
    return (int64_t)s->kv_heads * positions * padded(s->head_width, LINE);
}

Cache *fixed_cache_new(const Model *model, int32_t positions) {
    Cache *cache = calloc(1, sizeof *cache);
    if (!cache) return 0;
    cache->positions = positions;
    cache->bytes = (size_t)cache_part(&model->s, positions) * 2 * (size_t)model->s.layers * sizeof(bf16);
    cache->data = fixed_memory_new(cache->bytes);
    if (cache->data && present(cache->data, cache->bytes)) return cache;
    fixed_memory_free(cache->data, cache->bytes);
    free(cache);
    return 0;
}

void fixed_cache_free(Cache *cache) {
    if (!cache) return;
    fixed_memory_free(cache->data, cache->bytes);
    free(cache);
}

void fixed_cache_copy(const Model *model, Cache *to, const Cache *from, int32_t positions) {
    int64_t head = model->head_padded, parts = (int64_t)model->s.layers * 2 * model->s.kv_heads;
    for (int64_t i = 0; i < parts; i++)
        memcpy(to->data + i * to->positions * head, from->data + i * from->positions * head,
               (size_t)(positions * head) * sizeof(bf16));
}

/* ---- products */

typedef struct {
    const Matrix *w;
    const bf16 *bias;
    float *y;
} Part;

typedef struct {
    const Kernels *kernels;
    Part parts[3];
    const uint8_t *x;
    int64_t x_bytes, y_stride;
    float *room;                    /* of each thread */
    int64_t room_stride;
    int count, m, step, clean;
} Product;

static void product_unit(void *context, int unit, int thread) {
    Product *p = context;
    for (int i = 0; i < p->count; i++) {
        const Matrix *w = p->parts[i].w;
        int units = (w->rows + p->step - 1) / p->step;
        if (unit >= units) { unit -= units; continue; }
        int first = unit * p->step, end = first + p->step < w->rows ? first + p->step : w->rows;
        float *y = p->parts[i].y;
        p->kernels->dots(w, first, end, p->x, p->x_bytes, p->m, y, p->y_stride, p->room + thread * p->room_stride);
        const bf16 *bias = p->parts[i].bias;
        for (int m = 0; bias && m < p->m; m++)
            for (int n = first; n < end; n++) y[m * p->y_stride + n] = y[m * p->y_stride + n] + widen(bias[n]);
        for (int m = 0; p->clean && m < p->m; m++)      /* X17: one NaN */
            for (int n = first; n < end; n++) {
                float *l = y + m * p->y_stride + n;
                if (*l != *l) *l = float_of(0x7fc00000u);
            }
        return;
    }
}

static void multiply(Pool *pool, Product *p) {
    int64_t step = UNIT_BYTES / p->parts[0].w->row_bytes / UNIT_ROWS * UNIT_ROWS;
    p->step = step < UNIT_ROWS ? UNIT_ROWS : (int)step;
    int units = 0;
    for (int i = 0; i < p->count; i++) units += (p->parts[i].w->rows + p->step - 1) / p->step;
    pool_run(pool, units, product_unit, p);
}

static Product product_of(const Model *model, const Matrix *w, const bf16 *bias, float *y, int64_t y_stride) {
    Product p = {.kernels = model->kernels, .x = model->operands, .x_bytes = model->operand_bytes, .y_stride = y_stride,
                 .m = model->rows, .room = model->per_thread, .room_stride = model->thread_floats, .count = 1,
                 .parts = {{w, bias, y}}};
    return p;
}

/* ---- row by row */

typedef void (*RowWork)(Model *model, int row, int thread);
typedef struct { Model *model; RowWork work; } Rows;

static void row_unit(void *context, int unit, int thread) {
    Rows *rows = context;
    rows->work(rows->model, unit, thread);
}

static void each_row(Model *model, RowWork work) {
    Rows rows = {model, work};
    if (model->rows < 4) for (int row = 0; row < model->rows; row++) work(model, row, 0);
    else pool_run(model->pool, model->rows, row_unit, &rows);
}

static void embed(Model *model, int row, int thread) {
    (void)thread;
    const bf16 *from = model->ends.embedding + (int64_t)model->tokens[row] * model->s.width;
    float *to = model->stream + (int64_t)row * model->s.width;
    for (int k = 0; k < model->s.width; k++) to[k] = widen(from[k]);
}

static void prepare_row(Model *model, int format, const float *from, int n, int row) {
    model->kernels->prepare(format, from, model->operands + row * model->operand_bytes, n);
}

static void norm_row(Model *model, const bf16 *gain, int format, int from, int to) {
    float *plain = model->plain + (int64_t)to * model->s.width;
    model->kernels->norm(model->stream + (int64_t)from * model->s.width, gain, plain, model->s.width, model->s.epsilon);
    prepare_row(model, format, plain, model->s.width, to);
}

static void norm_before(Model *model, int row, int thread) {
    (void)thread;
    const Layer *layer = &model->layers[model->layer];
    norm_row(model, layer->norm_before, layer->q.format, row, row);
}

static void norm_after(Model *model, int row, int thread) {
    (void)thread;
    const Layer *layer = &model->layers[model->layer];
    norm_row(model, layer->norm_after, layer->gate.format, row, row);
}

static int64_t qkv_width(const Sizes *s) { return (int64_t)(s->heads + 2 * s->kv_heads) * s->head_width; }

static bf16 *cached(const Model *model, const Cache *cache, int values, int kv_head) {
    int64_t part = cache_part(&model->s, cache->positions);
    return cache->data + (model->layer * 2 + values) * part
           + (int64_t)kv_head * cache->positions * model->head_padded;
}

/* X11: halves of the turning part, each product rounded before the sum. */
static void turn(float *head, const float *cosines, const float *sines, int half) {
    for (int d = 0; d < half; d++) {
        float a = head[d], b = head[d + half];
        float ac = a * cosines[d], bs = b * sines[d], bc = b * cosines[d], as = a * sines[d];
        head[d] = ac - bs;
        head[d + half] = bc + as;
    }
}

static void keep(const float *from, bf16 *key, bf16 *value, int values, int n, int n_padded) {
    for (int d = 0; d < n; d++) key[d] = factor(from[d]);
    for (int d = 0; d < n; d++) value[d] = narrow(from[values + d]);
    for (int d = n; d < n_padded; d++) key[d] = value[d] = 0;
}

static void place(Model *model, int row, int thread) {
    (void)thread;
    const Sizes *s = &model->s;
    const Layer *layer = &model->layers[model->layer];
    int width = s->head_width, half = s->rotary_width / 2, position = model->positions[row];
    float *qkv = model->qkv + row * qkv_width(s);
    const float *cosines = model->ends.cosines + (int64_t)position * half;
    const float *sines = model->ends.sines + (int64_t)position * half;
    for (int h = 0; h < s->heads + s->kv_heads; h++) {
        float *head = qkv + h * width;
        const bf16 *gain = h < s->heads ? layer->q_norm : layer->k_norm;
        if (gain) model->kernels->norm(head, gain, head, width, s->epsilon);
        turn(head, cosines, sines, half);
    }
    for (int h = 0; h < s->kv_heads; h++) {
        int64_t at = (int64_t)position * model->head_padded;
        keep(qkv + (s->heads + h) * width, cached(model, model->caches[row], 0, h) + at,
             cached(model, model->caches[row], 1, h) + at, s->kv_heads * width, width, model->head_padded);
    }
}

static void gate_row(Model *model, int row, int thread) {
    (void)thread;
    float *g = model->gates + (int64_t)row * 2 * model->s.hidden;
    model->kernels->gate(g, g + model->s.hidden, g, model->s.hidden);
    prepare_row(model, model->layers[model->layer].down.format, g, model->s.hidden, row);
}

static int64_t heads_width(const Sizes *s) { return (int64_t)s->heads * s->head_width; }

static void mixed_row(Model *model, int row, int thread) {
    (void)thread;
    const float *from = model->mixed + row * heads_width(&model->s);
    prepare_row(model, model->layers[model->layer].o.format, from, (int)heads_width(&model->s), row);
}

static void add_row(Model *model, int row, int thread) {
    (void)thread;
    float *to = model->stream + (int64_t)row * model->s.width;
    const float *from = model->plain + (int64_t)row * model->s.width;
    for (int k = 0; k < model->s.width; k++) to[k] = to[k] + from[k];
}

/* ---- attention: one unit is one key-value head (or eight of its query heads) and the rows of one group */

static int query_heads(const Sizes *s) { return s->heads / s->kv_heads; }
static int head_parts(const Sizes *s) { return (query_heads(s) + HEADS_AT_ONCE - 1) / HEADS_AT_ONCE; }

static void attend_unit(void *context, int unit, int thread) {
    Model *model = context;
    const Sizes *s = &model->s;
    const Layer *layer = &model->layers[model->layer];
    int parts = head_parts(s), wide = model->head_padded;
    Group group = model->groups[unit / (s->kv_heads * parts)];
    int kv_head = unit / parts % s->kv_heads, part = unit % parts;
    int h0 = kv_head * query_heads(s) + part * HEADS_AT_ONCE;
    int heads = query_heads(s) - part * HEADS_AT_ONCE;
    if (heads > HEADS_AT_ONCE) heads = HEADS_AT_ONCE;
    const Cache *cache = model->caches[group.first];
    const bf16 *keys = cached(model, cache, 0, kv_head), *values = cached(model, cache, 1, kv_head);
    int64_t bottom = model->positions[group.first], top = bottom + group.count - 1, low = 0;
    if (layer->window && bottom - layer->window + 1 > 0) low = bottom - layer->window + 1;

    float *mixed = model->per_thread + thread * model->thread_floats, *scores = mixed + HEADS_AT_ONCE * wide;
    float *room = scores + HEADS_AT_ONCE * model->scores_stride;
    uint8_t *queries = (uint8_t *)(room + room_floats(HEADS_AT_ONCE, wide));
    int64_t query_bytes = operand_bytes(BF16, s->head_width);
    for (int r = 0; r < group.count; r++)
        for (int h = 0; h < heads; h++)
            model->kernels->prepare(BF16, model->qkv + (group.first + r) * qkv_width(s) + (h0 + h) * s->head_width,
                                    queries + (r * heads + h) * query_bytes, s->head_width);
    Matrix rows = {.data = keys + low * wide, .row_bytes = wide * (int64_t)sizeof(bf16), .rows = (int32_t)(top - low + 1),
                   .columns = wide, .format = BF16};
    model->kernels->dots(&rows, 0, rows.rows, queries, query_bytes, group.count * heads, scores + low,
                         model->scores_stride, room);

    float scale = 1.0f / sqrtf((float)s->head_width);
    for (int r = 0; r < group.count; r++) {
        int64_t at = bottom + r, from = layer->window && at - layer->window + 1 > 0 ? at - layer->window + 1 : 0;
        float inverse[HEADS_AT_ONCE], *own = scores + (int64_t)r * heads * model->scores_stride;
        for (int h = 0; h < heads; h++)
            inverse[h] = model->kernels->softmax(own + h * model->scores_stride, from, at, scale);
        model->kernels->mix(own, model->scores_stride, heads, values, from, at, wide, inverse, mixed);
        float *out = model->mixed + (group.first + r) * heads_width(s) + h0 * s->head_width;
        for (int h = 0; h < heads; h++)
            for (int d = 0; d < s->head_width; d++)     /* a mixed block of 32 has its even elements first */
                out[h * s->head_width + d] = mixed[h * wide + d / 32 * 32 + d % 2 * 16 + d % 32 / 2];
    }
}

static void group_rows(Model *model) {
    int most = HEADS_AT_ONCE / query_heads(&model->s);
    if (most < 1) most = 1;
    model->group_count = 0;
    for (int row = 0; row < model->rows; row++) {
        Group *last = model->group_count ? &model->groups[model->group_count - 1] : 0;
        if (last && last->count < most && model->caches[row] == model->caches[last->first]
            && model->positions[row] == model->positions[last->first] + last->count) last->count++;
        else model->groups[model->group_count++] = (Group){row, 1};
    }
}

/* ---- the model */

static void attention(Model *model) {
    const Sizes *s = &model->s;
    const Layer *layer = &model->layers[model->layer];
    int q = s->heads * s->head_width, kv = s->kv_heads * s->head_width;
    each_row(model, norm_before);
    Product p = product_of(model, &layer->q, layer->q_bias, model->qkv, qkv_width(s));
    p.count = 3;
    p.parts[1] = (Part){&layer->k, layer->k_bias, model->qkv + q};
    p.parts[2] = (Part){&layer->v, layer->v_bias, model->qkv + q + kv};
    multiply(model->pool, &p);
    each_row(model, place);
    pool_run(model->pool, model->group_count * s->kv_heads * head_parts(s), attend_unit, model);
    each_row(model, mixed_row);
    Product o = product_of(model, &layer->o, layer->o_bias, model->plain, s->width);
    multiply(model->pool, &o);
    each_row(model, add_row);
}

static void feed_forward(Model *model) {
    const Layer *layer = &model->layers[model->layer];
    each_row(model, norm_after);
    Product p = product_of(model, &layer->gate, 0, model->gates, 2 * (int64_t)model->s.hidden);
    p.count = 2;
    p.parts[1] = (Part){&layer->up, 0, model->gates + model->s.hidden};
    multiply(model->pool, &p);
    each_row(model, gate_row);
    Product d = product_of(model, &layer->down, 0, model->plain, model->s.width);
    multiply(model->pool, &d);
    each_row(model, add_row);
}

static int in_bounds(const Model *model, int32_t rows, const int32_t *tokens, Cache *const *caches,
                     const int32_t *positions, int32_t outputs, const int32_t *wanted) {
    if (rows < 1 || rows > model->s.rows_max || outputs < 0 || outputs > rows) return 0;
    for (int32_t i = 0; i < rows; i++) {
        if (tokens[i] < 0 || tokens[i] >= model->s.vocabulary || !caches[i]) return 0;
        if (positions[i] < 0 || positions[i] >= caches[i]->positions || positions[i] >= model->s.positions_max) return 0;
    }
    for (int32_t i = 0; i < outputs; i++)
        if (wanted[i] < 0 || wanted[i] >= rows) return 0;
    return 1;
}

int fixed_forward(Model *model, int32_t rows, const int32_t *tokens, Cache *const *caches, const int32_t *positions,
                  int32_t outputs, const int32_t *wanted, float *logits) {
    if (!in_bounds(model, rows, tokens, caches, positions, outputs, wanted)) return OUT_OF_BOUNDS;
    uint32_t numbers = numbers_now();
    plain_numbers();
    model->rows = rows;
    model->tokens = tokens;
    model->caches = caches;
    model->positions = positions;
    group_rows(model);
    each_row(model, embed);
    for (model->layer = 0; model->layer < model->s.layers; model->layer++) {
        attention(model);
        feed_forward(model);
    }
    for (int32_t i = 0; i < outputs; i++)
        norm_row(model, model->ends.final_norm, model->ends.head.format, wanted[i], i);
    if (outputs) {
        Product p = product_of(model, &model->ends.head, 0, logits, model->s.vocabulary);
        p.m = outputs;
        p.clean = 1;
        multiply(model->pool, &p);
    }
    numbers_set(numbers);
    return DONE;
}

static const Kernels *kernels_of(int variant) {
    switch (variant) {
#if defined(__x86_64__)
    case VARIANT_AVX512: return &kernels_avx512;
    case VARIANT_AVX2: return &kernels_avx2;
#endif
    default: return &kernels_scalar;
    }
}

Pool *fixed_pool_new(int threads) { return pool_new(threads); }
void fixed_pool_free(Pool *pool) { pool_free(pool); }

static int greater(int a, int b) { return a > b ? a : b; }
static int widest(const Sizes *s) { return greater(s->width, greater(s->hidden, s->heads * s->head_width)); }

/* The buffers of a pass, one piece of memory: taken once, so that no request can fail for want of it. */
static int take_memory(Model *model) {
    const Sizes *s = &model->s;
    int64_t rows = s->rows_max;
    int64_t attending = HEADS_AT_ONCE * (2 * (int64_t)model->head_padded + model->scores_stride)
                        + room_floats(HEADS_AT_ONCE, model->head_padded);
    int64_t multiplying = room_floats(s->rows_max, widest(s));
    model->thread_floats = (attending > multiplying ? attending : multiplying) + 64;
    int64_t floats[] = {
        rows * s->width, rows * s->width, rows * qkv_width(s), rows * heads_width(s), rows * 2 * s->hidden,
        model->thread_floats * pool_threads(model->pool), rows * model->operand_bytes / 4,
    };
    float *operands, **buffers[] = {&model->stream, &model->plain, &model->qkv, &model->mixed, &model->gates,
                                    &model->per_thread, &operands};
    int64_t total = 0;
    for (int i = 0; i < 7; i++) total += (floats[i] + 79) / 16 * 16;
    model->memory_bytes = (size_t)total * 4;
    model->memory = fixed_memory_new(model->memory_bytes);
    model->groups = calloc((size_t)rows, sizeof(Group));
    float *at = model->memory;
    for (int i = 0; at && i < 7; i++) {
        *buffers[i] = at;
        at += (floats[i] + 79) / 16 * 16;
    }
    model->operands = at ? (uint8_t *)operands : 0;
    return model->memory && model->groups;
}

static int64_t largest_operand(const Sizes *s) {
    int64_t plain = operand_bytes(BF16, widest(s)), codes = operand_bytes(INT8, widest(s));
    return plain > codes ? plain : codes;
}

Model *fixed_model_new(const Sizes *sizes, const Layer *layers, const Ends *ends, int variant, Pool *pool) {
    Model *model = calloc(1, sizeof *model);
    if (!model) return 0;
    model->s = *sizes;
    model->ends = *ends;
    model->kernels = kernels_of(variant);
    model->pool = pool;
    model->head_padded = padded(sizes->head_width, LINE);
    model->operand_bytes = largest_operand(sizes);
    model->scores_stride = padded(sizes->positions_max, LANES) + LANES;
    model->layers = calloc((size_t)sizes->layers, sizeof *layers);
    if (model->layers && take_memory(model)) {
        memcpy(model->layers, layers, (size_t)sizes->layers * sizeof *layers);
        return model;
    }
    fixed_model_free(model);
    return 0;
}

void fixed_model_free(Model *model) {
    if (!model) return;
    fixed_memory_free(model->memory, model->memory_bytes);
    free(model->groups);
    free(model->layers);
    free(model);
}

int fixed_product(int variant, Pool *pool, const Matrix *w, const float *x, int32_t m, float *y) {
    const Kernels *kernels = kernels_of(variant);
    int64_t x_bytes = operand_bytes(w->format, w->columns), room = room_floats(m, w->columns);
    size_t bytes = (size_t)(m * x_bytes + room * pool_threads(pool) * 4);
    uint8_t *operands = fixed_memory_new(bytes);
    if (!operands) return OUT_OF_BOUNDS;
    uint32_t numbers = numbers_now();
    plain_numbers();
    for (int i = 0; i < m; i++)
        kernels->prepare(w->format, x + (int64_t)i * w->columns, operands + i * x_bytes, w->columns);
    Product p = {.kernels = kernels, .x = operands, .x_bytes = x_bytes, .y_stride = w->rows, .m = m,
                 .room = (float *)(operands + m * x_bytes), .room_stride = room, .count = 1, .parts = {{w, 0, y}}};
    multiply(pool, &p);
    numbers_set(numbers);
    fixed_memory_free(operands, bytes);
    return DONE;
}
