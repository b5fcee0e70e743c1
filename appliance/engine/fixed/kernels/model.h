/* What Python sees (appliance/engine/fixed/library.py mirrors these structures). */
#ifndef ANCHORHOLD_MODEL_H
#define ANCHORHOLD_MODEL_H

#include "order.h"
#include "pool.h"

typedef struct {
    int32_t layers, width, heads, kv_heads, head_width, hidden, vocabulary, positions_max, rotary_width, rows_max;
    float epsilon;
} Sizes;

typedef struct {
    const bf16 *norm_before, *norm_after, *q_norm, *k_norm, *q_bias, *k_bias, *v_bias, *o_bias;    /* 0: has none */
    Matrix q, k, v, o, gate, up, down;
    int32_t window;                                                                              /* 0: sees all */
} Layer;

typedef struct {
    const bf16 *embedding, *final_norm;
    const float *cosines, *sines;
    Matrix head;
} Ends;

#define EXPORT __attribute__((visibility("default")))

typedef struct Model Model;
typedef struct Cache Cache;

enum { VARIANT_SCALAR = 0, VARIANT_AVX2 = 1, VARIANT_AVX512 = 2 };
enum { DONE = 0, OUT_OF_BOUNDS = -1, WEIGHTS_TINY = 1, WEIGHTS_WILD = 2 };

EXPORT int fixed_has(int variant);                                         /* can this machine run it? */
EXPORT Pool *fixed_pool_new(int threads);
EXPORT void fixed_pool_free(Pool *pool);
EXPORT Model *fixed_model_new(const Sizes *sizes, const Layer *layers, const Ends *ends, int variant, Pool *pool);
EXPORT void fixed_model_free(Model *model);
EXPORT Cache *fixed_cache_new(const Model *model, int32_t positions);      /* all of it there at once; 0: no memory */
EXPORT void fixed_cache_free(Cache *cache);
EXPORT void fixed_cache_copy(const Model *model, Cache *to, const Cache *from, int32_t positions);

/* Rows of one or several sequences through the model. Rows of one sequence stand together, positions ascending by one.
 * logits[i] (vocabulary floats) is for row `wanted[i]`. */
EXPORT int fixed_forward(Model *model, int32_t rows, const int32_t *tokens, Cache *const *caches, const int32_t *positions,
                  int32_t outputs, const int32_t *wanted, float *logits);

/* y = w x for m rows of natural-order x: for tests and benchmarks of one product. */
EXPORT int fixed_product(int variant, Pool *pool, const Matrix *w, const float *x, int32_t m, float *y);

/* engine.md X8: bf16 rows to int8 or int4 with bf16 scales. */
EXPORT void fixed_quantize(const bf16 *from, int32_t rows, int32_t columns, int32_t format, int32_t group, uint8_t *to,
                    bf16 *scales);

/* engine.md X6: what a matrix holds, and in `to`, where that is not 0, what its products take. */
EXPORT int fixed_factors(const bf16 *from, bf16 *to, int64_t n);
EXPORT int fixed_finite(const bf16 *numbers, int64_t n);

/* bf16 rows to tight ones (order.h). `fixed_uppers` chooses the sixteen upper bytes and gives back how many patches are
 * left; `fixed_tighten` writes the rows, where patches of each begin, and the patches. */
EXPORT int64_t fixed_uppers(const bf16 *from, int64_t n, uint8_t *uppers);
EXPORT void fixed_tighten(const bf16 *from, int32_t rows, int32_t columns, const uint8_t *uppers, uint8_t *to,
                   int32_t *patched, Patch *patches);
EXPORT void *fixed_memory_new(size_t bytes);                               /* zeros in huge pages; 0: no memory */
EXPORT void fixed_memory_free(void *memory, size_t bytes);

int pairs_in_order(void);                                                  /* avx512.c; only where it can run */

#endif
