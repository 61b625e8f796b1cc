// The matrix products of the two passes, by the type that they multiply in: float32, or bfloat16
// where inputs have that type and the processor multiplies it. Scores, probabilities and all sums
// are float32 in either; bfloat16 rounds probabilities and score gradients before they are
// multiplied.
//
// Each thread has products of its own. They copy what they multiply, a unit of work's queries or
// keys at a time; parts are of blocks that are loaded.
//
// Shape legend: as in attention/op/attention.h. A part has r rows (queries) and c columns (keys).
#pragma once

#include <memory>

#include "attention/backends/flex/flex_inputs.h"
#include "attention/backends/flex/tile_kernels.h"

namespace tessera::flex {

class Products {
 public:
  virtual ~Products() = default;

  // In place of the blocks before: blocks of queries (q, do) of query heads, and of keys and values
  // of key/value heads.
  virtual void load_queries(const HeadBlocks& blocks) = 0;
  virtual void load_keys(const HeadBlocks& blocks) = 0;

  // tile = q k^T scale. Rows of the buffer up to a multiple of kPad may be written.
  virtual void scores(const TilePart& part, const ScoreTile& tile) const = 0;
};

class ForwardProducts : public Products {
 public:
  // sums[r, padded(E)] += p v, likewise in rows up to a multiple of kPad.
  virtual void add_values(const TilePart& part, const ScoreTile& p, float* sums) = 0;
};

// Sums over the queries that meet a block of keys: element (key, d) at data[key * key_stride + d *
// dim_stride].
struct KeyLayout {
  ptrdiff_t key_stride;
  ptrdiff_t dim_stride;
};

class BackwardProducts : public Products {
 public:
  // Of d_k and d_v below, for blocks of up to block_cols keys.
  virtual KeyLayout d_k_layout() const = 0;
  virtual KeyLayout d_v_layout() const = 0;

  // d_v += p^T do; d_v and d_k begin at the first key of the block.
  virtual void add_d_values(const TilePart& part, const ScoreTile& p, float* d_v) = 0;

  // d_p = do v^T. Rows up to a multiple of kPad may be written.
  virtual void d_probabilities(const TilePart& part, const ScoreTile& d_p) const = 0;

  // d_k += ds^T q, without the scale.
  virtual void add_d_keys(const TilePart& part, const ScoreTile& d_s, float* d_k) = 0;

  // d_q[r, padded(D)] += ds k, without the scale; rows up to a multiple of kPad may be written.
  virtual void add_d_queries(const TilePart& part, const ScoreTile& d_s, float* d_q) = 0;
};

// Whether a call is multiplied in bfloat16: its tensors have that type, it does not refuse
// (FlexInputs::bf16_products), `kernels` multiply it, and the mask's blocks are at least kBf16Depth
// tokens, as smaller ones would be mostly padding. Else in float32.
bool multiplies_in_bf16(const FlexInputs& inputs, const BlockMask& mask,
                        const TileKernels& kernels = tile_kernels());

// A tensor, or the q, k and v of inputs, as products read them: in the type that they multiply in,
// the numbers of a head side by side.
at::Tensor as_operand(const at::Tensor& x_BTHD, bool bf16);
FlexInputs as_operands(FlexInputs inputs, bool bf16);

// All inputs are operands.
std::unique_ptr<ForwardProducts> forward_products(const FlexInputs& inputs, const BlockMask& mask,
                                                  const TileKernels& kernels);
std::unique_ptr<BackwardProducts> backward_products(const FlexInputs& inputs,
                                                    const at::Tensor& d_out_BTHE,
                                                    const BlockMask& mask,
                                                    const TileKernels& kernels);

}  // namespace tessera::flex
