#include "attention/backends/flex/row_terms.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/logaddexp.h>

namespace tessera::flex {

namespace {

// The dot product in a fixed order, by kLanes sums that a compiler can make vectors of.
float dot(const float* x, const float* y, int64_t size) {
  constexpr int64_t kLanes = 16;
  float sums[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) sums[lane] += x[i + lane] * y[i + lane];
  }
  float sum = 0;
  for (; i < size; ++i) sum += x[i] * y[i];
  for (const float lane : sums) sum += lane;
  return sum;
}

// sum_e x_e y_e of every row, [B, H, T], without a tensor of the products.
at::Tensor row_dots(const at::Tensor& x_BTHE, const at::Tensor& y_BTHE) {
  const int64_t tokens = x_BTHE.size(1);
  const int64_t heads = x_BTHE.size(2);
  at::Tensor dots_BHT = at::empty({x_BTHE.size(0), heads, tokens}, at::kFloat);
  auto* dots = dots_BHT.mutable_data_ptr<float>();
  const auto row = [](const at::Tensor& z, int64_t b, int64_t t, int64_t h) {
    return z.const_data_ptr<float>() + row_offset(z, b, t, h);
  };
  at::parallel_for(0, x_BTHE.size(0) * tokens, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / tokens;
      const int64_t t = i % tokens;
      for (int64_t h = 0; h < heads; ++h) {
        dots[(b * heads + h) * tokens + t] =
            dot(row(x_BTHE, b, t, h), row(y_BTHE, b, t, h), x_BTHE.size(3));
      }
    }
  });
  return dots_BHT;
}

}  // namespace

RowTerms row_terms(const at::Tensor& sinks_H, const ForwardResult& result,
                   const at::Tensor& d_out_BTHE, const at::Tensor& d_lse_BHT) {
  RowTerms terms;
  const at::Tensor& lse_BHT = result.lse_BHT;
  terms.delta_BHT = row_dots(as_operand(d_out_BTHE, /*bf16=*/false), result.out_BTHE);
  terms.lse_BHT = lse_BHT;
  if (sinks_H.defined()) {
    const at::Tensor sinks_H11 = sinks_H.to(at::kFloat).view({-1, 1});
    terms.lse_BHT = at::logaddexp(lse_BHT, sinks_H11).contiguous();
    terms.d_sinks_H = at::exp(sinks_H11.sub(terms.lse_BHT)).mul(terms.delta_BHT).sum({0, 2}).neg();
  }
  if (d_lse_BHT.defined()) {
    const at::Tensor share = d_lse_BHT.mul(at::exp(terms.lse_BHT.sub(lse_BHT)));
    const at::Tensor empty = lse_BHT.isinf();
    terms.delta_BHT = terms.delta_BHT.sub(share.masked_fill(empty, 0)).contiguous();
  }
  return terms;
}

}  // namespace tessera::flex
