// How the estimate's tables write numbers. Internal to trainer/estimate/.
#pragma once

#include <cstdint>
#include <string>

namespace tessera {

std::string bytes_text(int64_t num_bytes);  // "1.25 GiB"

}  // namespace tessera
