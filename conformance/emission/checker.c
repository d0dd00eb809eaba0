/*
 * Checks results against vectors of precsim's conformance kit. One file, C99.
 *
 *   cc -std=c99 -o checker checker.c
 *   ./checker inputs FILE.hex                 writes the inputs, one case per line
 *   ./checker compare FILE.hex < RESULTS      reads a result per line: hexadecimal, flags optional
 *
 * With functions of your own, called for each case:
 *
 *   cc -std=c99 -DFUNCTIONS='"mine.h"' -o checker checker.c
 *   ./checker call FILE.hex ...
 *
 * and without files, for a target that has none, from headers of `--emit c`:
 *
 *   cc -std=c99 -DFUNCTIONS='"mine.h"' -DVECTORS='"all.h"' -o checker checker.c
 *   ./checker
 *
 * mine.h defines a table that ends with a row of zeros:
 *
 *   static void my_cast(const uint64_t *in, uint64_t *result, unsigned *flags) { ... }
 *   static const struct function functions[] = {
 *     {"bf16_to_e4m3.rne.saturate", my_cast, 1}, {0, 0, 0}};
 *
 * A result is right if it has the expected bits, or if both are NaN. Flags are compared where a row
 * of the table says 1, and where a line of RESULTS has a second word.
 * The exit status is 0 if all is right, 1 if something is wrong, 2 if nothing could be compared.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct vectors {
  const char *name;
  const void *words;
  unsigned bytes;          /* of a word */
  unsigned long cases;
  unsigned inputs;
  int has_flags;
  uint64_t nan_mask, nan_first, nan_last;
};

struct function {
  const char *name;
  void (*compute)(const uint64_t *in, uint64_t *result, unsigned *flags);
  int has_flags;
};

#ifdef FUNCTIONS
#include FUNCTIONS
#else
static const struct function functions[] = {{0, 0, 0}};
#endif

enum { SHOWN = 5, MOST_WORDS = 4096 };

static int is_nan(const struct vectors *v, uint64_t code) {
  return v->nan_first <= (code & v->nan_mask) && (code & v->nan_mask) <= v->nan_last;
}

/* Compares one case; prints the first few that are wrong. */
static int is_wrong(const struct vectors *v, unsigned long number, const uint64_t *words,
                    uint64_t result, unsigned flags, int has_flags, unsigned long wrong) {
  uint64_t want = words[v->inputs];
  unsigned k;
  int is_same = result == want || (is_nan(v, want) && is_nan(v, result));
  if (is_same && v->has_flags && has_flags) is_same = flags == words[v->inputs + 1];
  if (is_same) return 0;
  if (wrong < SHOWN) {
    printf("%s case %lu:", v->name, number);
    for (k = 0; k < v->inputs; k++) printf(" %" PRIx64, words[k]);
    printf(": expected %" PRIx64, want);
    if (v->has_flags && has_flags) printf(" flags %02x", (unsigned)words[v->inputs + 1]);
    printf(", got %" PRIx64, result);
    if (v->has_flags && has_flags) printf(" flags %02x", flags);
    printf("\n");
  }
  return 1;
}

static int summary(const struct vectors *v, unsigned long cases, unsigned long wrong) {
  printf("%s: %lu cases, %lu wrong\n", v->name, cases, wrong);
  return wrong != 0;
}

static const struct function *function_of(const char *name) {
  const struct function *f;
  for (f = functions; f->name; f++)
    if (!strcmp(f->name, name)) return f;
  return 0;
}

#ifdef VECTORS
#include VECTORS

static uint64_t word(const struct vectors *v, unsigned long k) {
  switch (v->bytes) {
    case 1: return ((const uint8_t *)v->words)[k];
    case 2: return ((const uint16_t *)v->words)[k];
    case 4: return ((const uint32_t *)v->words)[k];
    default: return ((const uint64_t *)v->words)[k];
  }
}

static int call_array(const struct vectors *v, const struct function *f) {
  static uint64_t words[MOST_WORDS];
  unsigned long number, wrong = 0;
  unsigned k, columns = v->inputs + 1 + (v->has_flags != 0);
  for (number = 0; number < v->cases; number++) {
    uint64_t result = 0;
    unsigned flags = 0;
    for (k = 0; k < columns; k++) words[k] = word(v, number * columns + k);
    f->compute(words, &result, &flags);
    wrong += is_wrong(v, number + 1, words, result, flags, f->has_flags, wrong);
  }
  return summary(v, v->cases, wrong);
}

