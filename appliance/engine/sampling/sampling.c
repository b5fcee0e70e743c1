/* docs/spec/sampling.md in C: the same token as reference.py for every input, in a few passes over the logits.
 *
 * Compile with -ffp-contract=off and without -ffast-math: then every operation below is one IEEE 754 operation, and
 * no compiler, vector width or machine changes a bit. No function of libm is called. Survivors are always a prefix of
 * the order (Y6), so they are described by their last member, and nothing is ever sorted.
 *
 * Loops go by blocks of a fixed size and without branches, so that compilers make vectors of them. Sums of weights are
 * sums of integers, so their order is free.
 *
 * With weights.h and survivors.h this file is a whole library. With -DAH_LEVELS it expects itself beside it, compiled
 * with -DAH_LEVEL=3 for x86-64-v3 and with -DAH_LEVEL=4 for x86-64-v4, and asks the processor which of the three is to
 * run.
 */
#include "sampling.h"
#include "survivors.h"
#include "weights.h"

#include <stddef.h>
#include <string.h>
#if defined(AH_LEVELS)
#include <cpuid.h>
#endif

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
