// The bytes that one forward and backward of Llama 3 keeps in memory and sends between
// tensor-parallel ranks, by formula, for the whole model or for the modules of one pipeline stage.
// All numbers are those of the rank with the largest parts (tensor rank 0). Nothing is allocated
// and nothing throws.
//
//   const Llama3Activations held = llama3_activations(
//       llama3_flavor("8B"), {.num_layers = 32}, {.rows = 1, .seq_len = 8192, .tp = 8});
//
// Legend: N tokens of a microbatch (under context parallelism this rank's), N' those that a tensor
// rank has between layers (N / tp with sequence parallelism, else N), S tokens whose keys are at
// hand in attention, P outputs of attention that are kept, D model dim, A and K widths of its query
// and key/value heads, F its part of the ffn dim, e bytes of an activation, f bytes of a statistic
// (float32; float64 for float64).
//
//   a layer keeps      N'(2 D e + 2 f)      its input, the state after attention, statistics of
//                                           two norms
//                    + N 2 D e              two norms' outputs, all tokens
//                    + N A e + S 2 K e      q, and keys and values, after RoPE
//                    + P N (A e + heads f)  attention's output and log-sum-exp
//                    + N 4 F e              SwiGLU: two projections, silu, product
//   recomputed         N' D e               its input alone
//   outside layers     N' D e               what the last layer gives
//   with the head    + N'(D e + f)          the final norm's output and statistic
//                    + N D e                gathered for the head, with sequence parallelism
//   in backward        N (2 D + 3 F) e      gradients inside the layer at work, and all that this
//                                           layer keeps if it was recomputed
//   split backward     N (4 D + 2 A + 2 K + 3 F) e
//                                           from I to W: what a layer's linear layers took in, and
//                                           the gradients of what they gave
//
// S is N and P is 1 without context parallelism. Attention is taken to keep nothing else and to
// need no workspace, as flash and flex do.
#pragma once

#include <cstdint>

#include "models/llama3/llama3.h"

namespace tessera {

// Modules of one stage.
struct Llama3Stage {
  bool embedding = true;
  int64_t num_layers = 0;
  int64_t num_recomputed = 0;  // of these layers
  bool head = true;            // and the final norm
};

// One microbatch on one rank.
struct Llama3Step {
  int64_t rows = 1;     // of a microbatch
  int64_t seq_len = 0;  // tokens of a row on this rank
  int64_t tp = 1;       // tensor-parallel ranks
  bool sequence_parallel = true;
  int64_t activation_bytes = 4;  // e, of an element
  int64_t statistic_bytes = 4;   // f, of an element
  int64_t key_tokens = -1;       // S, of all rows; -1: N
  int64_t num_outputs = 1;       // P
};

// Bytes on one rank for one microbatch.
struct Llama3Activations {
  int64_t layer = 0;  // one layer that is not recomputed
  int64_t recomputed_layer = 0;
  int64_t kept = 0;      // at the end of forward: all layers and what lies outside
  int64_t backward = 0;  // more, while a layer's backward runs; 0 without layers
  int64_t deferred = 0;  // of all layers, from I to W of a split backward
};

Llama3Activations llama3_activations(const Llama3Config& config, const Llama3Stage& stage,
                                     const Llama3Step& step);

// Bytes that a rank sends in one microbatch, forward and backward, without the loss: gathers and
// scatters of tokens with sequence parallelism, all-reduces without. All are 0 for tp = 1.
struct Llama3TensorTraffic {
  int64_t gather = 0;
  int64_t scatter = 0;
  int64_t all_reduce = 0;
};

Llama3TensorTraffic llama3_tensor_traffic(const Llama3Config& config, const Llama3Stage& stage,
                                          const Llama3Step& step);

}  // namespace tessera
