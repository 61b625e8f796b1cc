// The helpers of the leaves that carry tensors: checks of a tensor, and the choice of a batch row.
// Internal to attention/masks/.
//
// Shape legend: B batch rows, T tokens of a row.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>

#include <vector>

namespace tessera {

// The rows of a leaf's tensor, contiguous and of `dims` dimensions. Throws c10::Error naming `what`
// ("document: ids_BT") unless the tensor is on the CPU, is of this dtype (int64 or bool), has at
// least one element and `dims` dimensions: 1 for [B], 2 for [B, T], where [T] counts as [1, T].
at::Tensor checked_rows(const char* what, const at::Tensor& tensor, at::ScalarType dtype,
                        int64_t dims);

// Row b of a table that has one row per batch element, or one for all.
template <typename Row>
const Row& batch_row(const std::vector<Row>& rows, int64_t b) {
  return rows.size() == 1 ? rows.front() : rows[b];
}

}  // namespace tessera
