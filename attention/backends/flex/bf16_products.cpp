// Products in bfloat16. Sums over queries (dK, dV) are held transposed, [D, keys]. The rounded p or
// ds is then a right side, whose layout puts two rows side by side, and nothing has to be
// transposed.
#include <algorithm>
#include <vector>

#include "attention/backends/flex/bf16_blocks.h"
#include "attention/backends/flex/products_impl.h"

namespace tessera::flex {

namespace {

int depth(int64_t size) { return static_cast<int>(padded(size, kBf16Depth)); }

// Keeps the processor set up for products of bfloat16 as long as the session lives. A session must
// stay on the thread that made it.
class Bf16Session {
 public:
  explicit Bf16Session(const Bf16Kernels& kernels) : kernels_(kernels) { kernels_.begin(state_); }
  ~Bf16Session() { kernels_.end(state_); }
  Bf16Session(const Bf16Session&) = delete;
  Bf16Session& operator=(const Bf16Session&) = delete;

 private:
  const Bf16Kernels& kernels_;
  unsigned char state_[Bf16Kernels::kStateBytes] = {};
};

// The product scale q k^T. The scale comes after the product, as scale k would be rounded.
class Bf16Scores {
 public:
  Bf16Scores(const FlexInputs& inputs, const BlockMask& mask, const TileKernels& kernels)
      : kernels_(kernels),
        session_(*kernels.bf16),
        group_(inputs.q_BTHD.size(2) / inputs.k_BSKD.size(2)),
        dim_(inputs.q_BTHD.size(3)),
        q_(Bf16Blocks::rows(inputs.q_BTHD, mask.shape().block.q)),
        keys_(Bf16Blocks::transposed_pairs(inputs.k_BSKD, mask.shape().block.kv)),
        scales_(kSlabRows, static_cast<float>(inputs.scale)),
        operand_(kSlabRows *
                 padded(std::min(mask.shape().block.kv, mask.shape().kv_len), kBf16Depth)) {}

  void load_queries(const HeadBlocks& blocks) { q_.load(blocks); }
  void load_keys(const HeadBlocks& blocks) { keys_.load(blocks); }

  void operator()(const TilePiece& piece, const ScoreTile& tile) const {
    kernels_.bf16->multiply(piece.area.num_rows, tile.cols, depth(dim_),
                            q_.rows_at(piece.h, piece.q_block, piece.area.row),
                            keys_.pairs_at(kv_head(piece), piece.kv_block, piece.area.span.begin),
                            tile.scores, tile.ld, /*accumulate=*/false);
    kernels_.scale_rows(tile.scores, tile.ld, tile.rows, tile.cols, scales_.data());
  }

  int64_t kv_head(const TilePiece& piece) const { return piece.h / group_; }

  // Room for a rounded piece of any size.
  uint16_t* operand() { return operand_.data(); }

 private:
  const TileKernels& kernels_;
  Bf16Session session_;
  int64_t group_;
  int64_t dim_;
  Bf16Blocks q_;
  Bf16Blocks keys_;
  std::vector<float> scales_;
  std::vector<uint16_t> operand_;
};

// sums[r, width] += x[r, c] * keys[c, width]
void add_rounded(const TileKernels& kernels, const ScoreTile& x, Bf16Pairs keys, int64_t width,
                 float* sums, uint16_t* operand) {
  const int row = depth(x.cols);
  kernels.round_to_rows(x, operand, row);
  kernels.bf16->multiply(x.rows, static_cast<int>(width), row, {operand, row}, keys, sums, width,
                         /*accumulate=*/true);
}

class Bf16Forward final : public ForwardProducts {
 public:
  Bf16Forward(const FlexInputs& inputs, const BlockMask& mask, const TileKernels& kernels)
      : kernels_(kernels),
        scores_(inputs, mask, kernels),
        v_(Bf16Blocks::pairs(inputs.v_BSKE, mask.shape().block.kv)),
        width_(padded(inputs.v_BSKE.size(3))) {}

  void load_queries(const HeadBlocks& blocks) override { scores_.load_queries(blocks); }
  void load_keys(const HeadBlocks& blocks) override {
    scores_.load_keys(blocks);
    v_.load(blocks);
  }

  void scores(const TilePiece& piece, const ScoreTile& tile) const override {
    scores_(piece, tile);
  }

  void add_values(const TilePiece& piece, const ScoreTile& p, float* sums) override {
    add_rounded(kernels_, p,
                v_.pairs_at(scores_.kv_head(piece), piece.kv_block, piece.area.span.begin), width_,
                sums, scores_.operand());
  }

