/* Any machine: vectors are arrays, and a fused multiply-add is made where there is none. */
#include <math.h>

#include "order.h"

#define WORDS 16
#define FACTOR_BYTES 4
#define TILE_ROWS 2
#define PARTS_AT_ONCE 2
#define LINES_AT_ONCE 32
#define CODES_ROWS 2
#define CODES_COLUMNS 3
#define OFFSET_INT8 128
#define KERNELS kernels_scalar

typedef struct { float f[WORDS]; } V;
typedef struct { uint8_t b[4 * WORDS]; } Words;
typedef struct { int32_t i[WORDS]; } Integers;
typedef struct { V even, odd; } Operand;
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
static inline float fold(const V *s, int parts) {
    V a = parts == 2 ? add(s[0], s[1]) : s[0];
    for (int d = 8; d; d /= 2)
        for (int i = 0; i < d; i++) a.f[i] = a.f[i] + a.f[i + d];
    return a.f[0];
}

static inline Words load_words(const uint8_t *p) { Words w; memcpy(w.b, p, sizeof w.b); return w; }
static inline void store_words(uint8_t *p, Words w) { memcpy(p, w.b, sizeof w.b); }
static inline void apart(Words w, V *even, V *odd) {
    EACH {
        even->f[i] = widen((bf16)(w.b[4 * i] | w.b[4 * i + 1] << 8));
        odd->f[i] = widen((bf16)(w.b[4 * i + 2] | w.b[4 * i + 3] << 8));
    }
}
static inline Operand load_operand(const uint8_t *p) {
    return (Operand){load((const float *)p), load((const float *)p + WORDS)};
}
static inline void store_operand(uint8_t *to, const bf16 *from) {
    EACH { ((float *)to)[i] = widen(from[2 * i]); ((float *)to)[WORDS + i] = widen(from[2 * i + 1]); }
}
static inline V pairs(Words w, Operand x, V sum) {
    V even, odd;
    apart(w, &even, &odd);
    return fma_(even, x.even, fma_(odd, x.odd, sum));
}

typedef const uint8_t *Uppers;
static inline Uppers load_uppers(const uint8_t *p) { return p; }
static inline void open_line(const uint8_t *woven, int second, Uppers uppers, Words line[2]) {
    for (int i = 0; i < LINE; i++) {
        int name = woven[2 * LINE + i] >> 4 * second & 15, at = 2 * place_of(i);
        line[at / LINE].b[at % LINE] = woven[second * LINE + i];
        line[at / LINE].b[at % LINE + 1] = uppers[name];
    }
}

static inline Words load_some(const uint8_t *p, int count) {
    Words w = {{0}};
    memcpy(w.b, p, count >= WORDS ? sizeof w.b : (size_t)count * 4);
    return w;
}
static inline Integers load_integers(const uint8_t *p) { Integers a; memcpy(a.i, p, sizeof a.i); return a; }
static inline Integers no_integers(void) { return (Integers){{0}}; }
static inline Integers add_integers(Integers a, Integers b) { EACH a.i[i] += b.i[i]; return a; }
static inline V to_floats(Integers a) { V r; EACH r.f[i] = (float)a.i[i]; return r; }
static inline Words lower(Words w) { for (int i = 0; i < 4 * WORDS; i++) w.b[i] &= 15; return w; }
static inline Words upper(Words w) { for (int i = 0; i < 4 * WORDS; i++) w.b[i] >>= 4; return w; }
static inline Integers codes_int8(Words w, Words x, Integers sum) {
    EACH for (int b = 4 * i; b < 4 * i + 4; b++) sum.i[i] += w.b[b] * (int8_t)x.b[b];
    return sum;
}
static inline Integers codes_int4(Words w, Words x, Integers sum) { return codes_int8(w, x, sum); }
static inline V load_scales(const bf16 *scales, int part, int shift, int blocks) {
    V r = all(0.0f);
    (void)part;
    for (int i = 0; i < blocks; i++) r.f[i] = widen(scales[i >> shift]);
    return r;
}

#define FOLDED_TOGETHER 0
#define fold_together(s, y, y_stride) ((void)(s))

#include "body.h"
