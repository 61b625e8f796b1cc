// TileKernels: the inner loops of flex attention on small float32 matrices, compiled once per
// instruction set. Internal to attention/backends/flex/.
//
// The kernels know nothing of masks, heads or tensors, and check nothing. Matrices are row-major;
// leading dimensions and other strides count elements; widths (n, cols) are multiples of kPad, so
// that no loop has a tail in that direction, where a kernel does not say otherwise. This header is
// included by sources that are compiled for one instruction set: no inline function of a library
// may come with it, or the linker could keep its AVX-512 copy for everybody.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tessera::flex {

// Widths and the panels of operands are multiples of kPad elements.
inline constexpr int kPad = 16;

// A matrix whose element (i, k) is at data[i * row + k * col].
struct MatrixView {
  const float* data;
  ptrdiff_t row;
  ptrdiff_t col;
};

// A matrix in panels of kPad columns: element (k, j) is at
// data[j / kPad * panel + k * row + j % kPad]. A product reads one panel over and over; with rows
// at a stride of some power of two they would all want the same few cache lines.
struct PanelView {
  const float* data;
  ptrdiff_t panel;
  ptrdiff_t row;
};

// The left side of a product in bfloat16, as bits: element (i, k) is at data[i * row + k]. Rows up
// to a multiple of kPad and columns up to a multiple of kBf16Depth exist, with zeros where the
// matrix has no element.
struct Bf16Rows {
  const uint16_t* data;
  ptrdiff_t row;
};

// The right side of a product in bfloat16, as bits: panels of kPad columns, in each of which rows
// come in pairs, element by element. Element (k, j) is at
// data[j / kPad * panel + k / 2 * 2 * kPad + j % kPad * 2 + k % 2].
struct Bf16Pairs {
  const uint16_t* data;
  ptrdiff_t panel;
};

// Products in bfloat16 sum over a multiple of kBf16Depth elements.
inline constexpr int kBf16Depth = 32;

// Scores of some queries and keys, in place.
struct ScoreTile {
  float* scores;  // [rows, cols], leading dimension ld
  ptrdiff_t ld;
  int rows;
  int cols;       // a multiple of kPad
  int live_cols;  // columns that exist; the rest is masked
};

// Bit j of row i is bit (first + j) % 64 of word (first + j) / 64 of that row.
struct MaskBits {
  const uint64_t* words;  // null: all allowed
  ptrdiff_t words_per_row;
  int first;  // a multiple of kPad
};

// Products of bfloat16 operands with sums in float32.
struct Bf16Kernels {
  static constexpr size_t kStateBytes = 64;

  // Called around all products of a thread: begin sets up what the processor needs and saves in
  // `state` (kStateBytes) what was there; end puts that back.
  void (*begin)(unsigned char* state);
  void (*end)(const unsigned char* state);

  // c[m, n] = a[m, k] * b[k, n], or c += with `accumulate`. Rows of c up to a multiple of kPad are
  // written; n is a multiple of kPad, k of kBf16Depth.
  void (*multiply)(int m, int n, int k, Bf16Rows a, Bf16Pairs b, float* c, ptrdiff_t c_row,
                   bool accumulate);
};

// The table of kernels of one instruction set.
struct TileKernels {
  const char* name;  // "portable", "avx2", "avx512" or "avx512_amx"

  // c[m, n] = a[m, k] * b[k, n], or c += with `accumulate`.
  void (*multiply)(int m, int n, int k, MatrixView a, PanelView b, float* c, ptrdiff_t c_row,
                   bool accumulate);

  // s = cap * tanh(s / cap). slopes, if not null, is laid out as the scores and becomes the
  // derivative, 1 - tanh^2(s / cap).
  void (*cap_scores)(ScoreTile tile, float cap, float* slopes);

  // s += slope * (first_distance + column - row).
  void (*add_alibi)(ScoreTile tile, float slope, float first_distance);

  // s = -inf where a bit is 0 and in columns that do not exist.
  void (*mask_scores)(ScoreTile tile, MaskBits bits);

  // One step of the online softmax. For each row:
  //
  //   new     = max(maximum, max_j s_j)
  //   rescale = exp(maximum - new)                 1 while every score so far is -inf
  //   p_j     = exp(s_j - new)                     in place of s_j; 0 while every score is -inf
  //   sum     = sum * rescale + sum_j p_j
  //   maximum = new
  //
  // Earlier sums of p * v are to be multiplied by rescale. Returns whether any rescale is not 1.
  bool (*softmax_step)(ScoreTile tile, float* maximum, float* sum, float* rescale);

  // p = exp(s - lse) in place of the scores; 0 in a row whose lse is -inf.
  void (*probabilities)(ScoreTile tile, const float* lse);

  // ds = p * (dp - delta) in place of dp.
  void (*score_gradients)(ScoreTile probabilities, float* dp, const float* delta);

  // x[i, :] *= factors[i].
  void (*scale_rows)(float* x, ptrdiff_t ld, int rows, int cols, const float* factors);

  // to = factor * from, both [rows, cols], of any number of columns.
  void (*copy_rows)(const float* from, ptrdiff_t from_row, int rows, int cols, float factor,
                    float* to, ptrdiff_t to_row);

  // A panel to[cols, kPad] = factor * the transpose of from[rows, cols], of up to kPad rows and any
  // number of columns; zero in columns of the panel that from has no row for.
  void (*transpose)(const float* from, ptrdiff_t from_row, int rows, int cols, float factor,
                    float* to);

  // x *= y elementwise, both [rows, cols] with leading dimension ld.
  void (*multiply_elements)(float* x, const float* y, ptrdiff_t ld, int rows, int cols);

  // to = x rounded to bfloat16, to nearest even. round_to_rows writes a Bf16Rows, with zeros up to
  // the multiples that it asks for. round_to_pairs writes a Bf16Pairs, with rows of zeros up to a
  // multiple of kBf16Depth.
  void (*round_to_rows)(ScoreTile x, uint16_t* to, ptrdiff_t to_row);
  void (*round_to_pairs)(ScoreTile x, uint16_t* to, ptrdiff_t to_panel);

  // Null where the processor has no products of bfloat16 that are faster than those of float32;
  // bfloat16 is then computed in float32.
  const Bf16Kernels* bf16;
};

// The fastest kernels that this processor runs.
const TileKernels& tile_kernels();

// All kernels that this processor runs, the fastest first, for tests. index is below
// num_tile_kernels().
size_t num_tile_kernels();
const TileKernels& tile_kernels(size_t index);

namespace portable {
extern const TileKernels kKernels;
}
namespace avx2 {
extern const TileKernels kKernels;
}
namespace avx512 {
extern const TileKernels kKernels;
}
namespace amx {
// Asks the system for the right to use the tile registers. Returns false where these do not exist
// or are refused.
bool supported();
extern const Bf16Kernels kBf16;
}  // namespace amx

}  // namespace tessera::flex
