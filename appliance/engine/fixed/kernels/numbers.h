/* The processor's own switches: round to nearest, keep subnormal numbers (engine.md X1), whatever the process set. */
#ifndef ANCHORHOLD_NUMBERS_H
#define ANCHORHOLD_NUMBERS_H

#include <stdint.h>

#if defined(__x86_64__)
static inline uint32_t numbers_now(void) { uint32_t c; __asm__ volatile("stmxcsr %0" : "=m"(c)); return c; }
static inline void numbers_set(uint32_t c) { __asm__ volatile("ldmxcsr %0" : : "m"(c)); }
static inline void plain_numbers(void) { numbers_set(0x1f80); }
#else
static inline uint32_t numbers_now(void) { return 0; }
static inline void numbers_set(uint32_t c) { (void)c; }
static inline void plain_numbers(void) {}
#endif

#endif
