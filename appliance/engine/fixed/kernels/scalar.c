/* Any machine: vectors are arrays, and a fused multiply-add is made where there is none. */
#include <math.h>

#include "order.h"

#define WORDS 16
#define TILE_ROWS 2
#define TILE_COLUMNS 2
#define HOLD(v) ((void)0)
#define KERNELS kernels_scalar

typedef struct { float f[WORDS]; } V;
typedef float Table;
typedef struct { uint32_t u[WORDS]; } Words;
typedef V Scale;
#define EACH for (int i = 0; i < WORDS; i++)

static inline V all(float a) { V r; EACH r.f[i] = a; return r; }
static inline V load(const float *p) { V r; memcpy(r.f, p, sizeof r.f); return r; }
static inline void store(float *p, V a) { memcpy(p, a.f, sizeof a.f); }
static inline V add(V a, V b) { EACH a.f[i] = a.f[i] + b.f[i]; return a; }
static inline V sub(V a, V b) { EACH a.f[i] = a.f[i] - b.f[i]; return a; }
static inline V mul(V a, V b) { EACH a.f[i] = a.f[i] * b.f[i]; return a; }
static inline V div_(V a, V b) { EACH a.f[i] = a.f[i] / b.f[i]; return a; }
static inline V fma_(V a, V b, V c) { EACH a.f[i] = fused(a.f[i], b.f[i], c.f[i]); return a; }
static inline V greatest(V a, V b) { EACH a.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i]; return a; }
static inline V least(V a, V b) { EACH a.f[i] = a.f[i] < b.f[i] ? a.f[i] : b.f[i]; return a; }
static inline V power_of_two(V n) { EACH n.f[i] = float_of((uint32_t)((int)n.f[i] + 127) << 23); return n; }
static inline float root(float a) { return sqrtf(a); }
static inline float fold(V s) {
    for (int d = 8; d; d /= 2)
        for (int i = 0; i < d; i++) s.f[i] = s.f[i] + s.f[i + d];
    return s.f[0];
}

static inline Scale scale_int8(float s) { return all(s); }
static inline Table table_int4(float s) { return s; }
static inline void load_bf16(const uint8_t *p, V *even, V *odd) {
    bf16 w[2 * WORDS];
    memcpy(w, p, sizeof w);
    EACH { even->f[i] = widen(w[2 * i]); odd->f[i] = widen(w[2 * i + 1]); }
}
static inline void load_int8(const uint8_t *p, Scale s, V *even, V *odd) {
    EACH { even->f[i] = (float)(int8_t)p[2 * i] * s.f[0]; odd->f[i] = (float)(int8_t)p[2 * i + 1] * s.f[0]; }
}
static inline Words load_words(const uint8_t *p) {
    Words w;
    EACH w.u[i] = p[4 * i] | (uint32_t)p[4 * i + 1] << 8 | (uint32_t)p[4 * i + 2] << 16 | (uint32_t)p[4 * i + 3] << 24;
    return w;
}
static inline V look_up(Words w, int shift, Table s) {
    V r;
    EACH r.f[i] = (float)((int)(w.u[i] >> shift & 15) - 8) * s;
    return r;
}

#include "body.h"
