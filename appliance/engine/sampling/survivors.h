/* The order of the logits and what is left of it: blocks, thresholds, the first k (docs/spec/sampling.md Y4 and Y6). */
#ifndef ANCHORHOLD_SURVIVORS_H
#define ANCHORHOLD_SURVIVORS_H

#include "sampling.h"
#include "weights.h"

#define MICRO 1000000
#define BLOCK 64
#define LEAST (-__builtin_inff())
#define LEAST_FINITE (-0x1.fffffep+127f)

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

#endif
