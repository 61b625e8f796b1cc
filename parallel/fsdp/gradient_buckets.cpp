#include "parallel/fsdp/gradient_buckets.h"

namespace tessera {

std::vector<UnitRange> plan_buckets(const std::vector<int64_t>& unit_bytes, int64_t max_bytes) {
  std::vector<UnitRange> buckets;
  int64_t bytes = 0;
  for (auto unit = static_cast<int64_t>(unit_bytes.size()) - 1; unit >= 0; --unit) {
    const int64_t own = unit_bytes[static_cast<size_t>(unit)];
    if (buckets.empty() || bytes + own > max_bytes) {
      buckets.push_back({unit, unit + 1});
      bytes = own;
    } else {
      buckets.back().begin = unit;
      bytes += own;
    }
  }
  return buckets;
}

}  // namespace tessera
