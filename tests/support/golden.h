// Paths of files that tests read.
#pragma once

#include <filesystem>
#include <string>

namespace tessera::testing {

// The path tests/golden/<name>; see tests/golden/README.md for how each file was made.
inline std::filesystem::path golden(const std::string& name) {
  return std::filesystem::path(TESSERA_SOURCE_DIR) / "tests" / "golden" / name;
}

}  // namespace tessera::testing
