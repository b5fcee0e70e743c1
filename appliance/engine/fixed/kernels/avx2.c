/* AVX2 and FMA: eight words a register, so a block of 32 weights is two halves of two registers each. */
#include <immintrin.h>

#include "order.h"

#define WORDS 8
#define TILE_ROWS 2
#define TILE_COLUMNS 3
#define HOLD(v) ((void)0)
#define KERNELS kernels_avx2

typedef __m256 V;
typedef __m256 Scale, Table;
typedef __m256i Words;

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
static inline float fold(V s) {
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}

static inline Scale scale_int8(float s) { return _mm256_set1_ps(s); }
static inline Table table_int4(float s) { return _mm256_set1_ps(s); }
static inline void load_bf16(const uint8_t *p, V *even, V *odd) {
    __m256i w = _mm256_loadu_si256((const __m256i *)p);
    *even = _mm256_castsi256_ps(_mm256_slli_epi32(w, 16));
    *odd = _mm256_castsi256_ps(_mm256_and_si256(w, _mm256_set1_epi32((int)0xffff0000)));
}
static inline void load_int8(const uint8_t *p, Scale s, V *even, V *odd) {
    __m256i w = _mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)p));
    *even = mul(_mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(w, 24), 24)), s);
    *odd = mul(_mm256_cvtepi32_ps(_mm256_srai_epi32(w, 8)), s);
}
static inline Words load_words(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
static inline V look_up(Words w, int shift, Table s) {
    __m256i code = _mm256_and_si256(_mm256_srli_epi32(w, shift), _mm256_set1_epi32(15));
    return mul(_mm256_cvtepi32_ps(_mm256_sub_epi32(code, _mm256_set1_epi32(8))), s);
}

#include "body.h"
