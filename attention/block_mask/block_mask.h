// BlockMask: which tiles of the attention matrix are full, partial or absent, as plain data.
//
// The matrix of one (batch row, head) is cut into tiles of block.q queries by block.kv keys. For
// each row of tiles the mask holds an ascending list of *runs*: a range of full tiles, or one
// partial tile with the index of its bits. Equal bit tiles are stored once, so causal attention
// over a million tokens is two runs a row. A tile is full when all its in-range pairs are allowed
// (PyTorch never calls a ragged edge full; Tessera's kernels clip instead).
//
// A BlockMask is immutable and cheap to copy (shared). It is never null: "no mask" is the mask of
// full(). Its lazily derived forms are guarded by a lock, so several threads may use one mask.
//
//   MaskShape shape{.batch = B, .q_len = T, .kv_len = T};
//   BlockMask mask = create_block_mask(causal() & document(ids_BT), shape);
//   for (const BlockRun& run : mask.runs(b, h, q_block)) {
//     // blocks of keys run.begin to run.end: full, or one block with the bits of tile run.tile
//   }
//
// Shape legend: B batch rows, H heads, T query tokens, S key tokens.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "attention/block_mask/mask_plan.h"
#include "attention/masks/mask_mod.h"
#include "attention/masks/mask_shape.h"

namespace tessera {

// Full tiles [begin, end) when tile < 0; otherwise the single partial tile `begin` with bits `tile`
// (end = begin + 1).
struct BlockRun {
  int32_t begin = 0;
  int32_t end = 0;
  int32_t tile = kFullTiles;
  static constexpr int32_t kFullTiles = -1;

  bool full() const { return tile < 0; }
  bool operator==(const BlockRun&) const = default;
};

// The arrays of a mask. Row r = (b * heads + h) * num_q_blocks + q_block owns the runs from
// row_offsets[r] to row_offsets[r + 1]. A bit tile is block.q rows of words_per_row 64-bit words;
// key j is bit j % 64 of word j / 64, and bits beyond q_len or kv_len are zero. Arrays are
// canonical: full runs do not touch, and no partial tile has all of its in-range bits set or none
// of them.
struct BlockMaskData {
  MaskShape shape{};
  std::vector<int32_t> row_offsets{};
  std::vector<BlockRun> runs{};
  std::vector<uint64_t> tile_bits{};

  int64_t num_q_blocks() const;
  int64_t num_kv_blocks() const;
  int64_t words_per_row() const { return (shape.block.kv + 63) / 64; }
  int64_t num_tiles() const;
  bool operator==(const BlockMaskData&) const = default;
};

class BlockMask {
 public:
  // Checks the arrays and takes them over. Throws c10::Error that names the first invariant of
  // BlockMaskData that does not hold (sizes, offsets, order, overlap, range, canonical form).
  explicit BlockMask(BlockMaskData data);

  const MaskShape& shape() const { return data().shape; }
  const BlockMaskData& data() const;

  // Runs of one row of tiles. b and h may exceed a broadcast dimension of size 1; other indices out
  // of range throw c10::Error, here and in allows().
  c10::ArrayRef<BlockRun> runs(int64_t b, int64_t h, int64_t q_block) const;

  // Runs of one column of tiles: the query blocks that touch one block of keys, ascending, for
  // passes that own a block of keys (dK, dV). They are derived at the first call and then shared.
  // Indices are checked as in runs().
  c10::ArrayRef<BlockRun> q_runs(int64_t b, int64_t h, int64_t kv_block) const;

  bool allows(int64_t b, int64_t h, int64_t q, int64_t kv) const;
  int64_t num_pairs() const;  // allowed pairs over the mask's own batch and heads
  double sparsity() const;    // percent, 0 to 100, of the in-range pairs that lie in absent tiles
  bool is_full() const;       // exactly full(): every pair allowed
  bool is_causal() const;     // exactly causal() with q_len == kv_len

  // How a mask of a part of the sequence is to be used, or null: see mask_plan.h. A plan belongs to
  // the value (equality compares it). split, batch_row, select_q_blocks, select_kv_blocks, crop and
  // to_bytes throw c10::Error for a mask that has one.
  const std::shared_ptr<const MaskPlan>& plan() const { return plan_; }
  BlockMask with_plan(std::shared_ptr<const MaskPlan> plan) const;

  // Consecutive parts along the batch. Sizes must be positive and sum to shape().batch, else
  // c10::Error is thrown. A broadcast mask (batch 1) repeats itself, whatever the sizes sum to.
  std::vector<BlockMask> split(const std::vector<int64_t>& batch_sizes) const;

  // One row of the batch, as a mask of batch 1; a broadcast mask is its own row. Throws c10::Error
  // for a row out of range.
  BlockMask batch_row(int64_t b) const;

  // The rows of tiles of these query blocks, in this order, such as a context-parallel rank owns.
  // Throws c10::Error unless blocks are in range and distinct, at least one, and a block that q_len
  // cuts short comes last.
  BlockMask select_q_blocks(const std::vector<int64_t>& q_blocks) const;

  // The columns of tiles of these key blocks, such as a rank or a ring step has gathered. Throws
  // c10::Error as select_q_blocks does, and unless blocks are ascending.
  BlockMask select_kv_blocks(const std::vector<int64_t>& kv_blocks) const;

  // The upper left q_len x kv_len pairs. Throws c10::Error unless both are at least 1 and at most
  // the mask's own lengths.
  BlockMask crop(int64_t q_len, int64_t kv_len) const;

  // T x S forms [B, H, T, S] of the mask's own batch and heads. to_dense is bool; to_additive is 0
  // where allowed and -inf elsewhere, in float32, float64, bfloat16 or float16 (c10::Error for any
  // other dtype). Each form is made once per mask, dtype and device and then shared by all layers,
  // so it must not be written to.
  at::Tensor to_dense(at::Device device = at::kCPU) const;
  at::Tensor to_additive(at::ScalarType dtype, at::Device device = at::kCPU) const;

  // The picture that FlexAttention's BlockMask.to_string draws: per batch row and head a line
  // "(b, h)" and a grid of at most max_rows x max_cols doubled characters, █ where every tile of a
  // cell is present (full or partial), ░ where some are, blank where none is; after `limit`
  // pictures, a hint.
  std::string to_string(int64_t max_rows = 20, int64_t max_cols = 20, int64_t limit = 4) const;

  bool operator==(const BlockMask& other) const;

  struct Shared;  // block_mask_shared.h

 private:
  explicit BlockMask(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}

  std::shared_ptr<Shared> shared_;
  std::shared_ptr<const MaskPlan> plan_;
};

// Builds the exact mask of a rule. Throws c10::Error when the rule's tensors do not cover the shape
// (batch, heads or tokens), or a size of the shape is not in 1 to 2^31 - 1. Cost: O(rows of tiles x
// runs) plus the partial tiles, evaluated row by row as ranges; never O(T x S) memory.
BlockMask create_block_mask(const MaskMod& rule, const MaskShape& shape);

// Builds only the rows of tiles of these query blocks, at the cost of these rows. The result equals
// create_block_mask(rule, shape).select_q_blocks(q_blocks). Throws as these two do, and unless
// blocks are ascending.
BlockMask create_block_mask_rows(const MaskMod& rule, const MaskShape& shape,
                                 const std::vector<int64_t>& q_blocks);

}  // namespace tessera
