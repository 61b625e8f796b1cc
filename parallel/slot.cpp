#include "parallel/slot.h"

#include <c10/util/Exception.h>

namespace tessera {

InitSpec InitSpec::constant(double value) { return {.kind = Kind::kConstant, .value = value}; }

InitSpec InitSpec::normal(double std) {
  TORCH_CHECK(std >= 0, "InitSpec::normal: std is ", std, ", expected >= 0");
  return {.kind = Kind::kNormal, .std = std};
}

InitSpec InitSpec::truncated_normal(double std, double low, double high) {
  TORCH_CHECK(std > 0, "InitSpec::truncated_normal: std is ", std, ", expected > 0");
  TORCH_CHECK(low < high, "InitSpec::truncated_normal: bounds are [", low, ", ", high,
              "], expected low < high");
  return {.kind = Kind::kTruncatedNormal, .std = std, .low = low, .high = high};
}

Rectangle ParameterSlot::where() const {
  return cut ? cut->rectangle : Rectangle::whole(tensor->sizes().vec());
}

std::vector<int64_t> ParameterSlot::whole_shape() const {
  return cut ? cut->whole_shape : tensor->sizes().vec();
}

}  // namespace tessera
