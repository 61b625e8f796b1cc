#include "parallel/comm/parallel_dims.h"

#include <c10/util/Exception.h>

#include <algorithm>

namespace tessera {

std::string to_string(Axis axis) {
  switch (axis) {
    case Axis::kPp:
      return "pp";
    case Axis::kDpReplicate:
      return "dp_replicate";
    case Axis::kDpShard:
      return "dp_shard";
    case Axis::kCp:
      return "cp";
    case Axis::kTp:
      return "tp";
  }
  TORCH_INTERNAL_ASSERT(false, "unknown axis");
}

int64_t ParallelDims::degree(Axis axis) const {
  switch (axis) {
    case Axis::kPp:
      return pp;
    case Axis::kDpReplicate:
      return dp_replicate;
    case Axis::kDpShard:
      return dp_shard;
    case Axis::kCp:
      return cp;
    case Axis::kTp:
      return tp;
  }
  TORCH_INTERNAL_ASSERT(false, "unknown axis");
}

int64_t ParallelDims::world_size() const { return dp_replicate * dp_shard * cp * tp * pp; }

int64_t ParallelDims::coordinate(int64_t rank, Axis axis) const {
  for (auto it = std::rbegin(kAllAxes); *it != axis; ++it) rank /= degree(*it);
  return rank % degree(axis);
}

int64_t ParallelDims::index_in_group(int64_t rank, const std::vector<Axis>& axes) const {
  const std::vector<int64_t> ranks = group_ranks(rank, axes);
  return std::find(ranks.begin(), ranks.end(), rank) - ranks.begin();
}

std::vector<int64_t> ParallelDims::group_ranks(int64_t rank, const std::vector<Axis>& axes) const {
  const auto is_same_elsewhere = [&](int64_t other) {
    return std::all_of(std::begin(kAllAxes), std::end(kAllAxes), [&](Axis axis) {
      const bool varies = std::find(axes.begin(), axes.end(), axis) != axes.end();
      return varies || coordinate(other, axis) == coordinate(rank, axis);
    });
  };
  std::vector<int64_t> ranks;
  for (int64_t other = 0; other < world_size(); ++other) {
    if (is_same_elsewhere(other)) ranks.push_back(other);
  }
  return ranks;
}

std::string ParallelDims::to_string() const {
  const auto part = [](const char* name, int64_t degree) {
    return std::string(name) + " " + std::to_string(degree);
  };
  return part("dp_replicate", dp_replicate) + " x " + part("dp_shard", dp_shard) + " x " +
         part("cp", cp) + " x " + part("tp", tp) + " x " + part("pp", pp);
}

namespace {

void check_experts(const ParallelDims& dims) {
  TORCH_CHECK(dims.etp == 1 || dims.etp == dims.tp, "parallel degree etp is ", dims.etp,
              "; expected 1, or the degree of tp, which is ", dims.tp);
  if (dims.ep == 1) return;
  const int64_t whole = dims.etp == dims.tp ? dims.cp : dims.cp * dims.tp;
  const int64_t all = whole * dims.dp_shard;
  TORCH_CHECK(dims.ep % whole == 0 && all % dims.ep == 0, "parallel degree ep is ", dims.ep,
              "; expected a multiple of ", whole, " (", dims.etp == dims.tp ? "cp" : "cp x tp",
              ") that divides ", all, " (that times dp_shard)");
}

}  // namespace

ParallelDims resolve(const ParallelDims& dims, int64_t world_size) {
  ParallelDims resolved = dims;
  const auto check_degree = [](const char* name, int64_t degree) {
    TORCH_CHECK(degree >= 1, "parallel degree ", name, " is ", degree, "; expected at least 1");
  };
  check_degree("dp_replicate", dims.dp_replicate);
  check_degree("cp", dims.cp);
  check_degree("tp", dims.tp);
  check_degree("pp", dims.pp);
  check_degree("ep", dims.ep);
  check_degree("etp", dims.etp);
  TORCH_CHECK(dims.dp_shard == -1 || dims.dp_shard >= 1, "parallel degree dp_shard is ",
              dims.dp_shard, "; expected at least 1, or -1 for all ranks that are left");

  const int64_t others = dims.dp_replicate * dims.cp * dims.tp * dims.pp;
  if (dims.dp_shard == -1) {
    TORCH_CHECK(world_size % others == 0, "parallel degrees: dp_replicate ", dims.dp_replicate,
                " x cp ", dims.cp, " x tp ", dims.tp, " x pp ", dims.pp, " = ", others,
                " does not divide the ", world_size,
                " ranks of this run, so dp_shard = -1 cannot fill what is left");
    resolved.dp_shard = world_size / others;
  }
  TORCH_CHECK(resolved.world_size() == world_size, "parallel degrees: ", resolved.to_string(),
              " = ", resolved.world_size(), " ranks; expected their product to be the ", world_size,
              " ranks of this run");
  check_experts(resolved);
  return resolved;
}

}  // namespace tessera
