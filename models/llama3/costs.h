// What one forward and backward of Llama 3 keeps in memory and sends between tensor-parallel ranks,
// by formula. Of the rank with the largest parts (rank 0).
//
// Legend: N tokens of a microbatch, N' those that a tensor rank has between layers (N / tp with
// sequence parallelism, else N), D model dim, A and K widths of its query and key/value heads, F
// its part of the ffn dim, e bytes of an activation, f bytes of a statistic (float32; float64 for
// float64).
//
//   a layer keeps      N'(2 D e + 2 f)    its input, the state after attention, two norms'
//   statistics
//                    + N 2 D e            two norms' outputs, all tokens
//                    + N (2 A + 2 K) e    q, k, v after RoPE, attention's output
//                    + N heads f          attention's log-sum-exp
//                    + N 4 F e            SwiGLU: two projections, silu, product
//   recomputed         N' D e             its input alone
//   outside layers     N'(2 D e + f)      the last layer's output, the final norm's output
//                    + N D e              gathered for the head, with sequence parallelism
//   in backward        N (2 D + 3 F) e    gradients inside the layer at work, and all that this
//   layer
//                                         keeps if it was recomputed
//
// Attention is taken to keep nothing else and to need no workspace, as flash and flex do.
#pragma once

#include <cstdint>
#include <vector>

#include "models/llama3/llama3.h"

namespace tessera {

struct Llama3Step {
  int64_t rows = 1;     // of a microbatch
  int64_t seq_len = 0;  // tokens of a row
  int64_t tp = 1;
  bool sequence_parallel = true;
  int64_t recompute_every = 0;  // as checkpoint_every_nth_layer
  int64_t activation_bytes = 4;
  int64_t statistic_bytes = 4;
};

struct Llama3Activations {
  int64_t layer = 0;  // one layer that is not recomputed
  int64_t recomputed_layer = 0;
  int64_t num_recomputed_layers = 0;
  int64_t kept = 0;      // at the end of forward: all layers and what lies outside
  int64_t backward = 0;  // more, while a layer's backward runs
};

Llama3Activations llama3_activations(const Llama3Config& config, const Llama3Step& step);

// Sent by a rank in one microbatch, without the loss: gathers and scatters of tokens with sequence
// parallelism, all-reduces without.
struct Llama3TensorTraffic {
  int64_t gather = 0;
  int64_t scatter = 0;
  int64_t all_reduce = 0;
};

Llama3TensorTraffic llama3_tensor_traffic(const Llama3Config& config, const Llama3Step& step);

// Blocks in the order in which a forward runs their segments: a tied embedding comes twice.
std::vector<int64_t> llama3_block_uses(const Llama3Config& config);

}  // namespace tessera
