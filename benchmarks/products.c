/* What compiled loops of one thread reach: matrix products whose accumulators are rounded, and a tensor core's.
 *
 * Row-major; N is a multiple of 32, M of 4, K of the products of a step. A tile of rows and 32 columns stays in
 * registers or in the fastest cache while k runs. No infinities and NaN; in `fused` no float32 subnormals. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

#define ROWS 4
#define COLUMNS 32

static inline uint32_t bits_of(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

static inline float float_of(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

/* As patterns: the smallest normal number, the factor 2**(24 - p) between a number and what is added to round it,
 * the largest number, and what lies beyond it. */
struct format {
  uint32_t normal, shift, largest, beyond;
};

static inline float nearest(float x, struct format f) {
  uint32_t bits = bits_of(x), lead = bits & 0x7f800000u;
  float power = float_of((lead > f.normal ? lead : f.normal) + f.shift);
  float rounded = (float_of(bits & 0x7fffffffu) + power) - power;
  rounded = rounded > float_of(f.largest) ? float_of(f.beyond) : rounded;
  return float_of(bits_of(rounded) | (bits & 0x80000000u));
}

static inline float nearest_bf16(float x, struct format f) {
  uint32_t bits = bits_of(x);
  (void)f;
  return float_of((bits + 0x7fffu + ((bits >> 16) & 1)) & 0xffff0000u);
}

#define PRODUCT(NAME, ROUND)                                                                                       \
  void NAME(float *restrict result, const float *restrict a, const float *restrict b, size_t m, size_t n, size_t k, \
            struct format f) {                                                                                     \
    for (size_t i = 0; i < m; i += ROWS)                                                                           \
      for (size_t j = 0; j < n; j += COLUMNS) {                                                                    \
        float total[ROWS][COLUMNS] = {{0}};                                                                        \
        for (size_t p = 0; p < k; p++)                                                                             \
          for (int r = 0; r < ROWS; r++) {                                                                         \
            float x = a[(i + r) * k + p];                                                                          \
            for (int c = 0; c < COLUMNS; c++) total[r][c] = ROUND(total[r][c] + x * b[p * n + j + c], f);           \
          }                                                                                                        \
        for (int r = 0; r < ROWS; r++) memcpy(result + (i + r) * n + j, total[r], sizeof total[r]);                 \
      }                                                                                                            \
  }

PRODUCT(product_any, nearest)
PRODUCT(product_bf16, nearest_bf16)

#ifdef __F16C__
void product_fp16(float *restrict result, const float *restrict a, const float *restrict b, size_t m, size_t n,
                  size_t k, struct format f) {
  (void)f;
  for (size_t i = 0; i < m; i += ROWS)
    for (size_t j = 0; j < n; j += 16) {
      __m256 total[ROWS][2];
      for (int r = 0; r < ROWS; r++) total[r][0] = total[r][1] = _mm256_setzero_ps();
      for (size_t p = 0; p < k; p++)
        for (int h = 0; h < 2; h++) {
          __m256 y = _mm256_loadu_ps(b + p * n + j + 8 * h);
          for (int r = 0; r < ROWS; r++) {
            __m256 x = _mm256_set1_ps(a[(i + r) * k + p]);
            __m256 sum = _mm256_add_ps(total[r][h], _mm256_mul_ps(x, y));
            total[r][h] = _mm256_cvtph_ps(_mm256_cvtps_ph(sum, _MM_FROUND_TO_NEAREST_INT));
          }
        }
      for (int r = 0; r < ROWS; r++)
        for (int h = 0; h < 2; h++) _mm256_storeu_ps(result + (i + r) * n + j + 8 * h, total[r][h]);
    }
}
#else
void product_fp16(float *restrict result, const float *restrict a, const float *restrict b, size_t m, size_t n,
                  size_t k, struct format f) {
  product_any(result, a, b, m, n, k, f);
}
#endif

/* A tensor core: steps of `length` products, cut off `fraction` bits below the largest exponent, added exactly and
 * truncated to `precision` bits. `trailing` counts the fraction bits of an operand. */
