/* AVX-512 (F, BW, DQ, VL): sixteen words a register; a table of sixteen products is what an int4 weight looks up. */
#include <immintrin.h>

#include "order.h"

#define WORDS 16
#define TILE_ROWS 4
#define TILE_COLUMNS 3
#if defined(__clang__)
#define HOLD(v) __asm__("" : "+v"(v))      /* clang would load it again for each use */
#else
#define HOLD(v) ((void)0)
#endif
#define KERNELS kernels_avx512

typedef __m512 V;
typedef __m512 Scale;
typedef __m512 Table;       /* the scale times -8 .. 7 */
typedef __m512i Words;

static inline V all(float a) { return _mm512_set1_ps(a); }
static inline V load(const float *p) { return _mm512_loadu_ps(p); }
static inline void store(float *p, V a) { _mm512_storeu_ps(p, a); }
static inline V add(V a, V b) { return _mm512_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
static inline V div_(V a, V b) { return _mm512_div_ps(a, b); }
static inline V fma_(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V greatest(V a, V b) { return _mm512_max_ps(a, b); }
static inline V least(V a, V b) { return _mm512_min_ps(a, b); }
static inline V power_of_two(V n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
static inline float root(float a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }
static inline float fold(V s) {
    __m256 x = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}

static inline Scale scale_int8(float s) { return _mm512_set1_ps(s); }
static inline Table table_int4(float s) {
    return mul(_mm512_set_ps(7, 6, 5, 4, 3, 2, 1, 0, -1, -2, -3, -4, -5, -6, -7, -8), _mm512_set1_ps(s));
}
static inline void load_bf16(const uint8_t *p, V *even, V *odd) {   /* twice from memory: no register for a mask */
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16));
    *odd = _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(0xaaaaaaaa, p));
}
static inline void load_int8(const uint8_t *p, Scale s, V *even, V *odd) {
    __m512i w = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)p));
    *even = mul(_mm512_cvtepi32_ps(_mm512_srai_epi32(_mm512_slli_epi32(w, 24), 24)), s);
    *odd = mul(_mm512_cvtepi32_ps(_mm512_srai_epi32(w, 8)), s);
}
static inline Words load_words(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline V look_up(Words w, int shift, Table table) {
    return _mm512_permutexvar_ps(_mm512_srli_epi32(w, (unsigned)shift), table);
}

#include "body.h"