int main(void) {
  int status = 0, found = 0;
  unsigned k;
  for (k = 0; all_vectors[k]; k++) {
    const struct function *f = function_of(all_vectors[k]->name);
    if (!f) continue;
    found = 1;
    status |= call_array(all_vectors[k], f);
  }
  if (!found) printf("error: the table has no function of these vectors\n");
  return found ? status : 2;
}

#else

static char line[1 << 17], name[256];

static int damaged(const char *path, const char *why) {
  fprintf(stderr, "error: %s: %s\n", path, why);
  return 2;
}

/* Reads the comments at the head of a file; the file then stands at the first case. */
static int read_header(FILE *file, struct vectors *v) {
  long place = ftell(file);
  memset(v, 0, sizeof *v);
  v->name = name;
  v->nan_first = 1; /* none */
  name[0] = 0;
  while (fgets(line, sizeof line, file) && !strncmp(line, "// ", 3)) {
    sscanf(line, "// function: %255s", name);
    sscanf(line, "// words: %u", &v->inputs);
    sscanf(line, "// nan: mask %" SCNx64 " from %" SCNx64 " to %" SCNx64, &v->nan_mask,
           &v->nan_first, &v->nan_last);
    if (!strncmp(line, "// flags:", 9)) v->has_flags = 1;
    place = ftell(file);
  }
  fseek(file, place, SEEK_SET);
  return name[0] && v->inputs && v->inputs + 2 <= MOST_WORDS;
}

/* Reads the words of the next case; 0 at the end, -1 if a line is not of this many words. */
static int read_case(FILE *file, const struct vectors *v, uint64_t *words) {
  unsigned k, columns = v->inputs + 1 + (v->has_flags != 0);
  char *at = line, *end;
  if (!fgets(line, sizeof line, file)) return -1;
  if (!strncmp(line, "// cases:", 9)) return 0;
  for (k = 0; k < columns; k++, at = end) {
    words[k] = strtoull(at, &end, 16);
    if (end == at) return -1;
  }
  return at[strspn(at, " \r\n")] ? -1 : 1;
}

static int run(const char *command, const char *path) {
  static uint64_t words[MOST_WORDS];
  struct vectors v;
  const struct function *f = 0;
  unsigned long number = 0, wrong = 0, told = 0;
  int state, compares = !strcmp(command, "compare"), calls = !strcmp(command, "call");
  FILE *file = fopen(path, "rb");
  if (!file) return damaged(path, "cannot be read");
  if (!read_header(file, &v)) return fclose(file), damaged(path, "has no header of vectors");
  if (calls && !(f = function_of(v.name)))
    return fclose(file), damaged(path, "the table has no function of this name");
  while ((state = read_case(file, &v, words)) > 0) {
    uint64_t result = 0;
    unsigned flags = 0, k;
    int has_flags = 0;
    number++;
    if (calls) {
      f->compute(words, &result, &flags);
      has_flags = f->has_flags;
    } else if (compares) {
      int read = fgets(line, sizeof line, stdin)
                     ? sscanf(line, "%" SCNx64 " %x", &result, &flags) : 0;
      if (read < 1) return fclose(file), damaged(path, "has more cases than there are results");
      has_flags = read == 2;
    } else {
      for (k = 0; k < v.inputs; k++)
        printf("%" PRIx64 "%c", words[k], k + 1 < v.inputs ? ' ' : '\n');
      continue;
    }
    wrong += is_wrong(&v, number, words, result, flags, has_flags, wrong);
  }
  if (state == 0) state = sscanf(line, "// cases: %lu", &told) == 1 && told == number ? 0 : -1;
  fclose(file);
  if (state < 0) return damaged(path, "is damaged or cut short");
  while (compares && fgets(line, sizeof line, stdin)) /* blank lines may follow the results */
    if (line[strspn(line, " \t\r\n")])
      return damaged(path, "has fewer cases than there are results");
  return compares || calls ? summary(&v, number, wrong) : 0;
}

int main(int count, char **arguments) {
  int status = 0, k, one;
  const char *command = count > 2 ? arguments[1] : "";
  int is_known = !strcmp(command, "inputs") || !strcmp(command, "compare") ||
                 !strcmp(command, "call");
  if (!is_known || (count != 3 && strcmp(command, "call"))) {
    fprintf(stderr, "usage: checker inputs FILE.hex | compare FILE.hex | call FILE.hex ...\n");
    return 2;
  }
  for (k = 2; k < count; k++) {
    one = run(command, arguments[k]);
    if (one > status) status = one;
  }
  return status;
}
#endif
