#include "attention/backends/flex/query_sums.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>

namespace tessera::flex {

namespace {

float* row_of(const at::Tensor& x_BTHD, int64_t b, int64_t t, int64_t h) {
  return x_BTHD.mutable_data_ptr<float>() + row_offset(x_BTHD, b, t, h);
}

}  // namespace

void QuerySums::begin(const HeadTokens& queries) {
  queries_ = queries;
  const int64_t size = queries.num_heads * rows_per_head() * width_;
  if (!owner_.defined() || owner_.numel() < size) {
    owner_ = at::empty({size}, at::kFloat);
    data_ = owner_.mutable_data_ptr<float>();
  }
  std::fill_n(data_, size, 0.0F);
}

QueryGradient::QueryGradient(at::IntArrayRef dims, int64_t num_chunks) : chunks_(num_chunks) {
  for (Chunk& chunk : chunks_) {
    chunk.sums_BTHD = at::empty(dims, at::kFloat);
    chunk.tokens_BH.assign(dims[0] * dims[2], TokenRange{0, 0});
  }
}

void QueryGradient::store(int64_t chunk, const QuerySums& sums, double scale,
                          const TileKernels& kernels) {
  auto& [sums_BTHD, tokens_BH] = chunks_[chunk];
  const auto& [b, first_head, num_heads, tokens] = sums.queries();
  const auto factor = static_cast<float>(scale);
  const int64_t dim = sums_BTHD.size(3);
  for (int64_t h = first_head; h < first_head + num_heads; ++h) {
    tokens_BH[b * sums_BTHD.size(2) + h] = tokens;
    kernels.copy_rows(sums.at(h, tokens.begin), sums.width(), static_cast<int>(tokens.size()),
                      static_cast<int>(dim), factor, row_of(sums_BTHD, b, tokens.begin, h),
                      sums_BTHD.stride(1));
  }
}

at::Tensor QueryGradient::sum() {
  const at::Tensor& sum_BTHD = chunks_[0].sums_BTHD;
  const int64_t heads = sum_BTHD.size(2);
  at::parallel_for(0, sum_BTHD.size(0) * heads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) add_head(i / heads, i % heads);
  });
  return sum_BTHD;
}

// Adds the other chunks of a head to the first, which becomes zero where no unit has stored.
void QueryGradient::add_head(int64_t b, int64_t h) {
  const at::Tensor& sum_BTHD = chunks_[0].sums_BTHD;
  const int64_t dim = sum_BTHD.size(3);
  const int64_t head = b * sum_BTHD.size(2) + h;
  const TokenRange& first = chunks_[0].tokens_BH[head];
  for (int64_t t = 0; t < sum_BTHD.size(1); ++t) {
    if (t < first.begin || t >= first.end) std::fill_n(row_of(sum_BTHD, b, t, h), dim, 0.0F);
  }
  for (size_t chunk = 1; chunk < chunks_.size(); ++chunk) {
    const TokenRange& tokens = chunks_[chunk].tokens_BH[head];
    for (int64_t t = tokens.begin; t < tokens.end; ++t) {
      const float* from = row_of(chunks_[chunk].sums_BTHD, b, t, h);
      float* to = row_of(sum_BTHD, b, t, h);
      for (int64_t d = 0; d < dim; ++d) to[d] += from[d];
    }
  }
}

}  // namespace tessera::flex
