// Batch: the token rows that the loader hands to the trainer, with their labels, positions,
// document ids and extras. A plain value; copies share storage.
//
//   tokens  a b c d   labels  b c -100 e   positions  0 1 2 0   document ids  0 0 0 1
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

// Invariants: all tensors here are int64 [B, T] on one device; labels[b][t] is the target of
// position t (already shifted) or kIgnoreLabel; positions restart at 0 with each document and at
// the start of each row; the document ids of a row ascend from 0, so that equal ids are adjacent.
// Padding has a document id of its own. check() looks at shapes, dtypes and devices only.
struct Batch {
  at::Tensor tokens_BT;
  at::Tensor labels_BT;
  at::Tensor positions_BT;
  at::Tensor document_ids_BT;
  Extras extras = {};  // of the same rows

  int64_t batch_size() const { return tokens_BT.size(0); }
  int64_t seq_len() const { return tokens_BT.size(1); }

  // The number of labels that count in the loss. On a GPU this waits for the device.
  int64_t num_valid_labels() const;

  // Throws c10::Error naming the member, what was got and what was expected, when a member is
  // undefined or shapes, dtypes or devices disagree; also for extras that do not fit the tokens.
  void check() const;

  Batch to(at::Device device) const;

  // Rows [begin, end), sharing storage. Throws c10::Error for a range outside of the batch.
  Batch rows(int64_t begin, int64_t end) const;
};

}  // namespace tessera
