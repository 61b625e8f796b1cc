// Lines of the estimate's tables. Internal to estimate_report.cpp and estimate_context_report.cpp.
#pragma once

#include <cstdint>
#include <string>

namespace tessera {

std::string bytes_text(int64_t num_bytes);  // "1.25 GiB"

}  // namespace tessera
