// What the loader hands to the trainer: token rows with their labels, positions and document ids,
// and their extras.
//
// Shape legend: B rows, T tokens of a row.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "data/extras.h"

namespace tessera {

// Label of a position that takes no part in the loss: padding, and the last token of a document.
inline constexpr int64_t kIgnoreLabel = -100;

// Invariants: all tensors here int64 [B, T]; labels[b][t] is the target of position t (already
// shifted) or kIgnoreLabel; positions restart at 0 with each document and at the start of each row;
// the document ids of a row ascend from 0, so that equal ids are adjacent. Padding has a document
// id of its own.
struct Batch {
  at::Tensor tokens_BT;
  at::Tensor labels_BT;
  at::Tensor positions_BT;
  at::Tensor document_ids_BT;
  Extras extras = {};  // of the same rows

  int64_t batch_size() const { return tokens_BT.size(0); }
  int64_t seq_len() const { return tokens_BT.size(1); }

  // Labels that count in the loss.
  int64_t num_valid_labels() const;

  // Throws c10::Error naming the member, its dtype and shape, when shapes or dtypes disagree.
  void check() const;

  Batch to(at::Device device) const;

  // Rows [begin, end), sharing storage.
  Batch rows(int64_t begin, int64_t end) const;
};

}  // namespace tessera
