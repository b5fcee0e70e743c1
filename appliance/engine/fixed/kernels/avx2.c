/* AVX2 and FMA: eight words a register. A word of two bf16 is widened by a shift and a mask, x once for each product. */
#include <immintrin.h>

#include "order.h"

#define WORDS 8
#define FACTOR_BYTES 4
#define TILE_ROWS 4
#define PARTS_AT_ONCE 1
#define LINES_AT_ONCE 16
#define CODES_ROWS 2
#define CODES_COLUMNS 3
#define OFFSET_INT8 0
#define KERNELS kernels_avx2

typedef __m256 V;
typedef __m256i Words, Integers;
typedef struct { V even, odd; } Operand;

static inline V all(float a) { return _mm256_set1_ps(a); }
static inline V load(const float *p) { return _mm256_loadu_ps(p); }
static inline void store(float *p, V a) { _mm256_storeu_ps(p, a); }
static inline V add(V a, V b) { return _mm256_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
static inline V div_(V a, V b) { return _mm256_div_ps(a, b); }
static inline V fma_(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
static inline V greatest(V a, V b) { return _mm256_max_ps(a, b); }
static inline V least(V a, V b) { return _mm256_min_ps(a, b); }
static inline V power_of_two(V n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
static inline float root(float a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }
static inline float fold(const V *s, int parts) {
    V a = parts == 4 ? add(add(s[0], s[2]), add(s[1], s[3])) : add(s[0], s[1]);
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}

static inline Words load_words(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline void store_words(uint8_t *p, Words w) { _mm256_storeu_si256((__m256i *)p, w); }
static inline void apart(Words w, V *even, V *odd) {
    *even = _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
    *odd = _mm256_castsi256_ps(_mm256_and_si256(w, _mm256_set1_epi32((int)0xffff0000)));
}
static inline Operand load_operand(const uint8_t *p) {
    return (Operand){load((const float *)p), load((const float *)p + WORDS)};
}
static inline void store_operand(uint8_t *to, const bf16 *from) {
    for (int i = 0; i < WORDS; i++) {
        ((float *)to)[i] = widen(from[2 * i]);
        ((float *)to)[WORDS + i] = widen(from[2 * i + 1]);
    }
}
static inline V pairs(Words w, Operand x, V sum) {
    V even, odd;
    apart(w, &even, &odd);
    return fma_(even, x.even, fma_(odd, x.odd, sum));
}

static inline Words lower(Words w) { return _mm256_and_si256(w, _mm256_set1_epi8(15)); }
static inline Words upper(Words w) { return _mm256_and_si256(_mm256_srli_epi16(w, 4), _mm256_set1_epi8(15)); }
typedef __m256i Uppers;
static inline Uppers load_uppers(const uint8_t *p) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p)); }
static inline void open_line(const uint8_t *woven, int second, Uppers uppers, Words line[4]) {
    for (int half = 0; half < 2; half++) {
        Words names = load_words(woven + 2 * LINE + half * 32), low = load_words(woven + second * LINE + half * 32);
        Words high = _mm256_shuffle_epi8(uppers, second ? upper(names) : lower(names));
        line[half] = _mm256_unpacklo_epi8(low, high);
        line[2 + half] = _mm256_unpackhi_epi8(low, high);
    }
}

static inline __m256i first(int count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}
static inline Words load_some(const uint8_t *p, int count) {
    return count >= WORDS ? load_words(p) : _mm256_maskload_epi32((const int *)p, first(count));
}
static inline Integers load_integers(const uint8_t *p) { return load_words(p); }
static inline Integers no_integers(void) { return _mm256_setzero_si256(); }
static inline Integers add_integers(Integers a, Integers b) { return _mm256_add_epi32(a, b); }
static inline V to_floats(Integers a) { return _mm256_cvtepi32_ps(a); }
static inline Integers fours(__m256i twos, Integers sum) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(twos, _mm256_set1_epi16(1)));
}
/* Bytes of one sign by bytes of any: two products of 127 by 127 at most fit 16 bits, so nothing saturates. */
static inline Integers codes_int8(Words w, Words x, Integers sum) {
    __m256i code = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    return fours(_mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(code, x)), sum);
}
static inline Integers codes_int4(Words w, Words x, Integers sum) { return fours(_mm256_maddubs_epi16(w, x), sum); }
static inline V load_scales(const bf16 *scales, int part, int shift, int blocks) {
    bf16 s[WORDS] = {0};
    for (int i = 0; i < WORDS; i++)
        if (part * WORDS + i < blocks) s[i] = scales[(part * WORDS + i) >> shift];
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)s));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

#define FOLDED_TOGETHER 0
#define fold_together(s, y, y_stride) ((void)(s))

#include "body.h"
