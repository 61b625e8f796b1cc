// What a call of flex attention is about, for everything in this folder.
//
// Shape legend: as in attention/attention.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "attention/block_mask.h"
#include "attention/flex/tile_kernels.h"
#include "attention/flex/tile_plan.h"

namespace tessera::flex {

inline int64_t padded(int64_t width, int64_t multiple = kPad) {
  return (width + multiple - 1) / multiple * multiple;
}

// Rows of a full tile that are computed together.
inline constexpr int64_t kFullRows = 128;

// Tensors may be of any float type up to 32 bits; undefined ones are options that are not used.
struct FlexInputs {
  at::Tensor q_BTHD{};
  at::Tensor k_BSKD{};
  at::Tensor v_BSKE{};
  at::Tensor sinks_H{};
  at::Tensor bias_BHTS{};
  at::Tensor alibi_slopes_H{};
  double scale = 1.0;
  std::optional<double> soft_cap{};
  bool bf16_products = true;  // where there are some (products.h)
};

// Rows [row, row + num_rows) of a block of queries against columns `span` of a block of keys.
struct TilePart {
  int64_t b = 0;
  int64_t h = 0;
  int64_t q_block = 0;
  int64_t row = 0;  // within the block
  int num_rows = 0;
  int64_t kv_block = 0;
  ColumnSpan span{};
  int32_t tile = BlockRun::kFullTiles;
};

}  // namespace tessera::flex
