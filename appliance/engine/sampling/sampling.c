/* docs/spec/sampling.md in C: the same token as reference.py for every input, in a few passes over the logits.
 *
 * Compile with -ffp-contract=off and without -ffast-math: then every operation below is one IEEE 754 operation, and
 * no compiler, vector width or machine changes a bit. No function of libm is called. Survivors are always a prefix of
 * the order (Y6), so they are described by their last member, and nothing is ever sorted.
 *
 * Loops go by blocks of a fixed size and without branches, so that compilers make vectors of them. Sums of weights are
 * sums of integers, so their order is free.
 *
 * This file alone is a whole library. With -DAH_LEVELS it expects itself beside it, compiled with -DAH_LEVEL=3 for
 * x86-64-v3 and with -DAH_LEVEL=4 for x86-64-v4, and asks the processor which of the three is to run.
 */
#include "sampling.h"

#include <stddef.h>
#include <string.h>
#if defined(AH_LEVELS)
#include <cpuid.h>
#endif

#define INLINE static inline __attribute__((always_inline))
#define MICRO 1000000
#define BLOCK 64
#define LEAST (-__builtin_inff())
#define LEAST_FINITE (-0x1.fffffep+127f)

static const double LOG2_E = 0x1.71547652b82fep+0;
static const double LN_2 = 0x1.62e42fefa39efp-1;
static const double SQRT_HALF = 0x1.6a09e667f3bcdp-1;

INLINE uint64_t bits_of(double x) { uint64_t b; memcpy(&b, &x, sizeof b); return b; }
INLINE double of_bits(uint64_t b) { double x; memcpy(&x, &b, sizeof x); return x; }

/* ---- Y12: weights ---- */

