// Which gradients are summed over the replicas in one message, and when it can leave.
//
// Gradients of all units lie in one buffer in the order of the forward pass, and become ready in
// about the opposite order. Buckets are runs of neighbouring units, filled from the end, of at most
// max_bytes unless a single unit is larger.
//
//   plan_buckets({40, 10, 10, 40}, 50)   ->  units [2, 4), [0, 2)   in the order in which they
//   leave
#pragma once

#include <cstdint>
#include <vector>

namespace tessera {

struct UnitRange {
  int64_t begin = 0;
  int64_t end = 0;
  bool operator==(const UnitRange&) const = default;
};

std::vector<UnitRange> plan_buckets(const std::vector<int64_t>& unit_bytes, int64_t max_bytes);

}  // namespace tessera
