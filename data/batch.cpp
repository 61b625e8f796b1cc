#include "data/batch.h"

#include <c10/util/Exception.h>

namespace tessera {
namespace {

void check_member(const char* name, const at::Tensor& tensor, const at::Tensor& tokens_BT) {
  TORCH_CHECK(tensor.defined(), "Batch::", name,
              ": got an undefined tensor, expected int64 [B, T]");
  TORCH_CHECK(tensor.scalar_type() == at::kLong && tensor.dim() == 2, "Batch::", name, ": got ",
              tensor.scalar_type(), " ", tensor.sizes(), ", expected int64 (Long) [B, T]");
  TORCH_CHECK(tensor.sizes() == tokens_BT.sizes(), "Batch::", name, ": got ", tensor.scalar_type(),
              " ", tensor.sizes(), ", expected the shape of tokens_BT, ", tokens_BT.sizes());
  TORCH_CHECK(tensor.device() == tokens_BT.device(), "Batch::", name, ": got device ",
              tensor.device(), ", expected the device of tokens_BT, ", tokens_BT.device());
}

}  // namespace

int64_t Batch::num_valid_labels() const { return labels_BT.ne(kIgnoreLabel).sum().item<int64_t>(); }

void Batch::check() const {
  check_member("tokens_BT", tokens_BT, tokens_BT);
  check_member("labels_BT", labels_BT, tokens_BT);
  check_member("positions_BT", positions_BT, tokens_BT);
  check_member("document_ids_BT", document_ids_BT, tokens_BT);
  extras.check(tokens_BT);
}

Batch Batch::to(at::Device device) const {
  return {tokens_BT.to(device), labels_BT.to(device), positions_BT.to(device),
          document_ids_BT.to(device), extras.to(device)};
}

Batch Batch::rows(int64_t begin, int64_t end) const {
  TORCH_CHECK(0 <= begin && begin <= end && end <= batch_size(), "Batch::rows: got [", begin, ", ",
              end, "), expected a range within the batch's ", batch_size(), " rows");
  const int64_t num_rows = end - begin;
  return {tokens_BT.narrow(0, begin, num_rows), labels_BT.narrow(0, begin, num_rows),
          positions_BT.narrow(0, begin, num_rows), document_ids_BT.narrow(0, begin, num_rows),
          extras.rows(begin, end)};
}

}  // namespace tessera
