// Tensor parallelism as values that a model's layers are given: how their weights are cut, and what
// happens to activations where cut weights begin and end.
//
// A layer whose wq is cut by rows (column parallel) and whose wo is cut by columns (row parallel)
// computes
//
//   y = x + tp.leave(attention(tp.enter(norm(x))))
//
// With sequence parallelism x, norm(x) and y are this rank's tokens [B, T / tp, D]: enter gathers
// the tokens, leave sums over ranks and keeps this rank's. Without it every rank has all tokens:
// enter passes them on (and sums their gradients), leave sums.
//
// Shape legend: B rows, T tokens, D model dim, V vocabulary.
//
// A default TensorParallel is one rank: nothing is cut and both are the identity.
//
// Source: Shoeybi et al. 2019 (Megatron-LM), Korthikanti et al. 2022 (sequence parallelism).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "parallel/comm/process_group.h"
#include "parallel/index_range.h"
#include "parallel/slot.h"

namespace tessera {

// Part `index` of `size` things that are cut into num_parts runs whose lengths differ by one at
// most, longer ones first.
IndexRange even_part(int64_t size, int64_t num_parts, int64_t index);

// The vocabulary rows that a rank holds, and the group whose ranks hold the others.
struct VocabularyPart {
  IndexRange rows;
  int64_t vocab_size = 0;
  ProcessGroup group = {};
};

// What a rank declares of a parameter: the shape of its own tensor and, where the parameter is cut,
// its place in the whole.
struct OwnShape {
  std::vector<int64_t> shape;
  std::optional<ParameterCut> cut = {};  // nothing: it is the whole
};

class TensorParallel {
 public:
  TensorParallel() = default;
  TensorParallel(const ProcessGroup& group, bool sequence_parallel);

  int64_t size() const { return group_.size(); }

  // Whether tokens outside of cut weights are cut over the ranks.
  bool cuts_sequence() const { return sequence_parallel_ && size() > 1; }

  // enter: gather_dim or spread_over along the tokens; leave: scatter_sum or sum_over
  // (parallel/comm/collectives.h). Under sequence parallelism leave throws c10::Error when T does
  // not divide by the ranks.
  at::Tensor enter(const at::Tensor& x_BTD) const;
  at::Tensor leave(const at::Tensor& partial_BTD) const;

  // This rank's part of a parameter along `dim`. Parts may be uneven.
  OwnShape cut(const std::vector<int64_t>& shape, int64_t dim) const;
  VocabularyPart vocabulary(int64_t vocab_size) const;

  // Throws c10::Error naming the field when `value` does not divide by the ranks.
  void check_divides(const std::string& field, int64_t value) const;

 private:
  ProcessGroup group_;
  bool sequence_parallel_ = true;
};

// The rows of weight_VD, which are part.rows of the whole embedding, for the tokens that lie there,
// and zeros for the others: the sum over the ranks is the embedding. tokens_BT is int64 [B, T], the
// result [B, T, D].
at::Tensor embed_part(const at::Tensor& tokens_BT, const at::Tensor& weight_VD,
                      const VocabularyPart& part);

// Whole logits [.., V] on every rank from each rank's columns [.., part.rows.size()].
at::Tensor join_logits(const at::Tensor& logits, const VocabularyPart& part);

}  // namespace tessera
