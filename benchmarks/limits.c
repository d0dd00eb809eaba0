/* What a compiled loop of one thread reaches: rounding of float32 patterns to nearest, ties to even.
 *
 * The constants depend on the format: the field of its smallest number, how many bits the normal numbers keep,
 * half of the smallest number, the smallest and the largest number, and what lies beyond the largest. */
#include <stddef.h>
#include <stdint.h>

void round_nearest(uint32_t *restrict result, const uint32_t *restrict bits, size_t size, uint32_t first_field,
                   uint32_t most, uint32_t half, uint32_t smallest, uint32_t largest, uint32_t beyond) {
  for (size_t k = 0; k < size; k++) {
    uint32_t magnitude = bits[k] & 0x7fffffffu, field = magnitude >> 23;
    uint32_t kept = field > first_field ? field - first_field : 0;
    uint32_t quantum = 0x800000u >> (kept < most ? kept : most);
    uint32_t even = ((magnitude | 0x800000u) & quantum) == 0;
    uint32_t rounded = (magnitude + (quantum >> 1) - even) & (0u - quantum);
    rounded = rounded < smallest ? smallest : rounded;
    rounded = magnitude > half ? rounded : 0;
    rounded = rounded > largest ? beyond : rounded;
    rounded = magnitude > 0x7f800000u ? 0x7fc00000u : rounded;
    result[k] = rounded | (bits[k] & 0x80000000u);
  }
}
