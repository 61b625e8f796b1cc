// FlexTables: the tables of torch.nn.attention.flex_attention.BlockMask (PyTorch 2.13), for
// exchange with PyTorch in both directions.
//
//   FlexTables tables = to_flex(mask);
//   BlockMask same = from_flex(tables, rule);    // equal to mask, if mask was built from rule
//
// Shape legend: B, H the mask's own batch and heads (1 means broadcast), R rows and C columns of
// tiles.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/block_mask/block_mask.h"

namespace tessera {

// int32 tensors on the CPU. In a row of tiles, num_blocks[b, h, r] columns hold partial tiles; they
// stand first in indices[b, h, r], ascending, and all other columns follow, ascending. The full_
// tables say the same of full tiles; the four of them are undefined when full tiles are not kept
// apart, and full tiles are then listed as partial ones. The q_ tables hold the rows of each column
// in the same way. q_len and kv_len count tokens.
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

// The tables of a mask, laid out as create_block_mask of PyTorch 2.13 does. A full tile that
// reaches over q_len or kv_len is listed as partial, since PyTorch never calls such a tile full.
FlexTables to_flex(const BlockMask& mask, bool separate_full_blocks = true);

// The mask that FlexAttention computes with: full tiles whole, partial ones as `rule` says (PyTorch
// calls its mask_mod there), nothing elsewhere. Only the kv_ tables are read. Throws c10::Error
// that names the field for wrong dtypes, devices, shapes or counts and for columns out of range or
// named twice, and c10::Error when the rule's tensors do not fit.
BlockMask from_flex(const FlexTables& tables, const MaskMod& rule);

}  // namespace tessera
