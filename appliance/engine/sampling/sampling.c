/* docs/spec/sampling.md in C: the same token as reference.py for every input, in one or two passes over the logits.
 *
 * Compile with -ffp-contract=off and without -ffast-math: then every operation below is one IEEE 754 operation, and
 * no compiler, vector width or machine changes a bit. No function of libm is called. Survivors are always a prefix of
 * the order (Y6), so they are described by their last member, and nothing is ever sorted.
 */
#include "sampling.h"

#include <stddef.h>
#include <string.h>

#define MICRO 1000000
#define BLOCK 64
#define LEAST (-__builtin_inff())
#define LEAST_FINITE (-0x1.fffffep+127f)

static const double LOG2_E = 0x1.71547652b82fep+0;
static const double LN_2 = 0x1.62e42fefa39efp-1;
static const double SQRT_HALF = 0x1.6a09e667f3bcdp-1;

static uint64_t bits_of(double x) { uint64_t b; memcpy(&b, &x, sizeof b); return b; }
static double of_bits(uint64_t b) { double x; memcpy(&x, &b, sizeof x); return x; }

/* ---- Y12: weights ---- */

static inline double exp_of(double gap, int32_t *scale) {
    int32_t n = (int32_t)(gap * LOG2_E + 64.5) - 64;
    double r = gap - (double)n * LN_2;
    double p = 1.0 / 3628800.0;
    p = p * r + 1.0 / 362880.0;
    p = p * r + 1.0 / 40320.0;
    p = p * r + 1.0 / 5040.0;
    p = p * r + 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 1.0 / 2.0;
    p = p * r + 1.0;
    p = p * r + 1.0;
    *scale = n;
    return p;
}

/* Written without a branch so that a loop over it becomes vector code: the whole part of a double below 2^52 is what
 * adding and taking away 2^52 leaves, less one where that rounded up. */
static inline double weight_of(double gap) {
    const double big = 0x1p52;
    double inside = gap >= -28.0 ? gap : -28.0;     /* exp(-28) weighs nothing; neither does NaN */
    int32_t n;
    double p = exp_of(inside, &n);
    double scaled = p * of_bits((uint64_t)(int64_t)(n + 40 + 1023) << 52);
    double whole = (scaled + big) - big;
    whole -= whole > scaled ? 1.0 : 0.0;
    return whole;
}

uint64_t ah_weight(double gap) { return (uint64_t)weight_of(gap); }

/* ---- Y13, Y14: noise ---- */

static double ln_of(double x) {
    uint64_t b = bits_of(x);
    int32_t e = (int32_t)(b >> 52) - 1022;
    double m = of_bits((b & 0x000fffffffffffffull) | 0x3fe0000000000000ull);    /* in [1/2, 1) */
    if (m < SQRT_HALF) {
        m = m * 2.0;
        e -= 1;
    }
    double s = (m - 1.0) / (m + 1.0), z = s * s, p = 1.0 / 19.0;
    p = p * z + 1.0 / 17.0;
    p = p * z + 1.0 / 15.0;
    p = p * z + 1.0 / 13.0;
    p = p * z + 1.0 / 11.0;
    p = p * z + 1.0 / 9.0;
    p = p * z + 1.0 / 7.0;
    p = p * z + 1.0 / 5.0;
    p = p * z + 1.0 / 3.0;
    p = p * z + 1.0;
    return (2.0 * s) * p + (double)e * LN_2;
}

