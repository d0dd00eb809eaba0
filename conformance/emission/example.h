/*
 * An example for checker.c: bfloat16 to OFP8 E4M3 in integer arithmetic, and two faulty versions.
 *
 *   cc -std=c99 -DFUNCTIONS='"example.h"' -o checker checker.c
 *
 * -DFAULT=1: saturating, finite numbers from 512 on become NaN if three fraction bits are not 0.
 * -DFAULT=2: overflow ignores the rounding mode; toward zero it has to stop at the largest value.
 */
#ifndef FAULT
#define FAULT 0
#endif

enum { INEXACT = 1, UNDERFLOW = 2, OVERFLOW = 4, INVALID = 16, LARGEST = 0x7e, NOT_A_NUMBER = 0x7f };

static unsigned to_e4m3(unsigned x, int to_nearest, int saturates, unsigned *flags) {
  unsigned sign = x >> 8 & 0x80, magnitude = x & 0x7fff, field = magnitude >> 7;
  int exponent = field ? (int)field - 127 : -126, lost, shift;
  unsigned significand = field ? 0x80 | (magnitude & 0x7f) : magnitude, kept, half, code;
  if (magnitude > 0x7f80) return sign | NOT_A_NUMBER;
  if (magnitude == 0x7f80) return *flags = INVALID, sign | NOT_A_NUMBER;
  shift = exponent < -6 ? 4 - 6 - exponent : 4; /* to 4 bits, fewer below the smallest normal */
  if (shift > 20) shift = 20;
  kept = significand >> shift;
  lost = (significand & ((1U << shift) - 1)) != 0;
  half = significand >> (shift - 1) & 1;
  if (to_nearest && half && (kept & 1 || significand & ((1U << (shift - 1)) - 1))) kept++;
  code = kept + 8 * (unsigned)(exponent < -6 ? 0 : exponent + 6);
  if (lost) *flags = INEXACT;
  /* Tiny after rounding: below 2**-6, also to four bits with an unlimited exponent range. */
  if (lost && (exponent < -7 || (exponent == -7 && !(to_nearest && significand >= 0xf8))))
    *flags |= UNDERFLOW;
  if (code <= LARGEST) return sign | code;
  *flags = INEXACT | OVERFLOW;
  if (FAULT == 1 && saturates && exponent >= 9 && exponent < 16 && significand >> 4 & 7)
    return sign | NOT_A_NUMBER;
  if (FAULT == 2 && !saturates) return sign | NOT_A_NUMBER;
  return sign | (saturates || !to_nearest ? LARGEST : NOT_A_NUMBER);
}

static void rne_saturate(const uint64_t *in, uint64_t *result, unsigned *flags) {
  *result = to_e4m3((unsigned)in[0], 1, 1, flags);
}

static void rne_infinity(const uint64_t *in, uint64_t *result, unsigned *flags) {
  *result = to_e4m3((unsigned)in[0], 1, 0, flags);
}

static void rtz_infinity(const uint64_t *in, uint64_t *result, unsigned *flags) {
  *result = to_e4m3((unsigned)in[0], 0, 0, flags);
}

static const struct function functions[] = {{"bf16_to_e4m3.rne.saturate", rne_saturate, 1},
                                            {"bf16_to_e4m3.rne.infinity", rne_infinity, 1},
                                            {"bf16_to_e4m3.rtz.infinity", rtz_infinity, 1},
                                            {0, 0, 0}};
