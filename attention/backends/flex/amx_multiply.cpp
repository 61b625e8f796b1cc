// Products of bfloat16 by the tile registers of AMX: eight registers of 16 rows of 64 bytes. Four
// of them hold sums, two hold rows of `a`, and two hold pairs of `b`.
//
// GCC 12's intrinsics do not say that they read memory, so earlier stores are made visible by hand
// (see written()).
#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "attention/backends/flex/tile_kernels.h"

namespace tessera::flex::amx {

namespace {

constexpr int kTileRows = 16;
constexpr long kPairRowBytes = 64;

// Palette 1 of the tile configuration (Intel SDM, LDTILECFG).
struct TileConfig {
  uint8_t palette;
  uint8_t start_row;
  uint8_t reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == Bf16Kernels::kStateBytes);

// The compiler may not move or drop stores across this point.
inline void written() { asm volatile("" ::: "memory"); }

void load_config(const void* config) {
  written();
  _tile_loadconfig(config);
}

void begin(unsigned char* state) {
  written();
  _tile_storeconfig(state);
  written();
  TileConfig config{};
  config.palette = 1;
  for (int tile = 0; tile < 8; ++tile) {
    config.row_bytes[tile] = 64;
    config.rows[tile] = kTileRows;
  }
  load_config(&config);
}

void end(const unsigned char* state) {
  if (state[0] == 0) {  // no palette: nobody had configured the tiles
    _tile_release();
  } else {
    load_config(state);
  }
}

// Where a block of results and its operands begin; strides in bytes.
struct Block {
  const uint16_t* a;
  long a_row;
  const uint16_t* b;
  ptrdiff_t b_panel;
  float* c;
  long c_row;

  const uint16_t* lower_a() const { return a + kTileRows * (a_row / 2); }
  float* lower_c() const { return c + kTileRows * (c_row / 4); }
};

template <int kRows, int kCols>
inline void load_sums(const Block& block, bool accumulate) {
  if (!accumulate) {
    _tile_zero(0);
    if constexpr (kCols == 2) _tile_zero(1);
    if constexpr (kRows == 2) _tile_zero(2);
    if constexpr (kRows == 2 && kCols == 2) _tile_zero(3);
    return;
  }
  _tile_loadd(0, block.c, block.c_row);
  if constexpr (kCols == 2) _tile_loadd(1, block.c + kPad, block.c_row);
  if constexpr (kRows == 2) _tile_loadd(2, block.lower_c(), block.c_row);
  if constexpr (kRows == 2 && kCols == 2) _tile_loadd(3, block.lower_c() + kPad, block.c_row);
}

template <int kRows, int kCols>
inline void store_sums(const Block& block) {
  _tile_stored(0, block.c, block.c_row);
  if constexpr (kCols == 2) _tile_stored(1, block.c + kPad, block.c_row);
  if constexpr (kRows == 2) _tile_stored(2, block.lower_c(), block.c_row);
  if constexpr (kRows == 2 && kCols == 2) _tile_stored(3, block.lower_c() + kPad, block.c_row);
}

// Computes kRows x kCols tiles of results.
template <int kRows, int kCols>
inline void multiply_block(int k, const Block& block, bool accumulate) {
  load_sums<kRows, kCols>(block, accumulate);
  for (int p = 0; p < k; p += kBf16Depth) {
    const uint16_t* pairs = block.b + ptrdiff_t{p} * kPad;
    _tile_loadd(4, block.a + p, block.a_row);
    _tile_loadd(6, pairs, kPairRowBytes);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kCols == 2) {
      _tile_loadd(7, pairs + block.b_panel, kPairRowBytes);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (kRows == 2) {
      _tile_loadd(5, block.lower_a() + p, block.a_row);
      _tile_dpbf16ps(2, 5, 6);
      if constexpr (kCols == 2) _tile_dpbf16ps(3, 5, 7);
    }
  }
  store_sums<kRows, kCols>(block);
}

// Multiplies kCols panels of `b`, which stay in the first-level cache while the rows of `a` pass.
template <int kCols>
inline void multiply_columns(int m, int k, Block block, bool accumulate) {
  int i = 0;
  for (; i + kTileRows < m; i += 2 * kTileRows) {
    multiply_block<2, kCols>(k, block, accumulate);
    block.a += 2 * kTileRows * (block.a_row / 2);
    block.c += 2 * kTileRows * (block.c_row / 4);
  }
  if (i < m) multiply_block<1, kCols>(k, block, accumulate);
}

void multiply(int m, int n, int k, Bf16Rows a, Bf16Pairs b, float* c, ptrdiff_t c_row,
              bool accumulate) {
  written();
  Block block{
      .a = a.data, .a_row = 2 * a.row, .b = b.data, .b_panel = b.panel, .c = c, .c_row = 4 * c_row};
  int j = 0;
  for (; j + kPad < n; j += 2 * kPad) {
    multiply_columns<2>(m, k, block, accumulate);
    block.b += 2 * b.panel;
    block.c += ptrdiff_t{2} * kPad;
  }
  if (j < n) multiply_columns<1>(m, k, block, accumulate);
}

}  // namespace

bool supported() {
  constexpr unsigned kTiles = 1U << 24;        // CPUID 7.0 EDX: AMX-TILE
  constexpr unsigned kBfloat16 = 1U << 22;     // AMX-BF16
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if ((d & kTiles) == 0 || (d & kBfloat16) == 0) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

const Bf16Kernels kBf16 = {.begin = begin, .end = end, .multiply = multiply};

}  // namespace tessera::flex::amx