INLINE double exp_of(double gap, int32_t *scale) {
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

/* Written without a branch so that a loop over it becomes vector code: adding 2^52 to a double below it leaves its
 * nearest whole number in the last bits, one too many where that rounded up. */
INLINE uint64_t weight_of(double gap) {
    const double big = 0x1p52;
    double inside = gap > -28.0 ? gap : -28.0;      /* exp(-28) weighs nothing; neither does NaN */
    int32_t n;
    double p = exp_of(inside, &n);
    double scaled = p * of_bits((uint64_t)(int64_t)(n + 40 + 1023) << 52);
    double shifted = scaled + big;
    return bits_of(shifted) - bits_of(big) - (uint64_t)(shifted - big > scaled);
}

/* ---- Y13, Y14: noise ---- */

INLINE double ln_of(double x) {
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

INLINE uint64_t mix(uint64_t key, uint32_t token) {
    uint64_t z = (uint64_t)token * 0x9e3779b97f4a7c15ull + key;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

INLINE double noise_of(uint64_t key, int32_t token) {
    double u = ((double)(mix(key, (uint32_t)token) >> 12) + 0.5) * 0x1p-52;
    return -ln_of(-ln_of(u));
}

/* ---- the order (Y6) and what is left of it ---- */

/* Everything not behind (value, token) in the order. */
typedef struct {
    float value;
    int32_t token;
} last_of;

INLINE int within(last_of last, float value, int32_t token) {
    return value > last.value || (value == last.value && token <= last.token);
}

/* The least whole number of which a million is not below `top_p` parts of `total`. */
INLINE uint64_t share_of(uint64_t total, uint64_t top_p) {
    return top_p * (total / MICRO) + (top_p * (total % MICRO) + MICRO - 1) / MICRO;
}

INLINE int before(const ah_entry *a, const ah_entry *b) {
    return a->value > b->value || (a->value == b->value && a->token < b->token);
}

/* The logits with the greatest of every block of them: most passes look at blocks alone. */
typedef struct {
    const float *logits;
    int32_t n;
    float best;
    float *block_best;
    float *tail;            /* the last block, filled up with the least there is */
} view;

/* What is at hand for a choice, all of it in the caller's scratch. */
typedef struct {
    ah_entry *entries;
    uint64_t *weights;
} room;

INLINE int32_t end_of(const view *all, int32_t start) {
    return all->n - start < BLOCK ? all->n : start + BLOCK;
}

INLINE const float *block_at(const view *all, int32_t start) {
    return all->n - start < BLOCK ? all->tail : all->logits + start;
}

INLINE void fill_tail(view *all) {
    int32_t size = all->n % BLOCK;
    for (int32_t j = 0; j < BLOCK; j++) all->tail[j] = LEAST;
    memcpy(all->tail, all->logits + (all->n - size), (size_t)size * sizeof *all->tail);
}

INLINE float best_of_block(const view *all, int32_t start) {
    float lanes[16];
    const float *block = block_at(all, start);
    for (int32_t j = 0; j < 16; j++) lanes[j] = LEAST;
    for (int32_t i = 0; i < BLOCK; i += 16)
        for (int32_t j = 0; j < 16; j++) lanes[j] = block[i + j] > lanes[j] ? block[i + j] : lanes[j];  /* NaN: Y4 */
    for (int32_t half = 8; half > 0; half /= 2)
        for (int32_t j = 0; j < half; j++) lanes[j] = lanes[j + half] > lanes[j] ? lanes[j + half] : lanes[j];
    return lanes[0];
}

INLINE int32_t blocks_of(const view *all) { return (all->n + BLOCK - 1) / BLOCK; }

INLINE void find_best(view *all) {
    all->best = LEAST;
    for (int32_t b = 0; b < blocks_of(all); b++)
        all->best = all->block_best[b] > all->best ? all->block_best[b] : all->best;
}

INLINE void look(view *all) {
    fill_tail(all);
    for (int32_t b = 0; b < blocks_of(all); b++) all->block_best[b] = best_of_block(all, b * BLOCK);
    find_best(all);
}

INLINE int32_t first_best(const view *all) {
    int32_t block = 0;
    while (all->block_best[block] != all->best) block++;
    int32_t token = block * BLOCK;
    while (all->logits[token] != all->best) token++;
    return token;
}

INLINE int32_t at_least(const view *all, float threshold, ah_entry *out) {
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
INLINE ah_entry reaching(ah_entry *entries, int32_t n, uint64_t need) {
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

#define FEW 64

/* The `k`-th greatest of the blocks' greatest: at least `k` logits are not below it, and seldom many more. */
INLINE float kth_block(const view *all, int32_t k) {
    float top[FEW];
    for (int32_t i = 0; i < FEW; i++) top[i] = LEAST;
    for (int32_t b = 0; b < blocks_of(all); b++) {
        float value = all->block_best[b];
        if (!(value > top[k - 1])) continue;
        int32_t at = k - 1;
        for (; at > 0 && value > top[at - 1]; at--) top[at] = top[at - 1];
        top[at] = value;
    }
    return top[k - 1] > LEAST_FINITE ? top[k - 1] : LEAST_FINITE;
}

/* At least `k` logits, unless fewer are finite: all from some threshold on. Returns how many. */
INLINE int32_t at_least_first(const view *all, int32_t k, ah_entry *out) {
    if (k <= FEW && k <= blocks_of(all)) return at_least(all, kth_block(all, k), out);
    for (float width = 4.0f;; width *= 1.5f) {
        float threshold = all->best - width;
        if (threshold == all->best || width > 1e30f) threshold = LEAST_FINITE;
        int32_t found = at_least(all, threshold, out);
        if (found >= k || threshold == LEAST_FINITE) return found;
    }
}

/* The first `k` of the order, unsorted, in `out`; fewer if fewer are finite. Returns how many. */
INLINE int32_t first_of_order(const view *all, int32_t k, ah_entry *out, last_of *last) {
    int32_t found = at_least_first(all, k, out);
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

INLINE double gap_of(float value, float best, double temperature) {
    double gap = ((double)value - (double)best) / temperature;
    return value == best ? 0.0 : gap;
}

/* The weight of every token, and their sum. */
INLINE uint64_t weigh(const view *all, double temperature, uint64_t *weights) {
    uint64_t total = 0;
    const float best = all->best;
    for (int32_t i = 0; i < all->n; i += BLOCK) {
        double gaps[BLOCK];
        uint64_t *to = weights + i;
        if (gap_of(all->block_best[i / BLOCK], best, temperature) < -28.0) {
            memset(to, 0, BLOCK * sizeof *to);
            continue;
        }
        const float *block = block_at(all, i);
        for (int32_t j = 0; j < BLOCK; j++) {
            double gap = ((double)block[j] - (double)best) / temperature;
            gaps[j] = block[j] == best ? 0.0 : gap;
        }
        for (int32_t j = 0; j < BLOCK; j++) {
            uint64_t weight = weight_of(gaps[j]);
            to[j] = weight;
            total += weight;
        }
    }
    return total;
}

/* What is not below a value: how much it weighs and how many tokens it is. */
typedef struct {
    float from;
    uint64_t weight;
    int64_t count;
} part;

#define CUTS 3

/* For several values at once, the least first. */
INLINE void measure(const view *all, const uint64_t *weights, part cuts[CUTS]) {
    const float first = cuts[0].from, second = cuts[1].from, third = cuts[2].from;
    uint64_t a = 0, b = 0, c = 0, na = 0, nb = 0, nc = 0;
    for (int32_t i = 0; i < all->n; i += BLOCK) {
        if (!(all->block_best[i / BLOCK] >= first)) continue;
        const float *block = block_at(all, i);
        const uint64_t *weight = weights + i;
        for (int32_t j = 0; j < BLOCK; j++) {
            a += weight[j] & -(uint64_t)(block[j] >= first);
            b += weight[j] & -(uint64_t)(block[j] >= second);
            c += weight[j] & -(uint64_t)(block[j] >= third);
            na += block[j] >= first;
            nb += block[j] >= second;
            nc += block[j] >= third;
        }
    }
    cuts[0] = (part){first, a, (int64_t)na};
    cuts[1] = (part){second, b, (int64_t)nb};
    cuts[2] = (part){third, c, (int64_t)nc};
}

#define ENOUGH 128
#define PASSES 12

/* Y9 over the whole vocabulary: close in on the value at which the nucleus ends from both sides, until few tokens are
 * in between (or their values are one: then it is up to `reaching`). `low` holds enough, `high` not enough. */
INLINE ah_entry nucleus_of_all(const view *all, uint64_t top_p, double temperature, const room *at) {
    uint64_t total = temperature == 1.0 ? weigh(all, 1.0, at->weights) : weigh(all, temperature, at->weights);
    uint64_t need = share_of(total, top_p);
    part cuts[CUTS] = {{all->best, 0, 0}, {all->best, 0, 0}, {all->best, 0, 0}};
    part low, high = {0.0f, 0, 0};
    measure(all, at->weights, cuts);
    low = cuts[0];
    if (low.weight < need) {
        high = low;
        low.from = (float)((double)all->best - 28.5 * temperature);     /* all that weighs anything */
        low.from = low.from > LEAST_FINITE ? low.from : LEAST_FINITE;
        low.weight = total;
        low.count = all->n;
    }
    for (int32_t pass = 0; pass < PASSES && low.count - high.count > ENOUGH && high.count > 0; pass++) {
        float step = high.from / 4 - low.from / 4;
        for (int32_t c = 0; c < CUTS; c++) cuts[c].from = low.from + (float)(c + 1) * step;
        if (!(cuts[0].from > low.from && cuts[CUTS - 1].from < high.from)) break;
        measure(all, at->weights, cuts);
        for (int32_t c = 0; c < CUTS; c++) {
            if (cuts[c].weight >= need) low = cuts[c];
            else {
                high = cuts[c];
                break;
            }
        }
    }
    int32_t found = 0;
    for (int32_t i = 0; i < all->n; i += BLOCK) {
        if (!(all->block_best[i / BLOCK] >= low.from)) continue;
        const float *block = block_at(all, i);
        int32_t any = 0;
        for (int32_t j = 0; j < BLOCK; j++)
            any |= (block[j] >= low.from) & ((high.count == 0) | (block[j] < high.from));
        for (int32_t j = 0; any && j < BLOCK; j++)
            if (block[j] >= low.from && (high.count == 0 || block[j] < high.from)) {
                at->entries[found].weight = at->weights[i + j];
                at->entries[found].value = block[j];
                at->entries[found++].token = i + j;
            }
    }
    return reaching(at->entries, found, need - high.weight);
}

INLINE ah_entry nucleus_of(ah_entry *entries, int32_t n, uint64_t top_p, float best, double temperature) {
    uint64_t total = 0;
    for (int32_t i = 0; i < n; i++)
        total += entries[i].weight = weight_of(gap_of(entries[i].value, best, temperature));
    return reaching(entries, n, share_of(total, top_p));
}

/* Y11: the greatest gap + noise among the survivors. Noise (Y14) costs two logarithms, so a token is first held against a
 * bound that needs none: with c = 1 - u, noise = -ln(-ln(1 - c)) <= -ln(c), and the exponent of c bounds that. */
INLINE int32_t noisiest(const view *all, const ah_sampling *sampling, double temperature, last_of last, uint64_t key) {
    int32_t chosen = first_best(all);
    double top = noise_of(key, chosen);
    const float best = all->best, scale = (float)(1.0 / temperature);
    for (int32_t i = 0; i < all->n; i += BLOCK) {
        if (!(all->block_best[i / BLOCK] >= last.value)) continue;
        const float enough = (float)(top - 0.01);   /* 0.01 is far more than all rounding in `bound` */
        float bound[BLOCK];
        const float *block = block_at(all, i);
        int32_t size = end_of(all, i) - i, any = 0;
        for (int32_t j = 0; j < BLOCK; j++) {
            int32_t rest = (int32_t)(~mix(key, (uint32_t)(i + j)) >> 33);       /* c, to 31 bits */
            float c = (float)rest;
            int32_t raw;
            memcpy(&raw, &c, sizeof raw);
            float doublings = (float)(31 + 127 - (raw >> 23));                  /* c >= 2^-doublings, or 0 */
            bound[j] = (block[j] - best) * scale + doublings * 0.69315f;
        }
        for (int32_t j = 0; j < BLOCK; j++) any |= !(bound[j] < enough) & (block[j] >= last.value);
        for (int32_t j = 0; any && j < size; j++) {
            if (bound[j] < enough || !within(last, block[j], i + j)) continue;
            double gap = gap_of(block[j], best, temperature);
            if (sampling->min_p_micro > 0                                                       /* Y10 */
                && weight_of(gap) * (uint64_t)MICRO < ((uint64_t)sampling->min_p_micro << 40)) continue;
            double score = gap + noise_of(key, i + j);
            if (score > top || (score == top && i + j < chosen)) {
                top = score;
                chosen = i + j;
            }
        }
    }
    return chosen;
}

INLINE int32_t choose(const view *all, const ah_sampling *sampling, uint64_t key, const room *at) {
    if (all->best == LEAST) return 0;                                           /* Y4 */
    if (sampling->temperature_micro == 0) return first_best(all);               /* Y5 */
    double temperature = (double)sampling->temperature_micro / MICRO;
    uint64_t top_p = (uint64_t)sampling->top_p_micro;
    int few = sampling->top_k > 0 && sampling->top_k < all->n;
    last_of last = {LEAST, all->n};
    int32_t listed = few ? first_of_order(all, (int32_t)sampling->top_k, at->entries, &last) : 0;
    if (top_p < MICRO) {
        ah_entry end = few ? nucleus_of(at->entries, listed, top_p, all->best, temperature)
                           : nucleus_of_all(all, top_p, temperature, at);
        last.value = end.value;
        last.token = end.token;
    }
    return noisiest(all, sampling, temperature, last, key);
}

/* ---- Y3: penalties and bias ---- */

INLINE float edited(float logit, const ah_sampling *sampling, const ah_edit *edit) {
    double x = (double)logit, penalty = (double)sampling->repetition_penalty_micro / MICRO;
    x = x + (double)edit->bias_micro / MICRO;
    if (edit->seen) x = x > 0.0 ? x / penalty : x * penalty;
    x = x - ((double)sampling->frequency_penalty_micro / MICRO) * (double)edit->count;
    if (edit->count > 0) x = x - (double)sampling->presence_penalty_micro / MICRO;
    return (float)x;
}

/* After edits, `all` as it is now: by the blocks they are in, or anew where they are many. */
INLINE void edit(float *logits, view *all, const ah_sampling *sampling, ah_edit *edits, int32_t count) {
    int few = count < blocks_of(all) / 4;
    for (int32_t i = 0; i < count; i++) {
        if (edits[i].token < 0 || edits[i].token >= all->n) continue;
        float *at = &logits[edits[i].token];
        edits[i].kept = *at;
        *at = edited(*at, sampling, &edits[i]);
    }
    fill_tail(all);
    for (int32_t i = 0; few && i < count; i++) {
        if (edits[i].token < 0 || edits[i].token >= all->n) continue;
        int32_t block = edits[i].token / BLOCK;
        all->block_best[block] = best_of_block(all, block * BLOCK);
    }
    if (few) find_best(all);
    else look(all);
}

INLINE void put_back(float *logits, int32_t n, const ah_edit *edits, int32_t count) {
    for (int32_t i = 0; i < count; i++)
        if (edits[i].token >= 0 && edits[i].token < n) logits[edits[i].token] = edits[i].kept;
}

/* The greatest in order, for the trace. */
INLINE int32_t lead(const view *all, int32_t wanted, ah_leader *leaders, ah_entry *entries) {
    last_of last;
    if (wanted <= 0 || all->best == LEAST) return 0;
    int32_t found = first_of_order(all, wanted, entries, &last);
    for (int32_t i = 0; i < found; i++) {           /* few: put each where it belongs */
        ah_entry entry = entries[i];
        int32_t at = i;
        for (; at > 0 && before(&entry, &entries[at - 1]); at--) entries[at] = entries[at - 1];
        entries[at] = entry;
    }
    for (int32_t i = 0; i < found; i++) {
        leaders[i].token = entries[i].token;
        leaders[i].value = entries[i].value;
    }
    return found;
}

/* ---- one step, at every level ---- */

typedef struct {
    float *logits;
    int32_t n;
    const ah_sampling *sampling;
    ah_edit *edits;
    int32_t edit_count;
    uint64_t key;
    void *scratch;
    int32_t wanted;
    ah_leader *leaders;
    int32_t *found;
} asked;

INLINE size_t whole_blocks(int32_t n) { return ((size_t)n + BLOCK - 1) / BLOCK; }

INLINE int32_t step(const asked *of) {
    size_t blocks = whole_blocks(of->n);
    uint64_t *weights = of->scratch;
    ah_entry *entries = (ah_entry *)(weights + blocks * BLOCK);
    float *tail = (float *)(entries + blocks * BLOCK);
    room at = {entries, weights};
    view all = {of->logits, of->n, LEAST, tail + BLOCK, tail};
    look(&all);
    if (of->wanted > 0) *of->found = lead(&all, of->wanted, of->leaders, entries);
    if (!of->sampling) return 0;
    if (of->edit_count) edit(of->logits, &all, of->sampling, of->edits, of->edit_count);
    int32_t token = choose(&all, of->sampling, of->key, &at);
    put_back(of->logits, of->n, of->edits, of->edit_count);
    return token;
}

int32_t ah_step_3(const asked *of);
int32_t ah_step_4(const asked *of);

#if defined(AH_LEVEL) && AH_LEVEL == 3
int32_t ah_step_3(const asked *of) { return step(of); }
#elif defined(AH_LEVEL) && AH_LEVEL == 4
int32_t ah_step_4(const asked *of) { return step(of); }
#else

#if defined(AH_LEVELS)
static int all_of(uint64_t value, uint64_t bits) { return (value & bits) == bits; }

/* What the processor has and the system saves: what the compiler was told each level is. */
static int32_t level_of_machine(void) {
    uint32_t a, b, c, d, b7, extended, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !__get_cpuid(0x80000001, &a, &b, &extended, &d)) return 1;
    /* fma, sse4.2, movbe, popcnt, osxsave, avx, f16c; lzcnt */
    if (!all_of(c, 1u << 12 | 1u << 20 | 1u << 22 | 1u << 23 | 1u << 27 | 1u << 28 | 1u << 29)) return 1;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    if (!all_of(low, 0x06) || !(extended & 1u << 5) || !__get_cpuid_count(7, 0, &a, &b7, &c, &d)) return 1;
    if (!all_of(b7, 1u << 3 | 1u << 5 | 1u << 8)) return 1;                                     /* bmi1, avx2, bmi2 */
    /* avx512 f, dq, cd, bw, vl */
    return all_of(low, 0xe6) && all_of(b7, 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31) ? 4 : 3;
}

/* Asked once: in a virtual machine the question is dear. Whoever asks at the same time finds the same. */
static int32_t level(void) {
    static int32_t known;
    int32_t found = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (!found) {
        found = level_of_machine();
        __atomic_store_n(&known, found, __ATOMIC_RELAXED);
    }
    return found;
}

static int32_t step_here(const asked *of) {
    switch (level()) {
    case 4: return ah_step_4(of);
    case 3: return ah_step_3(of);
    default: return step(of);
    }
}
#else
static int32_t step_here(const asked *of) { return step(of); }
#endif

size_t ah_scratch_bytes(int32_t vocabulary) {
    size_t blocks = whole_blocks(vocabulary);
    return blocks * BLOCK * (sizeof(uint64_t) + sizeof(ah_entry)) + (blocks + BLOCK) * sizeof(float);
}

int32_t ah_step(float *logits, int32_t vocabulary, const ah_sampling *sampling, ah_edit *edits, int32_t edit_count,
                uint64_t key, void *scratch, int32_t wanted, ah_leader *leaders, int32_t *found) {
    asked of = {logits, vocabulary, sampling, edits, edit_count, key, scratch, wanted, leaders, found};
    return step_here(&of);
}

int32_t ah_leaders(float *logits, int32_t vocabulary, int32_t wanted, ah_leader *leaders, void *scratch) {
    int32_t found = 0;
    asked of = {logits, vocabulary, NULL, NULL, 0, 0, scratch, wanted, leaders, &found};
    step_here(&of);
    return found;
}

uint64_t ah_weight(double gap) { return weight_of(gap); }

double ah_noise(uint64_t key, int32_t token) { return noise_of(key, token); }

#endif
