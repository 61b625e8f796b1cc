// Numbers that are not finite.
#pragma once

#include <limits>

namespace tessera::testing {

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace tessera::testing
