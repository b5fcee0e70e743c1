/* AVX-512 with its dot products (F, BW, DQ, VL, BF16, VNNI: Zen 4, Sapphire Rapids and later): sixteen words a register.
 *
 * The instruction for pairs of bf16 takes the upper product first, then the lower one, each fused and rounded once to the
 * nearest, with subnormal numbers flushed, of which engine.md X6 leaves none. That is X4 to the letter, where a maker
 * built it so: `pairs_in_order` asks the processor itself.
 */
#include <immintrin.h>

#include "model.h"
#include "numbers.h"

#define WORDS 16
#define FACTOR_BYTES 2
#define TILE_ROWS 6
#define PARTS_AT_ONCE 2
#define LINES_AT_ONCE 32
#define CODES_ROWS 4
#define CODES_COLUMNS 3
#define OFFSET_INT8 128
#define KERNELS kernels_avx512

typedef __m512 V;
typedef __m512i Words, Operand, Integers;

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
static inline float fold(const V *s, int parts) {
    V a = parts == 2 ? add(s[0], s[1]) : s[0];
    __m256 x = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}

/* The trees of a whole tile, six rows of weights by two of x, as one: each step adds the upper half of what is left of
 * each sum to its lower half, and puts two of them side by side. */
#define FOLDED_TOGETHER 12
static inline V four(V a, V b, V c, V d) {      /* of each four numbers left */
    V ab = add(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    V cd = add(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    return add(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}
static inline void fold_together(V s[6][3][2], float *y, int64_t y_stride) {
    V v[12];
    for (int m = 0; m < 2; m++)
        for (int n = 0; n < 6; n++) v[6 * m + n] = add(s[n][m][0], s[n][m][1]);
    V a = four(v[0], v[1], v[2], v[3]), b = four(v[4], v[5], v[6], v[7]), c = four(v[8], v[9], v[10], v[11]);
    V ab = add(_mm512_shuffle_ps(a, b, 0x44), _mm512_shuffle_ps(a, b, 0xee));
    V cc = add(_mm512_shuffle_ps(c, c, 0x44), _mm512_shuffle_ps(c, c, 0xee));
    V sums = add(_mm512_shuffle_ps(ab, cc, 0x88), _mm512_shuffle_ps(ab, cc, 0xdd));    /* sum i at 4 (i mod 4) + i div 4 */
    const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m512i second = _mm512_setr_epi32(9, 13, 2, 6, 10, 14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    _mm512_mask_storeu_ps(y, 0x3f, _mm512_permutexvar_ps(first, sums));
    _mm512_mask_storeu_ps(y + y_stride, 0x3f, _mm512_permutexvar_ps(second, sums));
}

static inline Words load_words(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline void store_words(uint8_t *p, Words w) { _mm512_storeu_si512(p, w); }
static inline Operand load_operand(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline void store_operand(uint8_t *to, const bf16 *from) { memcpy(to, from, 64); }
static inline V pairs(Words w, Operand x, V sum) { return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x); }
static inline void apart(Words w, V *even, V *odd) {
    *even = _mm512_castsi512_ps(_mm512_slli_epi32(w, 16));
    *odd = _mm512_castsi512_ps(_mm512_and_si512(w, _mm512_set1_epi32((int)0xffff0000)));
}

static inline Words lower(Words w) { return _mm512_and_si512(w, _mm512_set1_epi8(15)); }
static inline Words upper(Words w) { return _mm512_and_si512(_mm512_srli_epi16(w, 4), _mm512_set1_epi8(15)); }
typedef __m512i Uppers;
static inline Uppers load_uppers(const uint8_t *p) { return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)p)); }
static inline void open_line(const uint8_t *woven, int second, Uppers uppers, Words line[2]) {
    Words names = load_words(woven + 2 * LINE), low = load_words(woven + second * LINE);
    Words high = _mm512_shuffle_epi8(uppers, second ? upper(names) : lower(names));
    line[0] = _mm512_unpacklo_epi8(low, high);
    line[1] = _mm512_unpackhi_epi8(low, high);
}

static inline __mmask16 first(int count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (__mmask16)((1u << count) - 1); }
static inline Words load_some(const uint8_t *p, int count) {
    return count >= 16 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi32(first(count), p);
}
static inline Integers load_integers(const uint8_t *p) { return _mm512_loadu_si512(p); }
static inline Integers no_integers(void) { return _mm512_setzero_si512(); }
static inline Integers add_integers(Integers a, Integers b) { return _mm512_add_epi32(a, b); }
static inline V to_floats(Integers a) { return _mm512_cvtepi32_ps(a); }
static inline Integers codes_int8(Words w, Words x, Integers sum) { return _mm512_dpbusd_epi32(sum, w, x); }
static inline Integers codes_int4(Words w, Words x, Integers sum) { return _mm512_dpbusd_epi32(sum, w, x); }
static inline V load_scales(const bf16 *scales, int part, int shift, int blocks) {
    (void)part;
    int count = (blocks + (1 << shift) - 1) >> shift;
    V s = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first(count), scales)), 16));
    const __m512i at = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    return shift ? _mm512_permutexvar_ps(_mm512_srli_epi32(at, (unsigned)shift), s) : s;
}

#include "body.h"

/* Two hundred and fifty-six sums of numbers near one another, where another order, one rounding for both products or none
 * to the nearest would show. */
int pairs_in_order(void) {
    uint32_t seed = 1, numbers = numbers_now();
    int same = 1;
    plain_numbers();
    for (int i = 0; i < 256 && same; i++) {
        uint32_t drawn[3][16];
        for (int k = 0; k < 48; k++) {
            seed = seed * 1664525u + 1013904223u;
            /* each half a bf16 of 2^-3 to 2^5 */
            drawn[k / 16][k % 16] = ((seed ^ seed >> 15) & 0x83ff83ffu) + 0x3e003e00u;
        }
        Words w = _mm512_loadu_si512(drawn[0]), x = _mm512_loadu_si512(drawn[1]);
        V sum = _mm512_loadu_ps(drawn[2]), even[2], odd[2];
        apart(w, &even[0], &odd[0]);
        apart(x, &even[1], &odd[1]);
        V two = fma_(even[0], even[1], fma_(odd[0], odd[1], sum));
        same = _mm512_cmpneq_epi32_mask(_mm512_castps_si512(pairs(w, x, sum)), _mm512_castps_si512(two)) == 0;
    }
    numbers_set(numbers);
    return same;
}