 private:
  const TileKernels& kernels_;
  Bf16Scores scores_;
  Bf16Blocks v_;
  int64_t width_;
};

class Bf16Backward final : public BackwardProducts {
 public:
  Bf16Backward(const FlexInputs& inputs, const at::Tensor& d_out_BTHE, const BlockMask& mask,
               const TileKernels& kernels)
      : kernels_(kernels),
        scores_(inputs, mask, kernels),
        qk_width_(padded(inputs.q_BTHD.size(3))),
        v_width_(padded(inputs.v_BSKE.size(3))),
        v_dim_(inputs.v_BSKE.size(3)),
        key_stride_(padded(std::min(mask.shape().block.kv, mask.shape().kv_len))),
        q_columns_(Bf16Blocks::transposed_rows(inputs.q_BTHD, mask.shape().block.q)),
        k_(Bf16Blocks::pairs(inputs.k_BSKD, mask.shape().block.kv)),
        v_columns_(Bf16Blocks::transposed_pairs(inputs.v_BSKE, mask.shape().block.kv)),
        d_out_(Bf16Blocks::rows(d_out_BTHE, mask.shape().block.q)),
        d_out_columns_(Bf16Blocks::transposed_rows(d_out_BTHE, mask.shape().block.q)) {}

  void load_queries(const HeadBlocks& blocks) override {
    scores_.load_queries(blocks);
    for (Bf16Blocks* x : {&q_columns_, &d_out_, &d_out_columns_}) x->load(blocks);
  }
  void load_keys(const HeadBlocks& blocks) override {
    scores_.load_keys(blocks);
    k_.load(blocks);
    v_columns_.load(blocks);
  }

  KeyLayout d_k_layout() const override { return {1, key_stride_}; }
  KeyLayout d_v_layout() const override { return {1, key_stride_}; }

  void scores(const TilePiece& piece, const ScoreTile& tile) const override {
    scores_(piece, tile);
  }

  void add_d_values(const TilePiece& piece, const ScoreTile& p, float* d_v) override {
    add_transposed(piece, d_out_columns_, v_width_, p, d_v, scores_.operand());
  }

  void d_probabilities(const TilePiece& piece, const ScoreTile& d_p) const override {
    kernels_.bf16->multiply(
        d_p.rows, d_p.cols, depth(v_dim_), d_out_.rows_at(piece.h, piece.q_block, piece.area.row),
        v_columns_.pairs_at(scores_.kv_head(piece), piece.kv_block, piece.area.span.begin),
        d_p.scores, d_p.ld, /*accumulate=*/false);
  }

  void add_d_keys(const TilePiece& piece, const ScoreTile& d_s, float* d_k) override {
    add_transposed(piece, q_columns_, qk_width_, d_s, d_k, scores_.operand());
  }

  void add_d_queries(const TilePiece& piece, const ScoreTile& d_s, float* d_q) override {
    add_rounded(kernels_, d_s,
                k_.pairs_at(scores_.kv_head(piece), piece.kv_block, piece.area.span.begin),
                qk_width_, d_q, scores_.operand());
  }

 private:
  // sums[height, first_key + c] += columns[height, r] * x[r, c]
  void add_transposed(const TilePiece& piece, const Bf16Blocks& columns, int64_t height,
                      const ScoreTile& x, float* sums, uint16_t* operand) const {
    const int rows = depth(x.rows);
    const ptrdiff_t panel = ptrdiff_t{rows} * kPad;
    kernels_.round_to_pairs(x, operand, panel);
    kernels_.bf16->multiply(static_cast<int>(height), x.cols, rows,
                            columns.rows_at(piece.h, piece.q_block, piece.area.row),
                            {operand, panel}, sums + piece.area.span.begin, key_stride_,
                            /*accumulate=*/true);
  }

  const TileKernels& kernels_;
  Bf16Scores scores_;
  int64_t qk_width_;
  int64_t v_width_;
  int64_t v_dim_;
  int64_t key_stride_;
  Bf16Blocks q_columns_;
  Bf16Blocks k_;
  Bf16Blocks v_columns_;
  Bf16Blocks d_out_;
  Bf16Blocks d_out_columns_;
};

}  // namespace

std::unique_ptr<ForwardProducts> bf16_forward_products(const FlexInputs& inputs,
                                                       const BlockMask& mask,
                                                       const TileKernels& kernels) {
  return std::make_unique<Bf16Forward>(inputs, mask, kernels);
}

std::unique_ptr<BackwardProducts> bf16_backward_products(const FlexInputs& inputs,
                                                         const at::Tensor& d_out_BTHE,
                                                         const BlockMask& mask,
                                                         const TileKernels& kernels) {
  return std::make_unique<Bf16Backward>(inputs, d_out_BTHE, mask, kernels);
}

}  // namespace tessera::flex
