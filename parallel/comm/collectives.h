// Collectives that autograd records. Over a group of one rank each is the identity. All ranks of
// the group call the same function with tensors of the same sizes and dtype, in forward and in
// backward. Errors are those of ProcessGroup: CommError when a rank is lost.
//
// The names say what happens in forward; the gradient takes the mirrored way:
//
//                  forward                      backward
//   gather_dim     parts -> whole on each rank  sum over ranks, each keeps its part
//   scatter_sum    sum, each keeps its part     parts -> whole on each rank
//   sum_over       sum, the same on each rank   identity
//   spread_over    identity                     sum, the same on each rank
//   exchange_dims  all-to-all                   all-to-all back
//
//   at::Tensor x_BTD = gather_dim(own_BTD, /*dim=*/1, mesh.tp());   // [B, T / tp, D] -> [B, T, D]
//
// Source: the conjugate operators of Megatron-LM (Shoeybi et al. 2019, section 3; Korthikanti et
// al. 2022, section 4).
#pragma once

#include <ATen/core/Tensor.h>

#include "parallel/comm/process_group.h"

namespace tessera {

// Joins equal parts along `dim`, in rank order: [.., n, ..] -> [.., size * n, ..].
at::Tensor gather_dim(const at::Tensor& part, int64_t dim, const ProcessGroup& group);

// Sums over the ranks and keeps part rank() of the sum along `dim`:
// [.., size * n, ..] -> [.., n, ..]. Throws c10::Error when the size of `dim` does not divide by
// the ranks.
at::Tensor scatter_sum(const at::Tensor& whole, int64_t dim, const ProcessGroup& group);

// The sum over the ranks, which do the same with it afterwards; the gradient passes unchanged.
at::Tensor sum_over(const at::Tensor& addend, const ProcessGroup& group);

// A value that the ranks hold alike and use differently afterwards; its gradients are summed.
at::Tensor spread_over(const at::Tensor& value, const ProcessGroup& group);

// Cuts `split_dim` into equal parts, sends part r to rank r, and joins what arrives along
// `concat_dim`, in rank order. Throws c10::Error when the size of split_dim does not divide by the
// ranks.
at::Tensor exchange_dims(const at::Tensor& tensor, int64_t split_dim, int64_t concat_dim,
                         const ProcessGroup& group);

}  // namespace tessera
