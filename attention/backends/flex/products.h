// The matrix products of the two passes, by the type that they multiply in: float32, or bfloat16
// where inputs have that type and the processor multiplies it. Scores, probabilities and all sums
// are float32 in either; bfloat16 rounds probabilities and score gradients before they are
// multiplied. Internal to attention/backends/flex/.
//
// Each thread has products of its own. They copy what they multiply, a unit of work's queries or
// keys at a time: load_queries and load_keys come first, and pieces must lie in loaded blocks.
//
// Shape legend: as in attention/op/attention.h. A piece has r rows (queries) and c columns (keys).
#pragma once

#include <memory>

#include "attention/backends/flex/flex_inputs.h"
#include "attention/backends/flex/tile_kernels.h"

namespace tessera::flex {

class Products {
 public:
  virtual ~Products() = default;

  // Load blocks in place of those that were loaded before. load_queries loads q (and do) of query
  // heads, load_keys loads k and v of key/value heads.
  virtual void load_queries(const HeadBlocks& blocks) = 0;
  virtual void load_keys(const HeadBlocks& blocks) = 0;

  // tile = scale q k^T. Rows of the buffer up to a multiple of kPad may be written.
  virtual void scores(const TilePiece& piece, const ScoreTile& tile) const = 0;
};

class ForwardProducts : public Products {
 public:
  // sums[r, padded(E)] += p v. Rows of sums up to a multiple of kPad may be written.
  virtual void add_values(const TilePiece& piece, const ScoreTile& p, float* sums) = 0;
};

// The layout of sums over the queries that meet a block of keys: element (key, d) is at
// data[key * key_stride + d * dim_stride].
struct KeyLayout {
  ptrdiff_t key_stride;
  ptrdiff_t dim_stride;
};

class BackwardProducts : public Products {
 public:
  // The layouts of d_k and d_v below, in buffers for FlexProblem::block_cols() keys.
  virtual KeyLayout d_k_layout() const = 0;
  virtual KeyLayout d_v_layout() const = 0;

  // d_v += p^T do. Here and in add_d_keys, the sums begin at the first key of the block.
  virtual void add_d_values(const TilePiece& piece, const ScoreTile& p, float* d_v) = 0;

  // d_p = do v^T. Rows of the buffer up to a multiple of kPad may be written.
  virtual void d_probabilities(const TilePiece& piece, const ScoreTile& d_p) const = 0;

  // d_k += ds^T q, without the scale.
  virtual void add_d_keys(const TilePiece& piece, const ScoreTile& d_s, float* d_k) = 0;

  // d_q[r, padded(D)] += ds k, without the scale. Rows of d_q up to a multiple of kPad may be
  // written.
  virtual void add_d_queries(const TilePiece& piece, const ScoreTile& d_s, float* d_q) = 0;
};

// Whether a call is multiplied in bfloat16: q, k and v have that type, FlexInputs::bf16_products is
// true, `kernels` multiply it, and the mask's blocks are at least kBf16Depth tokens, as smaller
// ones would be mostly padding. All other calls are multiplied in float32.
bool multiplies_in_bf16(const FlexInputs& inputs, const BlockMask& mask,
                        const TileKernels& kernels = tile_kernels());

// A tensor, or the q, k and v of inputs, as products read them: in bfloat16 or float32, with the
// numbers of a head side by side.
at::Tensor as_operand(const at::Tensor& x_BTHD, bool bf16);
FlexInputs as_operands(FlexInputs inputs, bool bf16);

// Products of the kind that multiplies_in_bf16 says. q, k, v and d_out must be operands (see
// as_operands). `kernels` must outlive the products.
std::unique_ptr<ForwardProducts> forward_products(const FlexInputs& inputs, const BlockMask& mask,
                                                  const TileKernels& kernels);
std::unique_ptr<BackwardProducts> backward_products(const FlexInputs& inputs,
                                                    const at::Tensor& d_out_BTHE,
                                                    const BlockMask& mask,
                                                    const TileKernels& kernels);

}  // namespace tessera::flex
