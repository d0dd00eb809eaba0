/* Dot products through a processor's own instruction: `processor NAME COUNT`, blocks on standard
   input, results on standard output. A block is a (M x K), b as columns (N x K) and c (M x N) as
   codes, a result M x N codes. Exit status 3: the processor lacks the instruction; 4: the program
   was compiled for processors of another sort, or by a compiler that does not know it. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LACKING = 3, UNKNOWN = 4, LANES = 16 };

/* Reads blocks of the given bytes, LANES at a time, and writes what `run` makes of them. */
typedef void (*Run)(const unsigned char *in, unsigned char *out);

static int through(Run run, size_t in_bytes, size_t out_bytes, size_t count, size_t at_once) {
  unsigned char *in = malloc(in_bytes * at_once), *out = malloc(out_bytes * at_once);
  if (!in || !out) return 1;
  while (count > 0) {
    size_t n = count < at_once ? count : at_once;
    memset(in, 0, in_bytes * at_once);
    if (fread(in, in_bytes, n, stdin) != n) return 1;
    run(in, out);
    if (fwrite(out, out_bytes, n, stdout) != n) return 1;
    count -= n;
  }
  return 0;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

/* CPUID leaf 7: registers eax, ebx, ecx, edx of a subleaf. */
static int has(unsigned subleaf, int reg, int bit) {
  unsigned r[4] = {0};
  if (!__get_cpuid_count(7, subleaf, &r[0], &r[1], &r[2], &r[3])) return 0;
  return r[reg] >> bit & 1;
}

/* A block: two bf16 a, two b, one float c. */
__attribute__((target("avx512f,avx512bf16"))) static void vdpbf16ps(const unsigned char *in,
                                                                    unsigned char *out) {
  uint32_t a[LANES], b[LANES], c[LANES];
  for (int i = 0; i < LANES; i++) {
    memcpy(&a[i], in + 12 * i, 4);
    memcpy(&b[i], in + 12 * i + 4, 4);
    memcpy(&c[i], in + 12 * i + 8, 4);
  }
  __m512 sums = _mm512_loadu_ps(c);
  __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
  sums = _mm512_dpbf16_ps(sums, (__m512bh)x, (__m512bh)y);
  _mm512_storeu_ps(out, sums);
}

/* A block: one fp16 each of a, b and c; 32 lanes, of which LANES are used. */
__attribute__((target("avx512f,avx512bw,avx512fp16"))) static void vfmaddph(const unsigned char *in,
                                                                            unsigned char *out) {
  uint16_t v[3][32] = {{0}};
  for (int i = 0; i < LANES; i++)
    for (int k = 0; k < 3; k++) memcpy(&v[k][i], in + 6 * i + 2 * k, 2);
  __m512h a = _mm512_loadu_ph(v[0]), b = _mm512_loadu_ph(v[1]), c = _mm512_loadu_ph(v[2]);
  uint16_t r[32];
  _mm512_storeu_ph(r, _mm512_fmadd_ph(a, b, c));
  memcpy(out, r, 2 * LANES);
}

/* Tiles 0, 1, 2: 16 rows of 64 bytes. A block: a 16 x 32, b 16 columns of 32, c 16 x 16. */
struct Config {
  uint8_t palette, start_row, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
};

__attribute__((target("amx-tile"))) static void configure(void) {
  struct Config config = {.palette = 1};
  for (int t = 0; t < 3; t++) config.bytes[t] = 64, config.rows[t] = 16;
  _tile_loadconfig(&config);
}

static void pairs_first(const unsigned char *b, unsigned char *out) {
  for (int n = 0; n < 16; n++)
    for (int k = 0; k < 16; k++) memcpy(out + 64 * k + 4 * n, b + 64 * n + 4 * k, 4);
}

#define TILES(NAME, TARGET, DOT)                                                               \
  __attribute__((target("amx-tile," TARGET))) static void NAME(const unsigned char *in,        \
                                                               unsigned char *out) {           \
    unsigned char b[1024];                                                                     \
    pairs_first(in + 1024, b);                                                                 \
    configure();                                                                               \
    _tile_loadd(0, in + 2048, 64);                                                             \
    _tile_loadd(1, in, 64);                                                                    \
    _tile_loadd(2, b, 64);                                                                     \
    DOT(0, 1, 2);                                                                              \
    _tile_stored(0, out, 64);                                                                  \
    _tile_release();                                                                           \
  }

TILES(tdpbf16ps, "amx-bf16", _tile_dpbf16ps)
#if __GNUC__ >= 13 && !defined(__clang__)
TILES(tdpfp16ps, "amx-fp16", _tile_dpfp16ps)
#define HAS_TDPFP16PS 1
#endif

/* Linux gives a process the tiles on request: ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA. */
static int may_use_tiles(void) { return has(0, 3, 24) && !syscall(SYS_arch_prctl, 0x1023, 18); }

static int run_instruction(const char *name, size_t count) {
  if (!strcmp(name, "vdpbf16ps"))
    return __builtin_cpu_supports("avx512bf16") ? through(vdpbf16ps, 12, 4, count, LANES) : LACKING;
  if (!strcmp(name, "vfmaddph"))
    return __builtin_cpu_supports("avx512f") && has(0, 3, 23)
               ? through(vfmaddph, 6, 2, count, LANES)
               : LACKING;
  if (!strcmp(name, "tdpbf16ps"))
    return has(0, 3, 22) && may_use_tiles() ? through(tdpbf16ps, 3072, 1024, count, 1) : LACKING;
#ifdef HAS_TDPFP16PS
  if (!strcmp(name, "tdpfp16ps"))
    return has(1, 0, 21) && may_use_tiles() ? through(tdpfp16ps, 3072, 1024, count, 1) : LACKING;
#endif
  return UNKNOWN;
}

#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>

enum { BF16 = 14, EBF16 = 32, EBF = 13 }; /* bits of AT_HWCAP2 and of FPCR */

/* A block: two bf16 a, two b, one float c; one lane of four is used. */
__attribute__((target("+bf16"))) static void bfdot(const unsigned char *in, unsigned char *out) {
  uint32_t a[4] = {0}, b[4] = {0};
  float c[4] = {0};
  memcpy(a, in, 4);
  memcpy(b, in + 4, 4);
  memcpy(c, in + 8, 4);
  bfloat16x8_t x = vreinterpretq_bf16_u32(vld1q_u32(a)), y = vreinterpretq_bf16_u32(vld1q_u32(b));
  vst1q_f32(c, vbfdotq_f32(vld1q_f32(c), x, y));
  memcpy(out, c, 4);
}

/* A block: a 2 x 4, b 2 columns of 4, c 2 x 2. */
__attribute__((target("+bf16"))) static void bfmmla(const unsigned char *in, unsigned char *out) {
  uint32_t a[4], b[4];
  float c[4];
  memcpy(a, in, 16);
  memcpy(b, in + 16, 16);
  memcpy(c, in + 32, 16);
  bfloat16x8_t x = vreinterpretq_bf16_u32(vld1q_u32(a)), y = vreinterpretq_bf16_u32(vld1q_u32(b));
  vst1q_f32(c, vbfmmlaq_f32(vld1q_f32(c), x, y));
  memcpy(out, c, 16);
}

static int extended(Run run, size_t in_bytes, size_t out_bytes, size_t count) {
  uint64_t fpcr;
  __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
  __asm__ volatile("msr fpcr, %0" ::"r"(fpcr | (uint64_t)1 << EBF));
  int status = through(run, in_bytes, out_bytes, count, 1);
  __asm__ volatile("msr fpcr, %0" ::"r"(fpcr));
  return status;
}

static int run_instruction(const char *name, size_t count) {
  unsigned long features = getauxval(AT_HWCAP2);
  int has_bf16 = features >> BF16 & 1, has_ebf16 = features >> EBF16 & 1;
  if (!strcmp(name, "bfdot")) return has_bf16 ? through(bfdot, 12, 4, count, 1) : LACKING;
  if (!strcmp(name, "bfmmla")) return has_bf16 ? through(bfmmla, 48, 16, count, 1) : LACKING;
  if (!strcmp(name, "bfdot_ebf")) return has_ebf16 ? extended(bfdot, 12, 4, count) : LACKING;
  if (!strcmp(name, "bfmmla_ebf")) return has_ebf16 ? extended(bfmmla, 48, 16, count) : LACKING;
  return UNKNOWN;
}

#else
static int run_instruction(const char *name, size_t count) { return UNKNOWN; }
#endif

int main(int argc, char **argv) {
  if (argc != 3) return 1;
  return run_instruction(argv[1], strtoull(argv[2], NULL, 10));
}
