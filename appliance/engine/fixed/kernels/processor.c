/* What this machine can run: asked of the processor and of the system that saves its registers. */
#include "model.h"

#if defined(__x86_64__)
#include <cpuid.h>

static uint64_t saved_registers(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

static int all_of(uint32_t value, uint32_t bits) { return (value & bits) == bits; }

int fixed_has(int variant) {
    uint32_t a, b, c, d, b7, c1, extended;
    if (variant == VARIANT_SCALAR) return 1;
    if (!__get_cpuid(1, &a, &b, &c1, &d) || !__get_cpuid_count(7, 0, &a, &b7, &c, &d)) return 0;
    if (!__get_cpuid(0x80000001, &a, &b, &extended, &d)) return 0;
    /* fma, movbe, osxsave, avx, f16c; bmi1, avx2, bmi2; lzcnt: the level the compiler was told (x86-64-v3) */
    if (!all_of(c1, 1u << 12 | 1u << 22 | 1u << 27 | 1u << 28 | 1u << 29)) return 0;
    if (!all_of(b7, 1u << 3 | 1u << 5 | 1u << 8) || !(extended & 1u << 5)) return 0;
    if ((saved_registers() & 0x06) != 0x06) return 0;
    if (variant == VARIANT_AVX2) return 1;
    /* avx512 f, dq, cd, bw, vl (x86-64-v4); vnni; bf16 */
    uint32_t c7 = c, a71;
    return variant == VARIANT_AVX512 && all_of(b7, 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31)
           && c7 & 1u << 11 && __get_cpuid_count(7, 1, &a71, &b, &c, &d) && a71 & 1u << 5
           && (saved_registers() & 0xe6) == 0xe6 && pairs_in_order();
}
#else
int fixed_has(int variant) { return variant == VARIANT_SCALAR; }
#endif
