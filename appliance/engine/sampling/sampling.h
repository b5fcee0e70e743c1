/* Logits to a token, as docs/spec/sampling.md states it. No dependency, no state, no allocation. */
#ifndef ANCHORHOLD_SAMPLING_H
#define ANCHORHOLD_SAMPLING_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define AH_EXPORT __declspec(dllexport)
#else
#define AH_EXPORT __attribute__((visibility("default")))
#endif

/* Millionths, as appliance.engine.protocol.Sampling has them. Ranges (Y2) are the caller's to check. */
typedef struct {
    int64_t temperature_micro;
    int64_t top_k;
    int64_t top_p_micro;
    int64_t min_p_micro;
    int64_t repetition_penalty_micro;
    int64_t presence_penalty_micro;
    int64_t frequency_penalty_micro;
} ah_sampling;

/* What changes one token's logit; a token appears once. `kept` is scratch: the logit is put back from it. */
typedef struct {
    int32_t token;
    int32_t seen;           /* in the prompt or in the answer so far */
    int64_t count;          /* times in the answer so far */
    int64_t bias_micro;
    float kept;
    int32_t unused;
} ah_edit;

typedef struct {
    uint64_t weight;
    float value;
    int32_t token;
} ah_entry;

/* One of the greatest logits, as a step's trace covers it. */
typedef struct {
    int32_t token;
    float value;
} ah_leader;

AH_EXPORT size_t ah_scratch_bytes(int32_t vocabulary);

/* The token, and with it the `wanted` greatest logits before any edit, in order; `found` says how many there are (with 0
 * wanted neither is written). `scratch` has `ah_scratch_bytes(vocabulary)`, aligned to 8; logits are edited and put
 * back. */
AH_EXPORT int32_t ah_step(float *logits, int32_t vocabulary, const ah_sampling *sampling, ah_edit *edits,
                          int32_t edit_count, uint64_t key, void *scratch, int32_t wanted, ah_leader *leaders,
                          int32_t *found);

/* The leaders alone; returns how many there are. Same scratch. */
AH_EXPORT int32_t ah_leaders(float *logits, int32_t vocabulary, int32_t wanted, ah_leader *leaders, void *scratch);

/* Y12 and Y14, for tests. */
AH_EXPORT uint64_t ah_weight(double gap);
AH_EXPORT double ah_noise(uint64_t key, int32_t token);

#endif
