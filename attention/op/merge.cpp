// Shape legend: as in attention.h.
#include "attention/op/merge.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/maximum.h>
#include <c10/util/Exception.h>

#include <limits>

namespace tessera {

namespace {

void check_part(const char* name, const AttentionOutput& part) {
  TORCH_CHECK(part.out_BTHE.defined() && part.lse_BHT.defined(), "merge: ", name, ": got no ",
              part.out_BTHE.defined() ? "lse" : "out",
              ", expected a result of attention with options.return_lse");
}

// x_BHT as a factor [B, T, H, 1] of a tensor [B, T, H, E].
at::Tensor by_row(const at::Tensor& x_BHT) { return x_BHT.transpose(1, 2).unsqueeze(3); }

}  // namespace

AttentionOutput merge(const AttentionOutput& a, const AttentionOutput& b) {
  check_part("a", a);
  check_part("b", b);
  TORCH_CHECK(a.out_BTHE.sizes() == b.out_BTHE.sizes() && a.lse_BHT.sizes() == b.lse_BHT.sizes(),
              "merge: got out ", a.out_BTHE.sizes(), " and ", b.out_BTHE.sizes(), ", lse ",
              a.lse_BHT.sizes(), " and ", b.lse_BHT.sizes(), ", expected equal shapes");
  // The result does not depend on the shift, so neither does its gradient.
  const at::Tensor highest_BHT = at::maximum(a.lse_BHT, b.lse_BHT).detach();
  const at::Tensor empty_BHT = highest_BHT.isneginf();
  const at::Tensor shift_BHT = highest_BHT.masked_fill(empty_BHT, 0.0);
  const at::Tensor weight_a = (a.lse_BHT - shift_BHT).exp();
  const at::Tensor weight_b = (b.lse_BHT - shift_BHT).exp();
  const at::Tensor sum = (weight_a + weight_b).masked_fill(empty_BHT, 1.0);
  const at::ScalarType type = a.lse_BHT.scalar_type();
  const at::Tensor out =
      a.out_BTHE.to(type) * by_row(weight_a / sum) + b.out_BTHE.to(type) * by_row(weight_b / sum);
  const at::Tensor lse =
      (shift_BHT + sum.log()).masked_fill(empty_BHT, -std::numeric_limits<double>::infinity());
  return {.out_BTHE = out.to(a.out_BTHE.scalar_type()), .lse_BHT = lse};
}

}  // namespace tessera
