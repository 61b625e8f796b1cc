#include "data/loader/packing.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include <algorithm>
#include <numeric>
#include <utility>

namespace tessera {
namespace {

Batch allocate(int64_t num_rows, int64_t seq_len) {
  TORCH_CHECK(num_rows >= 0, "num_rows: got ", num_rows, ", expected 0 or more");
  TORCH_CHECK(seq_len >= 1, "seq_len: got ", seq_len, ", expected at least 1");
  const auto make = [&] { return at::empty({num_rows, seq_len}, at::kLong); };
  return {make(), make(), make(), make()};
}

}  // namespace

BatchPacker::BatchPacker(int64_t num_rows, int64_t seq_len)
    : num_rows_(num_rows),
      seq_len_(seq_len),
      batch_(allocate(num_rows, seq_len)),
      tokens_(batch_.tokens_BT.mutable_data_ptr<int64_t>()),
      labels_(batch_.labels_BT.mutable_data_ptr<int64_t>()),
      positions_(batch_.positions_BT.mutable_data_ptr<int64_t>()),
      document_ids_(batch_.document_ids_BT.mutable_data_ptr<int64_t>()) {}

int64_t BatchPacker::append(const int64_t* tokens, int64_t count) {
  if (full() || count == 0) return 0;
  const int64_t taken = std::min(count, seq_len_ + 1 - window_filled_);
  write_piece(tokens, taken);
  window_filled_ += taken;
  ++document_id_;
  if (window_filled_ <= seq_len_) return taken;
  for (int64_t** row : {&tokens_, &labels_, &positions_, &document_ids_}) *row += seq_len_;
  ++row_;
  window_filled_ = 0;
  document_id_ = 0;
  return taken;
}

// The window's last token is a target only, so a piece that reaches it has one input fewer than
// tokens.
void BatchPacker::write_piece(const int64_t* tokens, int64_t count) {
  const int64_t begin = window_filled_;
  const int64_t num_inputs = std::min(count, seq_len_ - begin);
  const int64_t num_targets = count - 1;
  std::copy_n(tokens, num_inputs, tokens_ + begin);
  std::copy_n(tokens + 1, num_targets, labels_ + begin);
  if (num_inputs > num_targets) labels_[begin + num_targets] = kIgnoreLabel;
  std::iota(positions_ + begin, positions_ + begin + num_inputs, 0);
  std::fill_n(document_ids_ + begin, num_inputs, document_id_);
}

Batch BatchPacker::finish() && {
  TORCH_INTERNAL_ASSERT(full(), "row ", row_, " of ", num_rows_, " is not complete");
  return std::move(batch_);
}

Batch pack_documents(const std::vector<std::vector<int64_t>>& documents, int64_t seq_len) {
  TORCH_CHECK(seq_len >= 1, "seq_len: got ", seq_len, ", expected at least 1");
  int64_t num_tokens = 0;
  for (const auto& document : documents) num_tokens += static_cast<int64_t>(document.size());
  BatchPacker packer(num_tokens / (seq_len + 1), seq_len);
  for (const auto& document : documents) {
    const int64_t* rest = document.data();
    const int64_t* const end = rest + document.size();
    while (rest != end && !packer.full()) rest += packer.append(rest, end - rest);
  }
  return std::move(packer).finish();
}

at::Tensor document_ids_from_eos(const at::Tensor& tokens_BT, int64_t eos_id) {
  TORCH_CHECK(
      tokens_BT.defined() && tokens_BT.dim() == 2 && tokens_BT.scalar_type() == at::kLong,
      "document_ids_from_eos: tokens_BT: got ",
      tokens_BT.defined() ? c10::str(tokens_BT.scalar_type(), " ", tokens_BT.sizes()) : "no tensor",
      ", expected Long (int64) [B, T]");
  const at::Tensor is_eos_BT = tokens_BT.eq(eos_id).to(at::kLong);
  return is_eos_BT.cumsum(1).sub(is_eos_BT);
}

}  // namespace tessera
