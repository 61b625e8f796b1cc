// Internal to models/init/: the arithmetic below init.h, counter-based random numbers into float32
// arrays. It knows no tensor.
//
// Philox4x32-10 is from Salmon, Moraes, Dror and Shaw,
// "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A quad is the four 32-bit words of one
// counter; element i is made from quad i / 4, lane i % 4. Every element is float32 arithmetic on
// polynomials of this tree, with no call to libm but sqrt and no fused multiply-add, so that the
// bits are the same on every x86-64 machine, whichever vector length runs.
#pragma once

#include <cstdint>

namespace tessera {

struct PhiloxKey {
  uint32_t word0 = 0;
  uint32_t word1 = 0;
};

// Writes the words of quads [first, first + num_quads) to out[0, 4 * num_quads), lane by lane:
//
//   out[j * num_quads + i] = lane j of quad first + i,   0 <= j < 4,   0 <= i < num_quads
void philox_quads(uint32_t* out, uint64_t first, int num_quads, PhiloxKey key);

// Writes normal elements [first, first + count) of the parameter with this key to out[0, count), by
// Box-Muller on the lanes (0, 1) and (2, 3); magnitudes reach 6.66 standard deviations.
void fill_normal(float* out, int64_t first, int64_t count, PhiloxKey key, float mean, float std);

// Writes truncated normal elements [first, first + count) to out[0, count), by inversion of the
// distribution function (Giles, "Approximating the erfinv function", 2010). low and high are
// absolute bounds. Requires std > 0 and low < high.
void fill_truncated_normal(float* out, int64_t first, int64_t count, PhiloxKey key, float mean,
                           float std, float low, float high);

}  // namespace tessera
