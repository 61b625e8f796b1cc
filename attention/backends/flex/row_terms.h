// What the backward pass needs of every row of scores.
//
// Shape legend: as in attention/op/attention.h.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/backends/flex/flex_passes.h"

namespace tessera::flex {

// float32: lse' and delta, see backward.cpp; the sinks' gradient where there are sinks.
struct RowTerms {
  at::Tensor lse_BHT{};
  at::Tensor delta_BHT{};
  at::Tensor d_sinks_H{};
};

// d_lse_BHT may be undefined.
RowTerms row_terms(const at::Tensor& sinks_H, const ForwardResult& result,
                   const at::Tensor& d_out_BTHE, const at::Tensor& d_lse_BHT);

}  // namespace tessera::flex