#define NO_EXPONENT (-4000)

static void decode(int32_t *significand, int32_t *exponent, const float *x, size_t size, int trailing, int emin,
                   int lift) {
  for (size_t k = 0; k < size; k++) {
    uint32_t bits = bits_of(x[k]);
    int32_t lead = (int32_t)((bits >> 23) & 255) - 127, e = lead > emin ? lead : emin;
    int32_t magnitude = (int32_t)(((bits & 0x7fffffu) | 0x800000u) >> (23 - trailing + e - lead) << lift);
    int zero = (bits & 0x7fffffffu) == 0;
    significand[k] = zero ? 0 : bits >> 31 ? -magnitude : magnitude;
    exponent[k] = zero ? NO_EXPONENT : e;
  }
}

static inline __attribute__((always_inline)) void fused_tile(float *restrict total, const int32_t *restrict sa,
                                                             const int32_t *restrict ea, const int32_t *restrict sb,
                                                             const int32_t *restrict eb, size_t n, size_t k, int length,
                                                             int fraction, int precision) {
  uint64_t kept = ~(uint64_t)0 << (53 - precision);
  for (size_t p = 0; p < k; p += length) {
    int32_t largest[COLUMNS], halves[2][COLUMNS] = {{0}};
    for (int c = 0; c < COLUMNS; c++) {
      uint32_t bits = bits_of(total[c]);
      largest[c] = (bits & 0x7fffffffu) ? (int32_t)((bits >> 23) & 255) - 127 : NO_EXPONENT;
    }
    for (int l = 0; l < length; l++)
      for (int c = 0; c < COLUMNS; c++) {
        int32_t e = ea[p + l] + eb[(p + l) * n + c];
        largest[c] = e > largest[c] ? e : largest[c];
      }
    for (int l = 0; l < length; l++)
      for (int c = 0; c < COLUMNS; c++) {
        int32_t value = sa[p + l] * sb[(p + l) * n + c], sign = value >> 31;
        int32_t shift = largest[c] - (ea[p + l] + eb[(p + l) * n + c]);
        shift = shift > 31 ? 31 : shift;
        halves[l & 1][c] += ((((value ^ sign) - sign) >> shift) ^ sign) - sign;
      }
    for (int c = 0; c < COLUMNS; c++) {
      int32_t e = largest[c] < -1000 ? 0 : largest[c];
      uint64_t up = (uint64_t)(1023 + fraction - e) << 52, down = (uint64_t)(1023 - fraction + e) << 52, word;
      double scale, back, sum;
      memcpy(&scale, &up, sizeof scale);
      memcpy(&back, &down, sizeof back);
      sum = ((double)halves[0][c] + (double)halves[1][c] + (double)(int32_t)(total[c] * scale)) * back;
      memcpy(&word, &sum, sizeof word);
      word &= kept;
      memcpy(&sum, &word, sizeof sum);
      total[c] = (float)sum;
    }
  }
}

void fused(float *restrict result, const float *restrict a, const float *restrict b, size_t m, size_t n, size_t k,
           int length, int fraction, int precision, int trailing, int emin) {
  int32_t *sa = malloc(4 * m * k), *ea = malloc(4 * m * k), *sb = malloc(4 * k * n), *eb = malloc(4 * k * n);
  if (sa && ea && sb && eb) {
    decode(sa, ea, a, m * k, trailing, emin, 0);
    decode(sb, eb, b, k * n, trailing, emin, fraction - 2 * trailing);
    for (size_t j = 0; j < n; j += COLUMNS)
      for (size_t i = 0; i < m; i++) {
        float total[COLUMNS] = {0};
        if (length == 16)
          fused_tile(total, sa + i * k, ea + i * k, sb + j, eb + j, n, k, 16, fraction, precision);
        else
          fused_tile(total, sa + i * k, ea + i * k, sb + j, eb + j, n, k, 32, fraction, precision);
        memcpy(result + i * n + j, total, sizeof total);
      }
  }
  free(sa);
  free(ea);
  free(sb);
  free(eb);
}
