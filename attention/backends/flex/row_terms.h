// The terms of the backward pass that are the same for all keys of a query; backward.cpp has their
// formulas. Internal to attention/backends/flex/.
//
// Shape legend: as in attention/op/attention.h.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/backends/flex/flex_passes.h"

namespace tessera::flex {

// float32, contiguous: lse' and delta of every query, and the gradient of the sinks, which is
// undefined without sinks.
struct RowTerms {
  at::Tensor lse_BHT{};
  at::Tensor delta_BHT{};
  at::Tensor d_sinks_H{};
};

// `result` is that of the forward pass. sinks_H and d_lse_BHT may be undefined. In a query without
// a key, d_lse counts as 0.
RowTerms row_terms(const at::Tensor& sinks_H, const ForwardResult& result,
                   const at::Tensor& d_out_BTHE, const at::Tensor& d_lse_BHT);

}  // namespace tessera::flex
