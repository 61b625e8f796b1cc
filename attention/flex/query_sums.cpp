#include "attention/flex/query_sums.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "attention/flex/flex_inputs.h"

namespace tessera::flex {

QuerySums::QuerySums(const QuerySizes& sizes)
    : sizes_(sizes),
      sums_CBHTD_(at::empty(
          {sizes.num_chunks, sizes.batch, sizes.heads, sizes.q_len + kPad, padded(sizes.dim)},
          at::kFloat)),
      rows_(sizes.num_chunks * sizes.batch * sizes.kv_heads, TokenRange{0, 0}) {}

TokenRange& QuerySums::rows_of(int64_t chunk, int64_t b, int64_t kv_head) {
  return rows_[(chunk * sizes_.batch + b) * sizes_.kv_heads + kv_head];
}

float* QuerySums::at(int64_t chunk, int64_t b, int64_t h, int64_t q) {
  return sums_CBHTD_.mutable_data_ptr<float>() + chunk * sums_CBHTD_.stride(0) +
         b * sums_CBHTD_.stride(1) + h * sums_CBHTD_.stride(2) + q * sums_CBHTD_.stride(3);
}

void QuerySums::begin(const WorkUnit& unit, TokenRange rows) {
  rows_of(unit.chunk, unit.b, unit.h) = rows;
  const int64_t group = sizes_.heads / sizes_.kv_heads;
  for (int64_t h = unit.h * group; h < (unit.h + 1) * group; ++h) {
    std::fill_n(at(unit.chunk, unit.b, h, rows.begin), rows.size() * padded(sizes_.dim), 0.0F);
  }
}

at::Tensor QuerySums::sum(double scale) {
  at::Tensor out_BTHD =
      at::empty({sizes_.batch, sizes_.q_len, sizes_.heads, sizes_.dim}, at::kFloat);
  auto* out = out_BTHD.mutable_data_ptr<float>();
  at::parallel_for(0, sizes_.batch * sizes_.heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / sizes_.heads;
      const int64_t h = i % sizes_.heads;
      add_head(b, h, static_cast<float>(scale), out + b * out_BTHD.stride(0) + h * sizes_.dim,
               out_BTHD.stride(1));
    }
  });
  return out_BTHD;
}

void QuerySums::add_head(int64_t b, int64_t h, float scale, float* out_TD, ptrdiff_t token_stride) {
  const int64_t kv_head = h / (sizes_.heads / sizes_.kv_heads);
  std::vector<float> row(sizes_.dim);
  for (int64_t q = 0; q < sizes_.q_len; ++q) {
    std::fill(row.begin(), row.end(), 0.0F);
    for (int64_t chunk = 0; chunk < sizes_.num_chunks; ++chunk) {
      const TokenRange rows = rows_of(chunk, b, kv_head);
      if (q < rows.begin || q >= rows.end) continue;
      const float* part = at(chunk, b, h, q);
      for (int64_t d = 0; d < sizes_.dim; ++d) row[d] += part[d];
    }
    float* out = out_TD + q * token_stride;
    for (int64_t d = 0; d < sizes_.dim; ++d) out[d] = row[d] * scale;
  }
}

}  // namespace tessera::flex
