// Internal to parallel/fsdp/: the buckets in which gradients are summed over the replicas, one
// message each.
//
// Gradients of all units lie in one buffer in the order of the forward pass, and become ready in
// about the opposite order. Buckets are runs of neighbouring units, filled from the end, of at most
// max_bytes unless a single unit is larger.
//
//   plan_buckets({40, 10, 10, 40}, 50)   ->   units [2, 4), then [0, 2)
#pragma once

#include <cstdint>
#include <vector>

namespace tessera {

// The units from begin to end - 1.
struct UnitRange {
  int64_t begin = 0;
  int64_t end = 0;
  bool operator==(const UnitRange&) const = default;
};

// The buckets in the order in which they leave; together they hold each unit once. unit_bytes has
// the bytes of each unit's gradients, in the order of the forward pass.
std::vector<UnitRange> plan_buckets(const std::vector<int64_t>& unit_bytes, int64_t max_bytes);

}  // namespace tessera