static inline uint64_t mix(uint64_t key, uint32_t token) {
    uint64_t z = (uint64_t)token * 0x9e3779b97f4a7c15ull + key;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

double ah_noise(uint64_t key, int32_t token) {
    double u = ((double)(mix(key, (uint32_t)token) >> 12) + 0.5) * 0x1p-52;
    return -ln_of(-ln_of(u));
}

/* ---- the order (Y6) and what is left of it ---- */

/* Everything not behind (value, token) in the order. */
typedef struct {
    float value;
    int32_t token;
} last_of;

static inline int within(last_of last, float value, int32_t token) {
    return value > last.value || (value == last.value && token <= last.token);
}

/* The least whole number of which a million is not below `top_p` parts of `total`. */
static uint64_t share_of(uint64_t total, uint64_t top_p) {
    return top_p * (total / MICRO) + (top_p * (total % MICRO) + MICRO - 1) / MICRO;
}

static inline int before(const ah_entry *a, const ah_entry *b) {
    return a->value > b->value || (a->value == b->value && a->token < b->token);
}

/* The logits with the greatest of every block of them: most passes look at blocks alone. */
typedef struct {
    const float *logits;
    int32_t n;
    float best;
    const float *block_best;
} view;

static inline int32_t end_of(const view *all, int32_t start) {
    return all->n - start < BLOCK ? all->n : start + BLOCK;
}

static float best_of_block(const float *logits, int32_t size) {
    float lanes[BLOCK];
    for (int32_t j = 0; j < BLOCK; j++) lanes[j] = LEAST;
    if (size == BLOCK)
        for (int32_t j = 0; j < BLOCK; j++) lanes[j] = logits[j] > LEAST ? logits[j] : LEAST;   /* NaN: Y4 */
    else
        for (int32_t j = 0; j < size; j++) lanes[j] = logits[j] > LEAST ? logits[j] : LEAST;
    for (int32_t half = BLOCK / 2; half > 0; half /= 2)
        for (int32_t j = 0; j < half; j++) lanes[j] = lanes[j + half] > lanes[j] ? lanes[j + half] : lanes[j];
    return lanes[0];
}

static view look(const float *logits, int32_t n, float *block_best) {
    view all = {logits, n, LEAST, block_best};
    for (int32_t i = 0; i < n; i += BLOCK) {
        float best = best_of_block(logits + i, n - i < BLOCK ? n - i : BLOCK);
        block_best[i / BLOCK] = best;
        all.best = best > all.best ? best : all.best;
    }
    return all;
}

static int32_t first_best(const view *all) {
    int32_t block = 0;
    while (all->block_best[block] != all->best) block++;
    int32_t token = block * BLOCK;
    while (all->logits[token] != all->best) token++;
    return token;
}

static int32_t at_least(const view *all, float threshold, ah_entry *out) {
    int32_t found = 0;
    for (int32_t i = 0; i < all->n; i += BLOCK) {
        if (!(all->block_best[i / BLOCK] >= threshold)) continue;
        for (int32_t t = i; t < end_of(all, i); t++)
            if (all->logits[t] >= threshold) {
                out[found].weight = 1;
                out[found].value = all->logits[t];
                out[found++].token = t;
            }
    }
    return found;
}

/* The entry at which the weights, added up in the order, first reach `need` (at least 1, at most their sum). */
static ah_entry reaching(ah_entry *entries, int32_t n, uint64_t need) {
    int32_t low = 0, high = n - 1;
    uint32_t draw = 1;
    while (low < high) {
        draw = draw * 1664525u + 1013904223u;       /* any pivot gives the same result; this one is hard to aim at */
        ah_entry pivot = entries[low + (int32_t)(((uint64_t)draw * (uint32_t)(high - low + 1)) >> 32)];
        int32_t a = low, b = high;
        while (a <= b) {
            while (before(&entries[a], &pivot)) a++;
            while (before(&pivot, &entries[b])) b--;
            if (a <= b) {
                ah_entry other = entries[a];
                entries[a++] = entries[b];
                entries[b--] = other;
            }
        }
        uint64_t front = 0;
        for (int32_t i = low; i <= b; i++) front += entries[i].weight;
        if (need <= front) {
            high = b;
            continue;
        }
        need -= front;
        if (b + 1 < a) {                            /* the pivot stands alone between the halves */
            if (need <= entries[b + 1].weight) return entries[b + 1];
            need -= entries[b + 1].weight;
        }
        low = a;
    }
    return entries[low];
}

/* The first `k` of the order, unsorted, in `out`; fewer if fewer are finite. Returns how many. */
static int32_t first_of_order(const view *all, int32_t k, ah_entry *out, last_of *last) {
    int32_t found = 0;
    for (float width = 4.0f; found < k; width *= 1.5f) {
        float threshold = all->best - width;
        if (threshold == all->best || width > 1e30f) threshold = LEAST_FINITE;
        found = at_least(all, threshold, out);
        if (threshold == LEAST_FINITE) break;
    }
    last->value = LEAST;
    last->token = all->n;
    if (found < k) return found;
    ah_entry kth = reaching(out, found, (uint64_t)k);
    last->value = kth.value;
    last->token = kth.token;
    int32_t kept = 0;
    for (int32_t i = 0; i < found; i++)
        if (within(*last, out[i].value, out[i].token)) out[kept++] = out[i];
    return kept;
}

/* ---- the choice (Y5 to Y11) ---- */

static inline double gap_of(float value, float best, double temperature) {
    double gap = ((double)value - (double)best) / temperature;
    return value == best ? 0.0 : gap;
}

#define BUCKETS 128

/* Which quarter of a gap of 1 a value is in. Never greater for a greater value, which is all that is asked of it. */
static inline int32_t bucket_of(float value, float best, float scale) {
    float at = (best - value) * scale;
    return (int32_t)(at < BUCKETS - 1 ? at : BUCKETS - 1);
}

/* Y9 over the whole vocabulary: weigh by bucket, find the bucket where the nucleus ends, and look into that one. */
static ah_entry nucleus_of_all(const view *all, uint64_t top_p, double temperature, ah_entry *entries) {
    uint64_t weights[BUCKETS] = {0}, total = 0;
    double part[BLOCK];
    int32_t where[BLOCK];
    float block[BLOCK];
    const float best = all->best, scale = (float)(4.0 / temperature);
    for (int32_t i = 0; i < all->n; i += BLOCK) {
        if (gap_of(all->block_best[i / BLOCK], best, temperature) < -28.0) continue;
        int32_t size = end_of(all, i) - i;
        for (int32_t j = size; j < BLOCK; j++) block[j] = LEAST;
        memcpy(block, all->logits + i, (size_t)size * sizeof *block);
        for (int32_t j = 0; j < BLOCK; j++) part[j] = ((double)block[j] - (double)best) / temperature;
        for (int32_t j = 0; j < BLOCK; j++) part[j] = block[j] == best ? 0.0 : part[j];
        for (int32_t j = 0; j < BLOCK; j++) part[j] = weight_of(part[j]);
        for (int32_t j = 0; j < BLOCK; j++) where[j] = bucket_of(block[j], best, scale);
        for (int32_t j = 0; j < BLOCK; j++) weights[where[j]] += (uint64_t)(int64_t)part[j];
    }
    for (int32_t b = 0; b < BUCKETS; b++) total += weights[b];
    uint64_t need = share_of(total, top_p);
    int32_t bucket = 0, found = 0;
    for (; need > weights[bucket]; bucket++) need -= weights[bucket];
    for (int32_t i = 0; i < all->n; i += BLOCK) {
        if (bucket_of(all->block_best[i / BLOCK], best, scale) > bucket) continue;
        for (int32_t t = i; t < end_of(all, i); t++)
            if (bucket_of(all->logits[t], best, scale) == bucket && all->logits[t] > LEAST) {
                entries[found].weight = ah_weight(gap_of(all->logits[t], best, temperature));
                entries[found].value = all->logits[t];
                entries[found++].token = t;
            }
    }
    return reaching(entries, found, need);
}

static ah_entry nucleus_of(ah_entry *entries, int32_t n, uint64_t top_p, float best, double temperature) {
    uint64_t total = 0;
    for (int32_t i = 0; i < n; i++)
        total += entries[i].weight = ah_weight(gap_of(entries[i].value, best, temperature));
    return reaching(entries, n, share_of(total, top_p));
}

/* Y11: the greatest gap + noise among the survivors. Noise (Y14) costs two logarithms, so a token is first held against a
 * bound that needs none: with c = 1 - u, noise = -ln(-ln(1 - c)) <= -ln(c), and the exponent of c bounds that. */
static int32_t noisiest(const view *all, const ah_sampling *sampling, double temperature, last_of last, uint64_t key) {
    int32_t chosen = first_best(all);
    double top = ah_noise(key, chosen);
    const float best = all->best, scale = (float)(1.0 / temperature);
    for (int32_t i = 0; i < all->n; i += BLOCK) {
        if (!(all->block_best[i / BLOCK] >= last.value)) continue;
        int32_t size = end_of(all, i) - i;
        const float *block = all->logits + i;
        const float enough = (float)(top - 0.01);   /* 0.01 is far more than all rounding in `bound` */
        float bound[BLOCK];
        int any = 0;
        for (int32_t j = 0; j < size; j++) {
            int32_t rest = (int32_t)(~mix(key, (uint32_t)(i + j)) >> 33);       /* c, to 31 bits */
            float c = (float)rest;
            int32_t raw;
            memcpy(&raw, &c, sizeof raw);
            float doublings = (float)(31 + 127 - (raw >> 23));                  /* c >= 2^-doublings, or 0 */
            bound[j] = (block[j] - best) * scale + doublings * 0.69315f;
            any |= !(bound[j] < enough);
        }
        for (int32_t j = 0; any && j < size; j++) {
            if (bound[j] < enough || !within(last, block[j], i + j)) continue;
            double gap = gap_of(block[j], best, temperature);
            if (sampling->min_p_micro > 0                                                       /* Y10 */
                && ah_weight(gap) * (uint64_t)MICRO < ((uint64_t)sampling->min_p_micro << 40)) continue;
            double score = gap + ah_noise(key, i + j);
            if (score > top || (score == top && i + j < chosen)) {
                top = score;
                chosen = i + j;
            }
        }
    }
    return chosen;
}

static int32_t choose(const view *all, const ah_sampling *sampling, uint64_t key, ah_entry *scratch) {
    if (all->best == LEAST) return 0;                                           /* Y4 */
    if (sampling->temperature_micro == 0) return first_best(all);               /* Y5 */
    double temperature = (double)sampling->temperature_micro / MICRO;
    uint64_t top_p = (uint64_t)sampling->top_p_micro;
    int few = sampling->top_k > 0 && sampling->top_k < all->n;
    last_of last = {LEAST, all->n};
    int32_t listed = few ? first_of_order(all, (int32_t)sampling->top_k, scratch, &last) : 0;
    if (top_p < MICRO) {
        ah_entry end = few ? nucleus_of(scratch, listed, top_p, all->best, temperature)
                           : nucleus_of_all(all, top_p, temperature, scratch);
        last.value = end.value;
        last.token = end.token;
    }
    return noisiest(all, sampling, temperature, last, key);
}

/* ---- Y3: penalties and bias ---- */

static float edited(float logit, const ah_sampling *sampling, const ah_edit *edit) {
    double x = (double)logit, penalty = (double)sampling->repetition_penalty_micro / MICRO;
    x = x + (double)edit->bias_micro / MICRO;
    if (edit->seen) x = x > 0.0 ? x / penalty : x * penalty;
    x = x - ((double)sampling->frequency_penalty_micro / MICRO) * (double)edit->count;
    if (edit->count > 0) x = x - (double)sampling->presence_penalty_micro / MICRO;
    return (float)x;
}

size_t ah_scratch_bytes(int32_t vocabulary) {
    size_t n = (size_t)vocabulary;
    return n * sizeof(ah_entry) + (n / BLOCK + 1) * sizeof(float);
}

int32_t ah_choose(float *logits, int32_t vocabulary, const ah_sampling *sampling, ah_edit *edits, int32_t edit_count,
                  uint64_t key, void *scratch) {
    ah_entry *entries = scratch;
    for (int32_t i = 0; i < edit_count; i++) {
        ah_edit *edit = &edits[i];
        if (edit->token < 0 || edit->token >= vocabulary) continue;
        edit->kept = logits[edit->token];
        logits[edit->token] = edited(edit->kept, sampling, edit);
    }
    view all = look(logits, vocabulary, (float *)(entries + vocabulary));
    int32_t token = choose(&all, sampling, key, entries);
    for (int32_t i = 0; i < edit_count; i++)
        if (edits[i].token >= 0 && edits[i].token < vocabulary) logits[edits[i].token] = edits[i].kept;
    return token;
}

int32_t ah_leaders(const float *logits, int32_t vocabulary, int32_t wanted, int32_t *tokens, float *values,
                   void *scratch) {
    ah_entry *entries = scratch;
    last_of last;
    view all = look(logits, vocabulary, (float *)(entries + vocabulary));
    if (wanted <= 0 || all.best == LEAST) return 0;
    int32_t found = first_of_order(&all, wanted, entries, &last);
    for (int32_t i = 0; i < found; i++) {           /* few: put each where it belongs */
        ah_entry entry = entries[i];
        int32_t at = i;
        for (; at > 0 && before(&entry, &entries[at - 1]); at--) entries[at] = entries[at - 1];
        entries[at] = entry;
    }
    for (int32_t i = 0; i < found; i++) {
        tokens[i] = entries[i].token;
        values[i] = entries[i].value;
    }
    return found;
}
