// The tables of torch.nn.attention.flex_attention.BlockMask, for exchange with PyTorch.
//
// Shape legend: B, H the mask's own batch and heads (1 means broadcast), R rows and C columns of
// tiles.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/block_mask/block_mask.h"

namespace tessera {

// int32 tensors. Per row of tiles, `num` columns of partial (or full) tiles stand first in
// `indices`, ascending, then all other columns, ascending; the q_ tables are the same by columns.
// The four full_ tensors are undefined when full tiles are not kept apart.
struct FlexTables {
  at::Tensor kv_num_blocks_BHR{};
  at::Tensor kv_indices_BHRC{};
  at::Tensor full_kv_num_blocks_BHR{};
  at::Tensor full_kv_indices_BHRC{};
  at::Tensor q_num_blocks_BHC{};
  at::Tensor q_indices_BHCR{};
  at::Tensor full_q_num_blocks_BHC{};
  at::Tensor full_q_indices_BHCR{};
  int64_t q_len = 0;
  int64_t kv_len = 0;
  BlockSize block{};
};

// As create_block_mask of PyTorch 2.13 lays them out. PyTorch never calls a tile full that reaches
// over q_len or kv_len, so ours are partial there.
FlexTables to_flex(const BlockMask& mask, bool separate_full_blocks = true);

// The mask that FlexAttention computes with: full tiles whole, partial ones as `rule` says (PyTorch
// calls its mask_mod there), nothing elsewhere. Reads the kv_ tables. Throws c10::Error naming the
// field for wrong dtypes, shapes, counts, columns out of range or named twice, and when the rule's
// tensors do not fit.
BlockMask from_flex(const FlexTables& tables, const MaskMod& rule);

}  // namespace tessera
