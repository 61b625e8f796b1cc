// Products in float32: probabilities and score gradients are multiplied where they stand, in either
// direction.
#include "attention/backends/flex/float_blocks.h"
#include "attention/backends/flex/products_impl.h"

namespace tessera::flex {

namespace {

// The product scale q k^T.
class FloatScores {
 public:
  FloatScores(const FlexInputs& inputs, const BlockMask& mask, const TileKernels& kernels)
      : kernels_(kernels),
        group_(inputs.q_BTHD.size(2) / inputs.k_BSKD.size(2)),
        dim_(static_cast<int>(inputs.q_BTHD.size(3))),
        keys_(FloatBlocks::columns(inputs.k_BSKD, mask.shape().block.kv, inputs.scale, kernels)) {}

  void load_keys(const HeadBlocks& blocks) { keys_.load(blocks); }

  // tile = scale q k^T. `q` begins at the piece's first row; the scale is in the copied keys.
  void operator()(const TilePiece& piece, MatrixView q, const ScoreTile& tile) const {
    kernels_.multiply(tile.rows, tile.cols, dim_, q,
                      keys_.panels_at(kv_head(piece), piece.kv_block, 0, piece.area.span.begin),
                      tile.scores, tile.ld, /*accumulate=*/false);
  }

  int64_t kv_head(const TilePiece& piece) const { return piece.h / group_; }

 private:
  const TileKernels& kernels_;
  int64_t group_;
  int dim_;
  FloatBlocks keys_;
};

class FloatForward final : public ForwardProducts {
 public:
  FloatForward(const FlexInputs& inputs, const BlockMask& mask, const TileKernels& kernels)
      : kernels_(kernels),
        block_q_(mask.shape().block.q),
        scores_(inputs, mask, kernels),
        q_BTHD_(inputs.q_BTHD),
        v_(FloatBlocks::rows(inputs.v_BSKE, mask.shape().block.kv, kernels)) {}

  void load_queries(const HeadBlocks& /*blocks*/) override {}  // read where they stand
  void load_keys(const HeadBlocks& blocks) override {
    scores_.load_keys(blocks);
    v_.load(blocks);
  }

  void scores(const TilePiece& piece, const ScoreTile& tile) const override {
    const int64_t token = piece.q_block * block_q_ + piece.area.row;
    const float* q = q_BTHD_.const_data_ptr<float>() + row_offset(q_BTHD_, piece.b, token, piece.h);
    scores_(piece, {q, q_BTHD_.stride(1), 1}, tile);
  }

  void add_values(const TilePiece& piece, const ScoreTile& p, float* sums) override {
    const auto width = static_cast<int>(v_.width());
    kernels_.multiply(
        p.rows, width, p.live_cols, {p.scores, p.ld, 1},
        v_.panels_at(scores_.kv_head(piece), piece.kv_block, piece.area.span.begin, 0), sums, width,
        /*accumulate=*/true);
  }

 private:
  const TileKernels& kernels_;
  int64_t block_q_;
  FloatScores scores_;
  at::Tensor q_BTHD_;
  FloatBlocks v_;
};

class FloatBackward final : public BackwardProducts {
 public:
  FloatBackward(const FlexInputs& inputs, const at::Tensor& d_out_BTHE, const BlockMask& mask,
                const TileKernels& kernels)
      : kernels_(kernels),
        v_dim_(static_cast<int>(inputs.v_BSKE.size(3))),
        scores_(inputs, mask, kernels),
        q_(FloatBlocks::rows(inputs.q_BTHD, mask.shape().block.q, kernels)),
        k_(FloatBlocks::rows(inputs.k_BSKD, mask.shape().block.kv, kernels)),
        v_columns_(FloatBlocks::columns(inputs.v_BSKE, mask.shape().block.kv, 1.0, kernels)),
        d_out_(FloatBlocks::rows(d_out_BTHE, mask.shape().block.q, kernels)) {}

  void load_queries(const HeadBlocks& blocks) override {
    q_.load(blocks);
    d_out_.load(blocks);
  }
  void load_keys(const HeadBlocks& blocks) override {
    scores_.load_keys(blocks);
    k_.load(blocks);
    v_columns_.load(blocks);
  }

  KeyLayout d_k_layout() const override { return {q_.width(), 1}; }
  KeyLayout d_v_layout() const override { return {d_out_.width(), 1}; }

  void scores(const TilePiece& piece, const ScoreTile& tile) const override {
    scores_(piece, q_.rows_at(piece.h, piece.q_block, piece.area.row), tile);
  }

  void add_d_values(const TilePiece& piece, const ScoreTile& p, float* d_v) override {
    add_transposed(p, d_out_.panels_at(piece.h, piece.q_block, piece.area.row, 0), d_out_.width(),
                   piece.area.span.begin, d_v);
  }

  void d_probabilities(const TilePiece& piece, const ScoreTile& d_p) const override {
    kernels_.multiply(
        d_p.rows, d_p.cols, v_dim_, d_out_.rows_at(piece.h, piece.q_block, piece.area.row),
        v_columns_.panels_at(scores_.kv_head(piece), piece.kv_block, 0, piece.area.span.begin),
        d_p.scores, d_p.ld,
        /*accumulate=*/false);
  }

  void add_d_keys(const TilePiece& piece, const ScoreTile& d_s, float* d_k) override {
    add_transposed(d_s, q_.panels_at(piece.h, piece.q_block, piece.area.row, 0), q_.width(),
                   piece.area.span.begin, d_k);
  }

  void add_d_queries(const TilePiece& piece, const ScoreTile& d_s, float* d_q) override {
    const auto width = static_cast<int>(k_.width());
    kernels_.multiply(
        d_s.rows, width, d_s.live_cols, {d_s.scores, d_s.ld, 1},
        k_.panels_at(scores_.kv_head(piece), piece.kv_block, piece.area.span.begin, 0), d_q, width,
        /*accumulate=*/true);
  }

 private:
  // sums[first_key + c, width] += x[r, c]^T rows[r, width]
  void add_transposed(const ScoreTile& x, PanelView rows, int64_t width, ptrdiff_t first_key,
                      float* sums) const {
    kernels_.multiply(x.cols, static_cast<int>(width), x.rows, {x.scores, 1, x.ld}, rows,
                      sums + first_key * width, width, /*accumulate=*/true);
  }

  const TileKernels& kernels_;
  int v_dim_;
  FloatScores scores_;
  FloatBlocks q_;
  FloatBlocks k_;
  FloatBlocks v_columns_;
  FloatBlocks d_out_;
};

}  // namespace

std::unique_ptr<ForwardProducts> float_forward_products(const FlexInputs& inputs,
                                                        const BlockMask& mask,
                                                        const TileKernels& kernels) {
  return std::make_unique<FloatForward>(inputs, mask, kernels);
}

std::unique_ptr<BackwardProducts> float_backward_products(const FlexInputs& inputs,
                                                          const at::Tensor& d_out_BTHE,
                                                          const BlockMask& mask,
                                                          const TileKernels& kernels) {
  return std::make_unique<FloatBackward>(inputs, d_out_BTHE, mask, kernels);
}

}  // namespace tessera::flex
