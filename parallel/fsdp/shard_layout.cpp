#include "parallel/fsdp/shard_layout.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace tessera {
namespace {

constexpr int64_t kAlignment = 32;  // elements

int64_t aligned(int64_t numel) { return (numel + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

IndexRange ParameterShard::rows_of(int64_t rank) const {
  return {std::min(rank * rows_per_rank, num_rows), std::min((rank + 1) * rows_per_rank, num_rows)};
}

ShardLayout shard_layout(const std::vector<std::vector<int64_t>>& shapes, int64_t num_ranks) {
  TORCH_CHECK(num_ranks >= 1, "shard_layout: num_ranks is ", num_ranks, "; expected at least 1");
  ShardLayout layout{.num_ranks = num_ranks};
  for (const std::vector<int64_t>& shape : shapes) {
    ParameterShard shard{.num_rows = shape.empty() ? 1 : shape[0], .row_numel = 1};
    for (size_t dim = 1; dim < shape.size(); ++dim) shard.row_numel *= shape[dim];
    shard.rows_per_rank = (shard.num_rows + num_ranks - 1) / num_ranks;
    shard.shard_offset = layout.shard_numel;
    shard.full_offset = layout.full_numel;
    layout.shard_numel += aligned(shard.shard_numel());
    layout.full_numel += aligned(num_ranks * shard.shard_numel());
    layout.parameters.push_back(shard);
  }
  return layout;
}

}  // namespace tessera
