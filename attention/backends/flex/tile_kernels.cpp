#include "attention/backends/flex/tile_kernels.h"

namespace tessera::flex {

namespace {

struct Candidate {
  const TileKernels* kernels;
  bool supported;
};

#if defined(__x86_64__)
TileKernels with_tiles() {
  TileKernels kernels = avx512::kKernels;
  kernels.name = "avx512_amx";
  kernels.bf16 = &amx::kBf16;
  return kernels;
}
#endif

// The fastest first.
const Candidate* candidates() {
#if defined(__x86_64__)
  static const TileKernels avx512_amx = with_tiles();
  static const Candidate all[] = {
      {&avx512_amx, __builtin_cpu_supports("avx512f") != 0 && amx::supported()},
      {&avx512::kKernels, __builtin_cpu_supports("avx512f") != 0},
      {&avx2::kKernels, __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0},
      {&portable::kKernels, true},
      {nullptr, false}};
#else
  static const Candidate all[] = {{&portable::kKernels, true}, {nullptr, false}};
#endif
  return all;
}

}  // namespace

const TileKernels& tile_kernels() { return tile_kernels(0); }

size_t num_tile_kernels() {
  size_t count = 0;
  for (const Candidate* c = candidates(); c->kernels != nullptr; ++c) count += c->supported ? 1 : 0;
  return count;
}

const TileKernels& tile_kernels(size_t index) {
  for (const Candidate* c = candidates();; ++c) {
    if (c->supported && index-- == 0) return *c->kernels;
  }
}

}  // namespace tessera::flex
