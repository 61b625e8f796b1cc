// ParallelDims: how many ranks each parallel axis has, and which rank stands where. Plain values
// without communication.
//
// Ranks are laid out like an array with the axes in the order of Axis, the last one fastest:
// neighbours in rank are neighbours in tensor parallelism, which talks most.
//
//   const ParallelDims dims = resolve({.tp = 2}, 8);          // dp_shard = 4
//   dims.group_ranks(5, {Axis::kDpShard, Axis::kCp});         // {1, 3, 5, 7}
//
// Source of the axes and rules: TorchTitan's ParallelDims.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera {

enum class Axis { kPp, kDpReplicate, kDpShard, kCp, kTp };  // outermost first
inline constexpr Axis kAllAxes[] = {Axis::kPp, Axis::kDpReplicate, Axis::kDpShard, Axis::kCp,
                                    Axis::kTp};

std::string to_string(Axis axis);  // "pp", "dp_replicate", ...

// Degrees, in ranks.
struct ParallelDims {
  int64_t dp_replicate = 1;  // copies of the parameters
  int64_t dp_shard = -1;     // ranks that share one copy; -1: all that are left
  int64_t cp = 1;
  int64_t tp = 1;
  int64_t pp = 1;

  // Expert parallelism is no axis of its own: the experts of a layer are spread over ranks of the
  // axes above, and only its degrees are checked here.
  int64_t ep = 1;
  int64_t etp = 1;  // ranks that share every expert

  bool operator==(const ParallelDims&) const = default;

  // The methods below are for resolved dims: dp_shard = -1 would count as a degree.
  int64_t degree(Axis axis) const;
  int64_t world_size() const;

  // Position of a rank along an axis, and its index in group_ranks(rank, axes).
  int64_t coordinate(int64_t rank, Axis axis) const;
  int64_t index_in_group(int64_t rank, const std::vector<Axis>& axes) const;

  // Ranks that differ from `rank` along these axes only, ascending; `rank` is among them.
  std::vector<int64_t> group_ranks(int64_t rank, const std::vector<Axis>& axes) const;

  std::string to_string() const;  // "dp_replicate 1 x dp_shard 4 x cp 1 x tp 2 x pp 1"
};

// Fills dp_shard = -1 and returns the result. Throws c10::Error naming the degrees when one is out
// of range, their product is not world_size, or experts cannot be spread: etp must be 1 or tp, and
// with ep > 1 ("a | b": a divides b)
//
//   etp = tp   ep takes all of cp and a part of dp_shard:          cp | ep      ep | dp_shard cp
//   etp = 1    ep takes all of cp and tp and a part of dp_shard:   cp tp | ep   ep | dp_shard cp tp
ParallelDims resolve(const ParallelDims& dims, int64_t world_size);

}  // namespace tessera
