// The rule that cuts pieces of documents into the rows of a Batch, apart from where the tokens come
// from.
//
// A row is made from a window of seq_len + 1 tokens; its first seq_len are the inputs, its last
// seq_len the targets. Within a window each piece of a document gets the next document id and
// positions from 0. A piece's last token has no label (kIgnoreLabel): its target would belong to
// another document.
//
//   seq_len 4, documents {a b c} and {d e f g h}: windows {a b c d e} {f g h ..}
//   tokens a b c d   labels b c -100 e   positions 0 1 2 0   document ids 0 0 0 1
//
//   Batch batch = pack_documents({{1, 2, 3}, {4, 5, 6, 7, 8}}, /*seq_len=*/4);   // one row
//
// Shape legend: B rows, T = seq_len tokens of a row.
#pragma once

#include <cstdint>
#include <vector>

#include "data/batch.h"

namespace tessera {

// Fills a batch of num_rows rows piece by piece.
class BatchPacker {
 public:
  // Allocates the batch on the CPU. Throws c10::Error when num_rows < 0 or seq_len < 1.
  BatchPacker(int64_t num_rows, int64_t seq_len);

  bool full() const { return row_ == num_rows_; }

  // Takes, from the unread tokens of one document, as many as the current window has room for, and
  // returns how many (0 when full). Fewer than `count` means that the window is complete: the rest
  // starts the next row. Every call with count > 0 starts a new document id.
  int64_t append(const int64_t* tokens, int64_t count);

  // The batch; requires full().
  Batch finish() &&;

 private:
  void write_piece(const int64_t* tokens, int64_t count);

  int64_t num_rows_;
  int64_t seq_len_;
  Batch batch_;
  int64_t* tokens_ = nullptr;  // tokens_ to document_ids_ point to the current row
  int64_t* labels_ = nullptr;
  int64_t* positions_ = nullptr;
  int64_t* document_ids_ = nullptr;
  int64_t row_ = 0;
  int64_t window_filled_ = 0;  // tokens of the current window, at most seq_len
  int64_t document_id_ = 0;    // of the next piece in this row
};

// Rows packed from token documents in memory, for tests and fine-tuning sets: one pass, the last
// partial window dropped (so perhaps no row at all). Adds no BOS or EOS; empty documents are
// skipped. Throws c10::Error when seq_len < 1.
Batch pack_documents(const std::vector<std::vector<int64_t>>& documents, int64_t seq_len);

// The document ids 0, 1, ... of rows that were packed elsewhere, from tokens int64 [B, T] to ids
// int64 [B, T]: an EOS ends its document and belongs to it. Throws c10::Error for another shape or
// dtype.
at::Tensor document_ids_from_eos(const at::Tensor& tokens_BT, int64_t eos_id);

}  // namespace tessera
